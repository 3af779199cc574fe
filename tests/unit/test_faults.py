"""docs/faults.md lists what the tests' marks number, and nothing else."""

from __future__ import annotations

from tests.support import faults


def test_every_mark_is_a_fault_of_the_list_and_every_fault_has_a_test():
    assert faults.marked().keys() == faults.listed().keys()


def test_no_number_stands_for_two_faults():
    numbers = [number for part in faults._parts() for number, *_ in part["faults"]]
    assert numbers == sorted(set(numbers))


def test_the_page_is_what_the_marks_say():
    assert faults.PATH.read_text(encoding="utf-8") == faults.filled(), "make golden writes it anew"
