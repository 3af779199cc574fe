"""Whose a name is, where objects of several namespaces want it."""

from __future__ import annotations

import time
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayproxy.kinds import settle
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.claims import MAX_CLAIMS, Claim, Held, bounded
from rayproxy.kinds.grants import Grant, Grants, pattern
from rayproxy.kinds.names import Settled, holders
from rayproxy.kinds.rayservice import RAYSERVICES
from rayproxy.model import Decision, Pending, Rejection, Route
from tests.support.deciding import EVERYTHING
from tests.support.examples import times
from tests.support.manifests import OLD, YOUNG, rayservice, service, snapshot

CHAT = ("rayservice", "chat")
NOBODY = Held()
KEEP = 600
Obj = dict[str, Any]


def looked(*objects: Obj, held: Held = NOBODY, unknown: bool = False, grants: Grants = EVERYTHING) -> Settled:
    """Return what a look at these objects settles."""
    found = snapshot(*objects)
    if unknown:
        found = replace(found, unknown=frozenset([RAYSERVICES]))
    return settle(found, Policy(), held, grants)


def decided(*objects: Obj, **more: Any) -> dict[str, Decision]:
    """Return {namespace: decision}, where every object is called chat."""
    return {decision.ref.namespace: decision for decision in looked(*objects, **more).decisions}


class Time:
    """Look again and again as a daemon does: what is live and what is held come from the look before."""

    def __init__(self, keep: int = KEEP, most: int = 0) -> None:
        self.held = Held({}, {}, None, 1000, keep)
        self.most = most

    def look(self, *objects: Obj, after: int = 1, unknown: bool = False) -> dict[str, Decision]:
        decisions = self.look_at_all(*objects, after=after, unknown=unknown)
        return {decision.ref.namespace: decision for decision in decisions.values()}

    def look_at_all(self, *objects: Obj, after: int = 1, unknown: bool = False) -> dict[str, Decision]:
        """Return {namespace/name: decision}."""
        self.held = replace(self.held, now=self.held.now + after)
        settled = looked(*objects, held=self.held, unknown=unknown, grants=Grants(most=self.most))
        live = holders(decision for decision in settled.decisions if isinstance(decision, Route))
        if unknown:
            live = {**self.held.live, **live}
        self.held = replace(self.held, live=live, claims=settled.claims, there=settled.there)
        return {str(decision.ref): decision for decision in settled.decisions}

    def begin_anew(self) -> None:
        """Know what is written down alone, as a replica that has just started."""
        self.held = replace(self.held, live={}, there=None)


def routed(namespace: str, created: str = OLD) -> tuple[Obj, Obj]:
    ray = rayservice(namespace=namespace, creationTimestamp=created)
    return ray, service(ray)


def bare(namespace: str, created: str = OLD) -> Obj:
    """Return a RayService without a Service."""
    return rayservice(namespace=namespace, creationTimestamp=created)


def reason(decision: Decision) -> str:
    assert isinstance(decision, Rejection), decision
    return decision.reason


@pytest.mark.fault(80)
def test_what_has_no_backend_takes_no_name_from_what_has_one_however_old_it_is():
    found = decided(bare("evil", OLD), *routed("good", YOUNG))
    assert isinstance(found["good"], Route)
    assert reason(found["evil"]) == "NameConflict"


@pytest.mark.fault(80)
@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"type": "ExternalName"}, {"ports": []}])
def test_what_is_rejected_for_itself_takes_no_name_and_is_told_its_own_fault(spec: Obj):
    evil = bare("evil", OLD)
    found = decided(evil, service(evil, **spec), *routed("good", YOUNG))
    assert isinstance(found["good"], Route)
    assert reason(found["evil"]) != "NameConflict"
    assert isinstance(decided(evil, service(evil, **spec), bare("good", YOUNG))["good"], Pending)


@pytest.mark.fault(80)
def test_a_live_route_keeps_its_name_when_an_older_object_turns_up_with_a_backend():
    older, live = routed("evil", OLD), routed("good", YOUNG)
    assert isinstance(decided(*older, *live)["evil"], Route), "by their age alone"
    found = decided(*older, *live, held=Held({CHAT: "good"}))
    assert isinstance(found["good"], Route)
    assert reason(found["evil"]) == "NameConflict"


@pytest.mark.fault(80)
def test_who_has_a_name_keeps_it_while_its_backend_is_away():
    found = decided(bare("good", YOUNG), *routed("evil", OLD), held=Held({CHAT: "good"}))
    assert isinstance(found["good"], Pending)
    assert reason(found["evil"]) == "NameConflict"


@pytest.mark.fault(80)
def test_while_its_object_may_be_there_unseen_a_held_name_is_nobody_elses():
    held = Held({CHAT: "good"})
    assert reason(decided(*routed("evil"), held=held, unknown=True)["evil"]) == "NameConflict"
    assert isinstance(decided(*routed("evil"), held=held)["evil"], Route)


@pytest.mark.fault(83)
def test_what_a_tenant_is_told_of_a_taken_name_names_no_other_namespace():
    found = decided(*routed("good"), *routed("evil", YOUNG), bare("third", YOUNG))
    for namespace in ("evil", "third"):
        rejection = found[namespace]
        assert isinstance(rejection, Rejection)
        assert rejection.message == (
            "the name chat belongs to another namespace's RayService, which had it first: rename this one"
        )


@pytest.mark.fault(81)
def test_the_name_of_a_deleted_object_is_kept_for_its_namespace_and_then_free():
    time = Time()
    time.look(*routed("good"), *routed("evil", YOUNG))
    for after in (1, KEEP - 1):
        rejection = time.look(*routed("evil", YOUNG), after=after)["evil"]
        assert reason(rejection) == "NameHeld"
        assert isinstance(rejection, Rejection)
        assert "good" not in rejection.message
    assert isinstance(time.look(*routed("evil", YOUNG), after=1)["evil"], Route)
    assert time.held.claims == {}


@pytest.mark.fault(81)
def test_a_deleted_object_that_is_made_again_has_its_name_back_although_a_namesake_is_older_now():
    time, evil = Time(), routed("evil", OLD)
    time.look(*routed("good"))
    assert reason(time.look(*evil)["evil"]) == "NameHeld"
    assert isinstance(time.look(*evil, bare("good", YOUNG))["good"], Pending)
    long = time.look(*evil, bare("good", YOUNG), after=10 * KEEP)
    assert isinstance(long["good"], Pending), "however long its model takes to load"
    found = time.look(*evil, *routed("good", YOUNG))
    assert isinstance(found["good"], Route)
    assert reason(found["evil"]) == "NameConflict"
    assert reason(time.look(*evil)["evil"]) == "NameHeld", "and the time begins anew"


@pytest.mark.fault(81)
def test_without_a_time_to_keep_names_for_a_namesake_has_the_name_at_once():
    time = Time(keep=0)
    time.look(*routed("good"), *routed("evil", YOUNG))
    assert isinstance(time.look(*routed("evil", YOUNG))["evil"], Route)


@pytest.mark.fault(81)
def test_who_had_the_name_keeps_it_through_any_time_without_a_backend():
    time, evil = Time(), routed("evil", OLD)
    time.look(*routed("good", YOUNG))
    for after in (1, 10 * KEEP):
        found = time.look(bare("good", YOUNG), *evil, after=after)
        assert isinstance(found["good"], Pending)
        assert reason(found["evil"]) == "NameConflict"


@pytest.mark.fault(81)
def test_no_time_runs_while_the_object_may_be_there_and_is_not_seen():
    time, evil = Time(), routed("evil", YOUNG)
    time.look(*routed("good"))
    for _ in range(3):
        assert reason(time.look(*evil, after=KEEP, unknown=True)["evil"]) == "NameConflict"
    assert time.held.claims == {}, "what is live is on disk"
    assert reason(time.look(*evil)["evil"]) == "NameHeld"
    assert reason(time.look(*evil, after=KEEP, unknown=True)["evil"]) == "NameHeld"


@pytest.mark.fault(82)
def test_of_a_name_that_the_oldest_serves_nothing_needs_to_be_kept():
    time = Time()
    time.look(*routed("good"), *routed("evil", YOUNG), bare("third"))
    time.look(*routed("good"), *routed("evil", YOUNG), bare("third"))
    assert time.held.claims == {}


@pytest.mark.fault(82)
def test_a_replica_that_does_not_see_an_object_at_all_takes_its_claim_away_once_and_no_more():
    blind = Held({}, {CHAT: Claim("good")}, None, 1000, KEEP)
    first = looked(held=blind)
    assert first.claims == {CHAT: Claim("good", 1000)}
    corrected = replace(blind, there=first.there)
    assert looked(held=corrected).claims == {CHAT: Claim("good")}, "another replica sees it"


def test_a_claim_of_a_kind_that_this_build_does_not_know_is_left_alone():
    other = {("otherkind", "chat"): Claim("team", 1)}
    assert looked(held=Held({}, other, None, 10**9, KEEP)).claims == other


@pytest.mark.fault(84)
def test_of_too_many_claims_the_oldest_go_of_the_namespace_that_has_most():
    victim = {("rayservice", "victim"): Claim("good", 1)}
    many = {("rayservice", f"n{number}"): Claim("evil", 1000 + number) for number in range(MAX_CLAIMS)}
    left = bounded({**many, **victim})
    assert len(left) == MAX_CLAIMS
    assert ("rayservice", "victim") in left
    assert ("rayservice", "n0") not in left


TEAMS = Grants(pattern([Grant(("team-a", "team-b-*"), ("a-*", "chat")), Grant(("*",), ("test-*",))]))


@pytest.mark.fault(84)
@pytest.mark.parametrize(
    ("namespace", "name", "allowed"),
    [
        ("team-a", "chat", True), ("team-a", "a-7b", True), ("team-b-dev", "a-7b", True), ("evil", "test-1", True),
        ("evil", "chat", False), ("team-a", "b-7b", False), ("team-a-x", "chat", False), ("team-b", "chat", False),
        ("evil", "a-test-1", False), ("team-a", "chat-2", False), ("team-a/x", "chat", False),
    ],
)  # fmt: skip
def test_a_namespace_may_have_the_names_that_it_is_granted(namespace: str, name: str, allowed: bool):
    assert TEAMS.allow(namespace, name) is allowed
    assert EVERYTHING.allow(namespace, name)
    assert not Grants(pattern([])).allow(namespace, name), "an empty list grants nothing"


@pytest.mark.fault(84)
def test_a_name_that_is_not_granted_is_rejected_in_words_and_taken_from_nobody():
    found = decided(*routed("evil", OLD), *routed("team-a", YOUNG), grants=TEAMS)
    assert isinstance(found["team-a"], Route)
    evil = found["evil"]
    assert isinstance(evil, Rejection)
    assert evil.reason == "NameNotGranted"
    assert "team-a" not in evil.message


@pytest.mark.fault(84)
def test_a_grant_that_is_taken_back_takes_the_name_its_route_and_its_claim():
    for held in (Held({CHAT: "evil"}), Held({}, {CHAT: Claim("evil", 1)}, None, 2, KEEP)):
        settled = looked(*routed("evil", OLD), *routed("team-a", YOUNG), held=held, grants=TEAMS)
        assert settled.claims == {}
        assert [type(decision) for decision in settled.decisions] == [Rejection, Route]


def named(name: str, namespace: str, created: str) -> tuple[Obj, Obj]:
    ray = rayservice(name, namespace, creationTimestamp=created)
    return ray, service(ray)


@pytest.mark.fault(84)
def test_of_more_routes_than_a_namespace_may_have_the_youngest_are_rejected():
    objects = [
        *named("a", "evil", YOUNG),
        *named("b", "evil", OLD),
        *named("c", "evil", OLD),
        *named("d", "good", YOUNG),
    ]
    found = {decision.ref.name: decision for decision in looked(*objects, grants=Grants(most=2)).decisions}
    assert reason(found.pop("a")) == "TooManyRoutes"
    assert all(isinstance(decision, Route) for decision in found.values())


@pytest.mark.fault(84)
def test_what_is_one_too_many_takes_no_name_and_what_has_no_route_counts_for_none():
    objects = [*named("a", "evil", OLD), *named("b", "evil", YOUNG), *named("b", "good", YOUNG)]
    waiting = rayservice("c", "good", creationTimestamp=OLD)
    found = {str(each.ref): each for each in looked(*objects, waiting, grants=Grants(most=1)).decisions}
    assert reason(found["evil/b"]) == "TooManyRoutes"
    assert isinstance(found["good/b"], Route)
    assert isinstance(found["good/c"], Pending)


@pytest.mark.fault(140)
@pytest.mark.parametrize("anew", [False, True], ids=["one replica", "another replica after each look"])
def test_a_live_route_stays_when_an_older_object_of_its_namespace_would_be_one_too_many(anew: bool):
    time = Time(most=1)
    chat, rival = named("chat", "team-a", YOUNG), named("chat", "team-b", YOUNG)
    waiting, *there = named("x", "team-a", OLD)
    time.look_at_all(waiting, *chat, *rival)
    for _ in range(2):
        found = time.look_at_all(waiting, *there, *chat, *rival)
        assert isinstance(found["team-a/chat"], Route)
        assert reason(found["team-a/x"]) == "TooManyRoutes"
        assert reason(found["team-b/chat"]) == "NameConflict"
        if anew:
            time.begin_anew()
    found = time.look_at_all(*chat, *rival)
    assert isinstance(found["team-a/chat"], Route)
    assert time.held.claims == {}


@pytest.mark.fault(140)
def test_who_loses_its_route_to_a_lower_limit_keeps_its_name_and_has_its_route_back_with_a_higher_one():
    time = Time(most=2)
    world = [*named("a", "team-a", OLD), *named("b", "team-a", YOUNG), *named("b", "team-b", YOUNG)]
    assert isinstance(time.look_at_all(*world)["team-a/b"], Route)
    time.most = 1
    for _ in range(2):
        found = time.look_at_all(*world)
        assert isinstance(found["team-a/a"], Route)
        assert reason(found["team-a/b"]) == "TooManyRoutes"
        assert reason(found["team-b/b"]) == "NameConflict"
        time.begin_anew()
    time.most = 2
    older = named("c", "team-a", OLD)
    found = time.look_at_all(*world, *older)
    assert isinstance(found["team-a/b"], Route)
    assert reason(found["team-a/c"]) == "TooManyRoutes"


@pytest.mark.fault(140)
def test_a_namespace_that_wants_more_routes_than_it_may_have_takes_no_live_name_with_them():
    time = Time(most=1)
    rival = named("chat", "team-b", YOUNG)
    chat, *its_service = named("chat", "team-a", OLD)
    assert isinstance(time.look_at_all(chat, *rival)["team-b/chat"], Route)
    found = time.look_at_all(chat, *its_service, *named("y", "team-a", YOUNG), *rival)
    assert isinstance(found["team-b/chat"], Route)
    assert reason(found["team-a/chat"]) == "NameConflict"
    assert isinstance(found["team-a/y"], Route)


TWO_OF_EACH = [(namespace, name) for namespace in ("one", "two") for name in ("a", "b", "c")]
WORLDS = st.lists(
    st.fixed_dictionaries(dict.fromkeys(TWO_OF_EACH, st.sampled_from(["routed", "bare", "gone"]))),
    min_size=2,
    max_size=4,
)


@pytest.mark.fault(140)
@settings(max_examples=times(300))
@given(WORLDS, st.permutations(range(1, 7)), st.integers(1, 2))
def test_whatever_comes_and_goes_at_the_limit_a_name_stays_with_an_object_that_is_there(worlds, days, most):
    time, new = Time(most=most), Time(most=most)
    had: dict[str, str] = {}
    for world in worlds:
        found: list[Obj] = []
        for ((namespace, name), state), day in zip(world.items(), days, strict=True):
            ray, its = named(name, namespace, f"2026-01-0{day}T00:00:00Z")
            found += {"routed": [ray, its], "bare": [ray], "gone": []}[state]
        decisions = time.look_at_all(*found)
        routed = {each.ref.name: each.ref.namespace for each in decisions.values() if isinstance(each, Route)}
        had = {name: namespace for name, namespace in had.items() if world[namespace, name] != "gone"}
        assert {**had, **routed} == {**routed, **had}
        had |= routed
        new.held = replace(time.held, live={}, there=None)
        assert new.look_at_all(*found) == decisions, "a replica that has just started decides the same"


STATES = st.sampled_from(["routed", "bare", "headless"])
OBJECTS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.tuples(STATES, st.sampled_from([OLD, YOUNG])), min_size=1
)


def objects(wished: dict[str, tuple[str, str]]) -> list[Obj]:
    found: list[Obj] = []
    for namespace, (state, created) in wished.items():
        ray = bare(namespace, created)
        spec = {"clusterIP": "None"} if state == "headless" else {}
        found += [ray] if state == "bare" else [ray, service(ray, **spec)]
    return found


@pytest.mark.fault(80)
@given(OBJECTS, st.none() | st.sampled_from(["a", "b", "c", "d", "elsewhere"]))
def test_one_at_most_has_a_name_and_it_is_who_had_it_or_somebody_with_a_backend(wished, holder):
    held = Held({CHAT: holder}) if holder else NOBODY
    found = decided(*objects(wished), held=held)
    having = [namespace for namespace, decision in found.items() if not isinstance(decision, Rejection)]
    assert len(having) <= 1
    if holder in wished:
        assert having in ([holder], []), "in the latter case it is rejected for itself"
    elif any(state == "routed" for state, _ in wished.values()):
        assert isinstance(found[having[0]], Route)


@pytest.mark.fault(127)
def test_a_pattern_of_many_stars_takes_no_longer_than_any_other():
    grants = Grants(pattern([Grant(("*",), ("*a" * 20 + "*b",))]))
    begun = time.monotonic()
    assert not grants.allow("team", "a" * 63)
    assert grants.allow("team", "a" * 62 + "b")
    assert time.monotonic() - begun < 1


@pytest.mark.fault(127)
@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", min_size=1, max_size=8))
def test_a_pattern_fits_what_a_shell_would_say_it_fits(text: str, name: str):
    assert Grants(pattern([Grant(("a*",), (text,))])).allow("ab", name) is fnmatchcase(name, text)
    assert Grants(pattern([Grant((text,), ("a*",))])).allow(name, "ab") is fnmatchcase(name, text)
