"""In which order Gateways are spoken of, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from rayproxy.gateway import speaker
from rayproxy.gateway.objects import read_gateway
from rayproxy.gateway.proofs import Proofs
from rayproxy.gateway.replicas import BEAT, read_entries
from rayproxy.gateway.source import Known, Scope
from rayproxy.gateway.speaker import AGAIN, MOST, SILENT, Speaker, Write, in_turns
from rayproxy.kube.api import ApiError
from rayproxy.model import Key
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome

SPEC = {"gatewayClassName": "rayproxy"}


def write(namespace: str, name: str) -> Write:
    return Write(f"{namespace}/{name}", {"metadata": {"namespace": namespace, "name": name}}, "rayproxy-upgrades")


@pytest.mark.fault(128)
def test_no_namespace_waits_for_all_that_another_one_has():
    evil = [write("evil", str(number)) for number in range(5 * MOST)]  # new ones, never spoken of before
    written = {"good/chat": 1.0, "calm/chat": 2.0}
    order = [each.path for each in in_turns([*evil, write("calm", "chat"), write("good", "chat")], written)]
    assert order[:4] == ["evil/0", "good/chat", "calm/chat", "evil/1"]


def test_of_many_namespaces_those_that_were_not_spoken_of_for_longest_come_first():
    of = [write(f"n{number}", "chat") for number in range(2 * MOST)]
    lately = {each.path: 7.0 for each in of[:MOST]}
    assert {each.path for each in in_turns(of, lately)[:MOST]} == {each.path for each in of[MOST:]}


@dataclass
class Clock:
    """Stand for the module `time`; `ahead` is what the wall clock shows besides."""

    now: float = 1_000.0
    ahead: float = 1_800_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + self.ahead


@dataclass
class Api:
    """An API server that answers each patch so, after so long."""

    clock: Clock
    status: int = 200
    seconds: float = 0.0
    asked: int = 0
    data: dict[str, str] = field(default_factory=dict)  # of the ConfigMap that replicas share
    shared: int = 0  # how often they wrote there

    def send(self, _method: str, path: str, body: dict[str, Any], *_how: object) -> dict[str, Any]:
        if "/configmaps/" in path:
            self.shared += 1
            self.data |= body["data"]
            return {}
        self.asked += 1
        self.clock.now += self.seconds
        if self.status >= 400:
            raise ApiError("status.conditions: Too many", self.status)
        return {}


@dataclass
class Around:
    """Gateways of the class that nobody owns, and no replica but this one."""

    count: int
    data: dict[str, str] = field(default_factory=dict)

    def known(self) -> Known:
        found = [
            read_gateway({"metadata": {"name": f"g{number}", "namespace": "n"}, "spec": SPEC})
            for number in range(self.count)
        ]
        return Known((), {each.key: each for each in found}, (), frozenset({"me"}), read_entries({"data": self.data}))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(speaker, "time", made)
    return made


def speaking(api: Api, around: Around, service: Key | None = None) -> Callable[[], int]:
    """Return a function that lets one who speaks take a turn, and says how much it wrote."""
    proofs = Proofs(lambda: None)
    proofs.done(Outcome((), (), "r", Changes(), reloaded=True), 0.0, None)
    scope = Scope("rayproxy", ("n",), "me", service)
    one = Speaker(cast("Any", api), scope, proofs, cast("Any", around), threading.Event())

    def turn() -> int:
        before = api.asked
        one._turn(api.clock.time())
        return api.asked - before

    return turn


@pytest.mark.fault(128)
@pytest.mark.parametrize(("status", "again"), [(422, 0), (403, 0), (500, 2)])
def test_what_is_refused_is_tried_again_after_a_while_and_what_failed_with_the_next_turn(
    clock: Clock, status: int, again: int
):
    turn = speaking(Api(clock, status), Around(2))
    assert turn() == 2
    clock.now += 1
    assert turn() == again
    clock.now += AGAIN
    assert turn() == 2


@pytest.mark.fault(128)
def test_a_turn_takes_no_longer_than_until_the_others_are_to_hear_of_this_replica(clock: Clock):
    turn = speaking(Api(clock, seconds=1.0), Around(MOST))
    assert turn() <= BEAT + 1


@pytest.mark.fault(169)
@pytest.mark.parametrize("leap", [-3600.0, 3600.0])
@pytest.mark.parametrize("status", [200, 422])
def test_a_wall_clock_that_is_set_changes_nothing_of_how_often_others_hear_and_gateways_are_spoken_of(
    clock: Clock, leap: float, status: int
):
    api = Api(clock, status)
    turn = speaking(api, Around(2, api.data), Key("sys", "rayproxy"))

    def minute() -> tuple[int, int]:
        """Return how often, in a minute, Gateways were spoken of and others heard of this replica."""
        before, spoken = api.shared, 0
        for _ in range(12):
            clock.now += BEAT
            spoken += turn()
        return spoken, api.shared - before

    minute()  # in its first turn nobody has heard of it
    steady = minute()
    clock.ahead += leap
    minute()  # its entry of before says nothing in the first turn
    assert minute() == steady
    assert steady == ((2 * 12, 12) if status == 200 else (2 * 4, 12))


@pytest.mark.fault(169)
def test_that_nobody_speaks_is_told_after_a_while_whatever_the_wall_clock_shows(clock: Clock):
    turn = speaking(Api(clock), Around(1), Key("sys", "rayproxy"))
    with capture_logs() as lines:
        turn()
        clock.ahead += 3600
        clock.now += 1
        turn()
        assert not lines
        clock.ahead -= 7200
        clock.now += SILENT
        turn()
    assert [line["event"][:12] for line in lines] == ["nobody speak"]
