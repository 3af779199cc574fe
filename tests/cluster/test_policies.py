"""deploy/'s NetworkPolicy where it is enforced: what the proxy needs goes on, everything else is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.cluster.table import Table
from tests.cluster.world import HEAD, World
from tests.support.callers import ANSWERED, WHOLE
from tests.support.cluster import ASSETS, FIRST, PORT, SERVICES, Manifest
from tests.support.firewall import enforced
from tests.support.node import LONG
from tests.support.objects import MERGE
from tests.support.waiting import until

DOOR, ADMIN, SERVE, DASHBOARD, REDIS = 8080, 9090, 8000, 8265, 6379
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
SCRAPE = "import sys, urllib.request as r; print(r.urlopen(f'http://{sys.argv[1]}:9090/metrics', timeout=5).read())"


@pytest.fixture(scope="module")
def policed(served: World) -> Iterator[World]:
    """Have NetworkPolicies enforced: on our own nodes, or by whatever enforces them in an existing cluster."""
    own = served.running.own
    with enforced(own.nodes, ASSETS / "kube-router", served.running.kubeconfig, SERVICES) if own else nullcontext():
        until("a worker does not reach the daemons' port", lambda: not _reached(served, ADMIN), LONG, 0.5)
        yield served


def test_the_network_keeps_everybody_but_prometheus_from_the_daemons_port(policed: World):
    assert len(_reached(policed, DOOR)) == 2
    assert not _reached(policed, ADMIN)
    _label(policed, "enabled")
    until("Prometheus's metrics", lambda: "rayproxy_routes" in _scraped(policed), LONG, 0.5)
    _label(policed, None)
    until("no metrics for others", lambda: not _scraped(policed), LONG, 0.5)


def _label(world: World, metrics: str | None) -> None:
    """Let the model's namespace be one of Prometheus's, or any other again."""
    path = f"/api/v1/namespaces/{world.namespace}"
    world.running.server.call("PATCH", path, {"metadata": {"labels": {"metrics": metrics}}}, MERGE)


def _scraped(world: World) -> str:
    """Return what a model's worker is told of a replica's metrics, if anything."""
    (worker,), (proxy, _) = world.workers(), world.running.pods("rayproxy")
    return _said(world, worker, SCRAPE, _address(proxy))


def test_the_proxy_reaches_models_and_the_api_server_and_nothing_else(policed: World):
    (worker,), (head,) = policed.workers(), policed.pods(HEAD)
    refused = [(_address(head), DASHBOARD), *([(FIRST, REDIS)] if policed.running.own else [])]
    assert all(_connects(policed, worker, *each) for each in refused)  # which has no policy
    for proxy in policed.running.pods("rayproxy"):
        assert _connects(policed, proxy, _address(worker), SERVE)
        assert not any(_connects(policed, proxy, *each) for each in refused)
        if policed.running.own:
            assert _connects(policed, proxy, FIRST, PORT)


def test_replicas_that_begin_under_it_come_to_serve_and_fail_no_request(policed: World, table: Table):
    heard = table.rolled("deploy/ rolled, its NetworkPolicy enforced", policed)
    assert set(heard.outcomes) == {ANSWERED, WHOLE}, heard.outcomes


def _reached(world: World, port: int) -> list[str]:
    """Return the names of the proxy's pods that a model's worker can connect to."""
    (worker,) = world.workers()
    pods = world.running.pods("rayproxy")
    return [pod["metadata"]["name"] for pod in pods if _connects(world, worker, _address(pod), port)]


def _connects(world: World, pod: Manifest, address: str, port: int) -> bool:
    return _said(world, pod, f"{CONNECT}; print('there')", address, str(port)) != ""


def _said(world: World, pod: Manifest, program: str, *arguments: str) -> str:
    """Return what a program of Python's prints in a pod, or nothing where it fails."""
    named = pod["metadata"]
    container = "rayproxy" if named["namespace"] == "rayproxy" else pod["spec"]["containers"][0]["name"]
    where = ["-n", named["namespace"], "exec", named["name"], "-c", container]
    try:
        return world.running.kubectl(*where, "--", "python3", "-c", program, *arguments)
    except AssertionError:
        return ""


def _address(pod: Manifest) -> str:
    return str(pod["status"]["podIP"])
