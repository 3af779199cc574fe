"""KubeRay's upgrade in steps with no Gateway implementation anywhere: the proxy itself says that traffic may move."""

from __future__ import annotations

import re

import pytest

from tests.cluster.table import Table
from tests.cluster.world import HEAD, World
from tests.support import gatewayapi
from tests.support.callers import ANSWERED, WHOLE
from tests.support.cluster import KUBERAY
from tests.support.node import LONG
from tests.support.waiting import until

CLASS = "rayproxy-upgrades"
STEPS = ["--incremental=20%:5", f"--gateway-class={CLASS}"]
LITTLE = ["--cpu=300m", "--head-cpu=300m"]  # Ray's autoscaler, which KubeRay puts beside each head, wants 500m
DEPLOYMENT = "/apis/apps/v1/namespaces/rayproxy/deployments/rayproxy"


@pytest.fixture(scope="module")
def stepping(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Have the Gateway API's definitions, and deploy/ with its component for Gateways."""
    gatewayapi.install(world.running.server)
    manifests = gatewayapi.rendered(tmp_path_factory.mktemp("deploy"))
    world.running.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", manifests=manifests)
    until("both replicas are the new ones", lambda: _rolled(world), LONG, 0.5)
    return world


def _rolled(world: World) -> bool:
    found = world.running.server.call("GET", DEPLOYMENT)
    status = found["status"]
    counted = {name: status.get(name) for name in ("replicas", "updatedReplicas", "readyReplicas")}
    return status["observedGeneration"] == found["metadata"]["generation"] and set(counted.values()) == {2}


@pytest.mark.whole
@pytest.mark.fault(120)
@pytest.mark.fault(125)
def test_an_upgrade_in_steps_moves_by_the_proxys_own_words_and_fails_no_call(stepping: World, table: Table):
    done = stepping.deploy("one", *STEPS, *LITTLE)
    assert done.returncode == 0, done.stdout + done.stderr
    with table.calling("upgraded in steps, the proxy answering for the Gateway class", stepping) as heard:
        done = stepping.deploy("two", *STEPS, *LITTLE)
        assert done.returncode == 0, done.stdout + done.stderr
        until("the new one answers", lambda: stepping.model() == "two", LONG, 0.2)
        until("the old cluster is gone", lambda: len(stepping.workers()) == 1, LONG, 0.5)
    moved = re.findall(r"the new cluster gets ([0-9]+) % of the traffic", done.stdout + done.stderr)
    assert len(set(moved)) > 2, done.stdout + done.stderr
    assert heard.figures.cut == 0
    assert set(heard.outcomes) == {ANSWERED, WHOLE}, heard.outcomes


@pytest.mark.whole
def test_an_upgrade_in_steps_that_is_taken_back_midway_fails_no_call(stepping: World, table: Table):
    """KubeRay 1.6 goes back in steps as well, to the cluster that it came from; older ones start a third one."""
    done = stepping.deploy("two", *STEPS, *LITTLE)
    assert done.returncode == 0, done.stdout + done.stderr
    before = [pod["metadata"]["name"] for pod in stepping.pods(HEAD)]
    with table.calling("an upgrade in steps taken back midway", stepping) as heard:
        done = stepping.apply("three", *STEPS, *LITTLE)
        assert done.returncode == 0, done.stdout + done.stderr
        until("traffic has moved", lambda: _share(stepping) >= 40, LONG, 0.2)
        done = stepping.deploy("two", *STEPS, *LITTLE)
        assert done.returncode == 0, done.stdout + done.stderr
        until("the new cluster is gone", lambda: len(stepping.workers()) == 1, LONG, 0.5)
        answered = heard.outcomes[ANSWERED]
        until("callers are answered", lambda: heard.outcomes[ANSWERED] > answered + 50, LONG)
    assert stepping.model() == "two"
    if KUBERAY >= "1.6":
        assert [pod["metadata"]["name"] for pod in stepping.pods(HEAD)] == before
    assert heard.figures.cut == 0
    assert set(heard.outcomes) == {ANSWERED, WHOLE}, heard.outcomes


@pytest.mark.whole
@pytest.mark.fault(130)
def test_a_model_that_leaves_upgrades_in_steps_answers_meanwhile(stepping: World, table: Table):
    """KubeRay leaves the Service of before the upgrades in steps as it was: it selects a cluster that is gone."""
    stepping.roll()  # see there: what the upgrades before have changed is not to count
    for model, strategy in (("plain", []), ("stepped", STEPS)):
        done = stepping.deploy(model, *strategy, *LITTLE)
        assert done.returncode == 0, done.stdout + done.stderr
    until("the first cluster is gone", lambda: len(stepping.workers()) == 1, LONG, 0.5)
    with table.calling("upgrades in steps left for those of whole clusters", stepping) as heard:
        done = stepping.deploy("whole", *LITTLE)
        assert done.returncode == 0, done.stdout + done.stderr
        until("the new one answers", lambda: stepping.model() == "whole", LONG, 0.2)
        until("the old cluster is gone", lambda: len(stepping.workers()) == 1, LONG, 0.5)
    assert heard.figures.cut == 0
    assert set(heard.outcomes) <= {ANSWERED, WHOLE, "503"}, heard.outcomes
    assert heard.figures.gap < 10  # s; as in each upgrade of whole clusters, until KubeRay's new worker is ready


def _share(stepping: World) -> int:
    """Return how much of the traffic the new cluster has."""
    return int(stepping.status().get("pendingServiceStatus", {}).get("trafficRoutedPercent") or 0)
