"""What a model says about buffering is for every hop: the door does not keep it to itself."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from tests.support.frontend import default_nginx

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def test_an_event_passes_a_front_end_of_defaults_before_the_next_one_is_there(door, folder: Path):
    read = threading.Event()

    def stream(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"d\r\ndata: first\n\n\r\n")
        if read.wait(20):
            connection.sendall(b"c\r\ndata: last\n\n\r\n0\r\n\r\n")

    door.upstream.answer = stream
    with default_nginx(folder, door.daemon.port) as port, socket.create_connection(("127.0.0.1", port), 10) as caller:
        caller.sendall(b"GET /apis/rayservice/chat/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        got = b""
        while b"data: first" not in got:
            got += (piece := caller.recv(4096))
            assert piece, got
        read.set()
        while piece := caller.recv(4096):
            got += piece
    assert b"data: last" in got
