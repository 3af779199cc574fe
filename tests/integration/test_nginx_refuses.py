"""nginx that hangs, cannot fork, or cannot be asked: no reload is believed without its proof."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, rayservice
from tests.support.processes import alive, children, kill, title, workers
from tests.support.streams import stream
from tests.support.waiting import stays, until

New = Callable[..., Daemon]


@pytest.fixture
def hanging(folder: Path) -> Path:
    """Return an nginx whose -t hangs while the file `hang` is there beside it."""
    script = folder / "nginx"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in -t*) [ ! -e {folder}/hang ] || exec sleep 600;; esac\nexec /usr/sbin/nginx "$@"\n'
    )
    script.chmod(0o755)
    return script


def hung_tests(daemon: Daemon) -> list[int]:
    assert daemon.process
    return [pid for pid in children(daemon.process.pid) if title(pid) == "sleep 600"]


@pytest.mark.slow
@pytest.mark.fault(34)
def test_a_test_that_hangs_is_ended_and_counts_as_no_test(new_daemon: New, manifests: Manifests, hanging: Path):
    manifests.routed("chat")
    daemon = new_daemon(NGINX_BINARY=str(hanging), RELOAD_TIMEOUT="2", WORKERS="1").start()
    before = (daemon.state / "current").readlink()
    hang = hanging.with_name("hang")
    hang.touch()
    manifests.routed("more")
    until("it is told", lambda: "did not end within 2 s" in daemon.told())
    assert (daemon.state / "current").readlink() == before
    assert daemon.answers_from("chat", "upstream")
    hang.unlink()
    until("the change", lambda: daemon.answers_from("more", "upstream"), 30)
    assert hung_tests(daemon) == []


@pytest.mark.fault(51)
def test_a_stop_while_a_test_hangs_ends_both_in_time(new_daemon: New, manifests: Manifests, hanging: Path):
    manifests.routed("chat")
    daemon = new_daemon(NGINX_BINARY=str(hanging), WORKERS="1").start()
    hanging.with_name("hang").touch()
    manifests.routed("more")
    (test,) = until("it is tested", lambda: hung_tests(daemon))
    assert daemon.process
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(5) == 0
    assert not alive(test)


@contextmanager
def no_forks(daemon: Daemon) -> Iterator[None]:
    """Let every fork of nginx's master fail."""
    calls = "clone,clone3,fork,vfork"
    with subprocess.Popen(
        ["strace", "-q", "-p", str(daemon.nginx_pid()), "-e", f"trace={calls}", "-e", f"inject={calls}:error=EAGAIN"],
        stderr=subprocess.DEVNULL, start_new_session=True,
    ) as strace:  # fmt: skip
        status = Path(f"/proc/{daemon.nginx_pid()}/status")
        until("strace is there", lambda: f"TracerPid:\t{strace.pid}" in status.read_text())
        try:
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait()


@pytest.mark.slow
@pytest.mark.fault(40)
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")
def test_an_nginx_that_cannot_fork_is_seen_and_healed_once_it_can(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1").start()
    before = (daemon.state / "current").readlink()
    with no_forks(daemon):
        manifests.routed("more")
        until("it is told", lambda: "has no worker after HUP (fork failed?)" in daemon.told())
        assert workers(daemon) == []
        assert (daemon.state / "current").readlink() == before, "the last good revision is back"
        assert daemon.metric('rayproxy_reloads_total{result="failure"}') >= 1
    until("the route answers", lambda: daemon.answers_from("chat", "upstream"), 20)
    until("and the change", lambda: daemon.answers_from("more", "upstream"), 30)


@pytest.mark.fault(40)
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")
def test_workers_come_back_though_the_source_cannot_be_read(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1").start()
    manifests.folder.rename(manifests.folder.with_name("away"))
    with no_forks(daemon):
        for worker in workers(daemon):
            kill(worker)
        until("none is left", lambda: workers(daemon) == [])
    until("the route answers", lambda: daemon.answers_from("chat", "upstream"), 20)


@pytest.mark.fault(40)
@pytest.mark.fault(112)
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: apt-get install strace")
def test_workers_come_back_though_as_many_drain_as_may(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", MAX_DRAINING="1").start()
    with stream(daemon):
        manifests.routed("more")
        daemon.until_state("more", "accepted")
        until("it drains", lambda: daemon.metric('rayproxy_nginx_workers{state="draining"}') == 1)
        with no_forks(daemon):
            for worker in workers(daemon):
                kill(worker)
            until("none is left", lambda: daemon.metric('rayproxy_nginx_workers{state="serving"}') == 0)
        until("the route answers", lambda: daemon.answers_from("more", "upstream"), 20)


@pytest.mark.slow
@pytest.mark.fault(44)
def test_workers_that_cannot_be_asked_are_no_proof(new_daemon: New, manifests: Manifests):
    """Someone removed the socket: workers are new after HUP, and nobody can tell what they serve."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1", RELOAD_TIMEOUT="2").start()
    before = (daemon.state / "current").readlink()
    (daemon.state / "run/revision.sock").unlink()
    manifests.routed("more")
    until("it is told", lambda: "nginx did not serve revision" in daemon.told())
    until("the previous one is back", lambda: (daemon.state / "current").readlink() == before)
    assert daemon.answers_from("chat", "upstream")
    assert daemon.metric("rayproxy_config_last_reload_successful") == 0


@pytest.mark.slow
@pytest.mark.fault(39)
def test_no_hup_is_sent_before_the_title_says_master(new_daemon: New, manifests: Manifests, folder: Path):
    """A process with nginx's name and command line that is no master yet would die of a HUP."""
    manifests.routed("chat")
    daemon = new_daemon(NGINX="external", WORKERS="1").start(ready=False)
    until("a revision", (daemon.state / "current/nginx.conf").exists)
    early = folder / "nginx"
    early.symlink_to(shutil.which("sleep") or "/bin/sleep")
    with subprocess.Popen([str(early), "600"], start_new_session=True) as starting:
        (daemon.state / "run/nginx.pid").write_text(str(starting.pid))
        manifests.write("slow", rayservice("slow"))
        stays("it lives", lambda: starting.poll() is None, 2)
        assert "no nginx runs with -c" in daemon.told()
        starting.kill()


@pytest.fixture
def starting(folder: Path) -> Path:
    """Return an nginx that writes down its starts, each of which takes as long as the file `sleep` beside it says."""
    script = folder / "nginx"
    script.write_text(
        f'#!/bin/sh\ncase "$*" in -t*) ;; *) echo $$ >> {folder}/starts; sleep "$(cat {folder}/sleep)";; esac\n'
        'exec /usr/sbin/nginx "$@"\n'
    )
    script.chmod(0o755)
    return script


def starts(nginx: Path) -> list[int]:
    """Return the processes that were started as nginx."""
    written = nginx.with_name("starts")
    return [int(pid) for pid in written.read_text().split()] if written.exists() else []


@pytest.mark.slow
@pytest.mark.fault(172)
def test_an_nginx_that_starts_slowly_is_waited_for_and_none_is_started_beside_it(
    new_daemon: New, manifests: Manifests, starting: Path
):
    manifests.routed("chat")
    starting.with_name("sleep").write_text("3")
    daemon = new_daemon(NGINX_BINARY=str(starting), RELOAD_TIMEOUT="1", WORKERS="1").start()
    until("the route answers", lambda: daemon.answers_from("chat", "upstream"))
    assert "nginx was started and did not answer within 1 s" in daemon.told()
    assert starts(starting) == [daemon.nginx_pid()]


@pytest.mark.slow
@pytest.mark.fault(172)
def test_an_nginx_that_hangs_at_its_start_is_ended_before_the_next_one_is_started_and_when_the_daemon_stops(
    new_daemon: New, manifests: Manifests, starting: Path
):
    manifests.routed("chat")
    starting.with_name("sleep").write_text("600")
    daemon = new_daemon(NGINX_BINARY=str(starting), RELOAD_TIMEOUT="1", WORKERS="1").start(ready=False)
    (first,) = until("it is started", lambda: starts(starting))
    (sleep,) = until("it hangs", lambda: children(first))
    stays("it is the only one", lambda: starts(starting) == [first], 3)
    second = until("another one is started", lambda: starts(starting)[1:])[0]
    assert not alive(first)
    assert not alive(sleep)
    (sleep,) = until("it hangs, too", lambda: children(second))
    daemon.stop()
    assert not alive(second)
    assert not alive(sleep)
    assert len(starts(starting)) == 2
