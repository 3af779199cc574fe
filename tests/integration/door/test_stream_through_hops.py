"""What a model says about buffering is for every hop: the door does not keep it to itself."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http import free_port, request
from tests.support.raw import NGINX
from tests.support.waiting import until

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
DEFAULT = """daemon off; error_log stderr; pid {folder}/front.pid; events {{}}
http {{ access_log off; proxy_temp_path {folder}/p; client_body_temp_path {folder}/b;
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }} }}
"""


@contextmanager
def default_nginx(folder: Path, behind: int) -> Iterator[int]:
    """Run an nginx whose every directive has its default, which gathers answers."""
    port = free_port()
    conf = folder / "front.conf"
    conf.write_text(DEFAULT.format(folder=folder, port=port, behind=behind))
    process = subprocess.Popen([NGINX, "-p", folder, "-c", conf], stderr=subprocess.DEVNULL)
    try:
        until("it answers", lambda: _answers(port))
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return request(("127.0.0.1", port), "/-/healthz").status == 200
    except OSError:
        return False


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
