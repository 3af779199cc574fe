"""Which address may be written into a configuration: what every kind asks of a Service. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from rayproxy.model import Service, Target

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_MESSAGE = 800  # characters; values out of objects stand in messages, and the API holds names of a megabyte


@dataclass(frozen=True, slots=True)
class Policy:
    """Which Services may be backends: `allowed` empty means every address that is not refused for itself."""

    allowed: tuple[Network, ...] = ()
    unowned: bool = False


class RejectedError(Exception):
    """What is wrong with an object for good: `reason` for machines, the words for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotYetError(Exception):
    """What an object still waits for."""


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
    plain = getattr(found, "ipv4_mapped", None) or found
    kinds = ("link_local", "multicast", "unspecified", "reserved")
    kind = next((kind for kind in kinds if getattr(plain, f"is_{kind}")), None)
    if plain.is_loopback:  # ::1 lies in a reserved block; like 127.0.0.1 it is for tests and for work on one machine
        kind = None
    if kind or getattr(found, "scope_id", None):
        raise RejectedError(
            "AddressForbidden",
            f"the clusterIP {found} of the Service {service.key} is {(kind or 'scoped').replace('_', '-')}: "
            "no Service has such an address",
        )
    return found


class Targets:
    """The target of a Service, worked out once for as long as the Service is there as it is: no cycle pays for it."""

    def __init__(self, port: Callable[[Service], int]) -> None:
        self._port = port
        self._known: WeakKeyDictionary[Service, dict[tuple[Network, ...], Target]] = WeakKeyDictionary()

    def __call__(self, service: Service, allowed: tuple[Network, ...]) -> Target:
        """Return it; raise RejectedError or NotYetError."""
        known = self._known.setdefault(service, {})
        if allowed not in known:
            known[allowed] = Target(address(service, allowed), self._port(service))
        return known[allowed]
