"""A failure behind the door is called by its name, and only what was never begun is asked for again."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import urllib3

from tests.support.certificates import certificate
from tests.support.http import Answer
from tests.support.raw import exchange, nginx_version
from tests.support.waiting import until

BOTH = pytest.mark.parametrize("door", ["prefix", "regex"], indirect=True)  # which says 2000 s of silence itself
LAX = nginx_version() < (1, 23, 0)  # 1.23.0: framing that can be read in two ways is malformed
STRICT_ONLY = {
    "a length and chunks": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a coding besides chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a length that is no number": b"Content-Length: two\r\n\r\n{}",
}
BAD_ANSWERS = {
    "nothing": (b"", "closed the connection, and no answer came through"),
    "half a status line": (b"HTTP/1.1 2", "broke off within its head, or is malformed"),
    "half a field": (b"HTTP/1.1 200 OK\r\nContent-Ty", "broke off within its head, or is malformed"),
    "a field of a control character": (b"HTTP/1.1 200 OK\r\nX\x01: y\r\n\r\n", "or is malformed"),
    "a head of 66 kB": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 66_000 + b"\r\n\r\n", "a head of more than 64 kB"),
}


def assert_failure(answer: Answer, status: int, kind: str, words: str = "", *, again: bool = False) -> None:
    error = answer.json["error"]
    assert (answer.status, error["type"], error["code"]) == (status, kind, status)
    assert words in error["message"]
    assert answer.headers.get("retry-after") == ("5" if again else None)
    assert answer.headers.get("x-should-retry") == (None if again else "false")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_an_answer_that_is_cut_or_malformed_in_its_head_is_502_and_is_not_asked_for_again(door, case, method):
    sent, words = BAD_ANSWERS[case]
    before = len(door.upstream.heads)
    assert_failure(door.ask(answer=sent, method=method), 502, "rayservice_bad_answer", words)
    assert len(door.upstream.heads) == before + 1


@BOTH
@pytest.mark.parametrize("case", STRICT_ONLY)
def test_framing_that_can_be_read_in_two_ways_is_malformed_for_nginx_since_1_23(door, case):
    answer = door.ask(answer=b"HTTP/1.1 200 OK\r\n" + STRICT_ONLY[case])
    if LAX:
        assert (answer.status, answer.body) == (200, b"{}")
    else:
        assert_failure(answer, 502, "rayservice_bad_answer", "or is malformed")


def test_a_model_that_says_nothing_is_504_and_is_not_asked_for_again(door):
    over = threading.Event()
    door.upstream.answer = lambda _: over.wait(30)
    answer = door.ask(method="POST", body=b"{}")
    over.set()
    assert_failure(answer, 504, "rayservice_silent", "silent for too long")


@BOTH
def test_a_port_where_nobody_listens_is_503_and_is_asked_for_again(door):
    answer = door.ask(name="dead", method="POST", body=b"{}")
    assert_failure(answer, 503, "rayservice_unavailable", "nothing answers behind it", again=True)


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """Return a listener that takes nobody more in, so that connections to it hang, and what fills it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return listener, fillers


@BOTH
@pytest.mark.slow  # 5 s to connect
def test_a_port_that_takes_nobody_in_is_503_and_is_asked_for_again(door):
    listener, fillers = full_listener()
    door.manifests.routed("full", port=listener.getsockname()[1])
    door.daemon.until_state("full", "accepted")
    assert_failure(door.ask(name="full"), 503, "rayservice_unavailable", again=True)
    for each in (listener, *fillers):
        each.close()


@BOTH
def test_a_connection_that_is_refused_after_a_while_is_503_though_nginx_gives_it_a_time_to_connect(door):
    """As most refusals are outside of loopback: here the listener goes while nginx is in its queue."""
    listener, fillers = full_listener()
    door.manifests.routed("late", port=listener.getsockname()[1])
    door.daemon.until_state("late", "accepted")
    answers = []
    caller = threading.Thread(target=lambda: answers.append(door.ask(name="late", method="POST", body=b"{}")))
    caller.start()
    until("nginx tries to connect", lambda: connecting_to(listener.getsockname()[1], but=len(fillers)))
    for each in (listener, *fillers):
        each.close()
    caller.join()
    assert_failure(answers[0], 503, "rayservice_unavailable", again=True)


def connecting_to(port: int, but: int) -> bool:
    """Tell whether more connections to a port are on their way than the test's own."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows) > but - 2


def test_a_client_that_obeys_retry_after_makes_a_slow_model_work_once(door):
    work = []

    def slow(connection: socket.socket) -> None:
        work.append(time.monotonic())
        connection.recv(1)  # until the proxy gives up

    door.upstream.answer = slow
    retry = urllib3.Retry(total=3, status_forcelist=[], allowed_methods=None, respect_retry_after_header=True)
    url = f"http://127.0.0.1:{door.daemon.port}/apis/rayservice/chat/v1/chat/completions"
    with urllib3.PoolManager(retries=retry) as pool:
        assert pool.request("POST", url, json={}).status == 504
    assert len(work) == 1


NOT_HTTP = {
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",  # an alert: protocol version
    # grpcio 1.85.1, asked in HTTP/1.1
    "gRPC": b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x00\x04\x00@\x00\x00\x00\x05\x00@\x00\x00\x00\x06\x00\x00@\x00"
    b"\xfe\x03\x00\x00\x00\x01\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00?\x00\x01",
    "lower case": b"http/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<script>",
}


@BOTH
def test_what_follows_early_hints_reaches_the_caller_as_bytes(door):
    """A limit of nginx 1.22 and 1.26, which take a 1xx for the head of the answer: docs/http.md says what follows."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>"
    door.upstream.answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + whole
    asked = b"GET /apis/rayservice/chat/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    answer = exchange(door.daemon.port, asked)
    assert answer.startswith(b"HTTP/1.1 103 ")
    assert answer.endswith(b"\r\n\r\n" + whole)


@pytest.mark.parametrize("case", NOT_HTTP)
def test_what_does_not_begin_as_http_reaches_the_caller_as_bytes(door, case):
    """A limit of nginx 1.22 and 1.26, which take it for HTTP/0.9: docs/http.md says what follows."""
    door.upstream.answer = NOT_HTTP[case]
    asked = b"GET /apis/rayservice/chat/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert exchange(door.daemon.port, asked) == NOT_HTTP[case]


@BOTH
def test_a_port_that_speaks_tls_is_502_where_the_server_closes_without_a_word(door, folder):
    """As Python's ssl does, and with it uvicorn; another server may send an alert, or an error page of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder, "model"))

    def handshake(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError):
            context.wrap_socket(connection.dup(), server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        door.manifests.routed("tls", port=listener.getsockname()[1])
        door.daemon.until_state("tls", "accepted")
        caller = threading.Thread(target=lambda: answers.append(door.ask(name="tls")))
        answers: list[Answer] = []
        caller.start()
        with listener.accept()[0] as connection:
            handshake(connection)
        caller.join()
    assert_failure(answers[0], 502, "rayservice_bad_answer", "no answer came through")


def test_what_does_not_begin_as_http_leaves_the_connection_open_for_the_next_call(door):
    """Why docs/http.md warns of a front end that reuses its connections to the proxy."""
    door.upstream.answer = NOT_HTTP["lower case"]
    with socket.create_connection(("127.0.0.1", door.daemon.port), 10) as connection:
        connection.sendall(b"GET /apis/rayservice/chat/ HTTP/1.1\r\nHost: h\r\n\r\n")
        got = b""
        while len(got) < len(NOT_HTTP["lower case"]):
            got += connection.recv(4096)
        connection.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert got == NOT_HTTP["lower case"]
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
