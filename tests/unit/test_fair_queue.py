"""What many write of one namespace holds nobody else's up."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rayproxy.report.events import QUEUE, Event, Recorder
from rayproxy.report.fair_queue import FairQueue
from tests.support.manifests import ref
from tests.support.waiting import until

pytestmark = pytest.mark.fault(119)


def test_the_namespaces_take_turns_and_what_is_of_one_stays_in_its_order():
    waiting = FairQueue[str](100)
    for thing in ("evil 1", "evil 2", "evil 3", "good 1", "good 2", "calm 1"):
        assert waiting.put(thing.split()[0], thing)
    order = [waiting.get() for _ in range(6)]
    assert order == ["evil 1", "good 1", "calm 1", "evil 2", "good 2", "evil 3"]
    assert len(waiting) == 0


def test_where_too_many_wait_the_youngest_goes_of_the_namespace_that_has_most():
    waiting = FairQueue[str](4)
    for thing in ("evil 1", "evil 2", "evil 3", "good 1"):
        assert waiting.put(thing.split()[0], thing)
    for thing in ("good 2", "evil 4"):
        assert not waiting.put(thing.split()[0], thing)
    assert sorted(waiting.get() for _ in range(4)) == ["evil 1", "evil 2", "good 1", "good 2"]


def test_whoever_takes_waits_for_one():
    waiting, taken = FairQueue[str](4), list[str]()
    thread = threading.Thread(target=lambda: taken.append(waiting.get()), daemon=True)
    thread.start()
    waiting.put("a", "thing")
    thread.join(10)
    assert taken == ["thing"]


def test_an_event_is_written_soon_though_thousands_of_another_namespace_wait():
    class Api:
        """Write the first Event when it is told to."""

        def __init__(self) -> None:
            self.paths: list[str] = []
            self.may = threading.Event()

        def send(self, _: str, path: str, __: object) -> None:
            self.paths.append(path)
            self.may.wait(10)

    api: Any = Api()
    failures: list[str] = []
    recorder = Recorder(api, failures.append)
    for number in range(QUEUE + 100):
        recorder.record(Event(ref(f"a{number}", "evil"), "u", "Warning", "RouteRejected", "m"))
    recorder.record(Event(ref("chat", "good"), "u", "Normal", "RouteAccepted", "m"))
    assert len(failures) == 101
    threading.Thread(target=recorder.run, daemon=True).start()
    api.may.set()
    until("it is written", lambda: "/api/v1/namespaces/good/events" in api.paths[:2])
