"""A folder of manifests as people keep them, with a real daemon: sub-folders, exports, and what `check` says."""

from __future__ import annotations

import json
import shutil
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


def flip(link: Path, to: str) -> None:
    """Let a link lead elsewhere in one step, as git-sync does."""
    new = link.with_name(".new")
    new.symlink_to(to)
    new.rename(link)


def without_old(folder: Path, name: str) -> Path:
    """Return a copy of a folder, beside it, without the route `old`."""
    copy = folder.with_name(name)
    shutil.copytree(folder, copy)
    (copy / "default.old.yaml").unlink()
    return copy


def by_link(folder: Path) -> Callable[[], object]:
    """Put two links in the place of the folder; return what lets the second one lead elsewhere."""
    one = folder.rename(folder.with_name("one"))
    folder.with_name("current").symlink_to("one")
    folder.symlink_to("current")
    without_old(one, "two")
    return lambda: flip(folder.with_name("current"), "two")


def by_rename(folder: Path) -> Callable[[], object]:
    def replace() -> None:
        new = without_old(folder, "new")
        shutil.rmtree(folder.rename(folder.with_name("before")))
        new.rename(folder)

    return replace


def by_removal(folder: Path) -> Callable[[], object]:
    """Return what makes another folder where there was one: its inode may be the same."""

    def replace() -> None:
        new = without_old(folder, "new")
        shutil.rmtree(folder)
        folder.mkdir()
        for file in new.iterdir():
            file.rename(folder / file.name)

    return replace


@pytest.mark.fault(170)
@pytest.mark.parametrize("way", [by_link, by_rename, by_removal])
def test_a_folder_that_takes_the_place_of_another_one_is_read_and_watched(
    new_daemon: Callable[..., Daemon], manifests: Manifests, way: Callable[[Path], Callable[[], object]]
):
    manifests.routed("chat")
    manifests.routed("old")
    replace = way(manifests.folder)
    daemon = new_daemon(WORKERS="1", RESYNC="600").start()
    daemon.until_state("old", "accepted")
    replace()
    daemon.until_gone("old")
    for name in ("later", "last"):
        manifests.routed(name)
        daemon.until_state(name, "accepted")


@pytest.mark.fault(170)
def test_a_link_in_the_folder_that_leads_by_another_one_is_followed_to_wherever_that_leads(
    new_daemon: Callable[..., Daemon], manifests: Manifests, folder: Path
):
    one, two, current = (folder / name for name in ("one", "two", "current"))
    two.mkdir()
    manifests.routed("chat")
    Manifests(one, manifests.port).routed("old")
    current.symlink_to("one")
    (manifests.folder / "team").symlink_to("../current")
    (manifests.folder / "circle").symlink_to("circle")
    daemon = new_daemon(WORKERS="1", RESYNC="600").start()
    daemon.until_state("old", "accepted")
    flip(current, "two")
    daemon.until_gone("old")
    team = Manifests(manifests.folder / "team", manifests.port)
    for name in ("later", "last"):
        team.routed(name)
        daemon.until_state(name, "accepted")
    current.unlink()
    daemon.until_gone("last")
    current.symlink_to("one")
    daemon.until_state("old", "accepted")


def removed(_: Path, left: Path) -> None:
    shutil.rmtree(left)


def replaced(folder: Path, _: Path) -> None:
    new = shutil.copytree(folder, folder.with_name("new"))
    folder.rename(folder.with_name("before"))
    new.rename(folder)


@pytest.mark.fault(170)
@pytest.mark.parametrize("then", [removed, replaced])
def test_what_a_sub_folder_leaves_when_it_is_moved_away_and_its_name_is_used_again_deafens_nobody(
    new_daemon: Callable[..., Daemon], manifests: Manifests, then: Callable[[Path, Path], None]
):
    manifests.routed("old")
    team, left = Manifests(manifests.folder / "team", manifests.port), manifests.folder.with_name("left")
    team.routed("first")
    daemon = new_daemon(WORKERS="1", RESYNC="600").start()
    daemon.until_state("first", "accepted")
    team.folder.rename(left)
    daemon.until_gone("first")
    team.folder.mkdir()
    team.routed("second")
    daemon.until_state("second", "accepted")
    other = Manifests(team.folder.rename(manifests.folder / "other"), manifests.port)
    other.routed("third")
    daemon.until_state("third", "accepted")
    then(manifests.folder, left)
    for name in ("later", "last"):
        manifests.routed(name)
        daemon.until_state(name, "accepted")
    assert daemon.stop() == 0


@pytest.mark.fault(170)
def test_a_folder_that_comes_after_the_start_is_watched_from_then_on(
    new_daemon: Callable[..., Daemon], manifests: Manifests
):
    away = manifests.folder.with_name("away")
    manifests.folder.rename(away)
    daemon = new_daemon(WORKERS="1", RESYNC="600").start(ready=False)
    until("it is told", lambda: f"the manifests folder {manifests.folder} cannot be read" in daemon.told())
    away.rename(manifests.folder)
    until("it is read", daemon.is_ready)
    for name in ("chat", "later"):
        manifests.routed(name)
        daemon.until_state(name, "accepted")


@pytest.mark.fault(170)
def test_a_template_is_watched_in_whatever_folder_takes_the_place_of_its_own(
    new_daemon: Callable[..., Daemon], manifests: Manifests, folder: Path
):
    text = load_location("prefix").text
    for number in ("one", "two"):
        (folder / number).mkdir()
        (folder / number / "location.conf").write_text(f"{text}# {number}\n")
    (folder / "template").symlink_to("one")
    manifests.routed("chat")
    template = folder / "template" / "location.conf"
    daemon = new_daemon(WORKERS="1", RESYNC="600", TEMPLATE=str(template)).start()
    daemon.until_state("chat", "accepted")
    flip(folder / "template", "two")
    until("the other one", lambda: "# two" in daemon.files()["ray-chat.conf"], 15)
    template.write_text(f"{text}# three\n")
    until("the later one", lambda: "# three" in daemon.files()["ray-chat.conf"], 15)


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
