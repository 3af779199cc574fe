"""deploy/ and a model as real pods of a real cluster, with KubeRay's operator: its own, or an `--existing` one."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import docker
import pytest
from testcontainers.core.image import DockerImage

from tests.cluster.table import Table
from tests.cluster.world import IMAGE, MODEL_IMAGE, SECOND_IMAGE, World, ready, restricted
from tests.e2e.conftest import engine, proxy_image
from tests.support import cluster as clusters
from tests.support import deploy
from tests.support.callers import Address
from tests.support.cluster import Existing, Running
from tests.support.node import LONG, PAUSE
from tests.support.plain import Plain, plain_script
from tests.support.waiting import until

__all__ = ["engine", "proxy_image"]
TABLE = pytest.StashKey[Table]()
PAUSE_DOCKERFILE = 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n'


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("the cluster of `make test-cluster`")
    group.addoption("--whole", action="store_true", help="all scenarios, some half an hour")
    group.addoption("--script", action="store_true", help="callers of the plain script of bench/ as well")
    group.addoption("--existing", action="store_true", help="in KUBECONFIG's cluster, which has KubeRay and deploy/")
    group.addoption("--proxy", help="HOST:PORT of its proxy; default: its Service's ClusterIP")
    group.addoption("--model-image", help="image of the model there: tests/support/ray-echo.Dockerfile")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if table := terminalreporter.config.stash.get(TABLE, None):
        terminalreporter.section("what callers heard")
        terminalreporter.write_line(str(table))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(1800))
            if item.get_closest_marker("whole") and not config.getoption("--whole", default=False):
                item.add_marker(pytest.mark.skip(reason="takes long: `make test-cluster WHOLE=1`"))


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the images that the nodes of a cluster of our own need."""
    engine: docker.DockerClient = request.getfixturevalue("engine")
    folder = tmp_path_factory.mktemp("images")
    engine.images.get(request.getfixturevalue("proxy_image")).tag(IMAGE)
    _build(_pause(folder / "pause"), PAUSE)
    _build(_model(folder / "model"), MODEL_IMAGE, deploy.ROOT / "tests/support/ray-echo.Dockerfile")
    engine.images.get(MODEL_IMAGE).tag(SECOND_IMAGE)
    saved = folder / "images.tar"
    subprocess.run(["docker", "save", "-o", saved, IMAGE, PAUSE, MODEL_IMAGE, SECOND_IMAGE], check=True)
    return saved


def _build(context: Path, tag: str, dockerfile: Path | str = "Dockerfile") -> None:
    DockerImage(context, tag=tag, dockerfile_path=str(dockerfile), clean_up=False, network_mode="host").build()


def _pause(context: Path) -> Path:
    """Return the build context of the image that holds a pod's namespaces."""
    context.mkdir()
    source = deploy.ROOT / "tests/support/pause.c"
    subprocess.run(["gcc", "-static", "-O1", "-o", context / "pause", source], check=True)
    (context / "Dockerfile").write_text(PAUSE_DOCKERFILE)
    return context


def _model(context: Path) -> Path:
    """Return the build context of the model's image."""
    context.mkdir()
    (context / "serving.lock").write_bytes((deploy.ROOT / "requirements/serving.lock").read_bytes())
    tool = [sys.executable, str(deploy.ROOT / "tools/inference_zip.py"), "--output", str(context)]
    made = subprocess.run(tool, check=True, capture_output=True, text=True)
    code = Path(made.stdout.strip()).rename(context / "inference.zip")
    with zipfile.ZipFile(code, "a") as archive:
        archive.write(deploy.ROOT / "tests/cluster/with_socket.py", "with_socket.py")
    return context


@pytest.fixture(scope="session")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Have a cluster, with deploy/ applied and both replicas ready."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("one cluster, and one thing after the other: `make test-cluster`")
    if request.config.getoption("--existing", default=False):
        yield _existing(request.config)
        return
    if reason := clusters.missing():
        pytest.skip(reason)
    with clusters.cluster(request.getfixturevalue("images")) as running:
        running.kubectl("apply", "--server-side", "-f", "-", manifests=deploy.render("deploy"))
        until("both replicas are ready", lambda: ready(running) == 2, LONG, 0.5)
        with _script(request.config, running) as script:
            yield World(running, restricted(running), _service(running), script=script)


def _existing(config: pytest.Config) -> World:
    """Return the cluster of KUBECONFIG, where KubeRay and deploy/ run already."""
    kubeconfig = Path(os.environ["KUBECONFIG"])
    running = Running(Existing(kubeconfig), kubeconfig)
    host, _, port = (config.getoption("--proxy") or "").rpartition(":")
    proxy = (host, int(port)) if port else _service(running)
    assert ready(running) == 2, "no two ready replicas of deploy/ in the namespace rayproxy: kubectl apply -k deploy/"
    return World(running, restricted(running), proxy, config.getoption("--model-image") or MODEL_IMAGE)


def _script(config: pytest.Config, running: Running) -> AbstractContextManager[Plain | None]:
    return plain_script(running.kubeconfig) if config.getoption("--script", default=False) else nullcontext()


def _service(running: Running) -> Address:
    spec = running.server.call("GET", "/api/v1/namespaces/rayproxy/services/rayproxy")["spec"]
    return spec["clusterIP"], spec["ports"][0]["port"]


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    """Return the table of what callers heard, which is printed at the end."""
    return request.config.stash.setdefault(TABLE, Table())


@pytest.fixture(scope="session")
def served(world: World, table: Table) -> World:
    """Have the model `chat` deployed and routed."""
    with table.row("first deployed"):
        done = world.deploy("one")
    assert done.returncode == 0, done.stdout + done.stderr
    return world
