"""The pod's containers, killed one after another, while callers watch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rayproxy.nginx import procfs
from tests.e2e.conftest import documented_calls
from tests.support.http import free_port
from tests.support.kuberay import KubeRay
from tests.support.pod import LONG, Pod
from tests.support.upstream import Upstream
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.apiserver]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def stand_in() -> Iterator[int]:
    """Return the port of the stand-in model of examples/, on every ClusterIP."""
    port = free_port("0.0.0.0")
    process = subprocess.Popen([sys.executable, ROOT / "examples/stand_in.py", f"0.0.0.0:{port}"])
    yield port
    process.terminate()
    process.wait()


def test_the_documented_calls_are_answered(make_pod: Callable[..., Pod], kuberay: KubeRay, stand_in: int):
    kuberay.port = stand_in
    kuberay.routed("qa-service-chatglm3")
    pod = make_pod(NAMESPACES=kuberay.namespace).start()
    until("routed", lambda: pod.get("/apis/rayservice/qa-service-chatglm3/nothing").status == 404)
    answers = documented_calls(pod)
    assert '"output": "你好! I am a stand-in' in answers[0]
    assert answers[1].count("event:add\n") == 6
    assert "event:finish\n" in answers[1]


@contextmanager
def asked_all_the_time(pod: Pod, name: str) -> Iterator[list[str]]:
    """Send requests without a pause; the list gets what went wrong with each that failed."""
    failures: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answer = pod.get(f"/apis/rayservice/{name}/")
                failures.extend([] if answer.status == 200 else [f"{answer.status}: {answer.body!r}"])
            except OSError as error:
                failures.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failures
    finally:
        done.set()
        thread.join()


@pytest.mark.fault(53)
def test_a_killed_daemon_is_healed_and_no_request_notices(pod: Pod, kuberay: KubeRay):
    with asked_all_the_time(pod, "chat") as failures:
        os.kill(pod.pid("rayproxy"), signal.SIGKILL)
        until("started anew", lambda: pod.restarts("rayproxy") == 1, LONG)
        until("ready again", pod.is_ready, LONG)
        kuberay.routed("later")
        until("what came meanwhile is routed", lambda: pod.answers("later"), LONG)
    assert failures == []


def master(pod: Pod) -> int:
    """Return the host's pid of nginx's master."""
    children = procfs.children(pod.pid("nginx"))
    return next((child.pid for child in children if procfs.title(child.pid).startswith(b"nginx: master")), 0)


def workers(pod: Pod) -> set[procfs.Process]:
    """Return nginx's workers that take connections."""
    found = procfs.children(master(pod))
    return {worker for worker in found if procfs.title(worker.pid).strip() == b"nginx: worker process"}


@pytest.mark.fault(36)
def test_a_killed_nginx_is_healed_with_all_its_routes(pod: Pod, kuberay: KubeRay):
    os.kill(master(pod), signal.SIGKILL)
    until("started anew", lambda: pod.restarts("nginx") == 1, LONG)
    until("the route answers again", lambda: pod.answers("chat"), LONG)
    kuberay.routed("later")
    until("the daemon knows the new master", lambda: pod.answers("later"), LONG)
    assert pod.answers("chat")


@pytest.mark.fault(41)
def test_a_killed_worker_is_healed_with_all_its_routes(pod: Pod, kuberay: KubeRay):
    before = workers(pod)
    killed = min(before, key=lambda worker: worker.pid)
    os.kill(killed.pid, signal.SIGKILL)
    until("another worker", lambda: len(workers(pod)) == len(before) and killed not in workers(pod))
    assert pod.answers("chat")
    assert pod.restarts("nginx") == 0
    kuberay.routed("later")
    until("routed", lambda: pod.answers("later"), LONG)


@contextmanager
def stream(pod: Pod, name: str) -> Iterator[socket.socket]:
    """Open a stream and read its first piece; the upstream holds the rest back."""
    with socket.create_connection(("127.0.0.1", pod.port), 30) as connection:
        connection.sendall(f"GET /apis/rayservice/{name}/stream HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        received = b""
        while b"data: first" not in received:
            received += connection.recv(4096)
        yield connection


def rest(connection: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        piece = connection.recv(4096)
        assert piece, f"cut after {received!r}"
        received += piece
    return received


def test_a_stream_survives_a_rollout_of_the_daemon_and_twenty_reloads(pod: Pod, everywhere: Upstream):
    with stream(pod, "chat") as connection:
        pod.stop_container("rayproxy")
        pod.start_container("rayproxy")
        until("the new daemon is ready", pod.is_ready, LONG)
        for _ in range(20):
            before = workers(pod)
            os.kill(master(pod), signal.SIGHUP)
            until("new workers", lambda old=before: workers(pod) and not workers(pod) & old)
        everywhere.release.set()
        assert b"data: last" in rest(connection)


def test_a_stopped_nginx_lets_a_stream_end_and_takes_no_new_one(pod: Pod, everywhere: Upstream):
    with stream(pod, "chat") as connection:
        stopping = threading.Thread(target=pod.stop_container, args=("nginx",))
        stopping.start()
        until("nobody listens", lambda: not pod.answers("chat"), LONG)
        everywhere.release.set()
        assert b"data: last" in rest(connection)
        stopping.join(LONG)
        assert not stopping.is_alive()


@pytest.mark.fault(37)
def test_nginx_waits_for_the_first_revision(make_pod: Callable[..., Pod]):
    pod = make_pod()
    pod.start_processes()
    (pod.folder / "state" / "run").mkdir()  # a mount point, in a folder that the container cannot write
    pod.start_container("nginx")
    until("it says so", lambda: "waiting for the first revision" in pod.logs("nginx"), LONG)
    pod.run("init")
    until("it answers", lambda: _healthy(pod), LONG)
    assert pod.restarts("nginx") == 0


def _healthy(pod: Pod) -> bool:
    try:
        return pod.get("/-/healthz").status == 200
    except OSError:
        return False


def test_nginx_cannot_read_the_token_of_the_daemon_beside_it(pod: Pod):
    path = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    daemon = _number_in_the_pod(Path(f"/proc/{pod.pid('rayproxy')}"))
    assert pod.shell("nginx", f"cat /proc/{daemon}/comm") == (0, "rayproxy\n")
    for secret in (f"/proc/{daemon}/root{path}", f"/proc/{daemon}/environ", f"/proc/{daemon}/mem"):
        code, said = pod.shell("nginx", f"cat {secret}")
        assert (code, said.rstrip().endswith("Permission denied")) == (1, True), secret
    assert pod.shell("nginx", f"test -e {path}")[0] == 1
    assert pod.shell("rayproxy", f"test -s {path}")[0] == 0


@pytest.mark.fault(68)
@pytest.mark.parametrize("binary", ["nginx", "python3"])
def test_nginx_cannot_look_into_a_process_of_the_daemon_that_has_just_started(pod: Pod, binary: str):
    """What the daemon itself does against it (prctl) comes after its first moments, and never in its nginx -t."""
    starts = {
        "nginx": "mkfifo /var/lib/rayproxy/run/slow; exec nginx -t -c /var/lib/rayproxy/run/slow",
        "python3": "exec python3 -c 'import time; time.sleep(600)'",
    }
    number = _started(pod, starts[binary], binary)
    for secret in ("root/var/run/secrets/kubernetes.io/serviceaccount/token", "environ", "mem", "maps"):
        code, said = pod.shell("nginx", f"cat /proc/{number}/{secret}")
        assert (code, said.rstrip().endswith("Permission denied")) == (1, True), (secret, said[:200])


def _started(pod: Pod, script: str, binary: str) -> str:
    """Start a process in the daemon's container; return its number as the pod sees it, once it is the binary."""
    container = pod.running["rayproxy"].get_wrapped_container()
    engine = container.client.api
    running = engine.exec_create(container.id, ["sh", "-c", script])["Id"]
    engine.exec_start(running, detach=True)
    process = Path("/proc") / str(until("it runs", lambda: engine.exec_inspect(running)["Pid"], LONG))
    until(f"it is {binary}", lambda: (process / "comm").read_text().startswith(binary), LONG)
    return _number_in_the_pod(process)


def _number_in_the_pod(process: Path) -> str:
    lines = (process / "status").read_text().splitlines()
    return next(line.split()[-1] for line in lines if line.startswith("NSpid"))


@pytest.mark.fault(68)
def test_nginx_cannot_write_what_it_is_configured_by(pod: Pod):
    for script in (
        "echo 'load_module /tmp/evil.so;' >>/var/lib/rayproxy/current/nginx.conf",
        "rm /var/lib/rayproxy/current",
        "mkdir /var/lib/rayproxy/revisions/0123456789abcdef",
    ):
        code, said = pod.shell("nginx", script)
        assert code != 0
        assert "Read-only file system" in said
    assert pod.shell("nginx", "touch /var/lib/rayproxy/run/here")[0] == 0


def test_both_containers_run_unprivileged_and_write_to_their_volumes_alone(pod: Pod):
    for name in ("nginx", "rayproxy"):
        code, said = pod.shell(name, "id -u; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | cut -f2")
        assert code == 0
        assert said.split() == ["10001", "0" * 16, "0" * 16, "1", "2"]
        assert pod.shell(name, "touch /somewhere 2>&1")[1].strip().endswith("Read-only file system")
        written = {"nginx": "", "rayproxy": "/var/lib/rayproxy\n"}[name]  # of what is mounted, as find sees it
        assert pod.shell(name, "find / -xdev -writable -not -type l 2>/dev/null")[1] == written
