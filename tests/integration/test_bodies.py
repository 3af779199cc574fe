"""Request bodies: gathered here before a model hears of them, or passed on piece by piece where that is asked for."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.http import Answer
from tests.support.manifests import Manifests
from tests.support.processes import workers
from tests.support.rayserve import MISSING, PYTHON, ray_serve
from tests.support.waiting import until

Start = Callable[..., Daemon]
LIMIT = 64 * 1024  # bytes: RAYPROXY_MAX_BODY
CHUNKED = "Transfer-Encoding: chunked\r\n"
CONTINUE = "Expect: 100-continue\r\n"
pytestmark = pytest.mark.slow


@pytest.fixture
def model() -> Iterator[socket.socket]:
    """Return the listener of a model that the test plays itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def proxied(new_daemon: Start, manifests: Manifests, model: socket.socket) -> Callable[..., Daemon]:
    """Return a function to a daemon that leads `live` and `other` to the model, and streams the bodies of `live`."""
    for name in ("live", "other"):
        manifests.routed(name, port=model.getsockname()[1])

    def start(**settings: str) -> Daemon:
        return new_daemon(**({"WORKERS": "1", "MAX_BODY": "64k", "STREAM_BODIES": "live"} | settings)).start()

    return start


def begun(daemon: Daemon, name: str, framing: str, piece: bytes = b"") -> socket.socket:
    """Send the head of a request and the first piece of its body."""
    caller = socket.create_connection(("127.0.0.1", daemon.port), 10)
    caller.sendall(f"POST /apis/rayservice/{name}/x HTTP/1.1\r\nHost: h\r\n{framing}\r\n".encode() + piece)
    return caller


def read_until(connection: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        piece = connection.recv(65536)
        assert piece, f"the end after {received!r}"
        received += piece
    return received


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def test_each_piece_reaches_a_model_and_is_answered_before_the_next_is_sent(proxied, model: socket.socket):
    with begun(proxied(), "live", CHUNKED, chunk(b"one")) as caller:
        served, _ = model.accept()
        with served:
            seen = read_until(served, b"3\r\none\r\n")
            assert b"transfer-encoding: chunked" in seen.lower()
            served.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"heard one"))
            read_until(caller, b"heard one")
            caller.sendall(chunk(b"two"))
            read_until(served, b"3\r\ntwo\r\n")
            served.sendall(chunk(b"heard two"))
            read_until(caller, b"heard two")
            caller.sendall(b"0\r\n\r\n")
            read_until(served, b"0\r\n\r\n")
            served.sendall(b"0\r\n\r\n")
            read_until(caller, b"0\r\n\r\n")


def test_a_body_with_a_length_keeps_it_and_lies_on_no_disk(proxied, model: socket.socket):
    daemon = proxied()
    with begun(daemon, "live", "Content-Length: 60000\r\n", b"x" * 40_000) as caller:
        served, _ = model.accept()
        with served:
            seen = b""
            while seen.count(b"x") < 40_000:
                seen += served.recv(65536)
            assert b"content-length: 60000" in seen.lower()
            assert on_disk(daemon) == []
            caller.sendall(b"x" * 20_000)


def test_another_models_body_is_gathered_first_on_disk_where_it_is_large(proxied, model: socket.socket):
    daemon = proxied()
    with begun(daemon, "other", "Content-Length: 60000\r\n", b"x" * 40_000) as caller:
        until("it lies on disk", lambda: on_disk(daemon))
        model.settimeout(0.2)
        with pytest.raises(TimeoutError):
            model.accept()
        model.settimeout(10)
        caller.sendall(b"x" * 20_000)
        served, _ = model.accept()
        with served:
            assert read_until(served, b"x" * 60_000)


def on_disk(daemon: Daemon) -> list[str]:
    """Return the files in which nginx keeps request bodies: they have no name any more, but a worker has them open."""
    opened: list[str] = []
    for link in (link for pid in workers(daemon) for link in Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed meanwhile, as connections of the daemon's are again and again
            opened.append(str(link.readlink()))
    return [path for path in opened if path.startswith(f"{daemon.state}/run/client-body/")]


TOO_LARGE = {
    "by length": (f"Content-Length: {LIMIT + 1}\r\n", b""),
    "by chunks": (CHUNKED, chunk(b"x" * LIMIT) + chunk(b"x")),
    "by length, with Expect": (f"Content-Length: {LIMIT + 1}\r\n{CONTINUE}", b""),
    "by chunks, with Expect": (CHUNKED + CONTINUE, chunk(b"x" * LIMIT) + chunk(b"x")),
}


@pytest.mark.parametrize("name", ["live", "other"])
@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_body_that_is_too_large_is_told_in_json(proxied, model: socket.socket, name: str, case: str):
    framing, body = TOO_LARGE[case]
    with begun(proxied(), name, framing) as caller:
        if CONTINUE in framing and body:
            assert read_until(caller, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(body)
        answer = read_answer(caller)
    assert (answer.status, answer.error_type) == (413, "request_too_large")
    assert answer.headers["content-type"] == "application/json"
    assert "retry-after" not in answer.headers


def read_answer(connection: socket.socket) -> Answer:
    response = HTTPResponse(connection, method="POST")
    response.begin()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def test_a_star_streams_the_bodies_of_all_with_any_template(proxied, model: socket.socket):
    daemon = proxied(STREAM_BODIES="*", TEMPLATE="regex")
    with begun(daemon, "other", CHUNKED, chunk(b"one")):
        served, _ = model.accept()
        with served:
            read_until(served, b"3\r\none\r\n")


MINE = "location ^~ /apis/rayservice/{{ Name }}/ { %s proxy_pass http://{{ ClusterIP }}:{{ Port }}/; }"


def checked(new_daemon: Start, template: str) -> str:
    daemon = new_daemon(STREAM_BODIES="default/live", TEMPLATE=template)
    command = [sys.executable, "-m", "rayproxy", "check"]
    return subprocess.run(command, env=daemon.environment, capture_output=True, check=False).stdout.decode()


def test_a_template_that_would_stream_nobodys_body_is_refused_where_names_are_given(new_daemon: Start, folder: Path):
    mine = folder / "mine.conf"
    mine.write_text(MINE % "")
    for template in ("regex", str(mine)):
        (line,) = [each for each in checked(new_daemon, template).splitlines() if each.startswith("FAIL")]
        assert line.startswith(f"FAIL  location template {template} ")
        assert f": the location template {template} makes no difference" in line
    mine.write_text(MINE % "{% if StreamBody %}proxy_request_buffering off;{% endif %}")
    assert f"ok    location template {mine}" in checked(new_daemon, str(mine))


def test_a_template_of_ones_own_may_say_what_streaming_is(proxied, model: socket.socket, folder: Path):
    mine = folder / "mine.conf"
    mine.write_text(MINE % "{% if .StreamBody %}proxy_request_buffering off;{% endif %}")
    daemon = proxied(TEMPLATE=str(mine), STREAM_BODIES="default/*")
    with begun(daemon, "live", CHUNKED, chunk(b"one")):
        served, _ = model.accept()
        with served:
            read_until(served, b"3\r\none\r\n")


PIECEWISE = """
from ray import serve

async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if piece := message.get("body"):
            await send({"type": "http.response.body", "body": b"heard " + piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})

@serve.deployment(ray_actor_options={"num_cpus": 0.5})
@serve.ingress(lambda: application)
class Piecewise: ...

deployment = Piecewise.bind()
"""


@pytest.mark.skipif(not PYTHON.exists(), reason=MISSING)
def test_an_application_of_ray_serve_answers_each_piece_before_the_next_is_sent(
    new_daemon: Start, manifests: Manifests, folder: Path
):
    (folder / "piecewise.py").write_text(PIECEWISE)
    application = {"name": "p", "route_prefix": "/", "import_path": "piecewise:deployment"}
    with ray_serve(folder, application) as port:
        manifests.routed("live", port=port)
        daemon = new_daemon(WORKERS="1", STREAM_BODIES="live").start()
        with begun(daemon, "live", CHUNKED, chunk(b"one")) as caller:
            read_until(caller, b"heard one")
            caller.sendall(chunk(b"two"))
            read_until(caller, b"heard two")
            caller.sendall(b"0\r\n\r\n")
            read_until(caller, b"0\r\n\r\n")
