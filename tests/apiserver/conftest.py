"""Every test in this folder runs against a real API server; one for each worker of pytest-xdist."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.apiserver import Cluster, LocalApiServer, any_api_server
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.tcpproxy import TcpProxy
from tests.support.upstream import Upstream

CRDS = Path(__file__).parent.parent / "crds"


def rayservice_crds() -> list[Path]:
    """Return the project's own CRD, and KubeRay's where RAYPROXY_TEST_CRDS names a folder with them."""
    return _crds("rayservices")


def inferenceservice_crds() -> list[Path]:
    """Return the project's own CRD, and KServe's likewise."""
    return _crds("inferenceservices")


def llminferenceservice_crds() -> list[Path]:
    """Return the project's own CRD, and KServe's likewise."""
    return _crds("llminferenceservices")


def _crds(plural: str) -> list[Path]:
    others = os.environ.get("RAYPROXY_TEST_CRDS")
    return [CRDS / f"{plural}.yaml"] + (sorted(Path(others).glob(f"{plural}-*.yaml")) if others else [])


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
def network(server: LocalApiServer) -> Iterator[TcpProxy]:
    """Return what lies between the daemon and an API server of the test's own, its fixture `server`."""
    between = TcpProxy(server.port)
    yield between
    between.close()


@pytest.fixture
def kuberay(cluster: Cluster, everywhere: Upstream) -> KubeRay:
    """Return KubeRay's part in a namespace of the test's own."""
    return KubeRay(cluster, cluster.namespace(), everywhere.port)


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path) -> Daemon:
    """Return a daemon, not started, that watches the test's namespace."""
    return make_daemon(KUBECONFIG=str(kuberay.cluster.kubeconfig(folder)), NAMESPACES=kuberay.namespace)
