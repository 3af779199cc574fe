"""What becomes of the routes when the API server is away, forgets, or refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.conftest import CRDS
from tests.support.apiserver import LocalApiServer, local_api_server
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.tcpproxy import TcpProxy
from tests.support.upstream import Upstream
from tests.support.waiting import stays, until

READER = "reader-of-the-tests"
CRD = "rayservices.ray.io"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalApiServer]:
    """Return an API server that these tests may stop; without its watch cache, it forgets when etcd does."""
    with local_api_server(flags=("--watch-cache=false",), tokens=(f"{READER},reader,reader",)) as running:
        yield running


@pytest.fixture
def kuberay(server: LocalApiServer, everywhere: Upstream) -> KubeRay:
    server.start()
    server.install_crd(CRDS / "rayservices.yaml")
    return KubeRay(server, server.namespace(), everywhere.port)


@pytest.fixture
def daemon(
    make_daemon: Callable[..., Daemon], server: LocalApiServer, kuberay: KubeRay, network: TcpProxy, folder: Path
) -> Daemon:
    config = server.kubeconfig(folder, url=f"https://127.0.0.1:{network.port}")
    return make_daemon(KUBECONFIG=str(config), NAMESPACES=kuberay.namespace)


def failures(daemon: Daemon, reason: str, resource: str = "rayservices") -> float:
    return daemon.metric(f'rayproxy_watch_failures_total{{reason="{reason}",resource="{resource}"}}')


@pytest.mark.fault(3)
def test_routes_outlive_the_api_server_and_follow_it_again_when_it_is_back(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay
):
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    reloads = daemon.reloads
    server.stop()
    until("the daemon has noticed", lambda: failures(daemon, "unreachable") >= 2)
    assert daemon.answers_from("chat", "everywhere")
    assert daemon.admin("/readyz")[0] == 200
    assert daemon.admin("/healthz")[0] == 200
    server.start()
    kuberay.delete_rayservice("chat")
    kuberay.routed("later")
    until("followed again", lambda: daemon.answers_from("later", "everywhere"), 60)
    until("and what went is gone", lambda: daemon.error("chat") == "rayservice_not_found", 60)
    assert daemon.reloads <= reloads + 3, "one is gone, one is pending, then routed: a reload for each at most"


@pytest.mark.fault(4)
def test_a_restart_of_the_api_server_alone_causes_no_reload(daemon: Daemon, server: LocalApiServer, kuberay: KubeRay):
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    reloads = daemon.reloads
    server.stop()
    until("noticed", lambda: failures(daemon, "unreachable", "services") >= 1)
    contact = 'rayproxy_source_last_contact_timestamp_seconds{resource="services"}'
    before = daemon.metric(contact)
    server.start()
    until("in contact again", lambda: daemon.metric(contact) > before, 60)
    assert daemon.answers_from("chat", "everywhere")
    assert daemon.reloads == reloads


@pytest.mark.fault(1)
def test_without_an_api_server_and_without_a_past_nothing_is_ready_and_nothing_crashes(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay
):
    kuberay.routed("chat")
    server.stop()
    daemon.start(ready=False)
    until("it says why", lambda: "no whole list yet" in daemon.admin("/readyz")[1])
    assert daemon.admin("/readyz")[0] == 503
    assert daemon.admin("/healthz")[0] == 200
    assert daemon.error("chat") == "rayservice_not_found"
    until("it tries again and again", lambda: failures(daemon, "unreachable") >= 3)
    server.start()
    until("ready", daemon.is_ready, 60)
    assert daemon.answers_from("chat", "everywhere")


@pytest.mark.fault(2)
@pytest.mark.fault(50)
def test_without_an_api_server_the_last_good_revision_is_served_at_once_and_nothing_is_removed(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay
):
    for name in ("chat", "goes"):
        kuberay.routed(name)
    daemon.start()
    daemon.until_state("goes", "accepted", kuberay.namespace)
    daemon.stop()
    kuberay.delete_rayservice("goes")
    server.stop()
    daemon.start()
    assert daemon.answers_from("chat", "everywhere")
    assert daemon.answers_from("goes", "everywhere")
    until("it tries", lambda: failures(daemon, "unreachable") >= 2)
    assert daemon.answers_from("goes", "everywhere")
    server.start()
    until("removed once that is known", lambda: daemon.error("goes") == "rayservice_not_found", 60)
    assert daemon.answers_from("chat", "everywhere")


@pytest.mark.fault(6)
def test_after_a_compaction_one_list_finds_what_was_missed_and_one_reload_serves_it(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay, network: TcpProxy
):
    for name in ("stays", "goes"):
        kuberay.routed(name)
    daemon.start()
    daemon.until_state("stays", "accepted", kuberay.namespace)
    reloads = daemon.reloads
    network.hang()
    network.cut()
    kuberay.delete_rayservice("goes")
    kuberay.routed("comes")
    server.compact()
    network.flow()
    daemon.until_state("comes", "accepted", kuberay.namespace)
    daemon.until_gone("goes", kuberay.namespace)
    assert daemon.error("goes") == "rayservice_not_found"
    assert failures(daemon, "expired") + failures(daemon, "expired", "services") >= 1
    assert daemon.reloads - reloads in (1, 2), "two resources are listed, each at its own moment"


@pytest.mark.fault(14)
@pytest.mark.fault(99)
def test_a_permission_that_is_taken_away_leaves_the_routes_and_comes_back_by_itself(
    make_daemon: Callable[..., Daemon], server: LocalApiServer, kuberay: KubeRay, network: TcpProxy, folder: Path
):
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{kuberay.namespace}/roles"
    rules = [
        {"apiGroups": ["ray.io"], "resources": ["rayservices"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
    ]
    server.call("POST", role, {"metadata": {"name": "reader"}, "rules": rules})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
    }
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{kuberay.namespace}/rolebindings"
    server.call("POST", bindings, binding)
    config = server.kubeconfig(folder, token=READER, url=f"https://127.0.0.1:{network.port}")
    daemon = make_daemon(KUBECONFIG=str(config), NAMESPACES=kuberay.namespace)
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    until(
        "an earlier version's role has no EndpointSlices, and that is said", lambda: "not to be read" in daemon.told()
    )
    until("no Event without permission, and that is counted", lambda: daemon.metric("rayproxy_events_failed_total"))
    server.call("DELETE", f"{bindings}/reader")
    network.cut()
    until("forbidden", lambda: failures(daemon, "forbidden") >= 1)
    until("forbidden", lambda: failures(daemon, "forbidden", "services") >= 1)
    assert daemon.answers_from("chat", "everywhere")
    assert daemon.admin("/readyz")[0] == 200
    assert "forbidden" in daemon.told()
    kuberay.delete_rayservice("chat")
    server.call("POST", bindings, binding)
    until("caught up", lambda: daemon.error("chat") == "rayservice_not_found", 60)


@pytest.mark.fault(15)
def test_a_definition_that_is_missing_at_the_start_is_waited_for(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay
):
    server.remove_crd(CRD)
    daemon.start(ready=False)
    until("the state is told", lambda: failures(daemon, "not_found") >= 1)
    until("and logged", lambda: "crd-absent" in daemon.log.read_text())
    assert daemon.error("chat") == "rayservice_not_found"
    server.install_crd(CRDS / "rayservices.yaml")
    kuberay.routed("chat")
    until("routed without a restart", lambda: daemon.answers_from("chat", "everywhere"), 60)


@pytest.mark.fault(16)
def test_a_definition_that_is_missing_takes_no_route_from_a_service_that_is_there(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay, network: TcpProxy
):
    for name in ("chat", "goes"):
        kuberay.routed(name)
    daemon.start()
    daemon.until_state("goes", "accepted", kuberay.namespace)
    daemon.stop()
    server.remove_crd(CRD)
    daemon.start()
    until("the state is told", lambda: failures(daemon, "not_found") >= 1)
    kuberay.delete_service("goes-serve-svc")
    until("its Service is confirmed gone", lambda: "ray-goes.conf" not in daemon.files())
    assert daemon.answers_from("chat", "everywhere")
    server.install_crd(CRDS / "rayservices.yaml")
    until("listed, and there is none", lambda: daemon.error("chat") == "rayservice_not_found", 60)


@pytest.mark.fault(16)
def test_a_definition_that_goes_unseen_takes_no_route_from_a_running_daemon(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay, network: TcpProxy
):
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    network.hang()
    network.cut()
    server.remove_crd(CRD)
    network.flow()
    until("the state is told", lambda: failures(daemon, "not_found") >= 1)
    assert daemon.answers_from("chat", "everywhere")
    kuberay.delete_service("chat-serve-svc")
    until("its Service is confirmed gone", lambda: daemon.error("chat") == "rayservice_pending")


@pytest.mark.fault(19)
def test_most_routes_that_go_at_once_are_let_go_when_a_second_list_agrees(
    daemon: Daemon, server: LocalApiServer, kuberay: KubeRay, network: TcpProxy
):
    names = [f"chat-{number}" for number in range(6)]
    for name in names:
        kuberay.routed(name)
    daemon.start()
    daemon.until_state(names[-1], "accepted", kuberay.namespace)
    network.hang()
    network.cut()
    for name in names[1:]:
        kuberay.delete_rayservice(name)
    network.flow()
    for name in names[1:]:
        daemon.until_gone(name, kuberay.namespace)
        assert daemon.error(name) == "rayservice_not_found"
    assert daemon.answers_from(names[0], "everywhere")


@pytest.mark.fault(22)
def test_a_huge_annotation_disturbs_nobody(daemon: Daemon, server: LocalApiServer, kuberay: KubeRay):
    daemon.start()
    kuberay.service(kuberay.rayservice("big", annotations={"x": "y" * 250_000}))
    kuberay.routed("chat")
    for name in ("big", "chat"):
        daemon.until_state(name, "accepted", kuberay.namespace)
    stays("nothing was skipped", lambda: daemon.metric("rayproxy_source_problems") == 0, 0.2)
