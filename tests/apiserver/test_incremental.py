"""KubeRay's incremental upgrade as it was recorded, by a real API server: both clusters answer as it weighs them.

Recorded in tests/recorded/incremental/ while KubeRay 1.6.2 moved a RayService in steps of at most 20 %; only what is
read here was kept, and the label by which it is routed was added.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import played
from tests.support.daemon import Daemon
from tests.support.http import free_port
from tests.support.kuberay import KubeRay
from tests.support.upstream import Upstream
from tests.support.waiting import until

pytestmark = pytest.mark.slow

RECORDING = Path(__file__).parents[1] / "recorded" / "incremental" / "1.6.2.jsonl"
CALLS = 500
FAR = 50  # calls, more than four standard deviations
LAG = 15.0  # s


class Upgrade:
    """Play the recording before a daemon, each of the two clusters an upstream of its own."""

    def __init__(self, daemon: Daemon, kuberay: KubeRay) -> None:
        self._daemon = daemon
        self._kuberay = kuberay
        self._replay = played.Replay(kuberay)
        self._port = free_port()
        self.upstreams: dict[str, Upstream] = {}
        self.path = ""

    def do(self, line: dict[str, Any]) -> None:
        """Do what was recorded; the Service of a cluster answers by the cluster's name."""
        obj = line["object"]
        if obj["kind"] == "Service":
            obj["spec"]["ports"][0]["port"] = self._port
        self._replay.do(line)
        if obj["kind"] == "Service":
            name = obj["metadata"]["name"]
            path = f"/api/v1/namespaces/{self._kuberay.namespace}/services/{name}"
            address = self._kuberay.cluster.call("GET", path)["spec"]["clusterIP"]
            self.upstreams[name] = Upstream(address, self._port, name.removesuffix("-serve-svc"))

    def until_shared(self, expected: dict[str, int]) -> None:
        """Call until the daemon serves these shares; no call may fail."""
        deadline = time.monotonic() + LAG
        while self._shares() != expected:
            assert time.monotonic() < deadline, f"{expected} is not served, but {self._shares()}"
            if "inc-xtkjt-serve-svc" in self.upstreams and self._shares():
                self.call()

    def endpoints(self, number: int, *ready: bool) -> None:
        """Say who is ready behind a cluster's Service, by the cluster's number."""
        name = list(self.upstreams)[number]
        path = f"/api/v1/namespaces/{self._kuberay.namespace}/services/{name}"
        self._kuberay.endpoints(self._kuberay.cluster.call("GET", path), *ready)

    def until_old_has(self, ready: int) -> None:
        """Wait until the daemon knows that many behind the old cluster, and all endpoints written before."""
        route = f"{self._kuberay.namespace}/inc"

        def known() -> bool:
            seen = self._daemon.routes().get(route, {}).get("behind")
            return seen is not None and seen["ready"] == ready

        until(f"{ready} are known", known)

    def until_taken(self) -> None:
        """Wait until the daemon has served an object that was made after all that was done so far."""
        self._kuberay.routed("marker")
        self._daemon.until_state("marker", "accepted", self._kuberay.namespace)

    def call(self) -> str:
        """Return the cluster that answers."""
        answer = self._daemon.route("inc", self.path)
        assert answer.status == 200, answer
        assert answer.json["line"] == f"GET /{self.path} HTTP/1.1"
        return answer.json["upstream"]

    def _shares(self) -> dict[str, int]:
        routed = self._daemon.routes().get(f"{self._kuberay.namespace}/inc", {})
        named = dict(self._named(each) for each in filter(None, routed.get("backend", "").split(", ")))
        return {name: share for name, share in named.items() if share}

    def _named(self, backend: str) -> tuple[str, int]:
        address, _, percent = backend.removesuffix(" %)").partition(" (")
        [name] = [each.name for each in self.upstreams.values() if address == f"{each.host}:{each.port}"]
        return name, int(percent) if percent else 100


@pytest.fixture
def played_upgrade(daemon: Daemon, kuberay: KubeRay) -> Iterator[Upgrade]:
    upgrade = Upgrade(daemon, kuberay)
    yield upgrade
    for upstream in upgrade.upstreams.values():
        upstream.close()


def weights(line: dict[str, Any]) -> dict[str, int]:
    """Return who should answer what share of the calls after a line about the RayService."""
    found = [line["object"]["status"].get(name, {}) for name in ("activeServiceStatus", "pendingServiceStatus")]
    return {each["rayClusterName"]: each["trafficRoutedPercent"] for each in found if each.get("trafficRoutedPercent")}


@pytest.mark.fault(102)
@pytest.mark.parametrize(("template", "path"), [("prefix", "a%0Ab%20//c%3F?d=e"), ("regex", "a/b?d=e")])
def test_each_step_of_an_upgrade_is_followed_and_no_call_fails(
    daemon: Daemon, kuberay: KubeRay, played_upgrade: Upgrade, template: str, path: str
):
    daemon.environment["RAYPROXY_TEMPLATE"], played_upgrade.path = template, path
    daemon.start()
    served: dict[str, int] = {}
    steps, lags = [], []
    for line in played.lines(RECORDING):
        played_upgrade.do(line)
        if line["resource"] != "rayservices" or not (wanted := weights(line)) or wanted == served:
            continue
        begun = time.monotonic()
        played_upgrade.until_shared(wanted)
        lags.append(time.monotonic() - begun)
        served = wanted
        steps.append(max(wanted.values()))
        counted = Counter(played_upgrade.call() for _ in range(CALLS))
        assert counted.keys() == wanted.keys()
        assert all(abs(counted[name] - CALLS * share / 100) < FAR for name, share in wanted.items()), counted
    assert steps == [100, 80, 60, 50, 70, 90, 100]
    assert daemon.reloads <= len(steps) + 2, "what KubeRay writes each 2 s is no change"
    print(f"lag {sorted(lags)[len(lags) // 2]:.2f} s in the middle, {max(lags):.2f} s at most")


@pytest.mark.fault(125)
def test_the_new_cluster_is_asked_from_the_step_on_before_which_a_pod_of_it_is_ready(
    daemon: Daemon, kuberay: KubeRay, played_upgrade: Upgrade
):
    daemon.start()
    recorded = played.lines(RECORDING)
    shared = [
        number for number, line in enumerate(recorded) if line["resource"] == "rayservices" and len(weights(line)) > 1
    ]
    first, second = shared[0], shared[2]  # KubeRay writes each of them twice
    for line in recorded[:first]:
        played_upgrade.do(line)
    played_upgrade.endpoints(0, True)
    played_upgrade.endpoints(1, False)
    played_upgrade.endpoints(0, True, True)
    played_upgrade.until_old_has(2)
    played_upgrade.do(recorded[first])
    played_upgrade.until_taken()
    [old] = {played_upgrade.call() for _ in range(100)}
    assert f"{old}-serve-svc" == next(iter(played_upgrade.upstreams))
    played_upgrade.endpoints(1, True)
    played_upgrade.endpoints(0, True)
    played_upgrade.until_old_has(1)
    played_upgrade.do(recorded[second])
    played_upgrade.until_shared(weights(recorded[second]))
