"""Every rule of the choice of a backend: objects in, the whole configuration out. `make golden` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import routes


@pytest.mark.parametrize("case", routes.CASES, ids=lambda case: case.name.removesuffix(".in.yaml"))
def test_a_case_has_its_configuration(case: Path):
    assert routes.out(case).read_text(encoding="utf-8") == routes.configuration(case)


def test_what_every_revision_has_changes_with_the_settings_alone():
    assert (routes.FOLDER / "base.out.conf").read_text(encoding="utf-8") == routes.base()


def test_there_is_no_golden_file_without_a_case():
    there = set(routes.FOLDER.glob("*.out.conf"))
    assert there == {*map(routes.out, routes.CASES), routes.FOLDER / "base.out.conf"}
