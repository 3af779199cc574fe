"""A second look that takes too long: given up for now, and taken where it comes soon enough to say something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rayproxy.model import Snapshot
from rayproxy.nginx.process import StoppingError
from rayproxy.reconcile import second_look
from rayproxy.reconcile.second_look import SecondLook
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


@pytest.mark.fault(51)
def test_a_stop_ends_the_waiting(world: World):
    look = SecondLook(world.look, world.stop, world.wake)
    world.stop.set()
    with pytest.raises(StoppingError):
        look.take()
    world.answer.set()
