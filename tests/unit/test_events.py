"""What is written on a RayService, and under which name."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from rayproxy.model import Pending, Refused, Rejection
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report.behind import READY, UNAVAILABLE, Turn
from rayproxy.report.events import Event, about, turned
from rayproxy.report.happenings import Happenings
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.report.status import ACCEPTED, PENDING, REFUSED, REJECTED, SUSPENDED, Status
from tests.support.manifests import ref

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
STATUS = Status("ns", "chat", "uid", ACCEPTED, "10.0.0.1:8000", "Accepted", "", "2026-01-01T00:00:00Z")
LATER = "2026-01-01T00:00:09Z"


def name(event: Event) -> str:
    return Happenings().name(event.says, 0.0)


def test_an_accepted_route_is_told_with_where_it_goes():
    event = about(STATUS)
    assert event
    assert (event.type, event.reason) == ("Normal", "RouteAccepted")
    assert event.message == "/apis/rayservice/chat/ goes to 10.0.0.1:8000"


def test_a_rejection_is_told_with_its_reason():
    event = about(replace(STATUS, state=REJECTED, reason="Headless", message="give it a ClusterIP"))
    assert event
    assert (event.type, event.message) == ("Warning", "Headless: give it a ClusterIP")


def test_a_suspension_is_no_warning():
    event = about(replace(STATUS, state=SUSPENDED, reason="Suspended", message="spec.suspend is true"))
    assert event
    assert (event.type, event.reason, event.message) == ("Normal", "RouteSuspended", "spec.suspend is true")


def test_what_kuberay_refuses_is_a_warning_with_its_words():
    event = about(replace(STATUS, state=REFUSED, reason="ValidationFailed", message="name too long"))
    assert event
    assert (event.type, event.reason) == ("Warning", "RouteRefused")
    assert event.message == "KubeRay goes no further with it: ValidationFailed: name too long"


def test_pending_is_told_only_when_it_lasts():
    pending = replace(STATUS, state=PENDING, message="no Service yet")
    assert about(pending) is None
    event = about(pending, too_long=True)
    assert event
    assert (event.type, event.reason) == ("Warning", "RoutePending")
    assert "no Service yet" in event.message


@pytest.mark.parametrize("state", [REJECTED, REFUSED])
def test_pending_is_told_where_the_last_word_was_that_it_is_rejected_or_refused(state, tmp_path):
    events: list[Event] = []
    reporter = Reporter(Metrics(CollectorRegistry()), tmp_path / "status.json", events.append, 600.0)
    decision = {REJECTED: Rejection, REFUSED: Refused}[state]
    for each in (decision(ref(), "u", "A", "mend it"), Pending(ref(), "u", "no Service"), Pending(ref(), "u", "none")):
        reporter.done(Outcome((each,), (), "r", Changes(), reloaded=False), 0.0, None)

    last = events.pop()
    assert (last.type, last.reason, last.message) == ("Normal", "RoutePending", f"no longer {state}: no Service")
    assert len(events) == 1
    reporter.done(Outcome((decision(ref(), "u", "A", "mend it"),), (), "r", Changes(), reloaded=False), 0.0, None)
    reporter.done(Outcome((Pending(ref(), "another", "new"),), (), "r", Changes(), reloaded=False), 0.0, None)
    assert len(events) == 2, "a namesake that was made anew was never rejected"


def test_replicas_that_saw_it_at_different_moments_write_one_event():
    for status in (STATUS, replace(STATUS, state=REJECTED), replace(STATUS, state=PENDING)):
        events = [about(each, too_long=True) for each in (status, replace(status, since=LATER))]
        assert events[0]
        assert events[1]
        assert name(events[0]) == name(events[1])


def test_a_route_that_nobody_answers_behind_is_told_with_kuberays_words_and_so_is_its_end():
    event = turned(Turn(ref(), UNAVAILABLE, "not ready"), "uid")
    assert (event.type, event.reason) == ("Warning", "RouteUnavailable")
    assert event.message == "none of its endpoints is ready: not ready"
    event = turned(Turn(ref(), READY, "not ready"), "uid")
    assert (event.type, event.reason) == ("Normal", "RouteReady")
    assert event.message == "its endpoints are ready again; before: not ready"


@pytest.mark.fault(101)
def test_an_outage_is_another_event_than_the_one_before_by_the_time_in_kuberays_words():
    for state in (UNAVAILABLE, READY):
        first, second = (turned(Turn(ref(), state, f"not ready since {when}"), "uid") for when in ("1", "2"))
        assert name(first) != name(second)


def test_replicas_that_heard_more_or_less_of_an_outage_write_one_event():
    less = "not ready since 1: ZeroServeEndpoints: Number of serve endpoints dropped to 0"
    for state in (UNAVAILABLE, READY):
        events = [
            turned(Turn(ref(), state, words), "uid") for words in (less, f"{less}; its application is UNHEALTHY")
        ]
        assert name(events[0]) == name(events[1])
        others = [turned(Turn(ref(), state, f"its predictor is not ready: {why}"), "uid") for why in ("cold", "gone")]
        assert name(others[0]) != name(others[1])


def test_what_differs_is_another_event():
    event = about(STATUS)
    assert event
    others = [
        replace(event, uid="other"),
        replace(event, message="x"),
        replace(event, reason="x"),
        replace(event, type="x"),
    ]
    assert len({name(each) for each in (event, *others)}) == 5


@given(st.from_regex(SUBDOMAIN, fullmatch=True).filter(lambda text: len(text) <= 253), st.text(max_size=3000))
def test_any_rayservice_gives_an_event_that_the_api_server_takes(rayservice: str, message: str):
    body = Event(ref(rayservice, "ns"), "uid", "Warning", "RouteRejected", message).body("0" * 16, "now")
    called = body["metadata"]["name"]
    assert SUBDOMAIN.fullmatch(called)
    assert len(called) <= 253
    assert len(body["message"]) <= 1024
    assert body["involvedObject"]["namespace"] == body["metadata"]["namespace"]


def test_a_name_that_is_cut_at_a_dot_stays_a_name():
    event = Event(ref("a" * 179 + "." + "b" * 60, "ns"), "uid", "Normal", "r", "m")
    assert SUBDOMAIN.fullmatch(event.body("0" * 16, "now")["metadata"]["name"])


@pytest.mark.fault(169)
@pytest.mark.parametrize("leap", [-3600.0, 3600.0])
def test_what_is_pending_too_long_is_told_after_that_time_whatever_the_wall_clock_shows(tmp_path, monkeypatch, leap):
    now, ahead = 1000.0, 1_800_000_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    events: list[Event] = []
    reporter = Reporter(Metrics(CollectorRegistry()), tmp_path / "status.json", events.append, 60.0)
    reporter.done(Outcome((Pending(ref(), "u", "no Service"),), (), "r", Changes(), reloaded=False), 0.0, None)
    reporter.nginx(1, 0)
    ahead += leap
    now += 50
    reporter.nginx(1, 0)
    assert not events
    now += 11
    reporter.nginx(1, 0)
    assert [event.reason for event in events] == ["RoutePending"]
