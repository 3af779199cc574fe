"""Who answers behind the routes is told, and nothing else happens: a whole daemon before a scripted API server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.kuberay import endpoint_slice
from tests.support.manifests import rayservice, service
from tests.support.reflecting import PATH
from tests.support.scripted import ScriptedApi, refuse
from tests.support.upstream import Upstream
from tests.support.waiting import stays, until

SERVICES = "/api/v1/services"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
NOT_READY = {"type": "Ready", "status": "False", "reason": "ZeroServeEndpoints", "message": "dropped to 0"}


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], api: ScriptedApi, folder: Path) -> Daemon:
    """Return a daemon, not started, that has no reason of its own to look at everything again."""
    config = folder / "kubeconfig"
    config.write_text(
        f"""{{apiVersion: v1, kind: Config, current-context: x, users: [{{name: u, user: {{}}}}],
        clusters: [{{name: c, cluster: {{server: "{api.url}"}}}}],
        contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}"""
    )
    return make_daemon(KUBECONFIG=str(config), EVENTS="false", RESYNC="3600")


@pytest.fixture
def chat(api: ScriptedApi, upstream: Upstream) -> dict[str, Any]:
    """Return the Service of a RayService that is routed."""
    return add(api, upstream, "chat")


def add(api: ScriptedApi, upstream: Upstream, name: str) -> dict[str, Any]:
    made = service(rayservice(name), ports=[{"name": "serve", "port": upstream.port}])
    made["metadata"]["uid"] = f"uid-of-the-service-{name}"
    api.put(SERVICES, made)
    api.put(PATH, rayservice(name))
    return made


def behind(daemon: Daemon, name: str = "chat") -> dict[str, Any]:
    """Return what is said of the endpoints, nothing where the route is not written down yet."""
    return daemon.routes().get(f"default/{name}", {}).get("behind") or {}


def until_behind(daemon: Daemon, **fields: object) -> None:
    until(f"{fields} is told; {daemon.tail()}", lambda: behind(daemon).items() >= fields.items())


def cycles(daemon: Daemon) -> float:
    return daemon.metric("rayproxy_reconcile_duration_seconds_count")


def until_calm(daemon: Daemon) -> float:
    """Wait until the lists that come at the start have had their cycles; return how many there were."""
    counted = [cycles(daemon)]

    def same() -> bool:
        counted.append(cycles(daemon))
        return len(counted) > 10 and len(set(counted[-10:])) == 1

    until("no cycle for a while", same, every=0.1)
    return counted[-1]


@pytest.mark.slow
@pytest.mark.fault(98)
@pytest.mark.fault(101)
def test_endpoints_that_come_and_go_are_told_without_a_cycle(daemon: Daemon, api: ScriptedApi, chat: dict[str, Any]):
    api.put(SLICES, endpoint_slice(chat, True, False))
    daemon.start()
    until_behind(daemon, state="ready", ready=1, endpoints=2)
    before, reloads = until_calm(daemon), daemon.reloads
    for number in range(200):
        api.put(SLICES, endpoint_slice(chat, number % 2 == 0, False))
    until_behind(daemon, state="unavailable", ready=0, endpoints=2)
    assert daemon.metric('rayproxy_route_ready_endpoints{route="rayservice/default/chat"}') == 0
    api.put(PATH, rayservice("chat", status={"conditions": [NOT_READY]}))
    until_behind(daemon, words="not ready: ZeroServeEndpoints: dropped to 0")
    assert (cycles(daemon), daemon.reloads) == (before, reloads)
    assert daemon.answers_from("chat", "upstream")


def test_a_service_without_a_slice_is_not_called_unavailable(daemon: Daemon, api: ScriptedApi, chat: dict[str, Any]):
    daemon.start()
    until("watched", lambda: SLICES in {seen.path for seen in api.watch_requests})
    stays("nothing is said", lambda: behind(daemon) == {}, 1.5)
    assert "rayproxy_route_ready_endpoints{" not in daemon.admin("/metrics")[1]


@pytest.mark.fault(100)
def test_slices_of_a_service_that_is_gone_say_nothing_of_its_successor(
    daemon: Daemon, api: ScriptedApi, chat: dict[str, Any]
):
    api.put(SLICES, endpoint_slice(chat, True))
    api.put(SERVICES, {**chat, "metadata": {**chat["metadata"], "uid": "another"}})
    daemon.start()
    until("watched", lambda: SLICES in {seen.path for seen in api.watch_requests})
    stays("nothing is said", lambda: behind(daemon) == {}, 1.5)


@pytest.mark.slow
@pytest.mark.fault(99)
@pytest.mark.parametrize("status", [403, 404])
def test_without_slices_routes_come_and_go_and_that_is_said_once(
    daemon: Daemon, api: ScriptedApi, upstream: Upstream, chat: dict[str, Any], status: int
):
    api.put(SLICES, endpoint_slice(chat, True))
    api.always = lambda seen: refuse(status) if seen.path == SLICES else None
    daemon.start()
    daemon.until_state("chat", "accepted")
    until("asked again", lambda: len([seen for seen in api.seen if seen.path == SLICES]) >= 3)
    add(api, upstream, "later")
    daemon.until_state("later", "accepted")
    assert behind(daemon) == {}
    assert daemon.log.read_text().count("not to be read") == 1
    assert daemon.metric("rayproxy_source_problems") == 0
    assert "watch_failures_total{" not in daemon.admin("/metrics")[1]
    api.always = lambda _: None
    until_behind(daemon, state="ready", ready=1)


@pytest.mark.slow
@pytest.mark.fault(99)
def test_a_permission_that_is_taken_away_makes_it_unknown(daemon: Daemon, api: ScriptedApi, chat: dict[str, Any]):
    api.put(SLICES, endpoint_slice(chat, True))
    daemon.start()
    until_behind(daemon, state="ready")
    api.always = lambda seen: refuse(403) if seen.path == SLICES else None
    api.cut()
    until("it is not known", lambda: behind(daemon) == {})
    assert daemon.answers_from("chat", "upstream")
    assert "rayproxy_route_ready_endpoints{" not in daemon.admin("/metrics")[1]


@pytest.mark.slow
@pytest.mark.fault(101)
def test_what_lasts_is_told_in_the_log_once_and_again_when_it_is_over(
    daemon: Daemon, api: ScriptedApi, chat: dict[str, Any]
):
    api.put(SLICES, endpoint_slice(chat, False))
    api.put(PATH, rayservice("chat", status={"conditions": [NOT_READY]}))
    daemon.start()
    until_behind(daemon, state="unavailable")
    assert "route unavailable" not in daemon.log.read_text()
    until("told", lambda: "route unavailable" in daemon.log.read_text())
    daemon.stop()
    daemon.start()
    until_behind(daemon, state="unavailable")
    api.put(SLICES, endpoint_slice(chat, True))
    until("told", lambda: "route ready" in daemon.log.read_text())
    assert daemon.log.read_text().count("route unavailable") == 1
