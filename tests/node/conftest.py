"""deploy/ as real pods on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.apiserver.conftest import CRDS
from tests.e2e.conftest import engine, proxy_image
from tests.support import deploy
from tests.support import node as nodes
from tests.support.kuberay import KubeRay
from tests.support.upstream import Upstream
from tests.support.waiting import until

__all__ = ["engine", "proxy_image"]
IMAGE = "rayproxy:0.1.0"  # as deploy/ names it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def node(engine: docker.DockerClient, proxy_image: str) -> Iterator[nodes.Node]:
    """Run a node on which the image of deploy/ is present, and RayServices are known."""
    assets = nodes.find_assets()
    if reason := nodes.missing(assets):
        pytest.skip(reason)
    engine.images.get(proxy_image).tag(IMAGE)
    with nodes.node(engine, assets) as running:
        running.cluster.install_crd(CRDS / "rayservices.yaml")
        yield running


@pytest.fixture(scope="session")
def model(node: nodes.Node) -> Iterator[Upstream]:
    """Return what answers for every model."""
    server = Upstream(host="0.0.0.0", name="model")
    yield server
    server.release.set()
    server.close()


@pytest.fixture(scope="session")
def kuberay(node: nodes.Node, model: Upstream) -> KubeRay:
    """Return KubeRay's part, with the model `chat` behind its Service."""
    kuberay = KubeRay(node.cluster, node.cluster.namespace("models"), model.port)
    _, service = kuberay.routed("chat")
    nodes.endpoints(node.cluster, service, model.port)
    return kuberay


@pytest.fixture(scope="session")
def proxy(node: nodes.Node, kuberay: KubeRay) -> tuple[str, int]:
    """Apply deploy/ and return the address of its Service, once both replicas are ready."""
    manifests = deploy.for_server(deploy.render("deploy"), (1, 20))
    node.kubectl("apply", "--server-side", "-f", "-", manifests=manifests)
    until("both replicas are ready", lambda: ready(node) == 2, nodes.LONG, 0.5)
    service = node.cluster.call("GET", "/api/v1/namespaces/rayproxy/services/rayproxy")
    return service["spec"]["clusterIP"], 80


def ready(node: nodes.Node) -> int:
    """Return how many pods are ready by their own probes, both containers."""
    return sum(
        all(each["ready"] for each in pod["status"].get("containerStatuses", [{"ready": False}]))
        for pod in node.pods("rayproxy")
    )
