"""Every test in this folder runs against a real API server; one for each worker of pytest-xdist."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.apiserver import Cluster, any_api_server
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.upstream import Upstream

CRDS = Path(__file__).parent.parent / "crds"


def rayservice_crds() -> list[Path]:
    """Return the project's own CRD, and KubeRay's where RAYPROXY_TEST_CRDS names a folder with them."""
    others = os.environ.get("RAYPROXY_TEST_CRDS")
    return [CRDS / "rayservices.yaml"] + (sorted(Path(others).glob("rayservices*.yaml")) if others else [])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.apiserver)
            item.add_marker(pytest.mark.timeout(900))  # the first one may build the API server


@pytest.fixture(scope="session")
def api_server() -> Iterator[Cluster]:
    with any_api_server() as server:
        yield server


@pytest.fixture
def cluster(api_server: Cluster) -> Cluster:
    api_server.install_crd(CRDS / "rayservices.yaml")
    return api_server


@pytest.fixture
def everywhere() -> Iterator[Upstream]:
    """Return an upstream that answers on every ClusterIP."""
    server = Upstream(host="0.0.0.0", name="everywhere")
    yield server
    server.release.set()
    server.close()


@pytest.fixture
def kuberay(cluster: Cluster, everywhere: Upstream) -> KubeRay:
    """Return KubeRay's part in a namespace of the test's own."""
    return KubeRay(cluster, cluster.namespace(), everywhere.port)


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path) -> Daemon:
    """Return a daemon, not started, that watches the test's namespace."""
    return make_daemon(KUBECONFIG=str(kuberay.cluster.kubeconfig(folder)), NAMESPACES=kuberay.namespace)
