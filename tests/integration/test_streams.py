"""Streams and websockets: they arrive in pieces, and nothing elsewhere cuts them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from websockets.sync.client import connect

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests
from tests.support.processes import children, kill, masters
from tests.support.streams import rest, stream
from tests.support.upstream import Upstream
from tests.support.waiting import stays, until

New = Callable[..., Daemon]


@pytest.mark.parametrize("side", ["prefix", "regex"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_the_first_piece_of_a_stream_arrives_before_the_last_is_sent(
    new_daemon: New, manifests, upstream, side, method
):
    manifests.routed("chat")
    daemon = new_daemon(TEMPLATE=side, WORKERS="1").start()
    with stream(daemon, method) as caller:
        upstream.release.set()
        assert b"data: last" in rest(caller)


@pytest.mark.parametrize("side", ["prefix", "regex"])
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
    """One worker, a stream in each of four generations: the fifth change waits, and goes once they are done."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", MAX_DRAINING="5").start()
    callers = []
    for number in range(4):
        context = stream(daemon)
        callers.append((context, context.__enter__()))
        manifests.routed(f"m{number}")
        daemon.until_state(f"m{number}", "accepted")
    until("they drain", lambda: daemon.metric('rayproxy_nginx_workers{state="draining"}') == 4)
    manifests.routed("late")
    stays("it waits", lambda: daemon.error("late") == "rayservice_not_found", 3)
    upstream.release.set()
    for context, caller in callers:
        assert b"data: last" in rest(caller)
        context.__exit__(None, None, None)
    daemon.until_state("late", "accepted")
    assert masters(daemon)


@pytest.mark.slow
@pytest.mark.fault(71)
def test_where_as_many_workers_drain_as_may_changes_wait_for_the_first_to_end(
    new_daemon: New, manifests: Manifests, upstream: Upstream
):
    """They are gathered, it is said in words, and what is served goes on; nothing is restarted for it."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", MAX_DRAINING="2", RESYNC="1").start()
    with ExitStack() as streams:
        callers = []
        for number in range(2):
            callers.append(streams.enter_context(stream(daemon)))
            manifests.routed(f"m{number}")
            daemon.until_state(f"m{number}", "accepted")
        before = daemon.reloads
        for number in range(3):
            manifests.routed(f"late{number}")
        manifests.remove("m0")
        until("it is said", lambda: daemon.metric("rayproxy_changes_wait") == 1)
        code, words = daemon.admin("/readyz")
        assert (code, "RAYPROXY_MAX_DRAINING allows (2): changes wait" in words) == (200, True)
        stays("it waits", lambda: daemon.answers_from("m0", "upstream") and daemon.reloads == before, 3)
        assert daemon.metric('rayproxy_nginx_workers{state="draining"}') == 2
        assert daemon.told().count("changes wait; what was served still is") == 1
        upstream.release.set()
        for caller in callers:
            assert b"data: last" in rest(caller)
        daemon.until_state("late2", "accepted")
        assert [daemon.error(name) for name in ("late0", "m0")] == ["", "rayservice_not_found"]
        assert daemon.reloads == before + 1
        assert (daemon.metric("rayproxy_changes_wait"), '"ok"' in daemon.admin("/readyz")[1]) == (0, True)


@pytest.mark.slow
@pytest.mark.fault(111)
def test_a_daemon_that_starts_where_as_many_workers_drain_as_may_says_so_and_no_reload_has_failed(
    new_daemon: New, manifests: Manifests, upstream: Upstream
):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", MAX_DRAINING="1").start()
    assert daemon.process
    with stream(daemon) as caller:
        manifests.routed("more")
        daemon.until_state("more", "accepted")
        kill(daemon.process.pid)
        daemon.process.wait()
        manifests.routed("late")
        daemon.start()
        until("it is said", lambda: daemon.metric("rayproxy_changes_wait") == 1)
        assert daemon.metric("rayproxy_config_last_reload_successful") == 1
        assert daemon.answers_from("more", "upstream")
        upstream.release.set()
        assert b"data: last" in rest(caller)
    daemon.until_state("late", "accepted")
    assert daemon.metric("rayproxy_changes_wait") == 0


@pytest.mark.slow
@pytest.mark.fault(70)
def test_one_object_that_is_toggled_with_streams_open_holds_up_no_change_of_others(
    new_daemon: New, manifests: Manifests, upstream: Upstream
):
    manifests.routed("chat")
    manifests.routed("restless")
    daemon = new_daemon(WORKERS="1").start()
    with ExitStack() as streams:
        for number in range(24):
            streams.enter_context(stream(daemon))
            looked = cycles(daemon)
            manifests.routed("restless", port=manifests.port if number % 2 else 9)
            until("it was looked at", lambda looked=looked: cycles(daemon) > looked)
        assert daemon.reloads < 16
        assert daemon.until_state("restless", "rejected")["reason"] == "ChangesTooOften"
        manifests.routed("other")
        daemon.until_state("other", "accepted")
        assert daemon.answers_from("other", "upstream")
    upstream.release.set()
    until("it is taken by itself", lambda: daemon.answers_from("restless", "upstream"), 60)


@pytest.mark.slow
@pytest.mark.fault(115)
def test_a_namespace_that_deletes_its_routes_one_by_one_with_streams_open_holds_up_no_change_of_others(
    new_daemon: New, manifests: Manifests, upstream: Upstream
):
    manifests.routed("chat")
    for number in range(8):
        manifests.routed(f"evil{number}", "evil")
    daemon = new_daemon(WORKERS="1", MAX_DRAINING="5").start()
    with ExitStack() as streams:
        for number in range(5):
            streams.enter_context(stream(daemon))
            looked = cycles(daemon)
            manifests.remove(f"evil{number}", "evil")
            until("it was looked at", lambda looked=looked: cycles(daemon) > looked or said(daemon), 40)
        words = "changes of evil caused most of the reloads"
        until("it is said why", lambda: words in daemon.admin("/readyz")[1])
        assert daemon.answers_from("evil4", "upstream"), "it waits"
        manifests.routed("other")
        until("it passes", lambda: daemon.answers_from("other", "upstream"), 45)
        # the old worker may take calls for a moment still; no other reload is possible any more
        until("what waits has gone with it", lambda: daemon.error("evil4") == "rayservice_not_found")
        upstream.release.set()


def said(daemon: Daemon) -> bool:
    """Tell whether it is said that changes wait."""
    return daemon.metric("rayproxy_changes_wait") == 1


def cycles(daemon: Daemon) -> float:
    """Return how often the daemon has looked at everything."""
    return daemon.metric("rayproxy_reconcile_duration_seconds_count")


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
