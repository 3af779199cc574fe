"""What is said of a Gateway and of the HTTPRoutes at it. Pure.

    row           | GatewayClass                                          | Accepted
    ------------- | ----------------------------------------------------- | --------------------------------
    no-class      | another controller's                                  | nothing is said
    parameters    | this proxy's, with parameters                         | False: InvalidParameters
    class         | this proxy's                                          | True

    row           | Gateway                        | its RayService       | Accepted, Programmed
    ------------- | ------------------------------ | -------------------- | --------------------------------
    no-gateway    | of another class               |                      | nothing is said
    nobodys       | no RayService controls it      |                      | False: Invalid
    unlike        | not as KubeRay makes it        |                      | False: Invalid,
                  |                                |                      | ListenersNotValid,
                  |                                |                      | UnsupportedAddress
    unrouted      | as KubeRay makes it            | none that is routed  | False: Invalid
    waiting       | as KubeRay makes it            | has no route (now)   | True, False: Pending, in its words
    unproven      | as KubeRay makes it            | has one, not in all  | True, False: Pending, naming one
                  |                                | ready replicas       | replica
    programmed    | as KubeRay makes it            | has one, in all      | True, True

    row           | HTTPRoute at such a Gateway    | its backends         | Accepted, ResolvedRefs
    ------------- | ------------------------------ | -------------------- | --------------------------------
    strange       | has another controller than    |                      | False: NotAllowedByListeners
                  | it, or is of another namespace |                      |
    gateway-first | the Gateway is not accepted    |                      | False: Pending
    unsupported   | not as KubeRay makes it        |                      | False: UnsupportedValue
    no-services   | as KubeRay makes it            | not Services         | True, False: InvalidKind
    elsewhere     | as KubeRay makes it            | of another namespace | True, False: RefNotPermitted
    not-found     | as KubeRay makes it            | none, or not where   | True, False: BackendNotFound
                  |                                | the route leads      |
    resolved      | as KubeRay makes it            | where it leads       | True, True

What KubeRay makes was read from its code, v1.6: a Gateway with one listener and an HTTPRoute with one rule, both owned
by the RayService, whose backends are the Services of the active and of the pending cluster. It looks at these four
conditions alone, and while one of them is not True it neither gives the new cluster more to do nor takes the old one
away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rayproxy.gateway.objects import CONTROLLER, Backend, Gateway, GatewayClass, HTTPRoute, Parent, Told, manager
from rayproxy.kinds import rayservice
from rayproxy.kinds.base import path
from rayproxy.model import Decision, Key, Owner, Ref, Refused, Rejection, Route

MAX_MESSAGE = 500  # characters
MINE_ALONE = "this proxy takes what KubeRay makes for an upgrade in steps, and nothing else"
Proven = Callable[[Route], str]  # which replica has not proven a route, and how, in words; "" where all have


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition to be said; `reason` is one of the Gateway API's."""

    type: str
    status: bool
    reason: str
    message: str


Conditions = tuple[Condition, ...]


def of_class(found: GatewayClass) -> Conditions | None:
    """Return what is said of the class, None where it is another controller's."""
    if found.controller != CONTROLLER:
        return None
    if found.parameters:
        return (_no("Accepted", "InvalidParameters", f"spec.parametersRef is set: {MINE_ALONE}"),)
    return (_yes("Accepted", "for the Gateways that KubeRay makes for its RayServices"),)


def of_gateway(gateway: Gateway, found: Mapping[Ref, Decision], lacking: Proven) -> Conditions:
    """Return what is said of a Gateway of the class; `found` is what was decided on each object."""
    if wrong := _wrong(gateway, found):
        return _no("Accepted", *wrong), _no("Programmed", "Invalid", wrong[1])
    decision = found[rayservice_of(gateway)]
    waits = lacking(decision) if isinstance(decision, Route) else _why(decision)
    if waits:
        return _yes("Accepted", _OWN), _no("Programmed", "Pending", waits)
    leads = f"{path(rayservice_of(gateway))}/ leads to its clusters, in every replica of the proxy that is ready"
    return _yes("Accepted", _OWN), _yes("Programmed", leads)


def of_httproute(httproute: HTTPRoute, gateway: Gateway, found: Mapping[Ref, Decision]) -> Conditions:
    """Return what is said of an HTTPRoute with regard to a Gateway of the class."""
    if _uid(httproute.owner) != _uid(gateway.owner) or httproute.key.namespace != gateway.key.namespace:
        why = f"it is {_owned(httproute.owner)}, and not by the RayService of the Gateway, beside it: {MINE_ALONE}"
        return (_no("Accepted", "NotAllowedByListeners", why),)
    if wrong := _wrong(gateway, found):
        return (_no("Accepted", "Pending", f"the Gateway {gateway.key} is not accepted: {wrong[1]}"),)
    if httproute.differs:
        return (_no("Accepted", "UnsupportedValue", f"{httproute.differs}: {MINE_ALONE}"),)
    unresolved = _unresolved(httproute, found[rayservice_of(gateway)])
    resolved = (
        _no("ResolvedRefs", *unresolved) if unresolved else _yes("ResolvedRefs", "the route leads to each of them")
    )
    return _yes("Accepted", _OWN), resolved


def at(httproute: HTTPRoute, gateways: Mapping[Key, Gateway]) -> Iterable[tuple[Parent, Gateway]]:
    """Return the parents of an HTTPRoute that are among these Gateways."""
    found = ((each, gateways.get(each.gateway)) for each in httproute.parents if each.gateway)
    return [(each, gateway) for each, gateway in found if gateway]


def outdated(gateway: Gateway, mine: Mapping[Key, Gateway], class_name: str) -> list[str]:
    """Return the managers whose words of a Gateway are to be taken back, by a proxy of a class.

    They are those of other classes than it has now, whichever proxy said them, and one's own where it is not `mine`.
    """
    holds = manager(gateway.class_name) if gateway.key in mine or gateway.class_name != class_name else ""
    return [each for each in gateway.managers if each != holds]


def kept(httproute: HTTPRoute, gateways: Mapping[Key, Gateway], class_name: str) -> list[Told]:
    """Return what was said of an HTTPRoute that a proxy of a class leaves as it is.

    It is what other controllers said, and the proxies of other classes: an entry does not tell which of them, but a
    proxy speaks of an HTTPRoute only where its words of the Gateway stand. A Gateway of another namespace may be one
    that another proxy alone may see.
    """
    return [each for each in httproute.told if not each.by_proxy or _of_another(each, httproute, gateways, class_name)]


def _of_another(told: Told, httproute: HTTPRoute, gateways: Mapping[Key, Gateway], class_name: str) -> bool:
    key = told.parent.gateway
    gateway = gateways.get(key) if key else None
    if gateway is None:
        return key is not None and key.namespace != httproute.key.namespace
    return gateway.class_name != class_name and gateway.spoken


_OWN = "as KubeRay makes it for upgrades in steps"


def _wrong(gateway: Gateway, found: Mapping[Ref, Decision]) -> tuple[str, str] | None:
    """Return reason and words where a Gateway is not accepted."""
    owner = gateway.owner
    if owner is None or (owner.group, owner.kind) != ("ray.io", "RayService"):
        return "Invalid", f"it is {_owned(owner)}, and not by a RayService: {MINE_ALONE}"
    if gateway.differs:
        return _reason(gateway.differs), f"{gateway.differs}: {MINE_ALONE}"
    decision = found.get(rayservice_of(gateway))
    if decision is None or decision.uid != owner.uid:
        return "Invalid", (
            f"no RayService {gateway.key.namespace}/{owner.name} with the uid {owner.uid} is routed here: give it the "
            "labels that RAYPROXY_LABEL_SELECTOR asks for"
        )
    return None


def _reason(differs: str) -> str:
    if differs.startswith("spec.addresses"):
        return "UnsupportedAddress"
    return "ListenersNotValid" if differs.startswith("spec.listeners") else "Invalid"


def _unresolved(httproute: HTTPRoute, decision: Decision) -> tuple[str, str] | None:
    """Return reason and words where not every backend is one that the route leads to."""
    if not isinstance(decision, Route):
        return "BackendNotFound", _why(decision)
    leads = {each.key: target.port for each, target in zip(decision.services, decision.targets, strict=False)}
    if not httproute.backends:
        return "BackendNotFound", "there are no backendRefs"
    return next(filter(None, (_unresolved_one(each, httproute, leads) for each in httproute.backends)), None)


def _unresolved_one(backend: Backend, httproute: HTTPRoute, leads: Mapping[Key, int]) -> tuple[str, str] | None:
    named = f"the backendRef {backend.service}"
    if backend.differs:
        return "InvalidKind", f"{named}: {backend.differs}: {MINE_ALONE}"
    if backend.service.namespace != httproute.key.namespace:
        return "RefNotPermitted", f"{named} is of another namespace"
    if backend.service not in leads:
        return "BackendNotFound", (
            f"{named} is not, or not yet, a Service that the route leads to: those of the RayService's active and "
            f"pending cluster are, once they can be used; now {', '.join(map(str, leads))}"
        )
    if backend.port != leads[backend.service]:
        return "BackendNotFound", f"{named} has port {backend.port}, and the route leads to {leads[backend.service]}"
    return None


def _why(decision: Decision) -> str:
    """Say why a RayService has no route, or not the one that it should have by now."""
    reason = f"{decision.reason}: " if isinstance(decision, Rejection | Refused) else ""
    return f"of its RayService the proxy says: {reason}{getattr(decision, 'message', '')}"


def rayservice_of(gateway: Gateway) -> Ref:
    """Return the object that a Gateway's controller would be."""
    return Ref(rayservice.NAME, gateway.key.namespace, gateway.owner.name if gateway.owner else "")


def _uid(owner: Owner | None) -> str:
    return owner.uid if owner else ""


def _owned(owner: Owner | None) -> str:
    return f"controlled by {owner.kind} {owner.name}" if owner else "controlled by nobody"


def _yes(kind: str, message: str) -> Condition:
    return Condition(kind, status=True, reason=kind, message=message)


def _no(kind: str, reason: str, message: str) -> Condition:
    return Condition(kind, status=False, reason=reason, message=message[:MAX_MESSAGE])
