"""Every rule of the choice of a backend: objects in, the whole configuration out. `make golden` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import routes, tables

ROWS = routes.rows()
# How a golden file says what a table says with these words.
SAID = {
    "a route": "routed to ", "pending": "pending: ", "refused": "refused: ", "suspended": "suspended: ",
    "rejected": "rejection: ",
}  # fmt: skip
by_name = pytest.mark.parametrize("case", routes.CASES, ids=lambda case: case.name.removesuffix(".in.yaml"))


@by_name
def test_a_case_has_its_configuration(case: Path):
    assert routes.out(case).read_text(encoding="utf-8") == routes.configuration(case)


def test_what_every_revision_has_changes_with_the_settings_alone():
    assert (routes.FOLDER / "base.out.conf").read_text(encoding="utf-8") == routes.base()


def test_there_is_no_golden_file_without_a_case():
    there = set(routes.FOLDER.glob("*.out.conf"))
    assert there == {*map(routes.out, routes.CASES), routes.FOLDER / "base.out.conf"}


def test_each_row_of_a_kinds_table_of_decisions_has_a_case():
    assert ROWS.keys() == {row for case in routes.CASES for row in tables.shown(case)}


@by_name
def test_a_case_ends_as_the_rows_of_the_table_say_that_it_shows(case: Path):
    shown, decided = tables.shown(case), routes.decided(case)
    assert shown, "it shows no row: add `shows: [KIND/ROW]` to its first document"
    for row in shown:
        if ROWS[row].startswith("nothing"):
            assert not decided
        elif not ROWS[row].startswith("as its own"):  # whatever that is
            assert any(each.startswith(_said(ROWS[row])) for each in decided), (ROWS[row], decided)


def _said(becomes: str) -> str:
    """Return how a golden file says what becomes of an object, its reason included where the table has one."""
    reason = re.match(r"\w+: (\w+)", becomes)
    return next(said for word, said in SAID.items() if becomes.startswith(word)) + (f"{reason[1]}: " if reason else "")
