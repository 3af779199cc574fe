"""The admin server: /metrics, /healthz and /readyz, and 404 for the rest."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from rayproxy.listen import Listen, kernel_has_ipv6

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ACCEPT_PAUSE = 0.2  # s, where no file descriptor is left
Check = Callable[[], str | None]  # returns what is wrong, or None


class _Server(ThreadingMixIn, WSGIServer):  # a thread for each: a client that says nothing holds up no probe
    daemon_threads = True
    request_queue_size = 64

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; where that fails it goes on waiting to be accepted, so it is not asked for at once."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_PAUSE)
            raise

    def server_bind(self) -> None:
        """Bind without asking DNS for the name of the address, as the base class does: pods may not reach any."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        """Bind; [::] takes the callers of IPv4 as well."""
        if self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Quiet(WSGIRequestHandler):
    timeout = 5  # s for a client to send its request

    def log_message(self, *_: object) -> None:
        """Say nothing: probes come every few seconds."""


def application(registry: CollectorRegistry, healthy: Check, ready: Check) -> WSGIApplication:
    """Return the WSGI application."""
    metrics = make_wsgi_app(registry)
    checks = {"/healthz": healthy, "/readyz": ready}

    def route(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return cast("Iterable[bytes]", metrics(environ, start))
        if path not in checks:
            return _answer(start, "404 Not Found", "there are /metrics, /healthz and /readyz")
        wrong = checks[path]()
        return _answer(start, "503 Service Unavailable", wrong) if wrong else _answer(start, "200 OK", "ok")

    return route


def serve(address: Listen, app: WSGIApplication) -> WSGIServer:
    """Bind the server; its serve_forever() is for a thread, its shutdown() ends it. Raises OSError."""
    host = address.host or ("::" if kernel_has_ipv6() else "0.0.0.0")  # noqa: S104 - every address was asked for
    kind = _Server6 if ":" in host else _Server
    return make_server(host, address.port, app, server_class=kind, handler_class=_Quiet)


def _answer(start: StartResponse, status: str, message: str) -> Iterable[bytes]:
    body = json.dumps({"status": message}).encode() + b"\n"
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
