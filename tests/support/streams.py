"""An answer of the upstream that goes on until that is told to end it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.daemon import Daemon


@contextmanager
def stream(daemon: Daemon, method: bytes = b"GET") -> Iterator[socket.socket]:
    """Open a stream and take its first piece, which the upstream sends long before its last."""
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as caller:
        caller.sendall(
            method + b" /apis/rayservice/chat/stream?stream=true HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        seen = b""
        while b"data: first" not in seen:
            piece = caller.recv(4096)
            assert piece, seen
            seen += piece
        assert b"data: last" not in seen
        yield caller


def rest(caller: socket.socket) -> bytes:
    return caller.makefile("rb").read()
