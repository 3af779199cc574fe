"""Many who call and do not finish: probes are answered, the others are told, and one caller is held to a number."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.http import Answer, answer_on
from tests.support.manifests import Manifests, rayservice, routed_names
from tests.support.processes import workers
from tests.support.raw import RawUpstream, exchange
from tests.support.waiting import until

PROBE = b"GET /-/healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
CHAT = "/apis/rayservice/chat/"
LARGE = 1_000_000  # bytes of a body
TOO_LARGE = 10**9
CONNECTIONS = 64  # the least that the setting takes
CALLS = 28  # of them
CROWD = 3 * CONNECTIONS
ASKED = {  # what is answered by a model once its body is there, and what is answered here before
    "a model": f"POST {CHAT}",
    "a name without a route": "POST /apis/rayservice/nope/",
    "a name that waits": "POST /apis/rayservice/waits/",
    "a path of nothing": "POST /",
    "a path that is hidden": f"POST {CHAT}metrics",
    "a path without its slash": f"POST {CHAT[:-1]}",
    "a method that ends here": f"TRACE {CHAT}",
}

New = Callable[..., Daemon]


@pytest.fixture
def crowd() -> Iterator[Callable[..., list[socket.socket]]]:
    """Return a function that opens connections, each with the head of a call and one byte of its body."""
    with ExitStack() as stack:

        def gather(
            daemon: Daemon, count: int, field: str = "", asked: str = ASKED["a model"], length: int = LARGE
        ) -> list[socket.socket]:
            head = f"{asked} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{field}\r\n".encode()
            found = []
            for _ in range(count):
                found.append(stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 10)))
                with suppress(ConnectionError):  # where nginx has no connection left
                    found[-1].sendall(head + b"x")
            return found

        yield gather


def drip(connections: list[socket.socket]) -> None:
    """Send another byte of each body."""
    for connection in connections:
        with suppress(OSError):
            connection.sendall(b"x")


def held(connections: list[socket.socket]) -> list[socket.socket]:
    """Return those that nginx has not closed."""
    return [connection for connection in connections if not is_closed(connection)]


def is_closed(connection: socket.socket) -> bool:
    with suppress(OSError):
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(65536):
                return True
        return False
    return True


def is_answered(daemon: Daemon) -> bool:
    with suppress(OSError):
        return b'{"status":"ok"}' in exchange(daemon.port, PROBE, timeout=3)
    return False


@pytest.mark.fault(89)
@pytest.mark.parametrize(
    ("asked", "length"),
    [*((asked, LARGE) for asked in ASKED.values()), (ASKED["a model"], TOO_LARGE)],
    ids=[*ASKED, "a body that is too large"],
)
def test_a_probe_is_answered_and_the_others_are_told_while_callers_drip_their_bodies(
    new_daemon: New, manifests: Manifests, crowd, asked: str, length: int
):
    manifests.routed("chat")
    manifests.routed("draw")
    manifests.write("waits", rayservice("waits"))
    daemon = new_daemon(WORKERS="1", WORKER_CONNECTIONS=str(CONNECTIONS), RESYNC="1").start()
    reloads = daemon.reloads
    slow = crowd(daemon, 10, asked="POST /apis/rayservice/draw/")  # one model alone may not have all calls
    slow += crowd(daemon, CROWD, asked=asked, length=length)
    until("those who were told are gone", lambda: len(held(slow)) <= CALLS, 5)
    end = time.monotonic() + 5  # several resyncs, each of which would find an nginx that does not answer
    while time.monotonic() < end:
        slow = held(slow) + crowd(daemon, 4, asked=asked, length=length)
        drip(slow)
        assert is_answered(daemon)
        told = daemon.route("chat", method="POST", body=b"{}")
        assert (told.status, told.error_type, told.headers["retry-after"]) == (503, "proxy_full", "1")
        time.sleep(0.25)  # those who are told are waited for up to a second, and there is room for some of them
    assert daemon.reloads == reloads
    assert daemon.is_ready()
    for connection in slow:
        connection.close()
    until("there is room again", lambda: daemon.answers_from("chat", "upstream"))


@pytest.mark.fault(89)
def test_whoever_drips_a_body_at_the_probes_path_is_let_go(new_daemon: New, manifests: Manifests, crowd):
    """It counts as no call, since probes must not be turned away."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", WORKER_CONNECTIONS=str(CONNECTIONS)).start()
    slow = crowd(daemon, CROWD, asked="POST /-/healthz")
    until("all are gone", lambda: drip(slow) or not held(slow), 5)
    assert is_answered(daemon)
    assert daemon.answers_from("chat", "upstream")


@pytest.mark.parametrize(
    ("asked", "length", "error"),
    [
        (ASKED["a model"], TOO_LARGE, "request_too_large"),
        (ASKED["a name without a route"], LARGE, "rayservice_not_found"),
        (ASKED["a name that waits"], LARGE, "rayservice_pending"),
        (ASKED["a path that is hidden"], LARGE, "path_hidden"),
    ],
)
def test_a_caller_that_goes_on_to_send_for_seconds_takes_the_answer_that_refuses_it(
    new_daemon: New, manifests: Manifests, crowd, asked: str, length: int, error: str
):
    manifests.routed("chat")
    manifests.write("waits", rayservice("waits"))
    (caller,) = crowd(new_daemon().start(), 1, asked=asked, length=length)
    for _ in range(12):  # 3 s, at 300 kB a second
        caller.sendall(b"x" * 75_000)
        time.sleep(0.25)
    assert answer_on(caller).error_type == error


@pytest.mark.fault(89)
def test_a_probe_is_answered_while_callers_are_silent_or_idle(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", WORKER_CONNECTIONS=str(CONNECTIONS), RESYNC="1").start()
    with ExitStack() as stack:
        for count in range(CROWD):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 10))
            if count % 2:  # answered, and kept for a next call that does not come
                connection.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        for _ in range(20):
            assert is_answered(daemon)
            assert daemon.answers_from("chat", "upstream")


def call(daemon: Daemon, **fields: str) -> Answer:
    return daemon.route("chat", headers={name.replace("_", "-"): value for name, value in fields.items()})


@pytest.mark.fault(90)
def test_one_caller_has_as_many_calls_under_way_as_it_may_and_others_go_on(
    new_daemon: New, manifests: Manifests, crowd
):
    manifests.routed("chat")
    daemon = new_daemon(CALLS_PER_CALLER="3", TRUSTED_FRONT_ENDS="127.0.0.0/8").start()
    slow = crowd(daemon, 4, "X-Forwarded-For: 192.0.2.1\r\n")
    told = until("one of four is told", lambda: select.select(slow, [], [], 1)[0])  # whichever comes last
    assert len(told) == 1
    slow.remove(told[0])
    refused = answer_on(told[0])
    assert refused.status == 503
    assert (refused.error_type, refused.headers["retry-after"]) == ("proxy_full", "1")
    assert "or your address" in refused.json["error"]["message"]
    spoofed = call(daemon, X_Forwarded_For="192.0.2.9, 192.0.2.1")
    assert spoofed.status == 503
    assert call(daemon, X_Forwarded_For="192.0.2.2").status == 200
    assert is_answered(daemon)
    slow.pop().close()
    until("it may again", lambda: call(daemon, X_Forwarded_For="192.0.2.1").status == 200)


def test_without_the_setting_one_caller_may_have_many(new_daemon: New, manifests: Manifests, crowd):
    manifests.routed("chat")
    daemon = new_daemon().start()
    crowd(daemon, 50)
    assert daemon.answers_from("chat", "upstream")


def hang(connection: socket.socket) -> None:
    """Answer nothing, until the other end closes."""
    connection.recv(1)


@pytest.mark.fault(163)
@pytest.mark.parametrize("template", ["prefix", "regex"])
def test_a_model_that_hangs_leaves_room_for_others_and_who_asks_it_in_vain_is_told(
    new_daemon: New, manifests: Manifests, template: str
):
    hung = RawUpstream(hang)
    manifests.routed("chat")
    manifests.routed("hung", port=hung.port)
    daemon = new_daemon(WORKERS="1", WORKER_CONNECTIONS="128", TEMPLATE=template).start()  # 56 calls, 42 of one model
    with ExitStack() as stack:
        stack.callback(hung.close)
        callers = [stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 10)) for _ in range(60)]
        for caller in callers:
            caller.sendall(b"GET /apis/rayservice/hung/ HTTP/1.1\r\nHost: h\r\n\r\n")
        until("18 are told", lambda: len(select.select(callers, [], [], 1)[0]) == 18)
        for caller in select.select(callers, [], [], 0)[0]:
            told = answer_on(caller)
            assert (told.status, told.error_type, told.headers["retry-after"]) == (503, "rayservice_full", "1")
            assert "The RayService has as many calls" in told.json["error"]["message"]
        until("the others were asked", lambda: len(hung.heads) == 42)
        other = daemon.route("chat", "a/b?c=d")
        assert (other.status, other.json["line"]) == (200, "GET /a/b?c=d HTTP/1.1")
    until("there is room again", lambda: daemon.error("hung") != "rayservice_full")


@pytest.mark.fault(165)
@pytest.mark.skipif(
    "pcre-jit" not in subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=False).stderr,
    reason="this nginx was built without PCRE's compiler: --with-pcre-jit, as in Debian, enables it",
)
def test_a_path_of_slashes_takes_no_longer_for_each_route_of_the_documented_template(
    new_daemon: New, manifests: Manifests
):
    """Uncompiled, each of these calls takes 0.1 s of the worker's and more: 100 expressions, from 60,000 places."""
    names = manifests.many(100)
    daemon = new_daemon(TEMPLATE="regex", WORKERS="1").start()
    assert set(names) <= routed_names(daemon)
    (worker,) = workers(daemon)
    before = processor_seconds(worker)
    for _ in range(10):
        answer = exchange(daemon.port, b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % (b"/" * 60_000))
        assert b"404 Not Found" in answer
    assert processor_seconds(worker) - before < 0.5


def processor_seconds(pid: int) -> float:
    """Return how long a process has used a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
