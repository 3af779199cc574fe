"""In which order Gateways are spoken of, and how often."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from rayproxy.gateway import speaker
from rayproxy.gateway.objects import read_gateway
from rayproxy.gateway.proofs import Proofs
from rayproxy.gateway.replicas import BEAT
from rayproxy.gateway.source import Known, Scope
from rayproxy.gateway.speaker import AGAIN, MOST, Speaker, Write, in_turns
from rayproxy.kube.api import ApiError
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
    """Stand for the module `time`."""

    now: float = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@dataclass
class Api:
    """An API server that answers each patch so, after so long."""

    clock: Clock
    status: int = 200
    seconds: float = 0.0
    asked: int = 0

    def send(self, *_patch: object) -> dict[str, Any]:
        self.asked += 1
        self.clock.now += self.seconds
        if self.status >= 400:
            raise ApiError("status.conditions: Too many", self.status)
        return {}


@dataclass
class Around:
    """Gateways of the class that nobody owns, and no replica but this one."""

    count: int

    def known(self) -> Known:
        found = [
            read_gateway({"metadata": {"name": f"g{number}", "namespace": "n"}, "spec": SPEC})
            for number in range(self.count)
        ]
        return Known((), {each.key: each for each in found}, (), frozenset({"me"}), {})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(speaker, "time", made)
    return made


def speaking(api: Api, around: Around) -> Callable[[], int]:
    """Return a function that lets one who speaks take a turn, and says how much it wrote."""
    proofs = Proofs(lambda: None)
    proofs.done(Outcome((), (), "r", Changes(), reloaded=True), 0.0, None)
    scope = Scope("rayproxy", ("n",), "me", None)
    one = Speaker(cast("Any", api), scope, proofs, cast("Any", around), threading.Event())

    def turn() -> int:
        before = api.asked
        one._turn(api.clock.now)
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
