"""The reasons for every known difference, and the documentation that is made from them."""

from __future__ import annotations

from tests.differential import golden, reasons


def test_every_difference_in_the_golden_files_has_a_reason():
    assert reasons.missing(golden.known_kinds()) == set()


def test_no_reason_is_left_of_a_difference_that_is_gone():
    assert reasons.unused(golden.known_kinds()) == []


def test_what_the_regex_template_leaves_undone_is_what_the_documentation_says():
    assert reasons.omitted(golden.known_kinds()) == reasons.table()["omitted"].keys()


def test_a_reason_is_a_section_of_an_rfc_or_a_limit_of_nginx_or_a_decision():
    kinds = {kind: why for section in reasons.table().values() for kind, why in section.items()}
    assert {kind: why for kind, why in kinds.items() if not reasons.PROPER.match(why)} == {}


def test_nothing_that_is_not_understood_has_a_reason():
    assert [kind for section in reasons.table().values() for kind in section if "unexplained" in kind] == []


def test_the_documented_table_is_made_from_the_reasons():
    assert reasons.DOCS.read_text(encoding="utf-8") == reasons.filled()
