"""The two replicas of deploy/: reached through their Service, rolled, killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cluster.table import Table
from tests.cluster.world import NAME, ROUTE, World, ready
from tests.support.callers import ANSWERED, WHOLE, ask
from tests.support.cluster import Manifest, Running
from tests.support.node import LONG
from tests.support.waiting import until


def test_both_replicas_answer_with_the_route_from_a_node_each(served: World):
    pods = served.running.pods("rayproxy")
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    for pod in pods:
        until("the route", lambda at=(pod["status"]["podIP"], 8080): ask(at, ROUTE) == ANSWERED)


def test_the_daemon_tells_in_its_pod_what_is_routed_and_that_all_is_well(served: World):
    running = served.running
    routes = running.kubectl("-n", "rayproxy", "exec", "deploy/rayproxy", "--", "rayproxy", "routes")
    assert [line.split()[:4] for line in routes.splitlines()[1:]] == [
        [NAME, served.namespace, "rayservice", "accepted"]
    ]
    assert "FAIL" not in running.kubectl("-n", "rayproxy", "exec", "deploy/rayproxy", "--", "rayproxy", "check")


def test_a_rolling_update_under_load_fails_no_request(served: World, table: Table):
    heard = table.rolled("deploy/ rolled", served)
    assert set(heard.outcomes) == {ANSWERED, WHOLE}, heard.outcomes


def test_a_killed_container_is_healed_by_kubelet_and_its_routes_are_back(served: World):
    assert served.own  # the pods' processes are this machine's
    for name, process in (("rayproxy", "rayproxy run"), ("nginx", "nginx: master")):
        pod = served.running.pods("rayproxy")[0]
        os.kill(_pid_of(pod, process), signal.SIGKILL)
        until(f"{name} restarted", lambda pod=pod, name=name: _restarts(served.running, pod, name) == 1, LONG, 0.5)
        until("both replicas are ready", lambda: ready(served.running) == 2, LONG, 0.5)
        until("the route", lambda at=(pod["status"]["podIP"], 8080): ask(at, ROUTE) == ANSWERED)


def _pid_of(pod: Manifest, command: str) -> int:
    """Return the pid of a process in one of a pod's containers, as this machine knows it."""
    ids = [each["containerID"].removeprefix("containerd://") for each in pod["status"]["containerStatuses"]]
    return next(
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if command in _read(process / "cmdline") and any(each in _read(process / "cgroup") for each in ids)
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ")
    except OSError:  # it has just ended
        return ""


def _restarts(running: Running, pod: Manifest, name: str) -> int:
    path = f"/api/v1/namespaces/rayproxy/pods/{pod['metadata']['name']}"
    statuses = running.server.call("GET", path)["status"]["containerStatuses"]
    return next(each["restartCount"] for each in statuses if each["name"] == name)
