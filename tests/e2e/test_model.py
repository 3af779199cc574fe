"""Dockerfile.model: a base model, a checkpoint and the code, served by Ray out of the image."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import yaml
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage

from tests.e2e.conftest import documented_calls
from tests.support import deploy
from tests.support.kuberay import KubeRay
from tests.support.netns import forwarded
from tests.support.pod import Pod
from tests.support.waiting import until

TOP = deploy.ROOT
RAY = "rayproxy-ray:e2e"
LONG = 300  # s; Ray, torch and a model on a busy machine
MAKE_MODEL = """
import sys
from pathlib import Path
sys.path.insert(0, "/tests")
import tiny
base = tiny.save_base(Path("/models/base"), endless=True)  # the documented call draws: an answer could be one piece
tiny.save_adapter(base, Path("/models/adapter"))
"""
pytestmark = [pytest.mark.docker, pytest.mark.apiserver]


@pytest.fixture(scope="session")
def ray_base(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build what stands in for a Ray image, with the torch that pip gives on this machine."""
    context = tmp_path_factory.mktemp("ray-base")
    (context / "torch").mkdir()
    (context / "serving.lock").write_bytes((TOP / "requirements/serving.lock").read_bytes())
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", context / "torch", "torch==2.13.0"]
    subprocess.run(pip, check=True)
    built = DockerImage(
        context,
        tag=RAY,
        dockerfile_path=str(TOP / "tests/support/ray-base.Dockerfile"),
        clean_up=False,
        network_mode="host",
    )
    return built.build().get_wrapped_image().id


@pytest.fixture(scope="session")
def models(engine: docker.DockerClient, ray_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny base model and an adapter of it, made where torch is."""
    folder = tmp_path_factory.mktemp("models")
    volumes = {str(folder): {"bind": "/models"}, str(TOP / "tests/serving"): {"bind": "/tests", "mode": "ro"}}
    command = ["python", "-c", MAKE_MODEL]
    engine.containers.run(RAY, command, volumes=volumes, network_mode="none", remove=True)
    return folder


@pytest.fixture(scope="session")
def context(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the build context as `make model-context` lays it out."""
    folder = tmp_path_factory.mktemp("context") / "model"
    tool = [sys.executable, TOP / "tools/model_context.py", "--output", folder]
    tool += ["--base-model", models / "base", "--checkpoint", models / "adapter"]
    done = subprocess.run(tool, check=True, capture_output=True)
    assert b"docker build -f Dockerfile.model" in done.stdout
    return folder


@pytest.fixture(scope="session")
def model_image(context: Path) -> str:
    """Build Dockerfile.model as it stands, on the stand-in."""
    built = DockerImage(
        context,
        tag="rayproxy-model:e2e",
        dockerfile_path=str(TOP / "Dockerfile.model"),
        clean_up=False,
        network_mode="host",
        buildargs={"BASE": RAY, "BASE_MODEL_DIR": "/tmp/llama2-7b"},
    )
    return built.build().get_wrapped_image().id


SERVE = {
    "http_options": {"host": "127.0.0.1", "port": 8000},
    "applications": [
        {
            "name": "default",
            "import_path": "inference.deployment",
            "runtime_env": {"working_dir": "file:///home/inference/inference.zip"},
            "deployments": [{"name": "LlamaDeployment", "ray_actor_options": {"num_cpus": 0.1}}],
        }
    ],
}
ASK = """
import sys, urllib.request
url, body = sys.argv[1], sys.argv[2].encode() if sys.argv[2:] else None
asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
sys.stdout.write(urllib.request.urlopen(asked, timeout=60).read().decode())
"""


@dataclass
class Served:
    """Ask a container that has a network of its own: Ray takes many ports."""

    container: DockerContainer

    def ask(self, path: str, *body: str) -> tuple[int | None, str]:
        """Return 0 and the answer, or another code and why there is none."""
        found = self.container.exec(["python", "-c", ASK, f"http://127.0.0.1:8000{path}", *body])
        return found.exit_code, found.output.decode()

    @property
    def pid(self) -> int:
        """Return the host's pid of its first process."""
        return int(self.container.get_wrapped_container().attrs["State"]["Pid"])

    def is_up(self) -> bool:
        self.container.reload()
        assert self.container.status == "running", b"".join(self.container.get_logs()).decode()[-4000:]
        return self.ask("/v1/models")[0] == 0


@pytest.fixture
def served(model_image: str, tmp_path: Path) -> Iterator[Served]:
    """Run Ray Serve in the image, with the application that a RayService of this image would have."""
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(SERVE))
    tmp_path.chmod(0o755)
    container = DockerContainer(model_image, network_mode="none", shm_size="512m")
    container.with_command(["serve", "run", "/config/serve.yaml"]).with_volume_mapping(tmp_path, "/config")
    container.with_envs(RAY_USAGE_STATS_ENABLED="0", RAY_DISABLE_DOCKER_CPU_WARNING="1")
    with container:
        yield Served(container)
        print(b"".join(container.get_logs()).decode())  # what pytest shows of a failure


def test_the_image_answers_from_its_base_model_and_its_checkpoint(served: Served):
    until("it serves", served.is_up, LONG, 0.5)
    code, answer = served.ask("/inference", json.dumps({"input": "你好"}))
    assert code == 0, answer
    assert {"output", "tokenLength", "elapsedTime", "tokenPerSec"} <= json.loads(answer).keys()
    seen = served.container.exec(["printenv", "BASE_MODEL_DIR", "CHECKPOINT_DIR"])
    assert seen.output == b"/tmp/llama2-7b\n/models/checkpoint\n"
    assert served.container.exec(["id", "-u"]).output == b"1000\n"


def test_the_documented_calls_are_answered_by_the_image_through_the_proxys_pod(
    served: Served, make_pod: Callable[..., Pod], kuberay: KubeRay
):
    until("it serves", served.is_up, LONG, 0.5)
    with forwarded(served.pid, 8000) as kuberay.port:
        kuberay.routed("qa-service-chatglm3")
        pod = make_pod(NAMESPACES=kuberay.namespace).start()
        until("routed", lambda: pod.get("/apis/rayservice/qa-service-chatglm3/v1/models").status == 200)
        inference, stream = documented_calls(pod)
    assert {"output", "tokenLength", "elapsedTime", "tokenPerSec"} <= json.loads(inference).keys()
    assert stream.count("event:add\n") > 1
    assert "event:finish\n" in stream


def test_the_same_sources_give_the_same_zip(context: Path, models: Path, tmp_path: Path):
    tool = [sys.executable, TOP / "tools/model_context.py", "--output", tmp_path / "again"]
    tool += ["--base-model", models / "base", "--checkpoint", models / "adapter"]
    subprocess.run(tool, check=True, capture_output=True)
    assert (tmp_path / "again/inference.zip").read_bytes() == (context / "inference.zip").read_bytes()


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    tool = [sys.executable, TOP / "tools/model_context.py", "--base-model", tmp_path, "--checkpoint", tmp_path]
    done = subprocess.run(tool, check=False, capture_output=True)
    assert done.returncode == 1
    assert f"{tmp_path}: no config.json".encode() in done.stderr
