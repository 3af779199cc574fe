"""A whole daemon with nginx, in front of an API server that misbehaves."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.reflecting import PATH, rayservice
from tests.support.scripted import Reply, ScriptedApi, Seen, hold, kubeconfig, page, raw, refuse
from tests.support.upstream import Upstream
from tests.support.waiting import stays, until

SERVICES = "/api/v1/services"
ROOT = Path(__file__).parents[3]
NAMES = [f"chat-{number}" for number in range(20)]


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], api: ScriptedApi, folder: Path) -> Daemon:
    return make_daemon(KUBECONFIG=str(kubeconfig(folder, api.url)), EVENTS="false", KINDS="rayservice")


def add(api: ScriptedApi, name: str, port: int) -> None:
    """Create a RayService and its Service, and the Service first: it is never seen pending, which is a reload more."""
    api.put(SERVICES, service(name, port))
    api.put(PATH, rayservice(name))


def service(name: str, port: int) -> dict[str, Any]:
    owner = {"kind": "RayService", "name": name, "uid": f"uid-{name}", "controller": True}
    return {
        "metadata": {
            "name": f"{name}-serve-svc",
            "namespace": "default",
            "labels": {"ray.io/serve": name},
            "ownerReferences": [owner],
        },
        "spec": {
            "selector": {"ray.io/serve": "true"},
            "clusterIP": "127.0.0.1",
            "ports": [{"name": "serve", "port": port}],
        },
    }


@pytest.fixture
def twenty(daemon: Daemon, api: ScriptedApi, upstream: Upstream) -> Daemon:
    """Return a daemon that serves twenty routes."""
    return serving_twenty(daemon, api, upstream)


def serving_twenty(daemon: Daemon, api: ScriptedApi, upstream: Upstream) -> Daemon:
    for name in NAMES:
        add(api, name, upstream.port)
    daemon.start()
    daemon.until_state(NAMES[-1], "accepted")
    until("both watched", lambda: {seen.path for seen in api.watch_requests} >= {PATH, SERVICES})
    return daemon


def asked(seen: Seen) -> str:
    return "watch" if "watch" in seen.query else "list"


def lists(api: ScriptedApi, path: str = PATH) -> int:
    return len([seen for seen in api.list_requests if seen.path == path])


@pytest.mark.slow
@pytest.mark.fault(19)
def test_a_list_that_is_wrongly_empty_takes_no_route_away(twenty: Daemon, api: ScriptedApi, upstream: Upstream):
    reloads, before = twenty.reloads, lists(api)
    once = {"watch": refuse(410), "list": page([], api.version)}
    api.always = lambda seen: once.pop(asked(seen), None) if seen.path == PATH else None
    api.cut()
    until("a second list was asked", lambda: lists(api) >= before + 2)
    add(api, "later", upstream.port)
    twenty.until_state("later", "accepted")
    assert all(twenty.error(name) == "" for name in NAMES)
    # For the one that came; its Service may still be told after it, for the two watches have no common order.
    assert twenty.reloads <= reloads + 2
    assert twenty.metric('rayproxy_routes{state="accepted"}') == len(NAMES) + 1


@pytest.mark.slow
@pytest.mark.fault(19)
def test_while_no_second_list_is_to_be_had_nothing_goes_and_when_it_agrees_all_do(twenty: Daemon, api: ScriptedApi):
    for name in NAMES:
        del api.objects[PATH][name]
    once = {"watch": refuse(410), "list": page([], api.version)}

    def always(seen):
        if seen.path != PATH:
            return None
        return once.pop(asked(seen), None if asked(seen) == "watch" else refuse(503, "no second list"))

    api.always = always
    api.cut()
    until("unconfirmed", lambda: "no second list" in twenty.admin("/metrics")[1] + twenty.log.read_text())
    assert all(twenty.error(name) == "" for name in NAMES)
    api.always = lambda _: None
    until("gone", lambda: all(twenty.error(name) == "rayservice_not_found" for name in NAMES), 60)


def vanish(api: ScriptedApi, second: Reply) -> None:
    """Delete all RayServices, tell it by a list, and answer each later one so; return once one of those is asked."""
    before = lists(api)
    for name in NAMES:
        del api.objects[PATH][name]
    once = {"watch": refuse(410), "list": page([], api.version)}
    api.always = lambda seen: (
        once.pop(asked(seen), None if asked(seen) == "watch" else second) if seen.path == PATH else None
    )
    api.cut()
    until("a second list was asked", lambda: lists(api) >= before + 2)


@pytest.mark.slow
@pytest.mark.fault(51)
@pytest.mark.fault(167)
def test_a_stop_while_a_second_list_is_silent_is_obeyed_in_time(twenty: Daemon, api: ScriptedApi):
    vanish(api, hold)
    assert twenty.process
    twenty.process.send_signal(signal.SIGTERM)
    assert twenty.process.wait(5) == 0


@pytest.mark.slow
@pytest.mark.fault(36)
@pytest.mark.fault(167)
def test_an_nginx_that_dies_while_a_second_list_is_silent_has_another_one_in_its_place_soon(
    twenty: Daemon, api: ScriptedApi
):
    vanish(api, hold)
    before = twenty.nginx_pid()
    os.kill(before, signal.SIGKILL)

    def another() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return twenty.nginx_pid() != before
        return False

    until("another nginx", another, 15)
    until("its routes answer", lambda: all(twenty.answers_from(name, "upstream") for name in NAMES), 10)


SHORT_LIVED = "import rayproxy.daemon; rayproxy.daemon.HEARTBEAT = 14.0"


@pytest.mark.slow
@pytest.mark.fault(167)
def test_while_a_second_list_comes_slowly_the_loop_turns_and_what_it_says_at_last_is_taken(
    daemon: Daemon, api: ScriptedApi, upstream: Upstream
):
    impatient = daemon.folder / "impatient"
    impatient.mkdir()
    (impatient / "sitecustomize.py").write_text(SHORT_LIVED)
    daemon.environment |= {"PYTHONPATH": os.pathsep.join([str(impatient), str(ROOT)])}
    twenty = serving_twenty(daemon, api, upstream)
    pages = 5

    def slow(connection) -> None:
        nonlocal pages
        pages -= 1
        time.sleep(4)  # of each page; all five take twice as long as a second look is waited for
        page([], api.version, "more" if pages else "")(connection)

    vanish(api, slow)
    before = lists(api)
    stays("it is healthy", lambda: pages == 0 or twenty.admin("/healthz")[0] == 200, 19)
    until("gone", lambda: all(twenty.error(name) == "rayservice_not_found" for name in NAMES))
    assert lists(api) - before <= 4, "one list of five pages, the first of which was asked for before"
    assert "has not ended within 10 s" in twenty.told()


@pytest.mark.fault(2)
@pytest.mark.parametrize("status", [500, 403, 404, 429])
def test_a_daemon_that_starts_before_an_api_server_which_refuses_serves_its_last_revision(
    twenty: Daemon, api: ScriptedApi, status: int
):
    twenty.stop()
    api.always = lambda _: refuse(status)
    begin = len(api.seen)
    twenty.start()
    until("it has asked for both, twice", lambda: len(api.seen) >= begin + 4)
    assert twenty.error(NAMES[0]) == ""
    assert len([name for name in twenty.files() if name.startswith("ray-")]) == len(NAMES)


POISON = """
import rayproxy.report.events
from rayproxy.kinds.rayservice import RAYSERVICES
real_read, real_body = RAYSERVICES.read, rayproxy.report.events.Event.body
def read(obj):
    if obj["metadata"]["name"] == "poison-reflector":
        raise RuntimeError("a defect")
    return real_read(obj)
def body(event, *said):
    if event.ref.name == "poison.events":
        raise RuntimeError("a defect")
    return real_body(event, *said)
object.__setattr__(RAYSERVICES, "read", read)
rayproxy.report.events.Event.body = body
"""


@pytest.mark.fault(59)
@pytest.mark.parametrize(
    ("poison", "thread"), [("poison-reflector", "reflector-rayservices"), ("poison.events", "events")]
)
def test_a_thread_that_dies_of_a_defect_ends_the_daemon(
    daemon: Daemon, api: ScriptedApi, upstream: Upstream, poison: str, thread: str
):
    broken = daemon.folder / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(POISON)
    daemon.environment |= {"PYTHONPATH": os.pathsep.join([str(broken), str(ROOT)]), "RAYPROXY_EVENTS": "true"}
    add(api, "chat", upstream.port)
    daemon.start()
    daemon.until_state("chat", "accepted")
    until("watched", lambda: PATH in {seen.path for seen in api.watch_requests})
    api.put(PATH, rayservice(poison))
    process = daemon.process
    assert process
    until("the daemon has ended", lambda: process.poll() is not None)
    assert process.returncode == 1
    assert "a thread died of a defect" in daemon.told()
    assert thread in daemon.told()


@pytest.mark.slow
@pytest.mark.fault(18)
def test_what_is_the_matter_with_watches_that_answer_garbage_is_told_once_however_often_lists_succeed(
    daemon: Daemon, api: ScriptedApi, upstream: Upstream
):
    add(api, "chat", upstream.port)
    api.always = lambda seen: raw(b"<html>gateway</html>\n") if asked(seen) == "watch" else None
    daemon.start()
    until("each was listed again and again", lambda: min(lists(api), lists(api, SERVICES)) >= 4, 60)
    problems = re.findall(r'"problem": "([^"]+)"', daemon.told())
    assert {problem.split(":")[0] for problem in problems} <= {PATH, SERVICES}
    assert len(problems) == len(set(problems)) > 0
