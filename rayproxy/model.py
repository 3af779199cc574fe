"""The values that travel from the sources to nginx. All frozen, none of them does anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
WHOLE = 100  # percent


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The namespace and name of an object."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """A routed object: its kind, as paths have it (`rayservice`), its namespace and its name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def key(self) -> Key:
        """Return namespace and name."""
        return Key(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """What is listed and watched of a cluster, hence also which permissions that takes, and how an object is read.

    `selector` None is the operator's own; `custom` says that it comes with a CRD, which may not be there. `only` are
    the objects that the operator names, each watched by its name wherever it is; None is all of them.
    """

    group: str  # "" is the core's
    version: str
    plural: str
    kind: str
    read: Callable[[object], T]
    selector: str | None = None
    custom: bool = True
    only: tuple[Key, ...] | None = field(default=None, compare=False)

    def path(self, namespace: str | None) -> str:
        """Return where it is listed, in one namespace or in all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return root + (f"/namespaces/{namespace}" if namespace else "") + f"/{self.plural}"


@dataclass(frozen=True, slots=True)
class Owner:
    """An object's controller, as its ownerReferences have it."""

    kind: str
    name: str
    uid: str
    group: str = "ray.io"


@dataclass(frozen=True, slots=True)
class ServiceId:
    """A Service that is there now: made anew under its name, it is another one."""

    key: Key
    uid: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What one EndpointSlice says of a Service, which has no uid where the slice does not prove to speak for it."""

    service: ServiceId
    family: str  # IPv4 or IPv6
    ready: int
    total: int  # the ready ones included


@dataclass(frozen=True, slots=True)
class Readiness:
    """Who answers behind a route at a moment, and what its own controller says of it, "" where that is all well."""

    ready: int
    total: int
    words: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a Service as it was found, unchecked."""

    name: str
    port: object
    protocol: str
    app_protocol: str = ""
    target: object = None  # targetPort: a number, the name of a container's port, or None for the same number


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Service:
    """The few fields of a Service that decide whether it can be a backend."""

    key: Key
    created: str
    terminating: bool
    serves: bool  # carries the label key ray.io/serve
    owner: Owner | None
    type: str
    cluster_ip: str
    ports: tuple[Port, ...]
    selects: bool = True  # has a selector: without one its endpoints are whatever somebody writes
    cluster: str = ""  # the RayCluster whose pods it selects, where it names one
    uid: str = ""
    labels: tuple[tuple[str, str], ...] = ()  # those that its kind goes by
    external_name: str = ""

    @property
    def id(self) -> ServiceId:
        """Return what tells it from another one of its name."""
        return ServiceId(self.key, self.uid)


@dataclass(frozen=True)
class Snapshot:
    """Everything that a source knows at one moment: what was read of the objects of each resource.

    What is in `unknown` could not be read whole: what is missing there may well exist. `unread` are those of the
    objects that the operator names of which that is so. `problems` says why.
    """

    objects: Mapping[Resource[Any], tuple[Any, ...]] = field(default_factory=dict)
    unknown: frozenset[Resource[Any]] = frozenset()
    problems: tuple[str, ...] = ()
    unread: frozenset[Key] = frozenset()

    def of(self, resource: Resource[T]) -> tuple[T, ...]:
        """Return the objects of one resource."""
        return cast("tuple[T, ...]", self.objects.get(resource, ()))


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address (IPv6 in brackets) and port: safe to be written into a configuration.

    `name` is the Host that it must be asked with, where that is not the caller's.
    """

    host: str
    port: int
    name: str = ""
    weight: int = field(default=WHOLE, kw_only=True)  # percent of the route's requests that go there

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Route:
    """An object that is accepted: under which path, without a slash at its end, and where its requests go.

    There is one target, or there are two, the heavier one first; the other may have no weight yet, or no more.
    """

    ref: Ref
    uid: str
    path: str
    targets: tuple[Target, ...]
    created: str = ""  # RFC 3339, or "" where the source has none
    services: tuple[ServiceId, ...] = ()  # behind each target, where it is the object's own


@dataclass(frozen=True, slots=True)
class Pending:
    """An object that is fine and whose Service is still to come.

    `told` is what callers are told of it, in the proxy's own words: the beginning of the message, or "".
    """

    ref: Ref
    uid: str
    message: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class Suspended:
    """An object that somebody suspended, and that has no Service until it is resumed."""

    ref: Ref
    uid: str
    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that its own controller does not go on with, so that no Service will come."""

    ref: Ref
    uid: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """An object that is not routed: `reason` in CamelCase for machines, `message` for people.

    `unknown` says that this is for what could not be read alone: a route that is live is not taken away for it.
    """

    ref: Ref
    uid: str
    reason: str
    message: str
    unknown: bool = False


Decision = Route | Pending | Suspended | Refused | Rejection
