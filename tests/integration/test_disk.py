"""A disk that is full, read-only or edited by someone: what is served stays, and what is ours comes back."""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, rayservice, routed_names
from tests.support.mounts import inside, needs_mounts, set_read_only, set_writable
from tests.support.processes import children, kill, masters
from tests.support.waiting import stays, until

New = Callable[..., Daemon]
pytestmark = pytest.mark.slow  # all together: each test has a daemon and an nginx of its own


@pytest.fixture
def running(new_daemon: New, manifests: Manifests) -> Daemon:
    manifests.routed("chat")
    return new_daemon(WORKERS="1", RESYNC="1").start()


@pytest.fixture
def on_tmpfs(new_daemon: New, manifests: Manifests) -> Iterator[Daemon]:
    """Return a daemon whose state folder is a file system of 1 MiB and 200 inodes, in a mount namespace of its own."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", RESYNC="1")
    daemon.state.mkdir()
    script = f"mount -t tmpfs -o size=1m,nr_inodes=200 none {daemon.state} && exec {sys.executable} -m rayproxy run"
    with daemon.log.open("ab") as log:
        daemon.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script],
            env=daemon.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until("ready", daemon.is_ready)
    daemon.state = inside(daemon.process.pid, daemon.state)
    yield daemon
    daemon.stop()  # and nginx with it


@pytest.fixture
def small_run(new_daemon: New, manifests: Manifests) -> Iterator[Daemon]:
    """Return a daemon whose nginx has 8 MiB for bodies of up to 1 MB."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", MAX_BODY="1m")
    run = daemon.state / "run"
    run.mkdir(parents=True)
    daemon.before = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=8m none {run} && exec "$0" "$@"')
    yield daemon.start()
    daemon.stop()


def upload(daemon: Daemon, size: int) -> socket.socket:
    """Send a body of this size, all but its last byte."""
    caller = socket.create_connection(("127.0.0.1", daemon.port), 10)
    head = f"POST /apis/rayservice/chat/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    caller.sendall(head.encode() + b"x" * (size - 1))
    return caller


@needs_mounts
@pytest.mark.fault(72)
def test_uploads_that_fill_nginxs_folder_cost_others_no_more_than_a_try_again(small_run: Daemon):
    with ExitStack() as callers:
        first = [callers.enter_context(upload(small_run, 1_000_000)) for _ in range(9)]
        answer = small_run.route("chat", "x", method="POST", body=b"x" * 900_000)
        assert (answer.status, answer.error_type, answer.headers["retry-after"]) == (503, "proxy_full", "5")
        assert answer.headers["cache-control"] == "no-store"
        assert small_run.route("chat", "x", method="POST", body=b"x" * 1000).status == 200
        for caller in first[:4]:
            caller.close()
        until(
            "there is room",
            lambda: small_run.route("chat", "x", method="POST", body=b"x" * 900_000).status == 200,
        )


@needs_mounts
@pytest.mark.fault(36)
@pytest.mark.fault(72)
def test_uploads_that_fill_nginxs_folder_hold_up_no_route_and_leave_nothing_behind_when_nginx_is_killed(
    small_run: Daemon, manifests: Manifests
):
    with ExitStack() as callers:
        for _ in range(9):
            callers.enter_context(upload(small_run, 1_000_000))
        manifests.routed("more")
        until("the change", lambda: small_run.answers_from("more", "upstream"))
        (master,) = masters_of(small_run)
        for pid in (master, *children(master)):
            kill(pid)
        until("it answers again", lambda: small_run.answers_from("chat", "upstream"))
        assert small_run.route("chat", "x", method="POST", body=b"x" * 900_000).status == 200, "all the room is there"


def masters_of(daemon: Daemon) -> list[int]:
    """Return the masters; the state folder has another name inside the mount namespace."""
    outside = Daemon(daemon.folder, {}, daemon.port, daemon.admin_port)
    return masters(outside)


def fill(path: Path) -> None:
    """Leave no byte free."""
    with path.open("wb", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


@needs_mounts
@pytest.mark.fault(45)
def test_a_full_disk_keeps_what_is_served_and_is_caught_up_with_once_it_is_not(on_tmpfs: Daemon, manifests: Manifests):
    before = (on_tmpfs.state / "current").readlink()
    fill(on_tmpfs.state / "filler")
    manifests.routed("more")
    until("it is told", lambda: "No space left on device: is the disk of /" in on_tmpfs.told())
    assert (on_tmpfs.state / "current").readlink() == before
    assert on_tmpfs.answers_from("chat", "upstream")
    assert on_tmpfs.is_ready(), "what is served is still good"
    assert on_tmpfs.metric("rayproxy_config_last_reload_successful") == 0
    assert [path.name for path in (on_tmpfs.state / "revisions").glob(".tmp*")] == []
    (on_tmpfs.state / "filler").unlink()
    until("the change", lambda: on_tmpfs.answers_from("more", "upstream"), 20)
    until("recovered", lambda: on_tmpfs.metric("rayproxy_config_last_reload_successful") == 1)


@needs_mounts
@pytest.mark.fault(47)
def test_no_inodes_left_is_as_a_full_disk(on_tmpfs: Daemon, manifests: Manifests):
    folder = on_tmpfs.state / "filler"
    folder.mkdir()
    for number in range(400):
        try:
            (folder / str(number)).touch()
        except OSError:
            break
    manifests.routed("more")
    until("it is told", lambda: "No space left on device" in on_tmpfs.told())
    assert on_tmpfs.answers_from("chat", "upstream")
    assert [path.name for path in (on_tmpfs.state / "revisions").glob(".tmp*")] == []
    shutil.rmtree(folder)
    until("the change", lambda: on_tmpfs.answers_from("more", "upstream"), 20)


@pytest.mark.fault(47)
def test_no_file_descriptors_left_keeps_what_is_served_and_is_caught_up_with(running: Daemon, manifests: Manifests):
    process = running.process
    assert process
    before = (running.state / "current").readlink()
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (4, hard))  # more are open: nothing can be opened
    manifests.routed("more")
    until("it is told", lambda: "Too many open files" in running.told())
    stays("it serves", lambda: process.poll() is None and running.answers_from("chat", "upstream"))
    assert (running.state / "current").readlink() == before
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    until("the change", lambda: running.answers_from("more", "upstream"), 20)
    assert running.is_ready()


@needs_mounts
@pytest.mark.fault(45)
def test_only_the_report_failing_to_be_written_does_not_end_the_daemon(on_tmpfs: Daemon, manifests: Manifests):
    """A RayService whose name is no name changes the status file alone, no revision."""
    fill(on_tmpfs.state / "filler")
    manifests.write("bad", rayservice("No_Name"))
    until("it is told", lambda: "No space left on device" in on_tmpfs.told())
    stays("it lives", lambda: on_tmpfs.is_ready() and on_tmpfs.answers_from("chat", "upstream"))
    (on_tmpfs.state / "filler").unlink()
    until("the report", lambda: "default/No_Name" in on_tmpfs.routes(), 20)


@needs_mounts
@pytest.mark.fault(46)
def test_a_folder_that_becomes_read_only_keeps_what_is_served(on_tmpfs: Daemon, manifests: Manifests):
    assert on_tmpfs.process
    mounted = on_tmpfs.folder / "s"
    set_read_only(on_tmpfs.process.pid, mounted)
    manifests.routed("more")
    until("it is told", lambda: "Read-only file system: is the disk of /" in on_tmpfs.told())
    stays("it serves", lambda: on_tmpfs.is_ready() and on_tmpfs.answers_from("chat", "upstream"))
    set_writable(on_tmpfs.process.pid, mounted)
    until("the change", lambda: on_tmpfs.answers_from("more", "upstream"), 20)


@needs_mounts
@pytest.mark.fault(36)
@pytest.mark.fault(45)
def test_nginx_is_started_again_on_a_full_disk(on_tmpfs: Daemon, manifests: Manifests):
    fill(on_tmpfs.state / "filler")
    (old,) = masters_of(on_tmpfs)
    manifests.routed("more")
    until("it is told", lambda: "No space left on device" in on_tmpfs.told())
    kill(old)
    until("another master", lambda: masters_of(on_tmpfs) not in ([], [old]))
    until("the route answers", lambda: on_tmpfs.answers_from("chat", "upstream"))


@pytest.mark.fault(46)
def test_a_state_folder_that_cannot_be_written_at_the_start_is_named(new_daemon: New, folder: Path):
    (folder / "file").write_text("")
    daemon = new_daemon(STATE_DIR=str(folder / "file/state")).start(ready=False)
    assert daemon.process
    assert daemon.process.wait(20) == 1
    assert f"the state folder {folder}/file/state cannot be written: Not a directory" in daemon.told()
    assert "choose another with RAYPROXY_STATE_DIR" in daemon.told()


@needs_mounts
@pytest.mark.fault(46)
def test_a_read_only_state_folder_at_the_start_is_named(new_daemon: New):
    daemon = new_daemon()
    daemon.state.mkdir()
    script = f"mount -t tmpfs -o ro none {daemon.state} && exec {sys.executable} -m rayproxy run"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], env=daemon.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"the state folder {daemon.state} cannot be written: Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def replace_link(link: Path, target: str) -> None:
    """Point a link elsewhere in one step: what is half done may be found out and mended as well."""
    other = link.parent.with_name("link")
    other.symlink_to(target)
    other.rename(link)


DRIFT = {
    "edits a route": lambda state: (state / "current/ray-chat.conf").write_text("# gone\n"),
    "breaks nginx.conf": lambda state: (state / "current/nginx.conf").write_text("nonsense"),
    "deletes a route": lambda state: (state / "current/ray-chat.conf").unlink(),
    "adds a route": lambda state: (state / "current/ray-evil.conf").write_text("location /evil { return 200; }\n"),
    "edits revision.conf": lambda state: (state / "current/revision.conf").write_text("# none\n"),
    "deletes the link": lambda state: (state / "current").unlink(),
    "deletes the revisions": lambda state: (state / "revisions").rename(state.with_name("deleted")),  # all at once
    "points the link elsewhere": lambda state: replace_link(state / "current", "/etc"),
}


@pytest.mark.fault(43)
@pytest.mark.parametrize("who", DRIFT)
def test_someone_who_spoils_our_files_is_found_out_and_mended_once(running: Daemon, who: str):
    foreign = running.state / "notes.txt"
    foreign.write_text("not ours")
    before = running.reloads
    DRIFT[who](running.state)
    until("mended", lambda: routed_names(running) == {"chat"} and running.reloads > before)
    assert running.answers_from("chat", "upstream")
    assert (
        subprocess.run(["nginx", "-t", "-q", "-c", str(running.state / "current/nginx.conf")], check=False).returncode
        == 0
    )
    mended = running.reloads
    stays("once", lambda: running.reloads == mended, 2.5)
    assert mended == before + 1
    assert foreign.read_text() == "not ours"


@pytest.mark.fault(43)
def test_a_route_known_only_from_the_disk_survives_an_edit_of_another_file(running: Daemon, manifests: Manifests):
    """Its manifest cannot be read since before the start, so nothing but the live revision knows the route."""
    manifests.routed("more")
    running.until_state("more", "accepted")
    running.stop()
    (manifests.folder / "default.more.yaml").write_text("{")
    running.start()
    (running.state / "current/ray-chat.conf").write_text("# edited\n")
    until("mended", lambda: "edited" not in running.files().get("ray-chat.conf", "edited"))
    assert routed_names(running) == {"chat", "more"}
    until("it is served", lambda: running.answers_from("more", "upstream"))


@pytest.mark.fault(49)
@pytest.mark.parametrize("how", ["empty", "torn", "gone"])
def test_a_torn_live_revision_at_the_start_is_replaced(running: Daemon, manifests: Manifests, how: str):
    manifests.routed("more")
    running.until_state("more", "accepted")
    running.stop()
    file = running.state / "current/nginx.conf"
    text = file.read_text()
    file.unlink()
    if how != "gone":
        file.write_text("" if how == "empty" else text[: len(text) // 2])
    running.start()
    until("both again", lambda: routed_names(running) == {"chat", "more"})
    until("it is served", lambda: running.answers_from("more", "upstream"))


@pytest.mark.fault(50)
def test_routes_of_objects_that_went_while_nobody_watched_go_at_the_start(running: Daemon, manifests: Manifests):
    manifests.routed("more")
    running.until_state("more", "accepted")
    running.stop()
    manifests.remove("more")
    running.start()
    until("it is gone", lambda: running.error("more") == "rayservice_not_found")
    assert routed_names(running) == {"chat"}


@pytest.mark.fault(50)
def test_with_a_source_that_cannot_be_read_at_the_start_the_last_revision_is_served(
    running: Daemon, manifests: Manifests
):
    running.stop()
    away = manifests.folder.rename(manifests.folder.with_name("away"))
    running.start()
    stays("it serves", lambda: running.answers_from("chat", "upstream"))
    away.rename(manifests.folder)
    manifests.routed("more")
    until("the change", lambda: running.answers_from("more", "upstream"))


def test_a_file_that_can_no_longer_be_read_keeps_its_routes_and_is_told(running: Daemon, manifests: Manifests):
    path = manifests.folder / "default.chat.yaml"
    good = path.read_text()
    path.write_text(good[:-40])
    until("it is told", lambda: "default.chat.yaml is not read" in running.told())
    assert running.answers_from("chat", "upstream")
    path.write_text("[" * 100_000)
    until("it is told", lambda: running.metric("rayproxy_source_problems") == 1)
    assert running.answers_from("chat", "upstream")
    path.write_text(good)
    until("it is well", lambda: running.metric("rayproxy_source_problems") == 0)


@pytest.mark.fault(142)
def test_commands_beside_a_daemon_leave_its_revisions_as_they_are(running: Daemon):
    folder = running.state / "revisions"
    half = folder / ".tmp-1"  # as while the daemon writes one
    half.mkdir()

    def there() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}

    before = there()
    for command in (["check"], ["render", "--diff"], ["routes", "--held"]):
        assert rayproxy(running, *command).returncode == 0
    assert there() == before
    assert list(running.state.glob(".check-*")) == []
    running.stop()
    running.start()
    assert not half.exists()
