"""The admin server: /metrics, /healthz and /readyz, and 404 for the rest."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from rayproxy.listen import Listen, kernel_has_ipv6

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ACCEPT_PAUSE = 0.2  # s, where no file descriptor is left
MOST = 32  # connections at a time; probes and Prometheus together have a handful
WHOLE = 10.0  # s for a connection from its first byte to its last, however slow its caller is
Check = Callable[[], str | None]  # returns what is wrong, or None


class _Server(ThreadingMixIn, WSGIServer):  # a thread for each: a client that says nothing holds up no probe
    """Take `MOST` connections, each for `WHOLE` seconds at most.

    Where one too many comes, the oldest goes: an honest one is over in milliseconds, so that is a slow one.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - the base class's own
        # Oldest first; its keys change in this server's thread and its handlers'.
        self._since: dict[socket.socket, float] = {}
        super().__init__(*arguments, **options)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Answer in a thread."""
        if len(self._since) >= MOST:
            oldest = next(iter(self._since.copy()))
            self._since.pop(oldest, None)  # now: the next one too many must not find it again, its thread still ending
            _cut(oldest)
        self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Close a connection that was answered."""
        self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut what takes too long; called twice a second."""
        too_old = time.monotonic() - WHOLE
        for request, since in list(self._since.items()):
            if since < too_old:
                _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - as the base class has it
        """Tell what is wrong."""
        _tell(sys.exception())

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


class _Errors(io.StringIO):
    """What wsgiref has for a person to read of a failure, and flushes in the midst of it."""

    def flush(self) -> None:
        """Tell it as the rest is told."""
        _tell(sys.exception())


class _Quiet(WSGIRequestHandler):
    timeout = 5  # s for a client to send its request, and to take a piece of the answer

    def get_stderr(self) -> io.StringIO:
        """Return what takes the place of standard error, which may block."""
        return _Errors()

    def log_message(self, *_: object) -> None:
        """Say nothing: probes come every few seconds."""


def application(
    registry: CollectorRegistry, healthy: Check, ready: Check, remark: Callable[[], str]
) -> WSGIApplication:
    """Return the WSGI application; `remark` is what /readyz says besides, or ""."""
    metrics = make_wsgi_app(registry)
    checks = {"/healthz": healthy, "/readyz": ready}

    def route(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return cast("Iterable[bytes]", metrics(environ, start))
        if path not in checks:
            return _answer(start, "404 Not Found", "there are /metrics, /healthz and /readyz")
        wrong = checks[path]()
        if wrong:
            return _answer(start, "503 Service Unavailable", wrong)
        return _answer(start, "200 OK", (path == "/readyz" and remark()) or "ok")

    return route


def serve(address: Listen, app: WSGIApplication) -> WSGIServer:
    """Bind the server; its serve_forever() is for a thread, its shutdown() ends it. Raises OSError."""
    host = address.host or ("::" if kernel_has_ipv6() else "0.0.0.0")  # noqa: S104 - every address was asked for
    kind = _Server6 if ":" in host else _Server
    return make_server(host, address.port, app, server_class=kind, handler_class=_Quiet)


def _tell(error: BaseException | None) -> None:
    """Log what is wrong, as JSON to what never blocks; say nothing of a caller that is away."""
    if error and not isinstance(error, OSError):
        structlog.get_logger().error("the admin server could not answer", exc_info=error)


def _cut(connection: socket.socket) -> None:
    """End a connection whose thread waits for its caller; the thread closes it."""
    with contextlib.suppress(OSError):  # it has just ended by itself
        connection.shutdown(socket.SHUT_RDWR)


def _answer(start: StartResponse, status: str, message: str) -> Iterable[bytes]:
    body = json.dumps({"status": message}).encode() + b"\n"
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
