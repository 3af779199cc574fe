"""A second look that takes too long: given up for now, and taken where it comes soon enough to say something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from rayproxy.model import Snapshot
from rayproxy.nginx.process import StoppingError
from rayproxy.reconcile import second_look
from rayproxy.reconcile.second_look import SecondLook
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.sources.base import UnconfirmedError
from tests.support.waiting import until

FOUND = Snapshot(problems=("what was found",))


@dataclass
class World:
    """What is looked at: it answers once it may."""

    answer: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    looks: int = 0
    wakes: int = 0
    error: Exception | None = None

    def look(self) -> Snapshot:
        self.looks += 1
        self.answer.wait(20)
        if self.error:
            raise self.error
        return FOUND

    def wake(self) -> None:
        self.wakes += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(second_look, "BOUND", 0.2)
    return World()


def given_up(world: World, look: SecondLook) -> Callable[[], bool]:
    """Wait in vain; return whether somebody was woken since."""
    with pytest.raises(UnconfirmedError, match="has not ended"):
        look.take()
    return lambda: world.wakes == 1


@pytest.mark.fault(167)
def test_what_comes_late_wakes_and_is_taken_and_the_cycle_that_takes_it_is_not_the_last(world: World):
    look = SecondLook(world.look, world.stop, world.wake)
    given_up(world, look)
    woken = given_up(world, look)
    assert (world.looks, world.wakes) == (1, 0), "no second one while one runs"
    world.answer.set()
    until("it wakes", woken)
    assert look.take() == FOUND
    assert (world.looks, world.wakes) == (1, 2)
    assert look.take() == FOUND
    assert (world.looks, world.wakes) == (2, 2), "what comes in time wakes nobody"


@pytest.mark.fault(167)
def test_what_nobody_came_for_says_nothing_of_later(world: World, monkeypatch: pytest.MonkeyPatch):
    look = SecondLook(world.look, world.stop, world.wake)
    woken = given_up(world, look)
    world.error = UnconfirmedError("the server is away")
    world.answer.set()
    until("it wakes", woken)
    world.error = None
    monkeypatch.setattr(second_look, "FRESH", 0.0)
    assert look.take() == FOUND
    assert world.looks == 2


@pytest.mark.fault(167)
def test_what_goes_wrong_is_raised_where_it_is_waited_for(world: World):
    look = SecondLook(world.look, world.stop, world.wake)
    world.error = RuntimeError("a defect")
    world.answer.set()
    with pytest.raises(RuntimeError, match="a defect"):
        look.take()


@pytest.mark.fault(167)
def test_looks_that_fail_late_again_and_again_skip_no_back_off_and_are_told_once(world: World, tmp_path: Path):
    look = SecondLook(world.look, world.stop, world.wake)
    reporter = Reporter(Metrics(CollectorRegistry()), tmp_path / "status.json", lambda _: None, 60.0)
    world.error = UnconfirmedError("GET /apis/ray.io/v1/rayservices: 504 gateway timeout")
    with capture_logs() as lines:
        for number in range(1, 6):
            world.answer.clear()
            for _ in range(2):
                reporter.failed(failure(look))
            world.answer.set()
            until("that it ended wakes", lambda number=number: world.wakes == number)
            reporter.failed(failure(look))
            assert (world.looks, world.wakes) == (number, number), "what failed wakes once, and not for another look"
    assert [line["error"] for line in lines] == [
        f"a second look at what is there has not ended within {second_look.BOUND} s",
        str(world.error),
    ]


def failure(look: SecondLook) -> Exception:
    with pytest.raises(UnconfirmedError) as raised:
        look.take()
    return raised.value


@pytest.mark.fault(51)
def test_a_stop_ends_the_waiting(world: World):
    look = SecondLook(world.look, world.stop, world.wake)
    world.stop.set()
    with pytest.raises(StoppingError):
        look.take()
    world.answer.set()
