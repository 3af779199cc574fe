"""What differs, and when a difference is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayproxy.reconcile.debounce import BURST, DEBOUNCE, DRAINING, MAX_DELAY, REFILL, Pace
from rayproxy.reconcile.plan import Changes, plan, vanishes_at_once

FILES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"))


@pytest.mark.parametrize(
    ("current", "desired", "changes"),
    [
        ({}, {}, Changes()),
        ({"a": "1"}, {"a": "1"}, Changes()),
        ({}, {"b": "1", "a": "1"}, Changes(create=("a", "b"))),
        ({"a": "1"}, {"a": "2"}, Changes(update=("a",))),
        ({"a": "1"}, {}, Changes(delete=("a",))),
    ],
)
def test_the_plan_is_the_difference(current, desired, changes):
    assert plan(current, desired) == changes
    assert bool(changes) == (current != desired)


@given(FILES, FILES)
def test_a_plan_that_is_followed_leads_from_current_to_desired(current, desired):
    changes = plan(current, desired)
    result = {name: digest for name, digest in current.items() if name not in changes.delete}
    result |= {name: desired[name] for name in changes.create + changes.update}
    assert result == desired
    assert sorted(changes.names) == sorted(set(changes.names))


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    ("routes", "gone", "brake"),
    [(20, 20, True), (20, 11, True), (20, 10, False), (3, 3, False), (4, 4, True), (0, 0, False)],
)
def test_more_than_half_of_the_routes_and_more_than_three_is_too_much_at_once(routes, gone, brake):
    current = {f"ray-m{number}.conf": "1" for number in range(routes)} | {"nginx.conf": "1"}
    desired = dict(list(current.items())[gone:])
    assert vanishes_at_once(current, plan(current, desired)) is brake


def test_the_first_change_after_calm_goes_at_once():
    pace = Pace()
    assert pace.due(0.0, crowded=False) is None
    pace.changed(10.0)
    assert pace.due(10.0, crowded=False) == 10.0


def test_changes_soon_after_a_reload_wait_for_quiet_and_never_longer_than_the_most():
    pace = Pace()
    pace.reloaded(10.0)
    pace.changed(10.5)
    assert pace.due(10.5, crowded=False) == 10.5 + DEBOUNCE
    for tenths in range(106, 140):
        pace.changed(tenths / 10)
    assert pace.due(13.9, crowded=False) == 10.5 + MAX_DELAY


def test_taking_the_changes_tells_when_the_first_came():
    pace = Pace()
    pace.changed(1.0)
    pace.changed(2.0)
    assert pace.take() == 1.0
    assert pace.take() is None
    assert pace.due(3.0, crowded=False) is None


@pytest.mark.fault(42)
def test_while_many_workers_drain_reloads_are_far_apart():
    pace = Pace()
    pace.reloaded(100.0)
    pace.changed(110.0)
    assert pace.due(110.0, crowded=True) == 100.0 + DRAINING
    assert pace.due(110.0, crowded=False) == 110.0


def reloads_of(changes: list[float], end: float) -> list[float]:
    """Return when reloads happen, each taking no time, with a loop that looks every 10 ms."""
    pace, reloads, waiting = Pace(), [], sorted(changes)
    for tick in range(int(end * 100)):
        now = tick / 100
        while waiting and waiting[0] <= now:
            pace.changed(waiting.pop(0))
        due = pace.due(now, crowded=False)
        if due is not None and now >= due:
            pace.take()
            pace.reloaded(now)
            reloads.append(now)
    return reloads


@pytest.mark.fault(56)
def test_ten_thousand_changes_in_a_minute_make_at_most_twenty_reloads_and_the_last_one_is_taken():
    reloads = reloads_of([number * 60 / 10_000 for number in range(10_000)], 75.0)
    assert len([moment for moment in reloads if moment <= 60.0]) <= 20
    assert reloads[-1] >= 59.9


@pytest.mark.fault(61)
@given(st.lists(st.floats(0, 30), min_size=1, max_size=40))
def test_every_change_is_followed_by_a_reload_and_their_rate_is_bounded(changes):
    reloads = reloads_of(changes, 60.0)
    assert reloads[-1] >= max(changes)
    for start in reloads:
        window = [moment for moment in reloads if start <= moment < start + 20.0]
        assert len(window) <= BURST + 20.0 / REFILL + 1
