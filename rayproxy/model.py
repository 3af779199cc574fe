"""The values that travel from the sources to nginx. All frozen, none of them does anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Name an object by namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Point at an object's controller, as its ownerReferences do."""

    kind: str
    name: str
    uid: str
    group: str = "ray.io"


@dataclass(frozen=True, slots=True)
class Port:
    """Hold one port of a Service as it was found, unchecked."""

    name: str
    port: object
    protocol: str
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class RayService:
    """Hold the few fields of a RayService that decide its route."""

    key: Key
    uid: str
    created: str  # RFC 3339, or "" where the source has none
    terminating: bool
    serve_service: str  # spec.serveService.metadata.name, or ""
    active_cluster: str  # status.activeServiceStatus.rayClusterName, or ""
    upgrade: str = ""  # spec.upgradeStrategy.type as it was found, cut to 80 characters
    suspended: bool = False  # spec.suspend is true
    halted: bool = False  # KubeRay says that it suspends it, or has
    taken_up: bool = False  # KubeRay has named a cluster of it in its status: whatever it refuses has none
    refusal: tuple[str, str] | None = None  # reason and words, where KubeRay's condition says that it goes no further


@dataclass(frozen=True, slots=True)
class Service:
    """Hold the few fields of a Service that decide whether it can be a backend."""

    key: Key
    created: str
    terminating: bool
    serves: bool  # carries the label key ray.io/serve
    owner: Owner | None
    type: str
    cluster_ip: str
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Hold everything that a source knows at one moment.

    Where something could not be read, `rayservices_known` or `services_known` is false: what is missing may well be
    there. `problems` says what.
    """

    rayservices: tuple[RayService, ...] = ()
    services: tuple[Service, ...] = ()
    rayservices_known: bool = True
    services_known: bool = True
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """Hold a checked address (IPv6 in brackets) and port: safe to be written into a configuration."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Route:
    """Say that a RayService is accepted, and where its requests go."""

    key: Key
    uid: str
    backend: Backend


@dataclass(frozen=True, slots=True)
class Pending:
    """Say that a RayService is fine and that its serve Service is still to come."""

    key: Key
    uid: str
    message: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """Say that somebody suspended a RayService, and that it has no Service until it is resumed."""

    key: Key
    uid: str
    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Say that KubeRay does not go on with a RayService, so that no Service will come."""

    key: Key
    uid: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Say that a RayService is not routed: `reason` in CamelCase for machines, `message` for people."""

    key: Key
    uid: str
    reason: str
    message: str


Decision = Route | Pending | Suspended | Refused | Rejection
