"""Replicas of the proxy speak with one voice of an upgrade, with no more permissions than deploy/ gives them."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.test_gateways import ALL_WELL, until_said
from tests.support import gatewayapi
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.gatewayapi import Home, Steps
from tests.support.kuberay import KubeRay
from tests.support.waiting import until

pytestmark = pytest.mark.slow
FIRST, SECOND, THIRD = "rayproxy-1", "rayproxy-2", "rayproxy-3"


@pytest.fixture
def steps(kuberay: KubeRay) -> Steps:
    gatewayapi.install(kuberay.cluster)
    return Steps(kuberay)


@pytest.fixture
def home(steps: Steps, tmp_path: Path) -> Home:
    """Return the proxy's namespace; its service account may do what deploy/ alone lets it do."""
    made = Home(steps.cluster, steps.cluster.namespace("proxy"), gatewayapi.rendered(tmp_path)).make()
    made.allow(steps.kuberay.namespace, "ClusterRole", "rayproxy")
    made.allow(made.namespace, "ClusterRole", "rayproxy")
    return made


@pytest.fixture
def speaking(home: Home, steps: Steps) -> Home:
    """Return the same with what the component for Gateways adds."""
    home.allow(steps.kuberay.namespace, "ClusterRole", "rayproxy-gateway")
    return home


@pytest.fixture
def make_replica(home: Home, steps: Steps) -> Iterator[Callable[..., Daemon]]:
    """Return a function that makes the daemon of a pod."""
    with contextlib.ExitStack() as stack:

        def make(pod: str, **settings: str) -> Daemon:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rp-", ignore_cleanup_errors=True)))
            folder.chmod(0o755)
            given = {
                "KUBECONFIG": str(home.cluster.kubeconfig(folder, home.account.token())),
                "NAMESPACES": steps.kuberay.namespace,
                "GATEWAY_CLASS": "rayproxy",
                "REPLICAS_SERVICE": f"{home.namespace}/rayproxy",
                "REPLICA": pod,
                "WORKERS": "1",
            }
            replica = Daemon(folder, given | settings)
            stack.callback(replica.clean_up)
            return replica

        yield make


def until_waits(steps: Steps, words: str) -> None:
    """Wait until the Gateway is said to be held back, in these words."""
    until(words, lambda: words in steps.said().get("Programmed", {}).get("message", ""), 60)
    assert steps.states()["Programmed"] == "False Pending"


@pytest.mark.fault(121)
def test_a_new_replica_holds_the_words_back_until_it_has_proven_the_route(
    speaking: Home, steps: Steps, make_replica: Callable[..., Daemon]
):
    speaking.ready(FIRST)
    make_replica(FIRST).start()
    steps.start()
    until_said(steps, **ALL_WELL)
    speaking.ready(FIRST, SECOND)
    until_waits(steps, f"the replica {SECOND} of the proxy is ready and has not said yet which routes it has proven")
    make_replica(SECOND).start()
    until_said(steps, **ALL_WELL)
    assert speaking.entries().keys() == {FIRST, SECOND}


@pytest.mark.fault(121)
def test_a_replica_that_cannot_lead_to_the_new_cluster_holds_the_upgrade_up_and_is_named(
    speaking: Home, steps: Steps, make_replica: Callable[..., Daemon]
):
    speaking.ready(FIRST, SECOND)
    steps.start()
    path = f"/api/v1/namespaces/{steps.kuberay.namespace}/services/inc-1-serve-svc"
    old = steps.cluster.call("GET", path)["spec"]["clusterIP"]
    make_replica(FIRST).start()
    make_replica(SECOND, ALLOWED_CIDRS=f"{old}/32").start()
    until_said(steps, **ALL_WELL)
    steps.service("inc-2")
    steps.begin()
    until_waits(steps, f"the replica {SECOND} of the proxy has not proven in its nginx that it leads to all")
    assert steps.states()["ResolvedRefs"] == "True ResolvedRefs", "the first one, which speaks, could"


@pytest.mark.fault(121)
@pytest.mark.parametrize("dead", [FIRST, SECOND])
def test_a_dead_replica_holds_the_words_back_while_callers_are_led_to_it(
    speaking: Home, steps: Steps, make_replica: Callable[..., Daemon], dead: str
):
    speaking.ready(FIRST, SECOND)
    replicas = {pod: make_replica(pod).start() for pod in (FIRST, SECOND)}
    steps.start()
    until_said(steps, **ALL_WELL)
    replicas[dead].stop(signal.SIGKILL)
    until_waits(steps, f"the replica {dead} of the proxy is ready and has not been heard of since")
    speaking.ready(*{FIRST, SECOND} - {dead})
    until_said(steps, **ALL_WELL)
    speaking.ready(*{FIRST, SECOND} - {dead}, THIRD)
    until_waits(steps, THIRD)
    make_replica(THIRD).start()
    until_said(steps, **ALL_WELL)


@pytest.mark.fault(124)
def test_without_the_permissions_routes_go_on_and_check_names_each(
    home: Home, steps: Steps, make_replica: Callable[..., Daemon]
):
    home.ready(FIRST)
    replica = make_replica(FIRST).start()
    steps.start()
    replica.until_state("inc", "accepted", steps.kuberay.namespace)
    until("it is told", lambda: "gateways.gateway.networking.k8s.io" in replica.told())
    assert not steps.goes_on()
    said = rayproxy(replica, "check").stdout
    namespace = steps.kuberay.namespace
    for what in ("list gateways", "watch httproutes", "patch gateways/status", "patch httproutes/status"):
        assert f"FAIL  may {what} in {namespace}: no: apply the component deploy/gateway beside deploy/" in said
    home.allow(namespace, "ClusterRole", "rayproxy-gateway")
    until_said(steps, **ALL_WELL)
    said = rayproxy(replica, "check").stdout
    assert "ok    may patch gateways/status" in said
    assert "apply the component deploy/gateway" not in said
    assert f"ok    the ConfigMap {home.namespace}/rayproxy-replicas in which replicas agree is there" in said
    assert f"ok    the Service {home.namespace}/rayproxy has pods that are ready" in said


@pytest.mark.fault(124)
def test_that_nobody_speaks_is_told_once(speaking: Home, steps: Steps, make_replica: Callable[..., Daemon]):
    speaking.ready("of-another-name")
    replica = make_replica(FIRST).start()
    steps.start()
    words = "nobody speaks for the Gateways of the class"
    until("it is told", lambda: words in replica.log.read_text(), 60)
    speaking.ready(FIRST)
    until_said(steps, **ALL_WELL)
    assert replica.log.read_text().count(words) == 1
