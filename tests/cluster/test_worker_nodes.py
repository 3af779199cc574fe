"""A model whose head keeps its state in Redis: its head is killed, and its worker's node goes."""

from __future__ import annotations

import base64

import pytest

from tests.cluster.table import Table
from tests.cluster.world import HEAD, NAME, WORKER, World, ready
from tests.support.callers import ANSWERED, WHOLE
from tests.support.cluster import ADDRESSES, PASSWORD, REDIS
from tests.support.node import LONG
from tests.support.waiting import stays, until

pytestmark = pytest.mark.whole
FIRST, SECOND = ADDRESSES
KEPT = 75.0  # s; a worker that has lost its head ends itself after 60


@pytest.fixture(scope="module")
def kept(world: World, table: Table) -> World:
    """Have the model `chat` deployed with a Redis, its head and its worker on the first node."""
    assert world.own  # which has a Redis, and nodes that may go
    world.roll()
    secret = {"metadata": {"name": "redis"}, "data": {"password": base64.b64encode(PASSWORD.encode()).decode()}}
    world.running.server.call("POST", f"/api/v1/namespaces/{world.namespace}/secrets", secret)
    world.running.kubectl("-n", world.namespace, "delete", "rayservice", NAME, "--ignore-not-found", "--wait=false")
    pods = f"/api/v1/namespaces/{world.namespace}/pods"
    until("the model of before is gone", lambda: not world.running.server.call("GET", pods)["items"], LONG, 0.5)
    with world.only_on(FIRST), table.row("deployed with a Redis"):
        done = world.deploy("kept", f"--redis={REDIS}", "--redis-secret=redis")
    assert done.returncode == 0, done.stdout + done.stderr
    return world


def test_a_head_that_is_killed_with_redis_takes_nothing_along(kept: World, table: Table):
    heads, before = kept.pods(HEAD), kept.begun()
    with table.calling("its head killed, with Redis", kept) as heard, kept.only_on(FIRST):
        kept.kill(heads[0])
        until("another head is there", lambda: kept.replaced(HEAD, heads), LONG, 0.5)
        stays("the model answers", lambda: kept.asked() == ANSWERED, KEPT, 1.0)
    assert kept.begun() == before
    assert set(heard.outcomes) == {ANSWERED, WHOLE}, heard.outcomes


def test_a_node_that_is_drained_sends_its_worker_to_the_other_one(kept: World, table: Table):
    kept.worker_on(SECOND)
    workers = kept.workers()
    with table.calling("its worker's node drained", kept) as heard, kept.only_on(FIRST):
        kept.evict(SECOND)
        until("a worker on the other node", lambda: kept.replaced(WORKER, workers), LONG, 0.5)
        until("both replicas are ready", lambda: ready(kept.running) == 2, LONG, 0.5)
        _answered(kept, heard)
    assert "404" not in heard.outcomes, heard.outcomes


def test_a_node_that_is_powered_off_takes_the_model_along_until_its_worker_is_elsewhere(kept: World, table: Table):
    """The last of all: the cluster has one node then."""
    _spread(kept)
    kept.worker_on(SECOND)
    workers = kept.workers()
    with table.calling("its worker's node powered off", kept) as heard:
        kept.own.nodes[1].power_off()
        until("nothing answers", lambda: kept.asked() != ANSWERED, LONG)
        until("the node is known to be away", lambda: len(_proxies(kept)) < 2, LONG, 0.5)
        kept.running.kubectl("delete", "node", SECOND, "--wait=false")  # as a cloud's controller does
        until("a worker on the other node", lambda: kept.replaced(WORKER, workers), LONG, 0.5)
        _answered(kept, heard)
    assert "404" not in heard.outcomes, heard.outcomes


def _spread(kept: World) -> None:
    """Have a replica of the proxy on each node."""
    if {pod["spec"]["nodeName"] for pod in _proxies(kept)} != set(ADDRESSES):
        with kept.only_on(SECOND):
            kept.kill(_proxies(kept)[0])
            until("one on each", lambda: {pod["spec"]["nodeName"] for pod in _proxies(kept)} == set(ADDRESSES), LONG)


def _proxies(kept: World) -> list:
    pods = kept.running.pods("rayproxy")
    return pods if ready(kept.running) == len(pods) == 2 else []


def _answered(kept: World, heard) -> None:
    until("it answers", lambda: kept.asked() == ANSWERED, LONG, 0.2)
    answered = heard.outcomes[ANSWERED]
    until("callers are answered", lambda: heard.outcomes[ANSWERED] > answered + 50, LONG)
