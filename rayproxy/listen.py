"""Where to listen: one rule for nginx and for the admin server, on kernels with IPv6 and without."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass
from functools import cache

MAX_PORT = 65535
_LISTEN = re.compile(r"(?:(?P<host>[0-9.]+|\[(?P<six>[0-9a-fA-F:.]+)\]):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Listen:
    """Hold an address and a port; `host` is "" for every address, of IPv4 and of IPv6."""

    host: str  # without brackets
    port: int

    def for_nginx(self, *, ipv6: bool) -> tuple[str, ...]:
        """Return nginx's listen parameters where the kernel has IPv6, or has not.

        Every address is two sockets, not one with ipv6only=off: on that one the callers of IPv4 would be
        ::ffff:192.0.2.1 in X-Forwarded-For, and a reload could not go to it from 0.0.0.0, which holds the port.
        """
        if self.host:
            return (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}",)
        return (f"0.0.0.0:{self.port}", *((f"[::]:{self.port} ipv6only=on",) if ipv6 else ()))


def parse_listen(text: str) -> Listen:
    """Read address:port or a port alone; raise ValueError that says what is wrong."""
    found = _LISTEN.fullmatch(text)
    if not found or not 1 <= int(found["port"]) <= MAX_PORT:
        raise ValueError(f"{text!r} is not address:port or a port, such as 127.0.0.1:8080, [::1]:8080 or 8080")
    port = int(found["port"])
    if not found["host"]:
        return Listen("", port)
    address = ipaddress.ip_address(found["six"] or found["host"])
    plain = getattr(address, "ipv4_mapped", None) or address
    if found["six"] and plain.version != 6:  # noqa: PLR2004 - IPv6
        raise ValueError(f"{text!r} holds an IPv4 address: write {plain}:{port}")
    every = found["six"] and address.is_unspecified
    return Listen("" if every else str(address), port)


@cache
def kernel_has_ipv6() -> bool:
    """Tell whether a socket can listen on [::] here, with or without an address to be reached at; raise OSError."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return False
        raise  # such as no file descriptor left, which says nothing of IPv6
    return True
