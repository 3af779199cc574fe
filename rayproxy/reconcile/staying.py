"""Which live routes may stay where it is not known what should be, or where that is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rayproxy.kinds import KINDS
from rayproxy.kinds.base import Kind
from rayproxy.model import Decision, Rejection, Route, Snapshot


def unknown(missing: Mapping[str, Route], snapshot: Snapshot) -> dict[str, Route]:
    """Return the live routes whose objects may well be there; a Service that is known to be gone takes its route."""
    there = {kind.name: _addresses(kind, snapshot) for kind in KINDS.values() if kind.routed in snapshot.unknown}
    return {name: route for name, route in missing.items() if route.ref.kind in there and _leads_to(route, there)}


def _addresses(kind: Kind, snapshot: Snapshot) -> set[str] | None:
    """Return the addresses of the Services that may be a kind's backends, None where these are not all known."""
    if any(each in snapshot.unknown for each in kind.backends):
        return None
    return {service.cluster_ip for each in kind.backends for service in snapshot.of(each)}


def unread(missing: Mapping[str, Route], decisions: tuple[Decision, ...]) -> dict[str, Route]:
    """Return the live routes to gateways whose objects are rejected, for what could not be read alone."""
    rejected = {each.ref for each in decisions if isinstance(each, Rejection) and each.unknown}
    to_gateways = {name: route for name, route in missing.items() if all(target.name for target in route.targets)}
    return {name: route for name, route in to_gateways.items() if route.ref in rejected}


def is_its_own(live: Route, wanted: Route) -> bool:
    """Tell whether a live route is the same object's, and leads nowhere but where that leads now, if to other ports.

    Where it led besides is somebody else's already, or soon is: an address or a name is free once its Service is gone.
    """
    refs = (wanted.ref, replace(wanted.ref, namespace=""))  # an earlier build's routes did not say whose they are
    return live.ref in refs and _places(live) <= _places(wanted)


def _places(route: Route) -> set[tuple[str, str]]:
    return {(target.host, target.name) for target in route.targets}


def _leads_to(route: Route, there: Mapping[str, set[str] | None]) -> bool:
    addresses = there[route.ref.kind]
    return addresses is None or all(target.host.strip("[]") in addresses for target in route.targets)
