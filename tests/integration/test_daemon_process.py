"""The daemon's own life: signals, locks, pipes, clocks and threads."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.manifests import Manifests, rayservice
from tests.support.processes import alive, kill, masters
from tests.support.waiting import stays, until

New = Callable[..., Daemon]
pytestmark = pytest.mark.slow  # all together: each test has a daemon and an nginx of its own
STOP = 5.0  # s that a stop may take


@pytest.fixture
def running(daemon: Daemon, manifests: Manifests) -> Daemon:
    manifests.routed("chat")
    return daemon.start()


def stopped_in_time(daemon: Daemon, number: signal.Signals = signal.SIGTERM) -> int:
    assert daemon.process
    daemon.process.send_signal(number)
    return daemon.process.wait(STOP)


@pytest.mark.fault(51)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_daemon_and_managed_nginx(running: Daemon, number: signal.Signals):
    master = running.nginx_pid()
    assert stopped_in_time(running, number) == 0
    assert not alive(master)


@pytest.mark.fault(51)
def test_a_stop_ends_in_time_though_a_stream_is_open(running: Daemon):
    with socket.create_connection(("127.0.0.1", running.port), 10) as caller:
        caller.sendall(b"GET /apis/rayservice/chat/stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert caller.recv(1)
        master = running.nginx_pid()
        assert stopped_in_time(running) == 0
        assert not alive(master)


@pytest.mark.fault(51)
def test_a_stop_during_a_reload_that_hangs_leaves_a_live_revision(running: Daemon, manifests: Manifests):
    """A frozen master takes no HUP: the reload is under way until the daemon is told to stop."""
    master = running.nginx_pid()
    kill(master, signal.SIGSTOP)
    try:
        before = (running.state / "current").readlink()
        manifests.routed("more")
        until("the reload is under way", lambda: (running.state / "current").readlink() != before)
        assert running.process
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(STOP) == 0
    finally:
        kill(master, signal.SIGCONT)
    conf = running.state / "current/nginx.conf"
    assert subprocess.run(["nginx", "-t", "-q", "-c", str(conf)], check=False).returncode == 0
    until("nginx took the signal that waited for it", lambda: not alive(master))


@pytest.mark.fault(51)
def test_a_second_ctrl_c_ends_it_at_once(running: Daemon, manifests: Manifests):
    master = running.nginx_pid()
    kill(master, signal.SIGSTOP)
    try:
        assert running.process
        running.process.send_signal(signal.SIGINT)
        until("it stops", lambda: running.admin("/healthz")[0] == 0)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(1.5) != 0
    finally:
        kill(master, signal.SIGCONT)
        kill(master, signal.SIGTERM)


@pytest.mark.fault(51)
def test_a_second_sigterm_does_not_leave_nginx_behind(running: Daemon):
    master = running.nginx_pid()
    kill(master, signal.SIGSTOP)
    assert running.process
    running.process.send_signal(signal.SIGTERM)
    until("it stops", lambda: running.admin("/healthz")[0] == 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        running.process.send_signal(number)
    kill(master, signal.SIGCONT)
    assert running.process.wait(STOP) == 0
    assert not alive(master)


@pytest.mark.fault(51, 52)
def test_signals_that_come_in_the_midst_of_another_one_hold_up_nothing(running: Daemon):
    assert running.process
    for _ in range(3000):
        for number in (signal.SIGHUP, signal.SIGUSR1):
            running.process.send_signal(number)
    assert running.answers_from("chat", "upstream")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(STOP) == 0


@pytest.mark.fault(52)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_resync_signal_mends_what_someone_edited(running: Daemon, number: signal.Signals):
    edited = running.state / "current/ray-chat.conf"
    edited.write_text("location ^~ /apis/rayservice/chat/ { return 200 'edited'; }\n")
    assert running.process
    running.process.send_signal(number)
    until("the route is whole again", lambda: "edited" not in running.files().get("ray-chat.conf", "edited"))
    until("and served", lambda: running.answers_from("chat", "upstream"))
    assert running.process.poll() is None


@pytest.mark.fault(55)
def test_a_second_daemon_on_one_state_folder_refuses_and_names_the_first(running: Daemon):
    assert running.process
    second = subprocess.run(
        [sys.executable, "-m", "rayproxy", "run"], env=running.environment, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert f"another rayproxy (pid {running.process.pid}) uses the state folder {running.state}" in second.stderr
    assert "RAYPROXY_STATE_DIR" in second.stderr
    assert running.answers_from("chat", "upstream")


@pytest.mark.fault(55)
def test_two_daemons_on_the_same_objects_write_equal_bytes(new_daemon: New, manifests: Manifests, tmp_path):
    manifests.routed("chat")
    manifests.write("slow", rayservice("slow"))
    one = new_daemon(WORKERS="1").start()
    listing = (one.state / "current/SHA256SUMS").read_text()
    revision = (one.state / "current").readlink()
    one.stop()
    (one.state / "revisions" / revision.name).rename(tmp_path / "first")
    one.start()
    assert (one.state / "current").readlink() == revision
    assert (one.state / "current/SHA256SUMS").read_text() == listing


@pytest.mark.fault(48)
@pytest.mark.fault(53)
def test_a_killed_daemon_leaves_nginx_and_a_new_one_takes_it_over(running: Daemon, manifests: Manifests):
    master = running.nginx_pid()
    assert running.process
    kill(running.process.pid)
    running.process.wait()
    assert running.answers_from("chat", "upstream")
    manifests.routed("more")
    running.start()
    assert masters(running) == [master]
    until("the change made in between", lambda: running.answers_from("more", "upstream"))
    assert running.stop() == 0
    assert not alive(master)


@pytest.mark.fault(60)
@pytest.mark.parametrize("how", ["closed", "nobody reads", "blocked"])
def test_a_log_that_nobody_reads_stops_neither_daemon_nor_nginx(daemon: Daemon, manifests: Manifests, how: str):
    manifests.routed("chat")
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    if how == "blocked":
        while True:
            try:
                os.write(writing, b"x" * 65536)
            except BlockingIOError:
                break
    os.set_blocking(writing, True)
    if how == "nobody reads":
        os.close(reading)
    close = "exec 1>&- 2>&-; " if how == "closed" else ""
    daemon.process = subprocess.Popen(
        ["sh", "-c", f"{close}exec {sys.executable} -m rayproxy run"], env=daemon.environment,
        stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, start_new_session=True,
    )  # fmt: skip
    os.close(writing)
    try:
        until("ready", daemon.is_ready)
        for name in ("a", "b"):
            manifests.routed(name)
            daemon.until_state(name, "accepted")
            until("it is served", lambda name=name: daemon.answers_from(name, "upstream"))
        assert stopped_in_time(daemon) == 0, daemon.tail()
    finally:
        if how != "nobody reads":
            os.close(reading)


DEFECTIVE = {  # the thread that dies: what is defective
    "admin": "from wsgiref.simple_server import WSGIServer as defective; name = 'serve_forever'",
    "files": "from rayproxy.sources.watches import Watches as defective; name = 'check'",
    "watchdog's own": "from watchdog.observers.inotify_c import InotifyFD as defective; name = 'read_events'",
}


@pytest.mark.fault(59)
@pytest.mark.parametrize("thread", DEFECTIVE)
def test_a_thread_that_dies_ends_the_daemon_with_an_error(manifests: Manifests, new_daemon: New, thread: str):
    """A defect is put into it from outside: its thread dies, and the process must not live on blind."""
    manifests.routed("chat")
    daemon = new_daemon(WORKERS="1")
    code = (
        "import sys, threading, time\n"
        f"{DEFECTIVE[thread]}\n"
        "def die(*_, **__):\n"
        "    threading.Event().wait(1.0)\n"
        "    raise MemoryError('a defect')\n"
        "setattr(defective, name, die)\n"
        "from rayproxy.__main__ import main\n"
        "sys.exit(main(['run']))\n"
    )
    with daemon.log.open("ab") as log:
        daemon.process = subprocess.Popen([sys.executable, "-c", code], env=daemon.environment, stdout=log, stderr=log)
    assert daemon.process.wait(20) == 1
    assert "a thread died of a defect; the daemon ends" in daemon.told()
    assert masters(daemon) == []


@pytest.mark.fault(54)
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler: apt-get install gcc")
@pytest.mark.parametrize("jump", [25 * 3600, -25 * 3600])
def test_a_clock_that_jumps_causes_no_storm(daemon: Daemon, manifests: Manifests, tmp_path: Path, jump: int):
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    source = Path(__file__).parents[1] / "support/clock.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    offset.write_text("0")
    manifests.routed("chat")
    daemon.environment |= {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}
    daemon.start()
    before, since = daemon.reloads, daemon.routes()["default/chat"]["since"]
    offset.write_text(str(jump))
    stays("it is well", lambda: daemon.is_ready() and daemon.answers_from("chat", "upstream"))
    assert daemon.reloads == before
    manifests.routed("more")
    assert (daemon.until_state("more", "accepted")["since"] > since) == (jump > 0), "the jump was seen"
    assert daemon.reloads == before + 1
    assert stopped_in_time(daemon) == 0, daemon.tail()


def test_an_idle_client_does_not_hold_up_a_probe(running: Daemon):
    with (
        socket.create_connection(("127.0.0.1", running.admin_port), 5),
        socket.create_connection(("127.0.0.1", running.admin_port), 5),
    ):
        assert running.admin("/healthz", timeout=2)[0] == 200
        assert running.admin("/readyz", timeout=2)[0] == 200


@pytest.mark.fault(65)
def test_slow_clients_of_the_admin_port_hold_up_neither_probes_nor_routes(running: Daemon, manifests: Manifests):
    """260 of them, each in the middle of a request, on a daemon that may have 200 descriptors."""
    assert running.process
    resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (200, 200))
    with ExitStack() as clients:
        for _ in range(260):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", running.admin_port), 5))
            client.sendall(b"GET /metrics HTT")
        manifests.routed("more")
        running.until_state("more", "accepted")
        assert running.admin("/healthz", timeout=2)[0] == 200
        assert running.admin("/readyz", timeout=2)[0] == 200
        assert "Traceback" not in running.told()


@pytest.mark.fault(65)
def test_a_client_that_drips_its_request_is_cut_in_the_end(running: Daemon):
    with socket.create_connection(("127.0.0.1", running.admin_port), 5) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")

        def cut() -> bool:
            client.settimeout(0.5)
            try:
                client.sendall(b"x")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until("it is cut, each of its bytes in time for itself", cut, 30, 0)


@pytest.mark.fault(66)
def test_a_pipe_in_the_place_of_the_pid_file_holds_up_nobody(running: Daemon, manifests: Manifests):
    """nginx may write to that folder, so whoever took it over may, too."""
    pid_file = running.state / "run/nginx.pid"
    pid_file.unlink()
    os.mkfifo(pid_file)
    manifests.routed("more")
    running.until_state("more", "accepted")
    assert running.answers_from("more", "upstream")
    assert stopped_in_time(running) == 0, running.tail()


@pytest.mark.fault(66)
@pytest.mark.parametrize("answer", [b"", b"x"])
def test_a_revision_socket_that_never_comes_to_an_end_holds_up_nobody(
    daemon: Daemon, manifests: Manifests, answer: bytes
):
    manifests.routed("chat")
    daemon.environment["RAYPROXY_RELOAD_TIMEOUT"] = "2"
    running = daemon.start()
    path = running.state / "run/revision.sock"
    path.unlink()
    ended = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        talker = threading.Thread(target=_talk_on, args=(listener, answer, ended), daemon=True)
        talker.start()
        assert running.process
        running.process.send_signal(signal.SIGHUP)
        alarm = "rayproxy_config_last_reload_successful 0.0"
        until("the daemon raises the alarm", lambda: alarm in running.admin("/metrics")[1])
        assert running.admin("/healthz")[0] == 200
        assert stopped_in_time(running) == 0, running.tail()
        ended.set()
    talker.join(10)


def _talk_on(listener: socket.socket, answer: bytes, ended: threading.Event) -> None:
    """Accept, and say a little again and again."""
    listener.settimeout(0.1)
    callers: list[socket.socket] = []
    while not ended.is_set():
        with suppress(OSError):
            callers.append(listener.accept()[0])
        for caller in callers:
            with suppress(OSError):
                caller.sendall(answer)
    for caller in callers:
        caller.close()


@pytest.mark.fault(46)
def test_an_admin_port_that_is_taken_is_named(daemon: Daemon):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        daemon.environment["RAYPROXY_ADMIN_LISTEN"] = address
        daemon.start(ready=False)
        assert daemon.process
        assert daemon.process.wait(20) == 1
        words = (
            f"cannot listen on {address}: Address already in use; choose another address with RAYPROXY_ADMIN_LISTEN"
        )
        assert words in daemon.told()


def onto_a_socket(daemon: Daemon, command: str) -> tuple[int, str]:
    """Run a command whose standard output is a socket, as below systemd; return its exit code and its words."""
    own, its = socket.socketpair()
    with own, its:
        ran = subprocess.run(
            [sys.executable, "-m", "rayproxy", command],
            env=daemon.environment, stdout=its.fileno(), stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
        its.close()
        return ran.returncode, ran.stderr + own.makefile().read()


@pytest.mark.fault(149)
def test_an_access_log_onto_a_socket_which_nginx_cannot_open_is_refused_with_what_to_do(daemon: Daemon):
    daemon.environment["RAYPROXY_ACCESS_LOG"] = "true"
    for command in ("run", "check"):
        code, words = onto_a_socket(daemon, command)
        assert code == 1
        assert "RAYPROXY_ACCESS_LOG: nginx cannot open this standard output (No such device or address)" in words
        assert "StandardOutput=append:FILE" in words


def test_an_nginx_of_another_container_has_an_output_of_its_own(daemon: Daemon):
    daemon.environment |= {"RAYPROXY_ACCESS_LOG": "true", "RAYPROXY_NGINX": "external"}
    code, words = onto_a_socket(daemon, "check")
    assert (code, "FAIL" in words) == (0, False), words
