"""What an EndpointSlice says of its Service: how many endpoints it has, and how many of them are ready. Pure.

The cluster's own controller makes the slices of a Service that has a selector, names the Service as their controller,
and gives them its labels. It keeps one without endpoints where there are none: no slice at all says nothing.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from rayproxy.kinds.backend import forbidden
from rayproxy.model import WHOLE, Endpoints, Key, Resource, Route, ServiceId, Target
from rayproxy.objects import MAX_TEXT, array, controller, dig, labels_of, read_key, text

SERVICE_NAME = "kubernetes.io/service-name"
Counts = Mapping[tuple[ServiceId, str], tuple[int, int]]  # of each family of addresses: the ready ones, and all
_VERSIONS = {"IPv4": 4, "IPv6": 6}


def endpoint_slices(selector: str | None) -> Resource[Endpoints]:
    """Return the EndpointSlices (Kubernetes 1.21 and newer) of the Services with such labels; None: the operator's."""
    return Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", read_endpoints, selector)


def read_endpoints(obj: object) -> Endpoints:
    """Read an EndpointSlice; raise UnreadableError where it has no usable name."""
    family = text(obj, "addressType")[:MAX_TEXT]
    ready = [is_ready(each) for each in array(obj, "endpoints") if _is_possible(each, family)]
    return Endpoints(service_of(obj), family, sum(ready), len(ready))


def count(slices: Iterable[Endpoints]) -> Counts:
    """Add up what the slices of each Service say; one without a slice has no entry."""
    found: dict[tuple[ServiceId, str], list[Endpoints]] = defaultdict(list)
    for each in slices:
        if each.service.uid:
            found[each.service, each.family].append(each)
    return {key: (sum(one.ready for one in each), sum(one.total for one in each)) for key, each in found.items()}


def behind(route: Route, counts: Counts) -> tuple[int, int] | None:
    """Return how many endpoints behind a route are ready, and how many there are; None is not known."""
    each = zip(route.services, route.targets, strict=False)
    found = [counts.get((service, _family(target))) for service, target in each if target.weight]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    return sum(ready for ready, _ in known), sum(total for _, total in known)


def answering(route: Route, counts: Counts) -> Route:
    """Return a route of two targets, none of its requests for the one where nobody is ready while the other has some.

    KubeRay gives a new cluster its first share before a pod there is ready. What is not known changes nothing.
    """
    both = list(zip(route.targets, route.services, strict=False))
    ready = [counts[known][0] if (known := (service, _family(target))) in counts else None for target, service in both]
    if len(both) != 2 or 0 not in ready or not any(ready):  # noqa: PLR2004 - there are no more
        return route
    first = 1 if ready[0] == 0 else 0
    (some, service), (none, other) = both[first], both[1 - first]
    return replace(route, targets=(replace(some, weight=WHOLE), replace(none, weight=0)), services=(service, other))


def _family(target: Target) -> str:
    return "IPv6" if target.host.startswith("[") else "IPv4"


def service_of(obj: object) -> ServiceId:
    """Return the Service that controls a slice and that it is labelled with, without a uid where these are not one."""
    key = Key(read_key(obj).namespace, labels_of(obj).get(SERVICE_NAME, ""))
    owner = controller(obj)
    proven = owner is not None and (owner.group, owner.kind, owner.name) == ("", "Service", key.name)
    return ServiceId(key, owner.uid[:MAX_TEXT] if owner and proven else "")


def _is_possible(endpoint: object, family: str) -> bool:
    """Tell whether an endpoint's address, of which only the first counts, is one that a pod can have."""
    first = next(iter(array(endpoint, "addresses")), None)
    try:
        found = ipaddress.ip_address(first) if isinstance(first, str) else None
    except ValueError:
        return False
    return found is not None and found.version == _VERSIONS.get(family) and not forbidden(found)


def is_ready(endpoint: object) -> bool:
    """Tell whether an endpoint of a slice is ready."""
    return dig(endpoint, "conditions", "ready") is not False  # unsaid is ready, says the API
