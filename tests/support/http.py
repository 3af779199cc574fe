"""Raw HTTP: what is sent is what the test wrote, what came back is not touched."""

from __future__ import annotations

import json
import socket
from collections import deque
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Hold an answer; header names are lower case, in `fields` as they came, each by itself."""

    status: int
    headers: dict[str, str]
    body: bytes
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error_type(self) -> str:
        return self.json["error"]["type"]


def request(
    address: tuple[str, int],
    target: str,
    method: str = "GET",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    timeout: float = 10.0,
) -> Answer:
    """Send one request on a connection of its own, its target byte for byte."""
    with socket.create_connection(address, timeout) as connection:
        lines = [f"{method} {target} HTTP/1.1", "Host: proxy.test", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return answer_on(connection, method)


def answer_on(connection: socket.socket, method: str = "GET") -> Answer:
    """Read the answer that comes on a connection."""
    with HTTPResponse(connection, method=method) as response:  # which keeps the socket open, also where it fails
        response.begin()
        fields = response.getheaders()
        return Answer(response.status, {k.lower(): v for k, v in fields}, response.read(), tuple(fields))


HELD = 100  # ports at once, each of them a file descriptor
_held: deque[socket.socket] = deque()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is given to nobody else until 100 more are asked for; calls to it are refused so far.

    It stays bound, so that the kernel gives it to no neighbour. Whoever names it listens there all the same, as all
    servers here do: with SO_REUSEADDR.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((host, 0))
    _held.append(probe)
    if len(_held) > HELD:
        _held.popleft().close()
    return int(probe.getsockname()[1])
