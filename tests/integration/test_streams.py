"""Streams and websockets: they arrive in pieces, and nothing elsewhere cuts them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests
from tests.support.processes import children, masters
from tests.support.upstream import Upstream
from tests.support.waiting import stays, until

New = Callable[..., Daemon]


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


@pytest.mark.parametrize("side", ["prefix", "documented"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_the_first_piece_of_a_stream_arrives_before_the_last_is_sent(
    new_daemon: New, manifests, upstream, side, method
):
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=side, WORKERS="1").start()
    with stream(daemon, method) as caller:
        upstream.release.set()
        assert b"data: last" in rest(caller)


@pytest.mark.parametrize("side", ["prefix", "documented"])
def test_a_websocket_echoes_through_both_templates(sides: dict[str, Daemon], side: str):
    with connect(f"ws://127.0.0.1:{sides[side].port}/apis/rayservice/chat/ws?a=b") as websocket:
        for text in ("one", "你好", ""):
            websocket.send(text)
            assert websocket.recv(timeout=10) == text


@pytest.mark.slow
@pytest.mark.fault(42)
def test_a_stream_and_a_websocket_survive_twenty_reloads_and_the_daemons_end(
    new_daemon: New, manifests, upstream: Upstream
):
    manifests.routed("chat")
    daemon = new_daemon(NGINX="external", WORKERS="1").start(ready=False)
    until("a revision", (daemon.state / "current/nginx.conf").exists)
    conf = str(daemon.state / "current/nginx.conf")
    with subprocess.Popen(["nginx", "-c", conf, "-g", "daemon off;"], start_new_session=True) as nginx:
        try:
            daemon.until_state("chat", "accepted")
            url = f"ws://127.0.0.1:{daemon.port}/apis/rayservice/chat/ws"
            with stream(daemon) as caller, connect(url) as websocket:
                before = daemon.reloads
                for number in range(20):
                    nginx.send_signal(1)
                    until("reloaded", lambda number=number: len(children(nginx.pid)) <= 2 + number)
                    websocket.send(str(number))
                    assert websocket.recv(timeout=10) == str(number)
                manifests.routed("more")
                until("a reload of the daemon's own", lambda: daemon.reloads > before)
                assert daemon.stop() == 0
                upstream.release.set()
                assert b"data: last" in rest(caller)
                websocket.send("bye")
                assert websocket.recv(timeout=10) == "bye"
            assert daemon.answers_from("more", "upstream")
        finally:
            nginx.terminate()


@pytest.mark.slow
@pytest.mark.fault(42)
def test_reloads_are_held_back_while_many_workers_drain(new_daemon: New, manifests: Manifests, upstream: Upstream):
    """One worker, a stream in each of three generations: the fourth change waits, and goes once they are done."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1").start()
    with stream(daemon), stream(daemon), stream(daemon):
        pass
    callers = []
    for number in range(3):
        context = stream(daemon)
        callers.append((context, context.__enter__()))
        manifests.routed(f"m{number}")
        daemon.until_state(f"m{number}", "accepted")
    until("they drain", lambda: daemon.metric('rayproxy_nginx_workers{state="draining"}') >= 3)
    manifests.routed("late")
    stays("it waits", lambda: daemon.error("late") == "rayservice_not_found", 3)
    upstream.release.set()
    for context, caller in callers:
        assert b"data: last" in rest(caller)
        context.__exit__(None, None, None)
    daemon.until_state("late", "accepted")
    assert masters(daemon)


@pytest.mark.fault(42)
def test_a_stream_that_outlives_the_shutdown_timeout_is_cut_and_its_worker_goes(
    new_daemon: New, manifests: Manifests, upstream: Upstream
):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", WORKER_SHUTDOWN_TIMEOUT="1").start()
    with stream(daemon) as caller:
        manifests.routed("more")
        daemon.until_state("more", "accepted")
        assert b"data: last" not in rest(caller)  # ends without it, or recv times out
    until("no worker drains", lambda: daemon.metric('rayproxy_nginx_workers{state="draining"}') == 0)
    assert daemon.answers_from("chat", "upstream")
