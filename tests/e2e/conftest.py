"""The images as a user builds them, in containers on a real engine, against a real API server."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest
from testcontainers.core.image import DockerImage

from examples.run import CALLS, JSON
from tests.apiserver.conftest import CRDS
from tests.support import deploy
from tests.support.apiserver import Cluster, LocalApiServer, any_api_server
from tests.support.kuberay import KubeRay
from tests.support.pod import Identity, Pod
from tests.support.upstream import Upstream

NO_ENGINE = "no Docker engine answers: `make test-e2e` installs one, starts it and runs these tests"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))  # the first one may build an image, or the API server


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    """Return a client of the Docker engine that runs here."""
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException:
        pytest.skip(NO_ENGINE)
    return client


@pytest.fixture(scope="session")
def proxy_image(engine: docker.DockerClient) -> str:
    """Build Dockerfile.proxy as it stands and return the image's id; the host's network reaches the registries."""
    built = DockerImage(
        deploy.ROOT, tag="rayproxy:e2e", dockerfile_path="Dockerfile.proxy", clean_up=False, network_mode="host"
    ).build()
    return built.get_wrapped_image().id


@pytest.fixture(scope="session")
def api_server() -> Iterator[Cluster]:
    with any_api_server() as server:
        for kind in ("rayservices", "inferenceservices", "llminferenceservices"):
            server.install_crd(CRDS / f"{kind}.yaml")
        yield server


@pytest.fixture(scope="session")
def version(api_server: Cluster) -> tuple[int, int]:
    """Return the API server's version."""
    return api_server.version


@pytest.fixture(scope="session")
def admin(api_server: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the administrator's kubeconfig."""
    return api_server.kubeconfig(tmp_path_factory.mktemp("admin"))


@pytest.fixture(scope="session")
def deployed(admin: Path, version: tuple[int, int]) -> list[deploy.Manifest]:
    """Apply deploy/ for real and return what was applied; without controllers no pod comes of it."""
    manifests = deploy.for_server(deploy.render("deploy"), version)
    deploy.kubectl(admin, "apply", "--server-side", "-f", "-", manifests=manifests)
    return manifests


def token_of(cluster: Cluster, namespace: str) -> str:
    """Return a token of the proxy's ServiceAccount, as kubelet would request it for a pod."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/rayproxy/token"
    return cluster.call("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]


@pytest.fixture
def identity(api_server: Cluster, deployed: list[deploy.Manifest]) -> Identity:
    """Return what a pod of deploy/ would find of itself."""
    url = urlsplit(api_server.url)
    assert url.hostname
    assert url.port
    return Identity(token_of(api_server, "rayproxy"), _ca(api_server), "rayproxy", url.hostname, url.port)


def _ca(cluster: Cluster) -> bytes:
    if isinstance(cluster, LocalApiServer):
        return (cluster.folder / "certs/apiserver.crt").read_bytes()
    path = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
    return cluster.call("GET", path)["data"]["ca.crt"].encode()


@pytest.fixture
def make_pod(proxy_image: str, deployed: list[deploy.Manifest], identity: Identity) -> Iterator[Callable[..., Pod]]:
    """Return a function from settings to a Pod that is not started yet."""
    made: list[Pod] = []

    def make(*, own_network: bool = False, **settings: str) -> Pod:
        chosen = {f"RAYPROXY_{name}": value for name, value in settings.items()}
        made.append(Pod(deployed, proxy_image, identity, chosen, own_network=own_network))
        return made[-1]

    yield make
    for pod in made:
        pod.close()


def documented_calls(pod: Pod) -> list[str]:
    """Let a shell run the documented curl commands and return what they print."""
    answers = []
    for path, body in CALLS:
        url = f"http://127.0.0.1:{pod.port}/apis/rayservice/qa-service-chatglm3{path}"
        command = f"curl -sSfN -X POST {shlex.quote(url)} -H {shlex.quote(JSON)} -d {shlex.quote(body)}"
        answers.append(subprocess.run(command, shell=True, capture_output=True, check=True).stdout.decode())
    return answers


@pytest.fixture
def kuberay(api_server: Cluster, everywhere: Upstream) -> KubeRay:
    """Return KubeRay's part in a namespace of the test's own."""
    return KubeRay(api_server, api_server.namespace(), everywhere.port)


@pytest.fixture
def pod(make_pod: Callable[..., Pod], kuberay: KubeRay) -> Pod:
    """Return a pod that runs and routes `chat`."""
    kuberay.routed("chat")
    return make_pod(NAMESPACES=kuberay.namespace).start()


os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")  # its image would have to be pulled
