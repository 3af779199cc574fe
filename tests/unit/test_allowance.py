"""How many Events an object may have."""

from typing import Any

import pytest

from rayproxy.report.allowance import BURST, MOST, REFILL, Allowance
from rayproxy.report.events import Event, Recorder
from tests.support.manifests import ref

pytestmark = pytest.mark.fault(110)


def test_an_object_has_some_events_at_once_and_then_one_each_while():
    allowance = Allowance()
    assert sum(allowance.take(ref(), float(second)) for second in range(100)) == BURST
    assert sum(allowance.take(ref(), 100.0 + second) for second in range(3600)) == 3600 // REFILL


def test_what_one_object_had_leaves_another_its_own():
    allowance = Allowance()
    for second in range(100):
        allowance.take(ref("loud"), float(second))
    assert allowance.take(ref("quiet"), 100.0)


def test_no_more_objects_are_remembered_than_a_cluster_has():
    allowance = Allowance()
    for number in range(MOST + 10):
        allowance.take(ref(f"a{number}"), 0.0)
    assert len(allowance._left) == MOST


def test_an_event_for_each_of_a_thousand_reasons_is_not_written():
    class Api:
        written = 0

        def send(self, *_: object) -> None:
            self.written += 1

    api: Any = Api()
    failures: list[str] = []
    recorder = Recorder(api, failures.append)
    for number in range(1000):
        recorder.record(Event(ref(), "u", "Warning", "RouteRejected", f"reason {number}"))
    assert len(recorder._events) == BURST
    assert failures == []
