"""Who answers behind a route: a state at once, and a turn that is told when it stays."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rayproxy.model import Readiness, Ref, Route
from rayproxy.report import behind as module
from rayproxy.report.behind import HOLD, READY, UNAVAILABLE, Behind, Looks, Turns, behind
from tests.support.manifests import ref, route

NOBODY, ONE = Readiness(0, 1, "not ready"), Readiness(1, 2)


class World:
    """Hold who answers, the clock, and what was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: dict[Ref, Behind] | None = None) -> None:
        self.now = 1000.0
        self.seen: dict[Ref, Readiness | None] = {}
        self.asked = 0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.looks = Looks(self._look, before or {})
        self.turns = Turns(before or {})
        self.told: list[tuple[float, str, str]] = []

    def _look(self, route: Route) -> Readiness | None:
        self.asked += 1
        return self.seen.get(route.ref)

    def go(self, seconds: float) -> None:
        """Let time pass, in ticks."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.25
            if self.looks.again(str(self.now)):
                for turn in self.turns.due(self.looks, self.now):
                    self.told.append((self.now - 1000, turn.state, turn.words))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(monkeypatch)
    made.looks.take([route("chat")])
    return made


def test_a_state_keeps_its_time_for_as_long_as_it_lasts():
    first = behind(NOBODY, None, "1")
    assert first == Behind(UNAVAILABLE, "1", 0, 1, "not ready")
    assert behind(replace(NOBODY, words="other"), first, "2") == replace(first, words="other")
    assert behind(ONE, first, "3") == Behind(READY, "3", 1, 2)


@pytest.mark.fault(101)
def test_a_moment_without_endpoints_is_seen_and_not_told(world: World):
    world.seen[ref()] = ONE
    world.go(30)
    world.seen[ref()] = NOBODY
    world.go(2)
    assert world.looks.found[ref()].state == UNAVAILABLE
    world.go(HOLD - 3)
    world.seen[ref()] = ONE
    world.go(60)
    assert world.told == []


@pytest.mark.fault(101)
def test_what_stays_is_told_once_and_so_is_its_end(world: World):
    world.seen[ref()] = NOBODY
    world.go(60)
    [(when, state, words)] = world.told
    assert (state, words) == (UNAVAILABLE, "not ready")
    assert HOLD <= when <= HOLD + 2
    world.seen[ref()] = ONE
    world.go(60)
    assert [turn[1:] for turn in world.told] == [(UNAVAILABLE, "not ready"), (READY, "not ready")]


@pytest.mark.fault(101)
def test_one_that_comes_and_goes_is_told_once(world: World):
    for _ in range(10):
        world.seen[ref()] = NOBODY
        world.go(HOLD + 3)
        world.seen[ref()] = ONE
        world.go(HOLD / 2)
    assert [state for _, state, _ in world.told] == [UNAVAILABLE]


def test_what_is_not_known_is_no_state_and_forgets_none(world: World):
    world.seen[ref()] = NOBODY
    world.go(20)
    since = world.looks.found[ref()].since
    world.seen[ref()] = None
    world.go(20)
    assert world.looks.found == {}
    world.seen[ref()] = NOBODY
    world.go(20)
    assert world.looks.found[ref()].since == since
    assert len(world.told) == 1


def test_after_a_restart_nothing_is_told_again(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, {ref(): Behind(UNAVAILABLE, "long ago", 0, 1)})
    world.looks.take([route("chat")])
    world.go(5)  # not read yet
    world.seen[ref()] = NOBODY
    world.go(60)
    assert world.told == []
    assert world.looks.found[ref()].since == "long ago"
    world.seen[ref()] = ONE
    world.go(60)
    assert [state for _, state, _ in world.told] == [READY]


def test_a_route_that_goes_is_forgotten(world: World):
    world.seen[ref()] = NOBODY
    world.go(20)
    world.looks.take([])
    world.go(2)
    assert (world.looks.found, world.looks.last, world.turns._told, world.turns._seen) == ({}, {}, {}, {})


@pytest.mark.fault(98)
def test_it_is_looked_once_a_second_whatever_changes(world: World):
    world.go(10)
    assert world.asked <= 11


@pytest.mark.fault(98)
def test_where_looking_takes_long_it_is_done_less_often(world: World):
    def slow(_: Route) -> Readiness:
        world.now += 0.1
        world.asked += 1
        return ONE

    world.looks._look = slow
    world.go(20)
    assert world.asked <= 5
