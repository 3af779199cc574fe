"""Decide for every RayService what becomes of it: a route, pending, or rejected with a reason.

Which Service KubeRay makes for a RayService, and who owns it, was read from its code, v0.6 to v1.7: one Service
named by spec.serveService.metadata.name, else <name>-serve-svc, owned by the RayService; with an incremental
upgrade one per RayCluster, <cluster>-serve-svc, owned by the RayCluster.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from rayproxy.model import (
    Backend,
    Decision,
    Key,
    Pending,
    RayService,
    Refused,
    Rejection,
    Route,
    Service,
    Snapshot,
    Suspended,
)
from rayproxy.ports import PortError, serve_port

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 1035 label as Kubernetes checks it. KubeRay checks it in its operator only, so the API may hold others.
DNS_1035_LABEL = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
# RFC 1123 subdomain: what Kubernetes takes as the name of a RayService; 253 characters at most.
DNS_1123_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
# RFC 1123 label: what a namespace may be.
DNS_1123_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
INCREMENTAL = "NewClusterWithIncrementalUpgrade"
UPGRADES = ("", "NewCluster", "None", INCREMENTAL)
MAX_NAME = (
    47  # characters; KubeRay 1.4 and newer refuse more, since a cluster's Service has the name and 16 of its own
)
MAX_MESSAGE = 800  # characters; values out of objects stand in messages, and the API holds names of a megabyte


@dataclass(frozen=True, slots=True)
class Policy:
    """Say which Services may be backends: `allowed` empty means every address that is not refused for itself."""

    allowed: tuple[Network, ...] = ()
    unowned: bool = False


class _Refused(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _NotYet(Exception):  # noqa: N818 - never leaves this module
    pass


def decide(snapshot: Snapshot, policy: Policy) -> list[Decision]:
    """Decide on every RayService that is not being deleted, ordered by key."""
    services = _Services(snapshot.services)
    live = sorted((rs for rs in snapshot.rayservices if not rs.terminating), key=_age)
    owner_of_name: dict[str, Key] = {}
    decisions = [_decide(rs, services, policy, owner_of_name) for rs in live]
    return sorted(decisions, key=lambda decision: decision.key)


def _age(rs: RayService) -> tuple[bool, str, Key]:
    return (not rs.created, rs.created, rs.key)  # no timestamp counts as youngest


def _decide(rs: RayService, services: _Services, policy: Policy, owner_of_name: dict[str, Key]) -> Decision:
    try:
        _check_names(rs.key)
        owner = owner_of_name.setdefault(rs.key.name, rs.key)
        if owner != rs.key:
            raise _Refused(
                "NameConflict",
                f"the name {rs.key.name} is taken by the older RayService {owner}: rename this one or that one",
            )
        return Route(rs.key, rs.uid, _backend(_serve_service(rs, services, policy), policy.allowed))
    except _NotYet as not_yet:
        return _without_service(rs, str(not_yet))
    except _Refused as refused:
        return Rejection(rs.key, rs.uid, refused.reason, str(refused)[:MAX_MESSAGE])


def _without_service(rs: RayService, waits: str) -> Decision:
    """Say why there is no Service yet, or why none will come; `waits` is what is missing."""
    if rs.suspended:
        confirmed = "" if rs.halted else "; KubeRay (1.7 or newer) has not confirmed it"
        message = f"spec.suspend is true{confirmed}: set it to false, and KubeRay makes its clusters and Service anew"
        return Suspended(rs.key, rs.uid, message)
    if refusal := rs.refusal or _refused_before_kuberay_says_so(rs):
        reason, words = refusal
        mend = ": delete the RayService and make it anew" if reason == "InitializingTimeout" else ""
        return Refused(rs.key, rs.uid, reason, words[:MAX_MESSAGE] + mend)
    return Pending(rs.key, rs.uid, waits[:MAX_MESSAGE])


def _refused_before_kuberay_says_so(rs: RayService) -> tuple[str, str] | None:
    """Return reason and words where KubeRay refuses `rs` for what is known here.

    KubeRay 1.4 and 1.5 say so in an Event alone, newer ones in a condition a moment later. Older ones take more, and
    show it by a cluster in the status.
    """
    if rs.taken_up:
        return None
    if len(rs.key.name) > MAX_NAME:
        return "NameTooLong", (
            f"the name has {len(rs.key.name)} characters and KubeRay 1.4 and newer take {MAX_NAME}: "
            "make the RayService anew with a shorter one"
        )
    if rs.upgrade not in UPGRADES:
        return "InvalidUpgradeStrategy", (
            f"spec.upgradeStrategy.type is {rs.upgrade!r} and KubeRay takes {', '.join(UPGRADES[1:])}: set one of them"
        )
    return None


def _check_names(key: Key) -> None:
    if not DNS_1123_LABEL.fullmatch(key.namespace):
        raise _Refused("InvalidName", f"the namespace {key.namespace[:80]!r} is not a DNS-1123 label")
    if not DNS_1035_LABEL.fullmatch(key.name):
        raise _Refused(
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
        raise _NotYet(
            f"the Service {not_owned.key} still belongs to the deleted RayService of this name, with another uid: it "
            "goes away by itself (in manifests: export both anew)"
        )
    if not_owned:
        raise _Refused("ServiceNotOwned", _why_not_owned(not_owned, rs))
    raise _NotYet(
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


@lru_cache(maxsize=65536)
def _backend(service: Service, allowed: tuple[Network, ...]) -> Backend:
    """Return the checked address and port of a Service; raise _Refused with what is wrong."""
    if service.type == "ExternalName":
        raise _Refused(
            "ExternalName",
            f"the Service {service.key} is of type ExternalName, which could point anywhere: use ClusterIP",
        )
    if service.cluster_ip == "None":
        raise _Refused("Headless", f"the Service {service.key} is headless (clusterIP: None): give it a ClusterIP")
    if not service.cluster_ip:
        raise _NotYet(f"the Service {service.key} has no ClusterIP yet")
    address = _address(service)
    if allowed and not any(address in network for network in allowed):
        raise _Refused(
            "AddressNotAllowed",
            f"the ClusterIP {address} of the Service {service.key} is outside the allowed CIDRs "
            f"{', '.join(map(str, allowed))}",
        )
    host = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 - IPv6
    return Backend(host, _port(service))


def _address(service: Service) -> Address:
    try:
        address = ipaddress.ip_address(service.cluster_ip)
    except ValueError:
        raise _Refused(
            "InvalidAddress",
            f"the clusterIP {service.cluster_ip[:80]!r} of the Service {service.key} is not an IP address",
        ) from None
    plain = getattr(address, "ipv4_mapped", None) or address
    kinds = ("link_local", "multicast", "unspecified", "reserved")
    kind = next((kind for kind in kinds if getattr(plain, f"is_{kind}")), None)
    if plain.is_loopback:  # ::1 lies in a reserved block; like 127.0.0.1 it is for tests and for work on one machine
        kind = None
    if kind or getattr(address, "scope_id", None):
        raise _Refused(
            "AddressForbidden",
            f"the clusterIP {address} of the Service {service.key} is {(kind or 'scoped').replace('_', '-')}: "
            "no Service has such an address",
        )
    return address


def _port(service: Service) -> int:
    try:
        return serve_port(service.ports)
    except PortError as error:
        raise _Refused(error.reason, f"the Service {service.key} {error}") from None
