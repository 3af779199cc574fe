"""Choose the port of a serve Service that speaks HTTP.

KubeRay up to 1.5 makes a Service of one port, `serve`. From 1.6 on it takes every container port of the head that is
called serve or serve-*, with a protocol of its author's choice, in no order (ray-project/kuberay#4558).
"""

from __future__ import annotations

from collections.abc import Sequence

from rayproxy.listen import MAX_PORT
from rayproxy.model import Port

PREFERRED = ("serve", "serve-http")
HTTP = frozenset({"http", "http/1.1", "ws", "kubernetes.io/ws"})
UNSAID = frozenset({"", "tcp"})  # the port's name decides
# Words of a port's name, as Istio and others read them, that say that HTTP/1.1 in plain text is not spoken there.
_FOREIGN = {
    "grpc": "gRPC", "grpcs": "gRPC", "h2": "HTTP/2", "h2c": "HTTP/2", "http2": "HTTP/2",
    "https": "TLS", "tls": "TLS", "ssl": "TLS", "wss": "TLS",
}  # fmt: skip

# Ray's own ports and KubeRay's names for them: whoever reaches one of the first three runs code in the cluster.
RAYS_OWN = {
    8265: "the dashboard", 10001: "Ray's client port", 52365: "the dashboard's agent", 6379: "the control store",
}  # fmt: skip
_RAYS_OWN: dict[int | str, str] = RAYS_OWN | {
    "dashboard": "the dashboard", "client": "Ray's client port", "dashboard-agent": "the dashboard's agent",
    "gcs-server": "the control store",
}  # fmt: skip


class PortError(ValueError):
    """Say why a Service has no port to route to: `reason` for machines, the words for people."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason


def serve_port(ports: Sequence[Port]) -> int:
    """Return `serve`, else `serve-http`, else the only plain `serve-*`, else the only TCP port; raise PortError."""
    tcp = [port for port in ports if port.protocol == "TCP"]
    chosen = _chosen(tcp)
    if chosen is None or not is_number(chosen.port):
        found = ", ".join(shown(port) for port in ports[:5]) or "none"
        raise PortError("NoServePort", f"has no usable port: name one TCP port 'serve' (found: {found})")
    if says := foreign(chosen):
        raise PortError(
            "UnsupportedProtocol",
            f"has no port that speaks plain HTTP/1.1: {shown(chosen)} says {says}. Name the HTTP port 'serve' or "
            "'serve-http', without an appProtocol or with http",
        )
    assert isinstance(chosen.port, int)
    return chosen.port


def _chosen(tcp: Sequence[Port]) -> Port | None:
    for name in PREFERRED:
        if named := [port for port in tcp if port.name == name]:
            return named[0]
    serving = [port for port in tcp if port.name.startswith("serve-")]
    plain = [port for port in serving if not foreign(port)]
    if len(plain) == 1:
        return plain[0]
    if serving and not plain:
        return serving[0]  # to be named: not one of them can be used
    return tcp[0] if len(tcp) == 1 else None


def rays_own(ports: Sequence[Port], number: int) -> str:
    """Return what a port leads to that is Ray's own, in words, or ""."""
    for port in ports:
        if port.protocol == "TCP" and port.port == number and (owns := _RAYS_OWN.get(_leads_to(port))):
            return f"{shown(port)} leads to {_leads_to(port)}, {owns}"
    return ""


def foreign(port: Port) -> str:
    """Return what a port says of itself that is not HTTP/1.1 in plain text, or ""."""
    protocol = port.app_protocol.lower()
    if protocol in HTTP:
        return ""
    if protocol not in UNSAID:
        return f"appProtocol: {port.app_protocol[:40]}"
    word = next((word for word in port.name.lower().split("-") if word in _FOREIGN), "")
    return f"{_FOREIGN[word]} by its name" if word else ""


def _leads_to(port: Port) -> int | str:
    """Return the number or the name that the containers know the port by."""
    target = port.port if port.target in (None, 0, "") else port.target
    if isinstance(target, str) and target.isascii() and target.isdigit():
        return int(target)
    return target if isinstance(target, int | str) else ""


def shown(port: Port) -> str:
    """Return name and number, for a message."""
    return f"{port.name or 'unnamed'}={port.port!r}"[:40]


def is_number(port: object) -> bool:
    """Tell whether it is the number of a port."""
    return isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= MAX_PORT
