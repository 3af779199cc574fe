"""Both ends of the proxy as bytes: what reached the upstream, and what the caller got."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.listener import Listener

NGINX = os.environ.get("RAYPROXY_TEST_NGINX", "nginx")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def nginx_version() -> tuple[int, ...]:
    """Return the version of the nginx under test, such as (1, 22, 1)."""
    told = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/([\d.]+)", told)
    assert found, told
    return tuple(map(int, found[1].split(".")))


@dataclass
class RawUpstream:
    """Listen on loopback, keep the head of each request, answer with `answer` and close."""

    answer: bytes | Callable[[socket.socket], None] = OK
    heads: list[bytes] = field(default_factory=list)
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        self._listener = Listener(self._serve, self.host, self.port)
        self.port = self._listener.port

    def close(self) -> None:
        """Stop to listen."""
        self._listener.close()

    @property
    def line(self) -> str:
        """Return the last request line."""
        return self.heads[-1].split(b"\r\n")[0].decode("latin-1")

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Return the last request's fields in their order, names as they came."""
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:-2]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]

    def got(self, name: str) -> list[str]:
        """Return the values of a field of the last request."""
        return [value for found, value in self.fields if found.lower() == name.lower()]

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            self.heads.append(head[: head.index(b"\r\n\r\n") + 4])
            if callable(self.answer):
                self.answer(connection)
            else:
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # closing with bytes unread would reset what was sent
                    pass


def exchange(port: int, text: bytes, timeout: float = 20) -> bytes:
    """Send bytes to loopback and return every byte that comes until the end."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(text)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer
