"""What nginx -t is asked of a revision: all of it, or of a large one what nginx has not loaded yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rayproxy.model import Snapshot
from rayproxy.nginx.render import File, NginxConf, Routed, file, render_base
from rayproxy.nginx.revisions import Revision
from rayproxy.nginx.routes import ROUTES, entry
from rayproxy.reconcile.plan import plan
from rayproxy.reconcile.reconciler import LARGE, Current, Desired, _suspects
from rayproxy.settings import NginxSettings
from tests.support.manifests import route
from tests.support.routes import CONF

FILES = render_base([], [], CONF)
MANY = {f"ray-s{number}.conf": file(str(number)) for number in range(LARGE)}
NEW = {"ray-new.conf": file("new")}


def desired(routes: dict[str, File], conf: NginxConf = CONF, *, independent: bool = True) -> Desired:
    found = {name: Routed(route(name), one, entry(route(name))) for name, one in routes.items()}
    return Desired(Snapshot(), (), found, conf, (), independent)


def suspects(live: dict, wanted: dict, conf: NginxConf = CONF, *, independent: bool = True, whole: bool = True):
    """Return the files of routes and of the base that are tested, or None for all."""
    before, after = desired(live), desired(wanted, conf, independent=independent)
    current = Current(Revision("r", Path("r"), before.sums, whole), {})
    found = _suspects(after, current, plan(before.sums, after.sums))
    return found and {name: one for name, one in found.items() if name != ROUTES}


def test_of_a_large_revision_the_changed_routes_are_tested_with_the_base():
    assert suspects(MANY, MANY | NEW) == FILES | NEW


def test_a_small_revision_is_tested_whole():
    assert suspects({}, NEW) is None


def test_with_a_template_of_the_operators_all_is_tested_for_files_may_collide():
    assert suspects(MANY, MANY | NEW, independent=False) is None


def test_when_the_base_changes_all_is_tested():
    assert suspects(MANY, MANY | NEW, replace(CONF, settings=NginxSettings(workers=7))) is None


def test_when_the_live_revision_is_damaged_or_missing_all_is_tested():
    assert suspects(MANY, MANY | NEW, whole=False) is None
    assert _suspects(desired(MANY), Current(None, {}), plan({}, {})) is None
