"""Whose reloads filled the room for workers that drain."""

from __future__ import annotations

import pytest

from rayproxy.reconcile.room import Room

HORIZON = 2100
EACH = 6  # reloads that fill a quarter of the room


def caused(**times: int) -> Room:
    """Return what is known after so many reloads for each namespace's changes, one a second."""
    room = Room(48, 2, HORIZON)
    for namespace, count in times.items():
        for number in range(count):
            room.took({namespace}, float(number))
    return room


def waiting(room: Room, there: set[str], now: float = 60.0, draining: int = 40) -> set[str]:
    """Return the namespaces that get no reload for themselves."""
    return {namespace for namespace in there if room.lacks(draining, {namespace}, there, now)}


@pytest.mark.fault(115)
@pytest.mark.parametrize(
    ("times", "waits"),
    [
        ({"evil": 18}, {"evil"}),
        ({"evil": 18, "good": 5}, {"evil"}),
        ({"evil": 9, "its-friend": 9, "good": 6}, {"evil", "its-friend"}),
        ({"evil": EACH}, set()),
    ],
)
def test_who_caused_more_reloads_than_others_and_than_any_may_waits_for_room(times: dict[str, int], waits: set[str]):
    room = caused(**times)
    assert waiting(room, {"evil", "its-friend", "good", "calm"}) == waits
    assert waiting(room, {"evil", "its-friend", "good", "calm"}, draining=36) == set(), "there is room"


@pytest.mark.fault(115)
def test_what_waits_goes_with_a_change_of_another_namespace_or_of_none():
    room = caused(evil=18)
    for wishes in ({"evil", "good"}, set[str]()):
        assert not room.lacks(40, wishes, {"evil", "good"}, 60.0)


@pytest.mark.fault(129)
def test_the_last_reload_that_there_is_room_for_is_for_who_caused_fewer_however_many_share_the_rest():
    evil = {"a", "b", "c", "d"}
    room = caused(good=1, **dict.fromkeys(evil, 6))
    assert waiting(room, {*evil, "good", "calm"}, draining=45) == set()
    assert waiting(room, {*evil, "good", "calm"}, draining=46) == evil
    assert not room.lacks(46, {"a", "calm"}, {*evil, "calm"}, 60.0), "it goes with a change of another"


@pytest.mark.fault(129)
@pytest.mark.parametrize("together", [True, False])
def test_where_all_caused_as_many_reloads_the_last_one_is_for_any(together: bool):
    names = {"a", "b", "c"}
    room = Room(48, 2, HORIZON)
    for number in range(8):
        for wishes in [names] * 3 if together else ({name} for name in names):
            room.took(wishes, float(number))
    assert waiting(room, names, draining=46) == set()


@pytest.mark.fault(71)
def test_where_as_many_drain_as_may_all_wait():
    assert waiting(caused(evil=18), {"evil", "good"}, draining=48) == {"evil", "good"}


def test_where_there_is_one_namespace_nobody_has_to_wait_for_another():
    assert waiting(caused(only=23), {"only"}) == set()


def test_of_a_reload_for_several_each_caused_a_part():
    room = Room(48, 2, HORIZON)
    for number in range(18):
        room.took({"a", "b", "c"}, float(number))
    assert waiting(room, {"a", "b", "c", "d"}) == set()


def test_what_was_longer_ago_than_a_worker_may_drain_is_forgotten():
    room = caused(evil=18)
    assert waiting(room, {"evil", "good"}, HORIZON - 1) == {"evil"}
    assert waiting(room, {"evil", "good"}, HORIZON + 18) == set()
    assert not room._lately


def test_what_is_known_of_reloads_does_not_grow_while_there_is_room_all_the_time():
    room = Room(48, 2, HORIZON)
    for number in range(2 * HORIZON):
        assert not room.lacks(0, {"good"}, {"good"}, float(number))
        room.took({"good"}, float(number))
    assert len(room._lately) == HORIZON
