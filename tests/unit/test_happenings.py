"""What comes back, or goes on, is told again, and by two replicas once."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rayproxy.kube.api import ApiError
from rayproxy.model import Decision, Pending, Readiness, Refused, Rejection, Route, Suspended, Target
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report import behind
from rayproxy.report.behind import READY, UNAVAILABLE, Turn
from rayproxy.report.events import Event, Recorder, about, turned
from rayproxy.report.happenings import MOST, REPEAT, SPAN, Happenings, is_due
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.report.status import ACCEPTED, REJECTED, Status
from tests.support.manifests import ref
from tests.support.waiting import until

pytestmark = pytest.mark.fault(138)
AT = 3_000_000.0  # s since 1970, the beginning of a span
ACCEPT = Status("default", "chat", "uid", ACCEPTED, "10.0.0.1:8000", "Accepted", "", "2026-01-01T00:00:00Z")
REJECT = replace(ACCEPT, state=REJECTED, reason="NameNotGranted", message="the policy grants it to nobody")


class Cluster:
    """Keep Events, each under its name once, for two recorders; the clock is the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = AT
        self.written: dict[str, dict[str, Any]] = {}
        self.failures: list[str] = []
        self._posts = 0
        self._sent = 0
        monkeypatch.setattr(time, "time", lambda: self.now)
        self.replicas = [self.replica() for _ in range(2)]

    def replica(self) -> Recorder:
        """Start another one."""
        api: Any = self
        made = Recorder(api, self.failures.append)
        threading.Thread(target=made.run, daemon=True).start()
        return made

    def send(self, _: str, __: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        there = name in self.written
        self.written.setdefault(name, body)
        self._posts += 1
        if there:
            raise ApiError("it is there", 409)

    def told(self, event: Event | None, *replicas: Recorder) -> list[str]:
        """Let each replica tell of it (default: both), and return the reasons of all Events, the last one's last."""
        assert event
        for each in replicas or self.replicas:
            each.record(event)
            self._sent += 1
            self.now += 1.0  # replicas see nothing at the same moment
            until("it was posted", lambda: self._posts == self._sent)
        assert self.failures == []
        return [body["reason"] for body in sorted(self.written.values(), key=lambda body: body["lastTimestamp"])]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


@pytest.mark.parametrize("pause", [0.0, 60.0, 600.0, 3000.0])
def test_a_state_that_comes_back_is_the_last_word_and_each_turn_is_written_once(cluster: Cluster, pause: float):
    expected = []
    for state in (ACCEPT, REJECT, ACCEPT, REJECT):
        expected.append("RouteAccepted" if state is ACCEPT else "RouteRejected")
        assert cluster.told(about(state)) == expected
        cluster.now += pause


def test_an_outage_without_words_that_comes_back_is_told_again(cluster: Cluster):
    outage, end = (turned(Turn(ref(), state, ""), "uid") for state in (UNAVAILABLE, READY))
    for event in (outage, end, outage, end):
        cluster.told(event)
    assert len(cluster.written) == 4


def test_a_replica_that_was_started_anew_writes_nothing_that_the_other_has_written(cluster: Cluster):
    for state in (ACCEPT, REJECT, ACCEPT):
        cluster.told(about(state))
    anew = cluster.replica()
    assert len(cluster.told(about(ACCEPT), anew)) == 3
    assert cluster.told(about(REJECT), cluster.replicas[0], anew)[-1] == "RouteRejected"
    assert len(cluster.written) == 4


def test_no_more_things_are_counted_than_fit_and_those_of_a_span_that_is_over_are_forgotten():
    happenings = Happenings()
    for number in range(MOST + 10):
        happenings.name(str(number), AT)
    assert len(happenings._times) == 10
    happenings.name("a", AT + SPAN)
    assert len(happenings._times) == 1


def test_what_lasts_is_told_again_before_an_hour_has_passed_and_of_each_object_at_another_time():
    due = {uid: [s for s in range(0, 7200, 5) if is_due(uid, AT + s, AT + s + 5)] for uid in ("a", "b", "c", "\ud800")}
    for moments in due.values():
        assert [later - earlier for earlier, later in itertools.pairwise(moments)] in (
            [REPEAT],
            [REPEAT] * 2,
        )
    assert len({tuple(moments) for moments in due.values()}) == len(due)
    assert not is_due("a", AT, AT - 86400), "a clock that is put back"


ROUTE = Route(ref(), "uid", "/apis/rayservice/chat", (Target("10.0.0.1", 8000),), "")


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        (Rejection(ref(), "uid", "Headless", "give it a ClusterIP"), "RouteRejected"),
        (Refused(ref(), "uid", "ValidationFailed", "no"), "RouteRefused"),
        (Pending(ref(), "uid", "no Service"), "RoutePending"),
        (ROUTE, "RouteUnavailable"),
        (Suspended(ref(), "uid", "it was wished"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_on_to_be_wrong_is_told_again_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: Decision, reason: str | None
):
    now = AT
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(behind, "HOLD", 0.0)
    events: list[Event] = []
    look = lambda _: Readiness(0, 1, "")  # noqa: E731 - one line
    reporter = Reporter(Metrics(CollectorRegistry()), tmp_path / "status.json", events.append, 60.0, look)
    reporter.done(Outcome((decision,), (), "r", Changes(), reloaded=False), 0.0, None)
    for _ in range(100):
        now += 1.0
        reporter.nginx(1, 0)
    events.clear()
    for _ in range(2 * REPEAT):
        now += 1.0
        reporter.nginx(1, 0)
    assert [event.reason for event in events] == ([reason] * 2 if reason else [])
