"""What replicas know of each other, and when one of them holds the others' words back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.gateway import proofs, replicas
from rayproxy.gateway.proofs import GRACE, Proofs
from rayproxy.gateway.replicas import (
    BEAT,
    FORGOTTEN,
    OLD,
    Entry,
    forgotten,
    lacking,
    read_entries,
    read_ready,
    speaker,
)
from rayproxy.model import Ref, Route, Target
from rayproxy.reconcile.plan import Changes
from rayproxy.reconcile.reconciler import Outcome

NOW = 1_800_000_000
OWNER = {"apiVersion": "v1", "kind": "Service", "name": "rayproxy", "uid": "u", "controller": True}
SLICE: dict[str, Any] = {
    "metadata": {
        "name": "rayproxy-x",
        "labels": {"kubernetes.io/service-name": "rayproxy"},
        "ownerReferences": [OWNER],
    },
    "endpoints": [
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "a"}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": False}, "targetRef": {"kind": "Pod", "name": "b"}},
        {"addresses": ["10.0.0.3"]},
    ],
}


def route(*hosts: str, weight: int = 100, uid: str = "u") -> Route:
    targets = tuple(Target(host, 8000, weight=weight) for host in hosts)
    return Route(Ref("rayservice", "default", "chat"), uid, "/apis/rayservice/chat", targets)


def entry(*tokens: str, age: float = 0) -> Entry:
    return Entry(int(NOW - age), frozenset(tokens))


@pytest.mark.fault(121)
@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"a": entry("t"), "b": entry("t", "u")}, ""),
        ({"a": entry("t"), "b": entry("u")}, "the replica b of the proxy has not proven"),
        ({"a": entry("t")}, "the replica b of the proxy is ready and has not said yet"),
        ({"a": entry("t"), "b": entry("t", age=OLD + 1)}, "b of the proxy is ready and has not been heard of since"),
        ({"a": entry("t"), "b": entry("t", age=-OLD - 1)}, "b of the proxy is ready and has not been heard of since"),
        ({"a": entry("t"), "b": entry("t"), "c": entry(age=OLD + 1)}, ""),
    ],
    ids=["both", "leads elsewhere", "starts", "is silent", "has another clock", "gone"],
)
def test_each_ready_replica_must_have_proven_a_route_lately(entries: dict[str, Entry], words: str):
    said = lacking("t", {"a", "b"}, entries, NOW)
    assert words in said
    assert bool(words) == bool(said)


def test_the_first_ready_replica_that_is_heard_of_speaks():
    assert speaker({"a", "b"}, {"a": entry(), "b": entry()}, NOW) == "a"
    assert speaker({"a", "b"}, {"a": entry(age=OLD + 1), "b": entry()}, NOW) == "b"
    assert speaker({"b"}, {"a": entry(), "b": entry()}, NOW) == "b"
    assert speaker({"a"}, {}, NOW) == ""


def test_a_replica_is_heard_of_several_times_before_its_word_is_old():
    assert 3 * BEAT < OLD


def test_what_one_that_is_gone_for_long_said_is_forgotten():
    entries = {"a": entry(age=FORGOTTEN + 1), "b": entry(age=FORGOTTEN + 1), "c": entry(age=OLD + 1)}
    assert forgotten({"a"}, entries, NOW) == ["b"]


@pytest.mark.fault(121)
def test_a_proof_is_of_where_a_route_leads_whatever_the_weights_and_the_order():
    both = replicas.token(route("10.0.0.1", "10.0.0.2"))
    assert both == replicas.token(route("10.0.0.2", "10.0.0.1", weight=50))
    others = [route("10.0.0.1"), route("10.0.0.1", "10.0.0.3"), route("10.0.0.1", "10.0.0.2", uid="v")]
    assert both not in map(replicas.token, others)


def test_an_entry_is_read_as_it_was_written():
    assert read_entries({"data": {"a": replicas.write(["u", "t"], NOW)}}) == {"a": entry("t", "u")}


@pytest.mark.fault(121)
@given(st.text() | st.sampled_from(['{"at": 1}', '{"at": "2026-01-01T00:00:00Z"}', "[]", "null", "[" * 9999]))
def test_what_is_no_entry_says_nothing(text: str):
    assert read_entries({"data": {"a": text}}) == {}


@pytest.mark.fault(121)
@pytest.mark.parametrize("at", ["2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-06-30T23:59:60Z"])
def test_an_entry_of_a_time_that_no_calendar_has_says_nothing_and_takes_no_other_with_it(at: str):
    data = {"a": json.dumps({"at": at, "proven": ["t"]}), "b": replicas.write(["u"], NOW)}
    assert read_entries({"data": data}) == {"b": entry("u")}


@pytest.mark.fault(121)
def test_the_ready_replicas_are_those_of_a_slice_that_the_service_controls():
    assert read_ready(SLICE) == {"a"}
    forged = {**SLICE, "metadata": {**SLICE["metadata"], "ownerReferences": [{**OWNER, "controller": False}]}}
    assert read_ready(forged) == set()


def outcome(*decisions: Route) -> Outcome:
    return Outcome(decisions, (), "r", Changes(), reloaded=True)


@dataclass
class Clock:
    """Stand for the module `time`."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(proofs, "time", made)
    return made


@pytest.mark.fault(121)
def test_what_was_proven_holds_until_cycles_have_failed_for_a_while(clock: Clock):
    told: list[None] = []
    known = Proofs(lambda: told.append(None))
    assert known.found is None
    known.done(outcome(route("10.0.0.1")), 0.0, None)
    assert (list(known.found or ()), known.hold, len(told)) == ([route().ref], True, 1)
    known.failed(OSError())
    clock.now = GRACE - 1
    known.failed(OSError())
    assert known.hold
    clock.now = GRACE
    assert not known.hold
    known.done(outcome(), 0.0, None)
    assert known.hold


@pytest.mark.fault(121)
def test_what_was_proven_holds_until_changes_have_waited_for_room_for_a_while(clock: Clock):
    known = Proofs(lambda: None)
    known.done(replace(outcome(), waits="as many workers drain as may"), 0.0, None)
    assert known.hold
    clock.now = GRACE
    known.done(replace(outcome(), waits="as many workers drain as may"), 0.0, None)
    assert not known.hold
    known.done(outcome(), 0.0, None)
    assert known.hold


@pytest.mark.fault(121)
def test_what_was_proven_holds_until_nginx_has_had_no_workers_for_a_while(clock: Clock):
    known = Proofs(lambda: None)
    known.done(outcome(), 0.0, None)
    known.nginx(0, 2)
    clock.now = GRACE
    assert not known.hold
    known.nginx(2, 0)
    assert known.hold
