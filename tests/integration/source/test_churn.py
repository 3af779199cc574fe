"""The daemon's memory follows what is there, and not what was there or how large it was."""

from __future__ import annotations

import pytest

from bench.churn import GROWTH, halves, of_large_objects, of_objects_that_come_and_go

pytestmark = pytest.mark.slow


@pytest.mark.fault(64)
def test_many_large_objects_take_no_more_memory_than_a_few():
    """`make churn` asks for 200 MiB with 1,000 of them."""
    assert of_large_objects(60) < of_large_objects(15) + 10


@pytest.mark.fault(73)
def test_memory_stays_flat_while_objects_with_ever_new_names_come_and_go():
    third, last = halves(of_objects_that_come_and_go(40, 32))
    assert last <= GROWTH * third
