"""What becomes of KServe's routes where its CRD comes late or goes, and where a role does not allow what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import CRDS, inferenceservice_crds
from tests.support.apiserver import Cluster, LocalApiServer, local_api_server
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.knative import leads_to, private_gateway
from tests.support.kserve import KServe, addressed, placeholder
from tests.support.kuberay import KubeRay
from tests.support.tcpproxy import TcpProxy
from tests.support.upstream import Upstream
from tests.support.waiting import until

CRD = "inferenceservices.serving.kserve.io"
READER = "reader-of-the-tests"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
SUBJECT = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}
BEFORE = [("ray.io", "rayservices"), ("", "services")]  # what deploy/ allowed before there was a second kind
NOW = [*BEFORE, ("serving.kserve.io", "inferenceservices"), ("serving.kserve.io", "llminferenceservices"),
       ("discovery.k8s.io", "endpointslices")]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[LocalApiServer]:
    """Return an API server whose definitions and roles are these tests' own."""
    with local_api_server(tokens=(f"{READER},reader,reader",)) as running:
        running.install_crd(CRDS / "rayservices.yaml")
        yield running


@pytest.fixture
def kuberay(server: LocalApiServer, everywhere: Upstream) -> KubeRay:
    return KubeRay(server, server.namespace(), everywhere.port)


@pytest.fixture
def kserve(kuberay: KubeRay) -> KServe:
    """Return KServe's part in the same namespace; its CRD is there as the test before left it."""
    return KServe(kuberay.cluster, kuberay.namespace, kuberay.port)


@pytest.fixture
def make(make_daemon: Callable[..., Daemon], server: LocalApiServer, network: TcpProxy, folder: Path) -> Any:
    """Return a function that makes a daemon, by default one that may do everything."""

    def run(token: str | None = None, **settings: str) -> Daemon:
        config = server.kubeconfig(folder, token=token, url=f"https://127.0.0.1:{network.port}")
        return make_daemon(KUBECONFIG=str(config), **settings)

    return run


@dataclass
class Reader:
    """What somebody may list and watch, in one namespace or in all of them."""

    cluster: Cluster
    namespaces: list[str] = field(default_factory=list)  # "" is all of them

    def may(self, what: list[tuple[str, str]], namespace: str = "") -> None:
        """Allow these, and there nothing else."""
        self.may_nothing(namespace)
        self.namespaces.append(namespace)
        rules = [{"apiGroups": [group], "resources": [plural], "verbs": ["list", "watch"]} for group, plural in what]
        self.cluster.call("POST", f"{_roles(namespace)}s", {"metadata": {"name": "reader"}, "rules": rules})
        to = {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role" if namespace else "ClusterRole",
            "name": "reader",
        }
        binding = {"metadata": {"name": "reader"}, "roleRef": to, "subjects": [SUBJECT]}
        self.cluster.call("POST", f"{_roles(namespace)}bindings", binding)

    def may_nothing(self, namespace: str = "") -> None:
        """Take back what was allowed there."""
        if namespace in self.namespaces:
            self.namespaces.remove(namespace)
            for kind in ("bindings", "s"):
                self.cluster.call("DELETE", f"{_roles(namespace)}{kind}/reader")


def _roles(namespace: str) -> str:
    return f"{RBAC}/namespaces/{namespace}/role" if namespace else f"{RBAC}/clusterrole"


@pytest.fixture
def reader(server: LocalApiServer) -> Iterator[Reader]:
    """Return somebody who may do nothing yet."""
    found = Reader(server)
    yield found
    for namespace in list(found.namespaces):
        found.may_nothing(namespace)


def row(daemon: Daemon, name: str) -> dict[str, Any]:
    found = (each for each in daemon.rows() if (each["kind"], each["name"]) == ("inferenceservice", name))
    return next(found, {"state": "", "message": ""})


def answers(daemon: Daemon, name: str) -> bool:
    return daemon.get(f"/apis/inferenceservice/{name}/").status == 200


@pytest.mark.fault(78)
@pytest.mark.parametrize("definition", inferenceservice_crds(), ids=lambda path: path.stem)
def test_a_definition_that_comes_late_holds_no_rayservice_back_and_is_taken_up_without_a_restart(
    make: Callable[..., Daemon], server: LocalApiServer, kuberay: KubeRay, kserve: KServe, definition: Path
):
    server.remove_crd(CRD)
    kuberay.routed("ray")
    daemon = make(NAMESPACES=kuberay.namespace).start()
    daemon.until_state("ray", "accepted", kuberay.namespace)
    assert daemon.answers_from("ray", "everywhere")
    assert daemon.get("/apis/inferenceservice/chat/").error_type == "inferenceservice_not_found"
    assert daemon.metric("rayproxy_source_problems") == 0
    checked = rayproxy(daemon, "check")
    assert "the InferenceService CRD is not installed: none of its objects is routed" in checked.stdout
    assert checked.returncode == 0, checked.stdout
    server.install_crd(definition)
    kserve.routed("chat")
    until("routed", lambda: answers(daemon, "chat"), 60)
    assert daemon.answers_from("ray", "everywhere")


@pytest.mark.fault(78)
def test_a_definition_that_goes_unseen_takes_no_route_from_a_service_that_is_there_nor_at_a_restart(
    make: Callable[..., Daemon], server: LocalApiServer, kuberay: KubeRay, kserve: KServe, network: TcpProxy
):
    server.put_crd(CRDS / "inferenceservices.yaml")
    kuberay.routed("ray")
    for name in ("chat", "goes"):
        kserve.routed(name)
    daemon = make(NAMESPACES=kserve.namespace).start()
    for name in ("chat", "goes"):
        until(f"{name} is routed", lambda name=name: answers(daemon, name))
    network.hang()
    network.cut()
    server.remove_crd(CRD)
    network.flow()
    until("told", lambda: f"{CRD.partition('.')[0]}: crd-absent" in daemon.log.read_text())
    assert answers(daemon, "chat")
    daemon.stop()
    daemon.start()
    assert answers(daemon, "chat")
    until("told as kept", lambda: row(daemon, "chat")["message"].startswith("kept as it was"))
    assert row(daemon, "chat")["state"] == "accepted"
    assert "route gone" not in daemon.told()
    kserve.delete_service("goes-predictor")
    until("its Service is gone", lambda: "isvc-goes.conf" not in daemon.files())
    assert answers(daemon, "chat")
    kuberay.routed("later")
    daemon.until_state("later", "accepted", kuberay.namespace)
    assert answers(daemon, "chat")
    server.put_crd(CRDS / "inferenceservices.yaml")
    until("listed, and there is none", lambda: not answers(daemon, "chat"), 60)
    assert daemon.answers_from("ray", "everywhere")


@pytest.mark.fault(78)
def test_a_new_image_under_an_old_role_serves_what_that_allows_says_the_rest_once_and_is_ready(
    make: Callable[..., Daemon], server: LocalApiServer, kuberay: KubeRay, kserve: KServe, reader: Reader
):
    server.put_crd(CRDS / "inferenceservices.yaml")
    reader.may(BEFORE)
    kuberay.routed("under-an-old-role")  # in all namespaces: a name that no other test has
    kserve.routed("under-an-old-role")
    daemon = make(READER).start()
    daemon.until_state("under-an-old-role", "accepted", kuberay.namespace)
    refused = 'rayproxy_watch_failures_total{reason="forbidden",resource="inferenceservices"}'
    until("asked three times", lambda: daemon.metric(refused) >= 3)
    assert daemon.answers_from("under-an-old-role", "everywhere")
    assert daemon.is_ready()
    lines = daemon.log.read_text().splitlines()
    assert len([line for line in lines if 'cannot list resource \\"inferenceservices\\"' in line]) == 1
    checked = rayproxy(daemon, "check")
    assert checked.returncode == 1
    assert "FAIL  may list inferenceservices in all namespaces" in checked.stdout
    reader.may(NOW)
    until("taken up by itself", lambda: answers(daemon, "under-an-old-role"), 60)
    assert daemon.answers_from("under-an-old-role", "everywhere")


@pytest.mark.fault(78)
def test_a_gateway_that_may_not_be_read_any_more_takes_no_route_and_one_that_is_gone_does(
    make: Callable[..., Daemon], server: LocalApiServer, kserve: KServe, reader: Reader
):
    server.put_crd(CRDS / "inferenceservices.yaml")
    with private_gateway(kserve) as (key, gateway):
        namespace, name = key.split("/")
        reader.may(NOW, kserve.namespace)
        reader.may([("", "services")], namespace)
        kserve.create(placeholder(kserve.inferenceservice("chat"), externalName=leads_to(key)))
        kserve.set_status("chat", addressed(gateway.name))
        daemon = make(READER, NAMESPACES=kserve.namespace, GATEWAYS=key).start()
        until("routed", lambda: answers(daemon, "chat"))
        daemon.stop()
        reader.may_nothing(namespace)
        daemon.start()
        told = until("told", lambda: row(daemon, "chat")["state"] == "rejected" and row(daemon, "chat"))
        assert told["reason"] == "NoGateway"
        assert told["message"].endswith("; its last good version goes on being served")
        assert answers(daemon, "chat")
        kserve.inferenceservice("other")
        until("others are seen", lambda: row(daemon, "other")["state"] == "pending")
        assert answers(daemon, "chat")
        reader.may([("", "services")], namespace)
        until("read again", lambda: row(daemon, "chat")["state"] == "accepted", 60)
        assert answers(daemon, "chat")
        daemon.stop()
        server.call("DELETE", f"/api/v1/namespaces/{namespace}/services/{name}")
        daemon.start()
        until("gone", lambda: row(daemon, "chat").get("reason") == "NoGateway")
        assert not answers(daemon, "chat")
