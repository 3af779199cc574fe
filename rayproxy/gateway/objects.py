"""What is read of the Gateway API's objects, in the one form in which KubeRay makes them. Pure.

Of each is kept whose it is, what of it is not in that form, and what was said of it already.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import islice

from rayproxy.gateway.form import ANY, differs
from rayproxy.model import Key, Owner, Resource
from rayproxy.objects import MAX_TEXT, array, controller, dig, name_in, read_key, text

GROUP, VERSION = "gateway.networking.k8s.io", "v1"
CONTROLLER = "rayproxy.io/gateway"  # the controllerName of the GatewayClass, and of what is said of HTTPRoutes
MANAGER_PREFIX = "rayproxy-"  # of the field managers, one for each class: proxies of several see the same objects
FORMER_MANAGER = "rayproxy"  # of every class, in earlier builds: its words stand until they are said anew
MAX_MANAGER = 128  # characters that the API takes
MAX_SAID = 1000  # characters of a message: more than any that is said here
MAX_TOLD = 64 * 1024  # characters that others and a proxy said of an HTTPRoute: of one with more nothing is said
MAX_ENTRIES = 32  # parents of an HTTPRoute, conditions of an object: as many as the API takes

_LISTENER = {"name": ANY, "port": 80, "protocol": "HTTP", "allowedRoutes?": {"namespaces?": {"from?": "Same"}}}
_GATEWAY = {"gatewayClassName": ANY, "listeners": [_LISTENER]}
_PARENT = {"group?": GROUP, "kind?": "Gateway", "name": ANY, "namespace?": ANY}
_RULE = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": ANY}
_HTTPROUTE = {"parentRefs": [_PARENT], "rules": [_RULE]}
_BACKEND = {"group?": "", "kind?": "Service", "name": ANY, "namespace?": ANY, "port": ANY, "weight?": ANY}


@dataclass(frozen=True, slots=True)
class Said:
    """A condition as it stands in an object; `since` is RFC 3339."""

    type: str
    status: str
    reason: str
    message: str
    generation: int
    since: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class GatewayClass:
    """The few fields of a GatewayClass that decide its condition."""

    key: Key
    generation: int
    controller: str
    parameters: bool  # it refers to some
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Gateway:
    """The few fields of a Gateway that decide its conditions; `differs` is how it is not in KubeRay's form.

    `managers` are those of the proxies that said something of it.
    """

    key: Key
    generation: int
    terminating: bool
    class_name: str
    owner: Owner | None
    differs: str
    said: tuple[Said, ...] = ()
    managers: tuple[str, ...] = ()

    @property
    def spoken(self) -> bool:
        """Tell whether a proxy of its class has said something of it."""
        return not {manager(self.class_name), FORMER_MANAGER}.isdisjoint(self.managers)

    @property
    def spoken_alone(self) -> bool:
        """Tell whether those of its class alone have: of words that others said too, some fields may be theirs."""
        return set(self.managers) == {manager(self.class_name)}


@dataclass(frozen=True, slots=True)
class Backend:
    """A backendRef of an HTTPRoute: its Service, or how it is none."""

    service: Key
    port: int
    differs: str = ""


@dataclass(frozen=True, slots=True)
class Parent:
    """A parentRef of an HTTPRoute: a Gateway, None where it is something else, and the ref itself as JSON."""

    gateway: Key | None
    ref: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a controller said of an HTTPRoute with regard to a parent, `entry` as JSON; `said` where it is a proxy."""

    parent: Parent
    said: tuple[Said, ...]
    by_proxy: bool
    entry: str


@dataclass(frozen=True, slots=True)
class HTTPRoute:
    """The few fields of an HTTPRoute that decide its conditions; `differs` is how it is not in KubeRay's form."""

    key: Key
    generation: int
    terminating: bool
    owner: Owner | None
    differs: str
    parents: tuple[Parent, ...]
    backends: tuple[Backend, ...]
    told: tuple[Told, ...] = ()
    version: str = field(default="", compare=False)  # its resourceVersion


def manager(class_name: str) -> str:
    """Return the field manager of what the proxies of a class say."""
    return f"{MANAGER_PREFIX}{class_name}"[:MAX_MANAGER]


def read_class(obj: object) -> GatewayClass:
    """Read a GatewayClass; raise UnreadableError where it has no usable name."""
    named = text(obj, "spec", "controllerName")
    return GatewayClass(read_key(obj), _generation(obj), named, bool(dig(obj, "spec", "parametersRef")),
                        _said(obj, "status", "conditions"))  # fmt: skip


def read_gateway(obj: object) -> Gateway:
    """Read a Gateway; raise UnreadableError where it has no usable name."""
    return Gateway(
        key=read_key(obj),
        generation=_generation(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        class_name=name_in(obj, "spec", "gatewayClassName"),
        owner=controller(obj),
        differs=differs(dig(obj, "spec"), _GATEWAY, "spec"),
        said=_said(obj, "status", "conditions"),
        managers=tuple(islice(filter(None, map(_proxy, array(obj, "metadata", "managedFields"))), MAX_ENTRIES)),
    )


def read_httproute(obj: object) -> HTTPRoute:
    """Read an HTTPRoute; raise UnreadableError where it has no usable name."""
    key = read_key(obj)
    told = list(islice(array(obj, "status", "parents"), MAX_ENTRIES))
    parents = array(obj, "spec", "parentRefs")
    if len(_json(told)) > MAX_TOLD:
        told, parents = [], []
    return HTTPRoute(
        key=key,
        generation=_generation(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        owner=controller(obj),
        differs=differs(dig(obj, "spec"), _HTTPROUTE, "spec"),
        parents=tuple(_parent(ref, key) for ref in islice(parents, MAX_ENTRIES)),
        backends=tuple(_backend(ref, key) for ref in _backends(obj)),
        told=tuple(_told(each, key) for each in told),
        version=text(obj, "metadata", "resourceVersion"),
    )


def _parent(ref: object, key: Key) -> Parent:
    kind = (dig(ref, "group") or GROUP, dig(ref, "kind") or "Gateway")
    gateway = Key(text(ref, "namespace") or key.namespace, text(ref, "name"))
    return Parent(gateway if kind == (GROUP, "Gateway") else None, _json(ref))


def _told(entry: object, key: Key) -> Told:
    by_proxy = text(entry, "controllerName") == CONTROLLER
    said = _said(entry, "conditions") if by_proxy else ()
    return Told(_parent(dig(entry, "parentRef"), key), said, by_proxy, _json(entry))


def _backends(obj: object) -> list[object]:
    """Return the backendRefs of the only rule: where there are more, the form differs."""
    rules = array(obj, "spec", "rules")
    return array(rules[0], "backendRefs")[:MAX_ENTRIES] if rules else []


def _backend(ref: object, key: Key) -> Backend:
    port = dig(ref, "port")
    service = Key(text(ref, "namespace") or key.namespace, text(ref, "name"))
    return Backend(service, port if type(port) is int else 0, differs(ref, _BACKEND, "backendRef"))


def _said(obj: object, *path: str) -> tuple[Said, ...]:
    return tuple(map(_one_said, array(obj, *path)[:MAX_ENTRIES]))


def _one_said(found: object) -> Said:
    kind, status, reason, message = (text(found, name)[:MAX_SAID] for name in ("type", "status", "reason", "message"))
    since = text(found, "lastTransitionTime")[:MAX_TEXT]
    return Said(kind, status, reason, message, _whole(dig(found, "observedGeneration")), since)


def _proxy(fields: object) -> str:
    """Return the name of a manager where it is one of a proxy's, else ""."""
    name, *how = (text(fields, each) for each in ("manager", "operation", "subresource"))
    is_proxy = name == FORMER_MANAGER or name.startswith(MANAGER_PREFIX)
    return name[:MAX_MANAGER] if is_proxy and how == ["Apply", "status"] else ""


def _generation(obj: object) -> int:
    return _whole(dig(obj, "metadata", "generation"))


def _whole(number: object) -> int:
    return number if type(number) is int else 0


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


CLASSES = Resource(GROUP, VERSION, "gatewayclasses", "GatewayClass", read_class, "")
GATEWAYS = Resource(GROUP, VERSION, "gateways", "Gateway", read_gateway, "")
HTTPROUTES = Resource(GROUP, VERSION, "httproutes", "HTTPRoute", read_httproute, "")
