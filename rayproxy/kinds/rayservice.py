"""KubeRay's RayService: what is read of it, and what becomes of it.

    RayService                                  | its serve Service            | becomes
    ------------------------------------------- | ---------------------------- | -------------------------
    is being deleted                            |                              | nothing
    its name or namespace is none               |                              | rejected: InvalidName
    an older one has the name, elsewhere        |                              | rejected: NameConflict
    any                                         | its own, with a usable port  | a route, whatever else is
    any                                         | its own, not usable          | rejected, with the mend
    any                                         | its own, without a selector  | rejected, unless allowed
    any                                         | somebody else's              | rejected: ServiceNotOwned
    suspended                                   | none                         | suspended
    KubeRay has given it up, or will            | none                         | refused, in KubeRay's words
    any other                                   | none                         | pending

Which Service KubeRay makes for a RayService, and who owns it, was read from its code, v0.6 to v1.7: one Service
named by spec.serveService.metadata.name, else <name>-serve-svc, owned by the RayService; with an incremental
upgrade one per RayCluster, <cluster>-serve-svc, owned by the RayCluster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rayproxy.kinds.backend import MAX_MESSAGE, NotYetError, Policy, RejectedError, Targets
from rayproxy.kinds.base import Kind, path
from rayproxy.kinds.ports import PortError, serve_port
from rayproxy.model import (
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
)
from rayproxy.names import DNS_1035_LABEL, DNS_1123_LABEL
from rayproxy.objects import SERVE_LABEL, condition, created, dig, read_key, read_service, text

NAME = "rayservice"
FILE_PREFIX = "ray"
INCREMENTAL = "NewClusterWithIncrementalUpgrade"
UPGRADES = ("", "NewCluster", "None", INCREMENTAL)
FINAL = ("ValidationFailed", "InitializingTimeout")  # reasons of Ready=False after which KubeRay waits for a person
# Characters; KubeRay 1.4 and newer refuse more, since a cluster's Service has the name and 16 of its own.
MAX_RAYSERVICE_NAME = 47
MAX_WORDS = 400  # characters of another's message that are kept: an Event and a line of `routes` hold no more


@dataclass(frozen=True, slots=True)
class RayService:
    """The few fields of a RayService that decide its route."""

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


def read_rayservice(obj: object) -> RayService:
    """Read a RayService; raise UnreadableError where it has no usable name."""
    return RayService(
        key=read_key(obj),
        uid=text(obj, "metadata", "uid"),
        created=created(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        serve_service=text(obj, "spec", "serveService", "metadata", "name"),
        active_cluster=text(obj, "status", "activeServiceStatus", "rayClusterName"),
        upgrade=text(obj, "spec", "upgradeStrategy", "type")[:80],
        suspended=dig(obj, "spec", "suspend") is True,
        halted=any(condition(obj, kind).get("status") == "True" for kind in ("Suspending", "Suspended")),
        taken_up=_taken_up(obj),
        refusal=_refusal(obj),
    )


def _taken_up(obj: object) -> bool:
    statuses = ("activeServiceStatus", "pendingServiceStatus")
    return any(text(obj, "status", each, "rayClusterName") for each in statuses)


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
    """Decide on every RayService that is not being deleted, the oldest first."""
    services = _Services(snapshot.of(SERVICES))
    live = sorted((rs for rs in snapshot.of(RAYSERVICES) if not rs.terminating), key=_age)
    owner_of_name: dict[str, Key] = {}
    return [_decide(rs, services, policy, owner_of_name) for rs in live]


def _age(rs: RayService) -> tuple[bool, str, Key]:
    return (not rs.created, rs.created, rs.key)  # no timestamp counts as youngest


def _decide(rs: RayService, services: _Services, policy: Policy, owner_of_name: dict[str, Key]) -> Decision:
    ref = Ref(NAME, rs.key.namespace, rs.key.name)
    try:
        _check_names(rs.key)
        owner = owner_of_name.setdefault(rs.key.name, rs.key)
        if owner != rs.key:
            raise RejectedError(
                "NameConflict",
                f"the name {rs.key.name} is taken by the older RayService {owner}: rename this one or that one",
            )
        service = _serve_service(rs, services, policy)
        target = _targets(service, policy.allowed)
        if not service.selects and not policy.unowned:
            raise RejectedError(
                "NoSelector",
                f"the Service {service.key} has no selector, so whoever may write its endpoints decides where calls "
                "go: delete it and let KubeRay create it, or allow Services without an owner",
            )
        return Route(ref, rs.uid, path(ref), (target,), rs.created)
    except NotYetError as not_yet:
        return _without_service(ref, rs, str(not_yet))
    except RejectedError as refused:
        return Rejection(ref, rs.uid, refused.reason, str(refused)[:MAX_MESSAGE])


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
    return Pending(ref, rs.uid, waits[:MAX_MESSAGE])


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


def _check_names(key: Key) -> None:
    if not DNS_1123_LABEL.fullmatch(key.namespace):
        raise RejectedError("InvalidName", f"the namespace {key.namespace[:80]!r} is not a DNS-1123 label")
    if not DNS_1035_LABEL.fullmatch(key.name):
        raise RejectedError(
            "InvalidName",
            f"the name {key.name[:80]!r} is not a DNS-1035 label (a-z, 0-9 and '-', a letter first, 63 at most): "
            "give the RayService such a name",
        )


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
    not_owned: Service | None = None
    for name in _names(rs):
        service = services.by_key.get(Key(rs.key.namespace, name))
        if service is None:
            continue
        if _belongs(service, rs, policy):
            return service
        not_owned = not_owned or service
    # After a rename in the spec, KubeRay keeps the Service of the old name working until the next cluster.
    others = [service for service in services.by_owner.get(rs.uid or rs.key, ()) if _belongs(service, rs, policy)]
    if others:
        return max(others, key=lambda service: (service.created, service.key))
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


def _port(service: Service) -> int:
    try:
        return serve_port(service.ports)
    except PortError as error:
        raise RejectedError(error.reason, f"the Service {service.key} {error}") from None


_targets = Targets(_port)
RAYSERVICES = Resource("ray.io", "v1", "rayservices", "RayService", read_rayservice)
SERVICES = Resource("", "v1", "services", "Service", read_service, selector=SERVE_LABEL, custom=False)
KIND = Kind(NAME, FILE_PREFIX, RAYSERVICES, SERVICES, "KubeRay 1.0 or newer", decide)
