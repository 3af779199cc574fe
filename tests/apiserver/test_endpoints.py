"""Who answers behind a route, by a real API server: what KubeRay did as it was recorded, Events, and many at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bench.endpoints import Churn
from rayproxy.model import Readiness
from tests.support import played
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.waiting import until

pytestmark = pytest.mark.slow


def behind(daemon: Daemon, kuberay: KubeRay, name: str) -> dict[str, Any] | None:
    return daemon.routes().get(f"{kuberay.namespace}/{name}", {}).get("behind")


@pytest.mark.fault(101)
@pytest.mark.parametrize("recording", played.RECORDED, ids=lambda path: path.stem)
def test_what_kuberay_did_is_told_as_the_golden_files_have_it(
    daemon: Daemon, kuberay: KubeRay, tmp_path: Path, recording: Path
):
    world, replay = played.World(tmp_path / "status.json"), played.Replay(kuberay)
    daemon.start()
    for line in played.lines(recording):
        replay.do(line)
        for name, seen in world.after(line).items():
            until(f"{seen} is told after {line}", lambda name=name, seen=seen: told(daemon, kuberay, name) == seen)
    assert daemon.reloads <= 4  # for its RayService and its Service, of whose changes none is a route's
    if world.after(line):
        assert "ready 1/1" in rayproxy(daemon, "routes").stdout
    else:
        assert "pending" in rayproxy(daemon, "routes").stdout


def told(daemon: Daemon, kuberay: KubeRay, name: str) -> Readiness | None:
    found = behind(daemon, kuberay, name)
    return Readiness(found["ready"], found["endpoints"], found["words"]) if found else None


@pytest.mark.fault(101)
def test_an_event_is_written_when_nobody_answers_for_long_and_when_that_is_over(daemon: Daemon, kuberay: KubeRay):
    rayservice, service = kuberay.routed("chat")
    kuberay.endpoints(service, False)
    daemon.start()
    [event] = until("told", lambda: [each for each in kuberay.events("chat") if each["reason"] == "RouteUnavailable"])
    assert (event["type"], event["message"]) == ("Warning", "none of its endpoints is ready")
    assert event["involvedObject"]["uid"] == rayservice["metadata"]["uid"]
    kuberay.endpoints(service, True)
    [event] = until("told", lambda: [each for each in kuberay.events("chat") if each["reason"] == "RouteReady"])
    assert (event["type"], event["message"]) == ("Normal", "its endpoints are ready again")


@pytest.mark.fault(98)
def test_while_all_endpoints_change_each_second_nothing_is_reloaded_and_a_new_route_comes(
    daemon: Daemon, kuberay: KubeRay
):
    churn = Churn(kuberay, 50)
    daemon.start()
    until("all are known", lambda: all(behind(daemon, kuberay, name) for name in churn.names))
    reloads = daemon.reloads
    with churn.running():
        until("each has changed", lambda: churn.rounds >= 3)
        assert daemon.reloads == reloads
        cycles = daemon.metric("rayproxy_reconcile_duration_seconds_count")
        until("and again", lambda: churn.rounds >= 6)
        assert daemon.metric("rayproxy_reconcile_duration_seconds_count") - cycles <= 1, "a resync at most"
        kuberay.routed("later")
        begun = time.monotonic()
        until("a new route answers", lambda: daemon.answers_from("later", "everywhere"))
        assert time.monotonic() - begun < 5
    kuberay.endpoints(churn.services[0], False)
    until(
        "the last word counts", lambda: (behind(daemon, kuberay, churn.names[0]) or {}).get("state") == "unavailable"
    )
