"""A plain Service that somebody labels, and what becomes of it: a model without an operator.

    row          | Service                                                | becomes
    ------------ | ------------------------------------------------------ | ----------------------------------------
    unlabelled   | lacks the label that the operator asks for             | nothing
    gone         | is being deleted                                       | nothing
    operators    | is one that another kind's operator makes              | nothing: that kind routes it
    misnamed     | its name or namespace is none                          | rejected: InvalidName
    addressless  | without a ClusterIP yet                                | pending
    unusable     | ExternalName, headless, with an address that none has  | rejected, with the mend
    portless     | without one TCP port that speaks HTTP                  | rejected: NoServePort: name one `serve`
    unselecting  | without a selector                                     | rejected: NoSelector, unless allowed
    own          | any other                                              | a route, ready or not

The first line that fits decides.
"""

from __future__ import annotations

from dataclasses import replace

from rayproxy.kinds.backend import (
    MAX_MESSAGE,
    NotYetError,
    Policy,
    RejectedError,
    Targets,
    age,
    check_names,
    serve_port,
)
from rayproxy.kinds.base import SEE_WHY, Kind, path
from rayproxy.kinds.slices import endpoint_slices
from rayproxy.model import Decision, Pending, Ref, Rejection, Resource, Route, Service, Snapshot
from rayproxy.objects import labels_of, read_service

NAME = "service"
FILE_PREFIX = "svc"
OPERATORS = ("ray.io", "kserve.io", "knative.dev")  # whose groups, and those below them, other kinds' Services are of


def read_labelled(obj: object) -> Service:
    """Read a Service with the labels that tell whose it is; raise UnreadableError where it has no usable name."""
    labels = sorted(labels_of(obj))
    return replace(
        read_service(obj), labels=tuple((key, "") for key in labels if _is_operators(key.partition("/")[0]))
    )


def _is_operators(group: str) -> bool:
    return any(group == each or group.endswith(f".{each}") for each in OPERATORS)


def decide(snapshot: Snapshot, policy: Policy) -> list[Decision]:
    """Decide on every labelled Service that is no other kind's, by itself, the oldest first."""
    live = sorted((each for each in snapshot.of(SERVICES) if not each.terminating and not _is_anothers(each)), key=age)
    return [_decide(each, policy) for each in live]


def _is_anothers(service: Service) -> bool:
    return bool(service.labels) or (service.owner is not None and _is_operators(service.owner.group))


def _decide(service: Service, policy: Policy) -> Decision:
    ref = Ref(NAME, service.key.namespace, service.key.name)
    try:
        check_names(service.key, "Service")
        return Route(ref, service.uid, path(ref), (_targets(service, policy),), service.created, (service.id,))
    except NotYetError as not_yet:
        return Pending(ref, service.uid, str(not_yet)[:MAX_MESSAGE])
    except RejectedError as refused:
        return Rejection(ref, service.uid, refused.reason, str(refused)[:MAX_MESSAGE])


_targets = Targets(serve_port, "give it the selector of its pods")
SERVICES = Resource("", "v1", "services", "Service", read_labelled, custom=False)
TOLD = {
    "pending": "The Service exists and has no address yet. Try again shortly.",
    "rejected": f"The Service exists and was rejected by the proxy. {SEE_WHY}",
}
KIND = Kind(
    NAME, FILE_PREFIX, SERVICES, SERVICES, "whoever labels one", "Kubernetes", TOLD, decide,
    endpoints=endpoint_slices(None), by_default=False,
)  # fmt: skip
