"""Which Services a real API server can hold, and which of them may answer for a RayService."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay, reference
from tests.support.waiting import until


def handmade(kuberay: KubeRay, name: str, owner: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    """Create a Service as somebody might who is not KubeRay."""
    metadata = {"name": name, "labels": {"ray.io/serve": "x"}, "ownerReferences": [reference(owner)] if owner else []}
    body = {
        "metadata": metadata,
        "spec": {"selector": {"ray.io/serve": "true"}, "ports": [{"name": "serve", "port": kuberay.port}], **spec},
    }
    return kuberay.cluster.call("POST", f"/api/v1/namespaces/{kuberay.namespace}/services", body)


def unowned(kuberay: KubeRay, _: dict[str, Any]) -> None:
    handmade(kuberay, "chat-serve-svc", None)


def someone_elses(kuberay: KubeRay, _: dict[str, Any]) -> None:
    handmade(kuberay, "chat-serve-svc", kuberay.rayservice("other"))


def external_name(kuberay: KubeRay, owner: dict[str, Any]) -> None:
    handmade(kuberay, "chat-serve-svc", owner, type="ExternalName", externalName="metadata.example")


def headless(kuberay: KubeRay, owner: dict[str, Any]) -> None:
    handmade(kuberay, "chat-serve-svc", owner, clusterIP="None")


def portless(kuberay: KubeRay, owner: dict[str, Any]) -> None:
    handmade(kuberay, "chat-serve-svc", owner, ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}])


def grpc(kuberay: KubeRay, owner: dict[str, Any]) -> None:
    handmade(kuberay, "chat-serve-svc", owner, ports=[{"name": "serve-grpc", "port": kuberay.port}])


def h2c(kuberay: KubeRay, owner: dict[str, Any]) -> None:
    port = {"name": "serve", "port": kuberay.port, "appProtocol": "kubernetes.io/h2c"}
    handmade(kuberay, "chat-serve-svc", owner, ports=[port])


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    ("make", "reason", "words"),
    [
        (unowned, "ServiceNotOwned", "without an owner"),
        (someone_elses, "ServiceNotOwned", "owned by RayService other"),
        (external_name, "ExternalName", "could point anywhere"),
        (headless, "Headless", "give it a ClusterIP"),
        (portless, "NoServePort", "name one TCP port 'serve'"),
        (grpc, "UnsupportedProtocol", "says gRPC by its name"),
        (h2c, "UnsupportedProtocol", "says appProtocol: kubernetes.io/h2c"),
    ],
)
def test_a_service_that_may_not_answer_is_refused_and_everyone_is_told_why(
    daemon: Daemon, kuberay: KubeRay, make: Callable[..., None], reason: str, words: str
):
    kuberay.routed("good")
    make(kuberay, kuberay.rayservice("chat"))
    daemon.start()
    row = daemon.until_state("chat", "rejected", kuberay.namespace)
    assert row["reason"] == reason
    assert words in row["message"]
    assert daemon.answers_from("good", "everywhere")
    assert "ray-chat.conf" not in daemon.files()
    assert words in rayproxy(daemon, "routes").stdout
    event = until("an Event tells it", lambda: kuberay.events("chat"))[0]
    assert (event["type"], event["reason"]) == ("Warning", "RouteRejected")
    assert event["message"].startswith(f"{reason}: ")
    assert words in event["message"]


def test_of_the_ports_that_kuberay_1_6_publishes_the_one_for_http_is_routed(daemon: Daemon, kuberay: KubeRay):
    ports = [
        {"name": "serve-grpc", "port": kuberay.port + 1, "appProtocol": "kubernetes.io/h2c"},
        {"name": "serve-http", "port": kuberay.port},
    ]
    handmade(kuberay, "chat-serve-svc", kuberay.rayservice("chat"), ports=ports)
    daemon.start()
    assert daemon.until_state("chat", "accepted", kuberay.namespace)["backend"].endswith(f":{kuberay.port}")
    assert daemon.answers_from("chat", "everywhere")


@pytest.mark.fault(27)
def test_a_service_of_another_namespace_is_not_looked_at(
    make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path
):
    rayservice = kuberay.rayservice("chat", {"serveService": {"metadata": {"name": "x", "namespace": "kube-system"}}})
    foreign = KubeRay(kuberay.cluster, kuberay.cluster.namespace("foreign"), kuberay.port)
    for name in ("x", "chat-serve-svc"):
        foreign.service(rayservice, name)
    config = str(kuberay.cluster.kubeconfig(folder))
    daemon = make_daemon(KUBECONFIG=config, NAMESPACES=f"{kuberay.namespace},{foreign.namespace}").start()
    row = daemon.until_state("chat", "pending", kuberay.namespace)
    assert "no Service x or chat-serve-svc" in row["message"]


def test_an_address_outside_the_allowed_networks_is_refused(
    make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path
):
    kuberay.routed("chat")
    config = str(kuberay.cluster.kubeconfig(folder))
    daemon = make_daemon(KUBECONFIG=config, NAMESPACES=kuberay.namespace, ALLOWED_CIDRS="10.0.0.0/8").start()
    assert daemon.until_state("chat", "rejected", kuberay.namespace)["reason"] == "AddressNotAllowed"


def test_an_unowned_service_is_taken_where_the_operator_says_so(
    make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path
):
    kuberay.rayservice("chat")
    handmade(kuberay, "chat-serve-svc", None)
    config = str(kuberay.cluster.kubeconfig(folder))
    daemon = make_daemon(KUBECONFIG=config, NAMESPACES=kuberay.namespace, ALLOW_UNOWNED_SERVICES="true").start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    assert daemon.answers_from("chat", "everywhere")


def test_an_incremental_upgrade_moves_the_route_from_one_rays_cluster_to_the_next(daemon: Daemon, kuberay: KubeRay):
    daemon.start()
    kuberay.rayservice("chat", {"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}})
    addresses = {}
    for cluster in ("chat-raycluster-a", "chat-raycluster-b"):  # KubeRay makes the next one's long before it is active
        owner = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": cluster, "uid": f"uid-{cluster}"},
        }
        service = handmade(kuberay, f"{cluster}-serve-svc", owner)
        addresses[cluster] = f"{service['spec']['clusterIP']}:{kuberay.port}"
    assert daemon.until_state("chat", "pending", kuberay.namespace)
    for cluster, address in addresses.items():
        kuberay.set_status("chat", {"activeServiceStatus": {"rayClusterName": cluster}})
        until(
            f"routed to {cluster}",
            lambda address=address: daemon.routes()[f"{kuberay.namespace}/chat"]["backend"] == address,
        )
        answer = daemon.route("chat")
        assert answer.json.get("upstream") == "everywhere", answer


@pytest.mark.fault(26)
def test_names_that_begin_alike_do_not_meet_and_bad_ones_are_refused(daemon: Daemon, kuberay: KubeRay):
    long = "a" * 63
    for name in ("foo", "foo-bar", long):
        handmade(kuberay, f"{name[:50]}-serve-svc", kuberay.rayservice(name))
    for name in ("foo.bar", "1foo", "b" * 64):
        kuberay.rayservice(name)
    daemon.start()
    for name in ("foo", "foo-bar", long):
        daemon.until_state(name, "accepted", kuberay.namespace)
    for name in ("foo.bar", "1foo", "b" * 64):
        assert daemon.until_state(name, "rejected", kuberay.namespace)["reason"] == "InvalidName"
    rows = daemon.routes()
    assert len({rows[f"{kuberay.namespace}/{name}"]["backend"] for name in ("foo", "foo-bar", long)}) == 3
    assert daemon.error("foo.bar") == "rayservice_rejected"
    until("an Event on each", lambda: all(kuberay.events(name) for name in ("foo.bar", "1foo", "b" * 64)))
