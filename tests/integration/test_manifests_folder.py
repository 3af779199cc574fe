"""A folder of manifests as people keep them, with a real daemon: sub-folders, exports, and what `check` says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rayproxy.nginx.templates import load_location
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, rayservice, service
from tests.support.waiting import until


@pytest.fixture
def chat(manifests: Manifests) -> list[dict]:
    """Return a RayService as it stands in git, and its Service as it was exported."""
    ray = rayservice("chat")
    exported = service(ray, ports=[{"name": "serve", "port": manifests.port}])
    for left_out in ("uid", "creationTimestamp"):
        del ray["metadata"][left_out]
    return [ray, exported]


def test_what_comes_into_a_sub_folder_that_was_not_there_at_the_start_is_routed(
    daemon: Daemon, manifests: Manifests, chat: list[dict]
):
    manifests.write("other", rayservice("other"))
    daemon.start()
    team = manifests.folder / "team" / "a"
    team.mkdir(parents=True)
    (team / "list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": chat}))
    daemon.until_state("chat", "accepted")
    assert daemon.answers_from("chat", "upstream")
    (team / "list.json").unlink()
    daemon.until_gone("chat")


def test_a_folder_that_a_link_leads_to_is_watched_as_well_and_circles_end(
    daemon: Daemon, manifests: Manifests, chat: list[dict], folder: Path
):
    for place in ("old", "new"):
        (folder / place / "team").mkdir(parents=True)
    (manifests.folder / "linked").symlink_to(folder / "old")
    for circle in ("up", "again"):
        (folder / "old" / circle).symlink_to(manifests.folder)
    manifests.write("other", rayservice("other"))
    daemon.start()
    (folder / "old/team/list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": chat}))
    daemon.until_state("chat", "accepted")
    (manifests.folder / ".next").symlink_to(folder / "new")
    (manifests.folder / ".next").rename(manifests.folder / "linked")
    daemon.until_gone("chat")
    (folder / "new/list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": chat}))
    daemon.until_state("chat", "accepted")


def test_a_file_that_breaks_costs_no_route_and_holds_none_up(daemon: Daemon, manifests: Manifests, chat: list[dict]):
    broken = manifests.write("chat", *chat)
    daemon.start()
    daemon.until_state("chat", "accepted")
    broken.write_text("kind: List\nitems: 5\n")
    (manifests.folder / "tag.yaml").write_text("a: !!int ''\n")
    manifests.routed("new")
    daemon.until_state("new", "accepted")
    assert daemon.answers_from("new", "upstream")
    assert daemon.answers_from("chat", "upstream"), "its file keeps what it last held"
    assert daemon.metric("rayproxy_source_problems") == 2


def test_a_folder_that_is_not_there_is_warned_of_and_its_routes_come_with_it(
    daemon: Daemon, manifests: Manifests, chat: list[dict], tmp_path: Path
):
    away = tmp_path / "away"
    manifests.folder.rename(away)
    daemon.start(ready=False)
    said = f"the manifests folder {manifests.folder} cannot be read: No such file or directory"
    until("it is told", lambda: any(said in line for line in daemon.told().splitlines() if '"warning"' in line))
    away.rename(manifests.folder)
    manifests.write("chat", *chat)
    daemon.until_state("chat", "accepted")


LIMITED = 'echo 0 > /proc/sys/user/max_inotify_{} && exec "$0" "$@"'  # of the command's own namespace
OF_ITS_OWN = ("unshare", "-U", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c")
can_limit = subprocess.run([*OF_ITS_OWN, LIMITED.format("instances"), "true"], check=False, capture_output=True)


@pytest.mark.fault(134)
@pytest.mark.skipif(can_limit.returncode != 0, reason="needs user namespaces: allow `unshare -U`")
@pytest.mark.parametrize("limit", ["instances", "watches"])
def test_on_a_node_at_its_inotify_limit_changes_are_seen_at_the_next_resync_and_it_is_told_once(
    new_daemon: Callable[..., Daemon], manifests: Manifests, folder: Path, limit: str
):
    template = folder / "template" / "location.conf"  # another folder to watch
    template.parent.mkdir()
    template.write_text(load_location("prefix").text)
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", RESYNC="1", TEMPLATE=str(template))
    daemon.before = (*OF_ITS_OWN, LIMITED.format(limit))
    daemon.start()
    manifests.routed("later")
    daemon.until_state("later", "accepted")
    said = [line for line in daemon.told().splitlines() if f"fs.inotify.max_user_{limit}" in line]
    assert len(said) == 1, said
    assert '"warning"' in said[0]


def test_check_says_what_a_folder_holds_and_what_is_wrong_with_it(
    daemon: Daemon, manifests: Manifests, chat: list[dict]
):
    manifests.write("chat", *chat, rayservice("other", labels={"app": "x"}))
    done = rayproxy(daemon, "check")
    said = "1 RayServices (and 1 that the selector or the namespaces leave out) and 1 Services"
    assert (done.returncode, f"manifests folder {manifests.folder} holds {said} " in done.stdout) == (0, True)
    (manifests.folder / "sub").mkdir()
    (manifests.folder / "sub/bad.yaml").write_text("a: 1\n<<: {b: c}\n")
    done = rayproxy(daemon, "check")
    assert done.returncode == 1
    assert "sub/bad.yaml is not read: line 2, column 1: merge keys (<<) are not read" in done.stdout
