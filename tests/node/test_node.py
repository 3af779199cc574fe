"""Two replicas on a node: reached through their Service, rolled, killed."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.node.conftest import ready
from tests.support import node as nodes
from tests.support.http import request
from tests.support.kuberay import KubeRay
from tests.support.upstream import Upstream
from tests.support.waiting import until

Address = tuple[str, int]
CALLERS = 4


def test_both_replicas_answer_with_the_route(node: nodes.Node, proxy: Address):
    addresses = {pod["status"]["podIP"] for pod in node.pods("rayproxy")}
    assert len(addresses) == 2
    for address in addresses:
        until("the route", lambda at=address: asked((at, 8080)) == "200")
    assert asked(proxy) == "200"


def test_the_daemon_tells_in_its_pod_what_is_routed_and_that_all_is_well(
    node: nodes.Node, proxy: Address, kuberay: KubeRay
):
    routes = node.kubectl("-n", "rayproxy", "exec", "deploy/rayproxy", "--", "rayproxy", "routes")
    assert [line.split()[:3] for line in routes.splitlines()[1:]] == [["chat", kuberay.namespace, "accepted"]]
    assert "FAIL" not in node.kubectl("-n", "rayproxy", "exec", "deploy/rayproxy", "--", "rayproxy", "check")


def test_a_rolling_update_under_load_fails_no_request(node: nodes.Node, proxy: Address, model: Upstream):
    before = {pod["metadata"]["name"] for pod in node.pods("rayproxy")}
    with load(proxy) as outcomes:
        node.kubectl("-n", "rayproxy", "rollout", "restart", "deployment/rayproxy")
        until("two new pods", lambda: rolled(node, before), nodes.LONG, 0.5)
        done = sum(outcomes.values())
        until("load on the new pods as well", lambda: sum(outcomes.values()) > done + 200)
    assert set(outcomes) == {"200"}, outcomes


def test_a_killed_container_is_healed_by_kubelet_and_its_routes_are_back(node: nodes.Node, proxy: Address):
    for name, process in (("rayproxy", "rayproxy run"), ("nginx", "nginx: master")):
        pod = node.pods("rayproxy")[0]
        os.kill(pid_of(node, pod, name, process), signal.SIGKILL)
        until(f"{name} restarted", lambda pod=pod, name=name: restarts(node, pod, name) == 1, nodes.LONG, 0.5)
        until("both replicas are ready", lambda: ready(node) == 2, nodes.LONG, 0.5)
        address = (pod["status"]["podIP"], 8080)
        until("the route", lambda address=address: asked(address) == "200")


def asked(address: Address) -> str:
    """Return the status that `chat` answers with, or what went wrong."""
    try:
        return str(request(address, "/apis/rayservice/chat/").status)
    except OSError as error:
        return repr(error)


@contextmanager
def load(address: Address) -> Iterator[Counter[str]]:
    """Let callers ask without a pause; count their outcomes."""
    outcomes: Counter[str] = Counter()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            outcomes[asked(address)] += 1

    threads = [threading.Thread(target=ask) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        done.set()
        for thread in threads:
            thread.join()


def rolled(node: nodes.Node, before: set[str]) -> bool:
    names = {pod["metadata"]["name"] for pod in node.pods("rayproxy")}
    return len(names) == 2 and not names & before and ready(node) == 2


def pid_of(node: nodes.Node, pod: nodes.Manifest, name: str, process: str) -> int:
    """Return the host's pid of a process of a container."""
    found = node.container(pod, name).top(ps_args="-eo pid,args")["Processes"]
    return next(int(pid) for pid, command in found if process in command)


def restarts(node: nodes.Node, pod: nodes.Manifest, name: str) -> int:
    path = f"/api/v1/namespaces/rayproxy/pods/{pod['metadata']['name']}"
    statuses = node.cluster.call("GET", path)["status"]["containerStatuses"]
    return next(each["restartCount"] for each in statuses if each["name"] == name)
