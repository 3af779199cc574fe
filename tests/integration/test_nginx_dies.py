"""nginx's processes are killed, signalled, frozen or replaced: routes come back by themselves."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.daemon import Daemon
from tests.support.http import free_port
from tests.support.manifests import Manifests, rayservice
from tests.support.processes import alive, children, kill, masters, title, workers
from tests.support.waiting import stays, until

New = Callable[..., Daemon]
pytestmark = pytest.mark.slow  # all together: each test has a daemon and an nginx of its own


@pytest.fixture
def running(daemon: Daemon, manifests: Manifests) -> Daemon:
    manifests.routed("chat")
    return daemon.start()


@pytest.mark.fault(36)
def test_a_killed_master_is_replaced_though_its_workers_still_hold_the_port(running: Daemon):
    old, orphans = running.nginx_pid(), workers(running)
    kill(old)
    until("another master", lambda: masters(running) not in ([], [old]))
    until("the route answers", lambda: running.answers_from("chat", "upstream"))
    until("the orphans are gone", lambda: not any(alive(pid) for pid in orphans))
    told = "nginx has ended, and another one runs"
    [line] = until("it is told", lambda: [line for line in running.told().splitlines() if told in line])
    assert f'"before": {old}' in line


@pytest.mark.fault(36)
def test_a_killed_master_takes_the_next_change(running: Daemon, manifests: Manifests):
    kill(running.nginx_pid())
    manifests.routed("more")
    running.until_state("more", "accepted")
    assert running.answers_from("more", "upstream")
    assert len(masters(running)) == 1


@pytest.mark.fault(36)
def test_a_stream_survives_its_master(running: Daemon, upstream):
    with socket.create_connection(("127.0.0.1", running.port), 10) as caller:
        caller.sendall(b"GET /apis/rayservice/chat/stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert b"first" in _until_first(caller)
        old = running.nginx_pid()
        kill(old)
        until("another master", lambda: masters(running) not in ([], [old]))
        until("the route answers", lambda: running.answers_from("chat", "upstream"))
        upstream.release.set()
        assert b"data: last" in caller.makefile("rb").read()


def _until_first(caller: socket.socket) -> bytes:
    seen = b""
    while b"data: first" not in seen and (piece := caller.recv(4096)):
        seen += piece
    return seen


@pytest.mark.fault(36)
def test_nginx_is_started_again_at_once_though_the_source_has_failed_for_long(running: Daemon, manifests: Manifests):
    manifests.folder.rename(manifests.folder.with_name("away"))
    assert running.process
    running.process.send_signal(signal.SIGHUP)
    until("it has failed", lambda: "cannot be read" in running.told())
    stays("the back-off grows", lambda: running.answers_from("chat", "upstream"), 3.5)
    old = running.nginx_pid()
    kill(old)
    until("another master", lambda: masters(running) not in ([], [old]), 5)
    until("the route answers", lambda: running.answers_from("chat", "upstream"), 5)


@pytest.mark.fault(41)
def test_a_worker_that_dies_is_no_reload(running: Daemon):
    before = running.reloads
    for _ in range(3):
        (worker,) = until("a worker", lambda: workers(running))
        kill(worker)
        until("another worker", lambda gone=worker: workers(running) not in ([], [gone]))
    assert running.answers_from("chat", "upstream")
    assert running.reloads == before
    until("the metric", lambda: running.metric('rayproxy_nginx_workers{state="serving"}') == 1)


@pytest.mark.fault(43)
def test_a_hup_of_someone_else_changes_nothing(running: Daemon, manifests: Manifests):
    before = running.reloads
    for _ in range(3):
        kill(running.nginx_pid(), signal.SIGHUP)
    stays("the route answers", lambda: running.answers_from("chat", "upstream"))
    manifests.routed("more")
    running.until_state("more", "accepted")
    assert running.reloads == before + 1


@pytest.mark.fault(38)
@pytest.mark.parametrize("text", ["", "garbage", "-1", "0", "1", "99999999", "foreign", "daemon"])
def test_whatever_the_pid_file_says_no_other_process_is_signalled(running: Daemon, manifests: Manifests, text: str):
    code = "import signal; signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code, "nginx: master process"]) as bystander:
        assert running.process
        pids = {"foreign": bystander.pid, "daemon": running.process.pid}
        (running.state / "run/nginx.pid").write_text(str(pids.get(text, text)))
        manifests.routed("more")
        running.until_state("more", "accepted")
        assert running.answers_from("more", "upstream")
        assert bystander.poll() is None
        (master,) = masters(running)
        (running.state / "run/nginx.pid").write_text(str(master))
        bystander.kill()


@pytest.mark.fault(38)
def test_a_foreign_nginx_in_the_pid_file_is_not_signalled(running: Daemon, manifests: Manifests, folder):
    port = free_port()
    conf = folder / "other.conf"
    conf.write_text(
        f"pid {folder}/other.pid; error_log {folder}/other.log notice; events {{}}\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}\n"
    )
    with subprocess.Popen(["nginx", "-c", str(conf), "-g", "daemon off;"], start_new_session=True) as other:
        until("the foreign nginx runs", lambda: title(other.pid).startswith("nginx: master"))
        (running.state / "run/nginx.pid").write_text(str(other.pid))
        manifests.routed("more")
        running.until_state("more", "accepted")
        running.stop()
        assert other.poll() is None
        assert "signal 1" not in (folder / "other.log").read_text()
        other.terminate()


@pytest.mark.fault(35)
def test_an_nginx_that_cannot_be_run_is_named_and_the_daemon_waits_for_it(new_daemon: New, folder, manifests):
    manifests.routed("chat")
    missing = folder / "nginx"
    daemon = new_daemon(NGINX_BINARY=str(missing)).start(ready=False)
    until("it is named", lambda: f"nginx cannot be run as '{missing}'" in daemon.told())
    assert "Install nginx, or name it with RAYPROXY_NGINX_BINARY" in daemon.told()
    until("not ready", lambda: daemon.admin("/readyz")[0] == 503)
    assert "cannot be run" in daemon.admin("/readyz")[1]
    missing.symlink_to("/usr/sbin/nginx")
    until("the route answers", lambda: daemon.answers_from("chat", "upstream"))


@pytest.mark.fault(33)
def test_a_port_that_is_taken_at_the_start_is_named_and_taken_once_it_is_free(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    with socket.create_server(("127.0.0.1", 0)) as other:
        daemon = new_daemon(WORKERS="1")
        daemon.environment["RAYPROXY_LISTEN"] = f"127.0.0.1:{other.getsockname()[1]}"
        daemon.port = other.getsockname()[1]
        daemon.start(ready=False)
        until("it is named", lambda: "Address already in use" in daemon.told())
        until("the daemon says so", lambda: "nginx exited with 1 at its start" in daemon.told())
        assert daemon.admin("/readyz")[0] == 503
    until(
        "the route answers", lambda: daemon.port and daemon.is_ready() and daemon.answers_from("chat", "upstream"), 30
    )


@pytest.mark.fault(51)
def test_a_stop_while_nginx_cannot_start_leaves_none_behind(new_daemon: New, manifests: Manifests):
    with socket.create_server(("127.0.0.1", 0)) as other:
        daemon = new_daemon(WORKERS="1", LISTEN=f"127.0.0.1:{other.getsockname()[1]}").start(ready=False)
        until("nginx tries", lambda: "Address already in use" in daemon.told())
        assert daemon.process
        (child,) = until("nginx is there", lambda: _children(daemon))
        assert daemon.stop() == 0
        assert not alive(child)


def _children(daemon: Daemon) -> list[int]:
    assert daemon.process
    return [pid for pid in children(daemon.process.pid) if "nginx" in title(pid)]


@pytest.mark.fault(33)
def test_a_port_taken_by_another_at_a_reload_brings_the_previous_revision_back(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    first = new_daemon(WORKERS="1").start()
    kept = (first.state / "current").readlink()
    assert first.process
    kill(first.process.pid)  # nginx goes on
    first.process.wait()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = first.port
        first.environment["RAYPROXY_LISTEN"] = f"127.0.0.1:{other.getsockname()[1]}"
        first.start(ready=False)
        until("the reload is not proven", lambda: "refused revision" in first.told(), 40)
        until("the previous one is back", lambda: (first.state / "current").readlink() == kept)
        assert first.port == port
        assert first.answers_from("chat", "upstream")
        until("counted", lambda: first.metric('rayproxy_reloads_total{result="failure"}') >= 1)
        assert first.metric("rayproxy_config_last_reload_successful") == 0


@pytest.mark.fault(37)
def test_an_external_nginx_that_restarts_by_itself_loads_the_live_revision(new_daemon: New, manifests: Manifests):
    manifests.routed("chat")
    daemon = new_daemon(NGINX="external", WORKERS="1")
    daemon.start(ready=False)
    until("a revision", (daemon.state / "current/nginx.conf").exists)
    for _ in range(2):
        nginx = subprocess.Popen(
            ["nginx", "-c", str(daemon.state / "current/nginx.conf"), "-g", "daemon off;"], start_new_session=True
        )
        until("the route answers", lambda: daemon.is_ready() and daemon.answers_from("chat", "upstream"))
        nginx.terminate()
        nginx.wait()
    manifests.write("slow", rayservice("slow"))
    until("no nginx is named", lambda: "no nginx runs with -c" in daemon.told())
    nginx = subprocess.Popen(
        ["nginx", "-c", str(daemon.state / "current/nginx.conf"), "-g", "daemon off;"], start_new_session=True
    )
    until("the route answers", lambda: daemon.answers_from("chat", "upstream"))
    until("the change is served", lambda: daemon.error("slow") == "rayservice_pending")
    assert daemon.stop() == 0
    assert daemon.answers_from("chat", "upstream"), "the daemon's end does not stop an external nginx"
    nginx.terminate()
    nginx.wait()
