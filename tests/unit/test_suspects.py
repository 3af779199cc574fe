"""What nginx -t is asked of a revision: all of it, or of a large one what nginx has not loaded yet."""

from __future__ import annotations

from pathlib import Path

from rayproxy.plan import plan
from rayproxy.reconciler import LARGE, Desired, _digests, _suspects
from rayproxy.render import file
from rayproxy.revisions import Revision

BASE = {"nginx.conf": file("n"), "unrouted.conf": file("u")}
MANY = BASE | {f"ray-s{number}.conf": file(str(number)) for number in range(LARGE)}
NEW = {"ray-new.conf": file("new")}


def suspects(live: dict, wanted: dict, *, independent: bool = True, whole: bool = True):
    current = Revision("r", Path("r"), {name: one.digest for name, one in live.items()}, whole)
    desired = Desired((), wanted, {}, (), independent)
    return _suspects(desired, current, plan(current.sums, _digests(desired)))


def test_of_a_large_revision_the_changed_routes_are_tested_with_the_base():
    assert suspects(MANY, MANY | NEW) == BASE | NEW


def test_a_small_revision_is_tested_whole():
    assert suspects(BASE, BASE | NEW) is None


def test_with_a_template_of_the_operators_all_is_tested_for_files_may_collide():
    assert suspects(MANY, MANY | NEW, independent=False) is None


def test_when_the_base_changes_all_is_tested():
    assert suspects(MANY, MANY | {"nginx.conf": file("other")}) is None


def test_when_the_live_revision_is_damaged_or_missing_all_is_tested():
    assert suspects(MANY, MANY | NEW, whole=False) is None
    assert _suspects(Desired((), MANY, {}, (), independent=True), None, plan({}, {})) is None
