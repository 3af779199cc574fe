"""Who changes again and again waits, and nobody else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from rayproxy.model import Decision, Pending, Rejection, Route
from rayproxy.reconcile.damping import FREE, MOST, TOO_OFTEN, Damping
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome
from rayproxy.report.events import Event
from rayproxy.report.metrics import Metrics
from rayproxy.report.reporter import Reporter
from rayproxy.report.status import read
from rayproxy.settings import NginxSettings
from tests.support.manifests import ref, route

PENDING = Pending(ref(), "u", "waits")
HERE, THERE = route(host="10.0.0.1"), route(host="10.0.0.2")


class Served:
    """What is served, and how many reloads it took."""

    def __init__(self) -> None:
        self.damping = Damping()
        self.now: tuple[Decision, ...] = ()
        self.reloads = 0
        self.again: float | None = None

    def want(self, wanted: Sequence[Decision], at: float) -> tuple[Decision, ...]:
        damped = self.damping.damp(wanted, at)
        self.reloads += damped.served != self.now
        self.now, self.again = damped.served, damped.again
        self.damping.took(self.now, at)
        return self.now


def restless() -> tuple[Served, float]:
    """Return what is served, and when it last changed, after an object has changed as often as is free."""
    served = Served()
    served.want([HERE], 0.0)
    for number in range(FREE):
        served.want([(THERE, HERE)[number % 2]], 4.0 + number)
    assert served.now == (HERE,)
    return served, 4.0 + FREE - 1


@pytest.mark.fault(70)
@pytest.mark.parametrize("other", [THERE, PENDING, None], ids=["another address", "no Service", "deleted"])
def test_an_object_that_is_toggled_for_ever_costs_few_reloads_and_nobody_else_waits(other: Decision | None):
    served = Served()
    for turn in range(1050):  # each 2 s, as long as a worker may drain
        neighbour = route("other", f"10.1.0.{turn // 100}")
        wanted = [HERE] if turn % 2 else [other] if other else []
        assert neighbour in served.want([*wanted, neighbour], 2.0 * turn)
    workers = NginxSettings().workers * (served.reloads - 11)  # the neighbour's changes are 11
    assert workers <= 0.75 * NginxSettings().max_draining, "beyond that reloads become rarer for everybody"


def shared(weight: int) -> Route:
    both = replace(HERE.targets[0], weight=100 - weight), replace(THERE.targets[0], weight=weight)
    return replace(HERE, targets=both[::-1] if weight > 50 else both)


@pytest.mark.fault(103)
@pytest.mark.parametrize("step", [5, 20])
def test_an_upgrade_in_steps_waits_at_none_of_them(step: int):
    served = Served()
    for number, wanted in enumerate((HERE, *map(shared, range(0, 101, step)), THERE)):
        assert served.want([wanted], 5.0 * number) == (wanted,)


@pytest.mark.fault(103)
def test_an_upgrade_in_a_hundred_steps_is_followed_by_larger_ones_and_ends_when_it_ends():
    served = Served()
    for number, wanted in enumerate((HERE, *map(shared, range(101)))):
        served.want([wanted], 5.0 * number)
        assert isinstance(served.now[0], Route)
    assert served.want([THERE], 510.0) == (THERE,)
    assert served.reloads < 45


@pytest.mark.fault(103)
def test_shares_that_move_for_ever_wait_too():
    served = Served()
    for turn in range(1050):
        served.want([shared(20 + 40 * (turn % 2))], 2.0 * turn)
    assert served.reloads < 80


def test_the_waits_grow_and_end_by_themselves():
    served, last = restless()
    gaps = [0.0]
    for number in range(3):
        wanted = (THERE, HERE)[number % 2]
        served.want([wanted], last)
        until = served.damping.damp([wanted], last).again
        assert until
        assert served.want([wanted], until - 0.1) != (wanted,)
        assert served.want([wanted], until) == (wanted,)
        gaps.append(until - last)
        last = until
    assert gaps == sorted(gaps)
    assert gaps[-1] > 8 * gaps[1] > 0


def test_a_route_that_should_lead_elsewhere_leads_nowhere_while_that_waits():
    """Its old address may be somebody else's by then."""
    served, last = restless()
    (told,) = served.want([THERE], last)
    assert isinstance(told, Rejection)
    assert told.reason == TOO_OFTEN
    assert served.damping.damp([THERE], last).waiting.keys() == {ref()}


@pytest.mark.fault(108)
def test_a_route_stays_while_a_step_of_its_upgrade_waits_and_the_end_of_the_upgrade_waits_for_nothing():
    served, last = restless()
    for wanted in (shared(20), HERE, shared(40)):
        assert served.want([wanted], last) == (HERE,), "all that it leads to is its own"
        assert served.damping.damp([wanted], last).waiting.keys() == {ref()}
    until = served.again
    assert until
    assert served.want([shared(40)], until) == (shared(40),)
    assert served.want([shared(60)], until + 1) == (shared(40),)
    assert served.want([THERE], until + 2) == (THERE,)
    assert served.want([shared(60)], until + 3) == (THERE,)
    (told,) = served.want([HERE], until + 4)
    assert isinstance(told, Rejection)


@pytest.mark.fault(108)
def test_upgrades_that_begin_and_end_for_ever_cost_few_reloads():
    served = Served()
    for turn in range(1050):
        served.want([shared(50) if turn % 2 else THERE], 2.0 * turn)
    assert NginxSettings().workers * (served.reloads - 1) <= 0.75 * NginxSettings().max_draining


def test_a_route_is_taken_away_at_once_and_comes_back_late():
    served, last = restless()
    assert served.want([PENDING], last) == (PENDING,)
    assert served.want([HERE], last + 1) == (PENDING,)
    assert served.want([], last + 2) == ()
    assert served.want([HERE], last + 3) == ()
    assert served.damping.damp([HERE], last + 3).waiting[ref()].reason == TOO_OFTEN


@pytest.mark.fault(107)
def test_what_waits_is_told_once_however_often_it_changes_meanwhile():
    served, last = restless()
    served.want([PENDING], last)
    for number in range(8):
        told = served.damping.damp([(HERE, PENDING)[number % 2]], last + number)
        assert told.served == (PENDING,)
        assert told.waiting.keys() == {ref()}
    assert told.again
    assert not served.damping.damp([PENDING], told.again).waiting


@pytest.mark.fault(107)
@pytest.mark.fault(113)
def test_what_is_wrong_with_an_object_is_told_while_it_waits_and_announced_once(tmp_path: Path):
    served, last = restless()
    served.want([PENDING], last)
    events: list[Event] = []
    reporter = Reporter(Metrics(CollectorRegistry()), tmp_path / "status.json", events.append, 600.0)
    for reason in ("NoServePort", "Headless", "NoServePort"):
        told = tuple(served.damping.damp([Rejection(ref(), "u", reason, "name one port")], last + 1).waiting.values())
        reporter.done(Outcome(told, (), "r", Changes(), reloaded=False), 0.0, None)
        assert f"ChangesTooOften|It would be told: {reason}: name one port" in shown(tmp_path / "status.json")
    assert len(events) == 1


def shown(file: Path) -> str:
    (row,) = read(file).values()
    return f"{row.reason}|{row.message.partition('. ')[2]}"


def test_a_route_that_is_as_it_should_be_again_before_anything_was_done_stays():
    served, last = restless()
    served.damping.damp([THERE], last)  # and nothing came of it: nginx was full
    assert served.damping.damp([HERE], last + 1).served == (HERE,)


@pytest.mark.fault(109)
def test_a_pending_object_whose_callers_are_told_this_and_that_in_turns_waits_too():
    served = Served()
    for turn in range(1050):
        served.want([replace(PENDING, told=("loading", "failed")[turn % 2])], 2.0 * turn)
    workers = NginxSettings().workers * (served.reloads - 1)
    assert workers <= 0.75 * NginxSettings().max_draining


def test_a_model_that_fails_to_load_every_ten_minutes_waits_for_nothing():
    served = Served()
    for turn in range(200):
        wanted = replace(PENDING, told=("loading", "failed")[turn % 2])
        assert served.want([wanted], 300.0 * turn) == (wanted,)


def test_what_is_only_said_of_an_object_is_no_change():
    served = Served()
    for number in range(100):
        wanted = Rejection(ref(), "u", "R", str(number))
        assert served.want([wanted], float(number)) == (wanted,)


def test_an_object_that_was_quiet_for_long_may_change_as_often_as_a_new_one():
    served, last = restless()
    later = last + 3600 * 24
    for number in range(FREE):
        wanted = (THERE, HERE)[number % 2]
        assert served.want([wanted], later + number) == (wanted,)


def test_the_first_look_counts_for_nothing():
    served = Served()
    served.want([HERE], 0.0)
    assert served.damping._counts == {}


@pytest.mark.fault(56)
def test_when_all_change_with_each_reload_nobody_waits():
    served = Served()
    for number in range(20):
        wanted = tuple(Route(each.ref, "", each.path, (THERE, HERE)[number % 2].targets) for each in many(500))
        assert served.want(wanted, 3.0 * number) == wanted


def many(count: int, prefix: str = "m") -> list[Route]:
    return [route(f"{prefix}{number}") for number in range(count)]


@pytest.mark.fault(73)
def test_names_that_come_and_go_are_not_remembered_for_long():
    served = Served()
    served.want([], 0.0)
    for turn in range(50):
        served.want(many(500, f"t{turn}-"), float(turn))
    assert len(served.damping._counts) <= MOST
    for later in (3600.0, 7200.0):  # the last ones go at the first of them
        served.want([], later)
    assert served.damping._counts == {}
