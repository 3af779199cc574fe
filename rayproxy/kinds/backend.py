"""Which address may be written into a configuration: what every kind asks of a Service. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from rayproxy.dns_names import DNS_1035_LABEL, DNS_1123_LABEL
from rayproxy.kinds import ports
from rayproxy.model import Key, Service, Target

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# By version of IP. What is reserved of IPv4 is class E, 240.0.0.0/4, where clusters on GKE have pods and Services.
_KINDS_OF_NO_SERVICE = {
    4: ("link_local", "multicast", "unspecified"),
    6: ("link_local", "multicast", "unspecified", "reserved"),
}
# What a ClusterIP in a manifest could lead to besides a Service, where it is of none of these kinds.
NOT_OF_SERVICES = {
    name: tuple(map(ipaddress.ip_network, networks))
    for name, networks in {
        "the metadata service of a cloud": (
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle
            "fd00:ec2::23", "fd00:ec2::254",  # Amazon
            "fd20:ce::254",  # Google
        ),
        "the broadcast address": ("255.255.255.255",),
        "a translation of an IPv4 address": ("2002::/16", "2001::/32"),  # 6to4, Teredo; NAT64 is reserved
    }.items()
}  # fmt: skip
MAX_MESSAGE = 800  # characters; values out of objects stand in messages, and the API holds names of a megabyte


@dataclass(frozen=True, slots=True)
class Policy:
    """Which Services may be backends: `allowed` empty means every address that is not refused for itself.

    `gateways` are the Services that calls may be sent to for a model behind them, and no others.
    """

    allowed: tuple[Network, ...] = ()
    unowned: bool = False
    gateways: tuple[Key, ...] = ()


class RejectedError(Exception):
    """What is wrong with an object for good: `reason` for machines, the words for people.

    `unknown` says that it is for what could not be read alone.
    """

    def __init__(self, reason: str, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.unknown = unknown


class NotYetError(Exception):
    """What an object still waits for; `told` is what callers are told of it, the beginning of the words."""

    def __init__(self, message: str, told: str = "") -> None:
        super().__init__(message)
        self.told = told


def address(service: Service, allowed: tuple[Network, ...]) -> str:
    """Return the checked ClusterIP, IPv6 in brackets; raise RejectedError or NotYetError."""
    if service.type == "ExternalName":
        raise RejectedError(
            "ExternalName",
            f"the Service {service.key} is of type ExternalName, which could point anywhere: use ClusterIP",
        )
    if service.cluster_ip == "None":
        raise RejectedError(
            "Headless", f"the Service {service.key} is headless (clusterIP: None): give it a ClusterIP"
        )
    if not service.cluster_ip:
        raise NotYetError(f"the Service {service.key} has no ClusterIP yet")
    found = _parsed(service)
    if allowed and not any(found in network for network in allowed):
        raise RejectedError(
            "AddressNotAllowed",
            f"the ClusterIP {found} of the Service {service.key} is outside the allowed CIDRs "
            f"{', '.join(map(str, allowed))}",
        )
    return f"[{found}]" if found.version == 6 else str(found)  # noqa: PLR2004 - IPv6


def _parsed(service: Service) -> Address:
    try:
        found = ipaddress.ip_address(service.cluster_ip)
    except ValueError:
        raise RejectedError(
            "InvalidAddress",
            f"the clusterIP {service.cluster_ip[:80]!r} of the Service {service.key} is not an IP address",
        ) from None
    if kind := forbidden(found):
        raise RejectedError(
            "AddressForbidden",
            f"the clusterIP {found} of the Service {service.key} is {kind}: no Service has such an address",
        )
    return found


def forbidden(address: Address) -> str:
    """Return what kind of an address it is that neither a Service nor a pod has, or ""."""
    if getattr(address, "scope_id", None):
        return "scoped"
    plain = getattr(address, "ipv4_mapped", None) or address
    if plain.is_loopback:  # ::1 lies in a reserved block; like 127.0.0.1 it is for tests and for work on one machine
        return ""
    kinds = _KINDS_OF_NO_SERVICE[plain.version]
    kind = next((kind.replace("_", "-") for kind in kinds if getattr(plain, f"is_{kind}")), "")
    return kind or next((name for name, nets in NOT_OF_SERVICES.items() if any(plain in net for net in nets)), "")


def serve_port(service: Service) -> int:
    """Return the port that speaks HTTP, by the names that Ray Serve's have; raise RejectedError."""
    try:
        return ports.serve_port(service.ports)
    except ports.PortError as error:
        raise RejectedError(error.reason, f"the Service {service.key} {error}") from None


def check_names(key: Key, title: str) -> None:
    """Raise RejectedError where namespace or name cannot be a part of a path and of a Host; `title` is for people."""
    if not DNS_1123_LABEL.fullmatch(key.namespace):
        raise RejectedError("InvalidName", f"the namespace {key.namespace[:80]!r} is not a DNS-1123 label")
    if not DNS_1035_LABEL.fullmatch(key.name):
        raise RejectedError(
            "InvalidName",
            f"the name {key.name[:80]!r} is not a DNS-1035 label (a-z, 0-9 and '-', a letter first, 63 at most): "
            f"give the {title} such a name",
        )


class Aged(Protocol):
    """What has an age and a key."""

    @property
    def created(self) -> str:
        """Return when it was made, RFC 3339, or ""."""

    @property
    def key(self) -> Key:
        """Return namespace and name."""


def age(each: Aged) -> tuple[bool, str, Key]:
    """Return what the older of two sorts first by; no timestamp counts as youngest."""
    return (not each.created, each.created, each.key)


class Targets:
    """The target of a Service, worked out once for as long as the Service is there as it is: no cycle pays for it.

    `mend` says how a Service comes to have the selector that it lacks.
    """

    def __init__(self, port: Callable[[Service], int], mend: str) -> None:
        self._port = port
        self._mend = mend
        self._known: WeakKeyDictionary[Service, dict[tuple[Network, ...], Target]] = WeakKeyDictionary()

    def __call__(self, service: Service, policy: Policy) -> Target:
        """Return it; raise RejectedError or NotYetError."""
        known = self._known.setdefault(service, {})
        if policy.allowed not in known:
            host, port = address(service, policy.allowed), self._port(service)
            if leads := ports.rays_own(service.ports, port):
                raise RejectedError(
                    "RaysOwnPort",
                    f"the Service {service.key} has no port for callers: {leads}, which must not be reached from "
                    "outside. Let it lead to the port where the model listens (with Ray Serve 8000)",
                )
            known[policy.allowed] = Target(host, port)
        if not service.selects and not policy.unowned:
            raise RejectedError(
                "NoSelector",
                f"the Service {service.key} has no selector, so whoever may write its endpoints decides where calls "
                f"go: {self._mend}, or allow Services without an owner",
            )
        return known[policy.allowed]
