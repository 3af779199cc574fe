"""KubeRay's RayService: what is read of it, and what becomes of it.

    row          | RayService                       | its serve Service            | becomes
    ------------ | -------------------------------- | ---------------------------- | ----------------------------------
    gone         | is being deleted                 |                              | nothing
    misnamed     | its name or namespace is none    |                              | rejected: InvalidName
    own          | any                              | its own, with a usable port  | a route, whatever else is
    shared       | in an incremental upgrade        | two, both usable             | a route to both, as KubeRay
                 |                                  |                              | weighs, from 0 to 100
    one-of-two   | in an incremental upgrade        | two, the new one not usable  | a route to the old one
    unusable     | any                              | its own, not usable          | rejected, with the mend
    unselecting  | any                              | its own, without a selector  | rejected: NoSelector, unless
                 |                                  |                              | allowed
    ownerless    | any                              | nobody's                     | as its own, if allowed
    foreign      | any                              | somebody else's              | rejected: ServiceNotOwned
    suspended    | suspended                        | none yet                     | suspended
    refused      | KubeRay has given it up, or will | none yet                     | refused, in KubeRay's words
    failing      | an application of it has failed  | none yet                     | pending, in Ray Serve's words
    waiting      | any other                        | none yet                     | pending

"None yet" is also one that has no address yet, or that belongs to the deleted RayService of this name.
Which Service KubeRay makes for a RayService, and who owns it, was read from its code, v0.6 to v1.7: one Service
named by spec.serveService.metadata.name, else <name>-serve-svc, owned by the RayService; with an incremental
upgrade one per RayCluster, <cluster>-serve-svc, owned by the RayCluster. It leaves those of the other kind as they
were when spec.upgradeStrategy changes, so that one may select a cluster that is gone (1.6.2, seen): of several that
belong to the RayService, the one that selects the active cluster answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter

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
from rayproxy.kinds.kuberay import CLUSTERS, MAX_WORDS, failure, words
from rayproxy.kinds.slices import endpoint_slices
from rayproxy.model import (
    WHOLE,
    Decision,
    Key,
    Pending,
    Ref,
    Refused,
    Rejection,
    Resource,
    Route,
    Service,
    Snapshot,
    Suspended,
    Target,
)
from rayproxy.objects import SERVE_LABEL, condition, created, dig, name_in, read_key, read_service, text

NAME = "rayservice"
FILE_PREFIX = "ray"
INCREMENTAL = "NewClusterWithIncrementalUpgrade"
UPGRADES = ("", "NewCluster", "None", INCREMENTAL)
FINAL = ("ValidationFailed", "InitializingTimeout")  # reasons of Ready=False after which KubeRay waits for a person
# Characters; KubeRay 1.4 and newer refuse more, since a cluster's Service has the name and 16 of its own.
MAX_RAYSERVICE_NAME = 47


Backend = tuple[Service, Target]


@dataclass(frozen=True, slots=True)
class RayService:
    """The few fields of a RayService that decide its route."""

    key: Key
    uid: str
    created: str  # RFC 3339, or "" where the source has none
    terminating: bool
    serve_service: str  # spec.serveService.metadata.name, or ""
    active_cluster: str  # status.activeServiceStatus.rayClusterName, or ""
    pending_cluster: str = ""  # status.pendingServiceStatus.rayClusterName, or ""
    moved: int = 0  # percent of the requests that KubeRay leads to the pending cluster already
    upgrade: str = ""  # spec.upgradeStrategy.type as it was found, cut to 80 characters
    suspended: bool = False  # spec.suspend is true
    halted: bool = False  # KubeRay says that it suspends it, or has
    taken_up: bool = False  # KubeRay has named a cluster of it in its status: whatever it refuses has none
    failing: str = ""  # what Ray Serve says of an application that has failed, in one line
    refusal: tuple[str, str] | None = None  # reason and words, where KubeRay's condition says that it goes no further
    words: str = field(default="", compare=False)  # what KubeRay says, "" where all is well; decides nothing


def read_rayservice(obj: object) -> RayService:
    """Read a RayService; raise UnreadableError where it has no usable name."""
    return RayService(
        key=read_key(obj),
        uid=text(obj, "metadata", "uid"),
        created=created(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        serve_service=name_in(obj, "spec", "serveService", "metadata", "name"),
        active_cluster=name_in(obj, "status", "activeServiceStatus", "rayClusterName"),
        pending_cluster=name_in(obj, "status", "pendingServiceStatus", "rayClusterName"),
        moved=_moved(obj),
        upgrade=text(obj, "spec", "upgradeStrategy", "type")[:80],
        suspended=dig(obj, "spec", "suspend") is True,
        halted=any(condition(obj, kind).get("status") == "True" for kind in ("Suspending", "Suspended")),
        taken_up=_taken_up(obj),
        failing=failure(obj),
        refusal=_refusal(obj),
        words=words(obj),
    )


def _moved(obj: object) -> int:
    """Return what has moved in an incremental upgrade: KubeRay writes both shares at once, 100 together."""
    active, pending = (dig(obj, "status", each, "trafficRoutedPercent") for each in CLUSTERS)
    whole = type(active) is int and type(pending) is int and active + pending == WHOLE
    return pending if whole and isinstance(pending, int) and 0 <= pending <= WHOLE else 0


def _taken_up(obj: object) -> bool:
    return any(text(obj, "status", each, "rayClusterName") for each in CLUSTERS)


def _refusal(obj: object) -> tuple[str, str] | None:
    """Return reason and words where KubeRay (1.5 and newer) does not go on.

    A RayService that was refused and mended keeps the condition ValidationFailed until its first endpoint is ready.
    Then KubeRay has seen the newest generation, which it does not note while it refuses, and has made a cluster.
    """
    ready = condition(obj, "Ready")
    reason = text(ready, "reason")
    seen = dig(obj, "status", "observedGeneration") == dig(obj, "metadata", "generation")
    mended = reason == "ValidationFailed" and seen and _taken_up(obj)
    if ready.get("status") != "False" or reason not in FINAL or mended:
        return None
    return reason, text(ready, "message")[:MAX_WORDS]


def decide(snapshot: Snapshot, policy: Policy) -> list[Decision]:
    """Decide on every RayService that is not being deleted, by itself, the oldest first."""
    services = _Services(snapshot.of(SERVICES))
    live = sorted((rs for rs in snapshot.of(RAYSERVICES) if not rs.terminating), key=age)
    return [_decide(rs, services, policy) for rs in live]


def _decide(rs: RayService, services: _Services, policy: Policy) -> Decision:
    ref = Ref(NAME, rs.key.namespace, rs.key.name)
    try:
        check_names(rs.key, "RayService")
        service = _serve_service(rs, services, policy)
        shares = _shares(rs, (service, _targets(service, policy)), services, policy)
        targets, ids = zip(*((target, each.id) for each, target in shares), strict=True)
        return Route(ref, rs.uid, path(ref), targets, rs.created, ids)
    except NotYetError as not_yet:
        return _without_service(ref, rs, str(not_yet))
    except RejectedError as refused:
        return Rejection(ref, rs.uid, refused.reason, str(refused)[:MAX_MESSAGE])


def _shares(rs: RayService, active: Backend, services: _Services, policy: Policy) -> list[Backend]:
    """Return the backends that share the requests in an incremental upgrade, the heavier first; else the active.

    nginx knows both all the time, so that each step is one that it can take.
    """
    pending = _pending(rs, services, policy) if rs.pending_cluster and rs.upgrade == INCREMENTAL else None
    if pending is None or pending[1] == active[1]:
        return [active]
    both = [
        (service, replace(target, weight=weight))
        for (service, target), weight in ((active, WHOLE - rs.moved), (pending, rs.moved))
    ]
    return sorted(both, key=lambda backend: -backend[1].weight)


def _pending(rs: RayService, services: _Services, policy: Policy) -> Backend | None:
    """Return the pending cluster's backend, if it is as good as the active one's has to be."""
    service = services.by_key.get(Key(rs.key.namespace, f"{rs.pending_cluster}-serve-svc"))
    if service is None or not _belongs(service, replace(rs, active_cluster=rs.pending_cluster), policy):
        return None
    try:
        return service, _targets(service, policy)
    except (NotYetError, RejectedError):
        return None


def _without_service(ref: Ref, rs: RayService, waits: str) -> Decision:
    """Say why there is no Service yet, or why none will come; `waits` is what is missing."""
    if rs.suspended:
        confirmed = "" if rs.halted else "; KubeRay (1.7 or newer) has not confirmed it"
        message = f"spec.suspend is true{confirmed}: set it to false, and KubeRay makes its clusters and Service anew"
        return Suspended(ref, rs.uid, message)
    if refusal := rs.refusal or _refused_before_kuberay_says_so(rs):
        reason, words = refusal
        mend = ": delete the RayService and make it anew" if reason == "InitializingTimeout" else ""
        return Refused(ref, rs.uid, reason, words[:MAX_MESSAGE] + mend)
    return Pending(ref, rs.uid, rs.failing or waits[:MAX_MESSAGE])


def _refused_before_kuberay_says_so(rs: RayService) -> tuple[str, str] | None:
    """Return reason and words where KubeRay refuses `rs` for what is known here.

    KubeRay 1.4 and 1.5 say so in an Event alone, newer ones in a condition a moment later. Older ones take more, and
    show it by a cluster in the status.
    """
    if rs.taken_up:
        return None
    if len(rs.key.name) > MAX_RAYSERVICE_NAME:
        return "NameTooLong", (
            f"the name has {len(rs.key.name)} characters and KubeRay 1.4 and newer take {MAX_RAYSERVICE_NAME}: "
            "make the RayService anew with a shorter one"
        )
    if rs.upgrade not in UPGRADES:
        return "InvalidUpgradeStrategy", (
            f"spec.upgradeStrategy.type is {rs.upgrade!r} and KubeRay takes {', '.join(UPGRADES[1:])}: set one of them"
        )
    return None


class _Services:
    """Find Services by key, and by their owner: its uid, or its name where nobody knows a uid."""

    def __init__(self, services: Iterable[Service]) -> None:
        self.by_key: dict[Key, Service] = {}
        self.by_owner: dict[str | Key, list[Service]] = defaultdict(list)
        for service in services:
            if service.terminating:
                continue
            self.by_key[service.key] = service
            if service.owner:
                self.by_owner[service.owner.uid].append(service)
                self.by_owner[Key(service.key.namespace, service.owner.name)].append(service)


def _serve_service(rs: RayService, services: _Services, policy: Policy) -> Service:
    """Return the Service that answers for `rs`: what exists decides, not what the spec promises."""
    named = [services.by_key.get(Key(rs.key.namespace, name)) for name in _names(rs)]
    found = [service for service in named if service]
    # After a rename in the spec, KubeRay keeps the Service of the old name working until the next cluster.
    others = services.by_owner.get(rs.uid or rs.key, ())
    newest = sorted(others, key=lambda service: (service.created, service.key), reverse=True)
    if own := [service for service in (*found, *newest) if _belongs(service, rs, policy)]:
        return max(own, key=lambda service: service.cluster == rs.active_cluster)  # of equals the first
    not_owned = found[0] if found else None
    if not_owned and not_owned.serves and _names_as_owner(not_owned, rs):
        raise NotYetError(
            f"the Service {not_owned.key} still belongs to the deleted RayService of this name, with another uid: it "
            "goes away by itself (in manifests: export both anew)"
        )
    if not_owned:
        raise RejectedError("ServiceNotOwned", _why_not_owned(not_owned, rs))
    raise NotYetError(
        f"no Service {' or '.join(_names(rs))} in namespace {rs.key.namespace} with the label ray.io/serve yet: "
        "KubeRay creates it once every Serve application runs"
    )


def _names(rs: RayService) -> Iterator[str]:
    """Yield the names that the serve Service may have, the likeliest first."""
    stable = [rs.serve_service] if rs.serve_service else []
    stable.append(f"{rs.key.name}-serve-svc")
    per_cluster = [f"{rs.active_cluster}-serve-svc"] if rs.active_cluster else []
    yield from (per_cluster + stable if rs.upgrade == INCREMENTAL else stable + per_cluster)


def _belongs(service: Service, rs: RayService, policy: Policy) -> bool:
    owner = service.owner
    if owner is None:
        return policy.unowned
    if not service.serves or service.key.namespace != rs.key.namespace:
        return False
    if (owner.group, owner.kind) == ("ray.io", "RayCluster"):
        return bool(rs.active_cluster) and owner.name == rs.active_cluster
    if rs.uid:
        return owner.uid == rs.uid
    # A RayService out of git has no uid, and its Service, which was exported, has that of the one in the cluster.
    return _names_as_owner(service, rs)


def _names_as_owner(service: Service, rs: RayService) -> bool:
    owner = service.owner
    return owner is not None and (owner.group, owner.kind, owner.name) == ("ray.io", "RayService", rs.key.name)


def _why_not_owned(service: Service, rs: RayService) -> str:
    owner = f"owned by {service.owner.kind} {service.owner.name}" if service.owner else "without an owner"
    why = owner if service.serves or not service.owner else "without the label ray.io/serve"
    return (
        f"the Service {service.key} is {why}, not made by KubeRay for this RayService (uid {rs.uid or 'none'}): "
        "delete it and let KubeRay create it, or allow Services without an owner"
    )


_targets = Targets(serve_port, "delete it and let KubeRay create it")
RAYSERVICES = Resource("ray.io", "v1", "rayservices", "RayService", read_rayservice)
SERVICES = Resource("", "v1", "services", "Service", read_service, selector=SERVE_LABEL, custom=False)
TOLD = {
    "pending": "The RayService exists and is still starting: its Service is not there yet. Try again shortly.",
    "rejected": f"The RayService exists and was rejected by the proxy. {SEE_WHY}",
    "suspended": "The RayService is suspended: nothing answers until somebody resumes it.",
    "refused": f"KubeRay refuses the RayService or gave it up, so nothing answers until it is mended. {SEE_WHY}",
}
KIND = Kind(
    NAME, FILE_PREFIX, RAYSERVICES, SERVICES, "KubeRay", "KubeRay 1.0 or newer", TOLD, decide,
    endpoints=endpoint_slices(SERVE_LABEL), words=attrgetter("words"),
)  # fmt: skip
