"""The serveConfigV2 of every golden RayService is what Ray takes, and a local Ray runs it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[2]
RAYSERVICES = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((TOP / "tests" / "golden" / "deploy").glob("*.yaml"))
}
SERVE_CONFIGS = {
    name: rayservice["spec"]["serveConfigV2"]
    for name, rayservice in RAYSERVICES.items()
    if "serveConfigV2" in rayservice["spec"]
}

pytest.importorskip("ray", reason="Ray is not installed here: make test-serving has it")


@pytest.mark.parametrize("name", SERVE_CONFIGS)
def test_rays_own_schema_takes_the_serve_config(name):
    from ray.serve.schema import ServeDeploySchema

    config = ServeDeploySchema.model_validate(yaml.safe_load(SERVE_CONFIGS[name]))

    (application,) = config.applications
    (deployment,) = application.deployments
    worker = RAYSERVICES[name]["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    (container,) = worker["template"]["spec"]["containers"]
    gpus = int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
    assert deployment.ray_actor_options.num_gpus == gpus, "a replica asks for what a worker has"
    assert config.http_options.port == container["ports"][0]["containerPort"]


@pytest.mark.parametrize("name", SERVE_CONFIGS)
def test_the_model_server_reads_the_environment_of_the_workers(name, monkeypatch):
    settings = pytest.importorskip("llmserving.settings", reason="serving/ is not on the path: make test-serving")
    worker = RAYSERVICES[name]["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    (container,) = worker["template"]["spec"]["containers"]
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    read = settings.from_mapping({})

    assert str(read.model_dir) == environment["BASE_MODEL_DIR"]
    assert str(read.checkpoint_dir) == environment.get("CHECKPOINT_DIR", "None")
    for setting in ("MODEL_NAME", "MAX_LENGTH", "DTYPE", "QUANTIZATION", "ENGINE", "TENSOR_PARALLEL_SIZE"):
        wanted = environment.get(f"SERVING_{setting}")
        assert wanted is None or str(getattr(read, setting.lower())) == wanted, setting
    assert read.trust_remote_code is ("SERVING_TRUST_REMOTE_CODE" in environment)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(look, seconds):
    """Return the first true answer of `look`, asked twice a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s")


def fetch(url, body=None):
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except OSError:
        return None, None


@pytest.fixture
def folder():
    """Make a folder of a short name: the paths of Ray's sockets may have 107 letters."""
    made = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    yield made
    # Ray's last process may write its last line after `ray start` has ended.
    until(lambda: shutil.rmtree(made, ignore_errors=True) or not Path(made).exists(), 30)


@pytest.fixture
def asked(base, adapter):
    """Return what a person asks for: the tiny model and its adapter, without a GPU."""
    from rayproxy.checkpoint.checkpoint import from_options
    from rayproxy.checkpoint.options import checked

    archive = subprocess.run(
        [sys.executable, TOP / "tools" / "inference_zip.py"], check=True, capture_output=True, text=True
    )
    said = {
        "name": "tiny",
        "image": "model:1",
        "gpus": 0,
        "port": free_port(),
        "base_model_dir": str(base),
        "checkpoint_dir": str(adapter),
        "model_name": "tiny-tuned",
        "max_length": 256,
        "dtype": "float32",
        "engine": "generate",
        "working_dir": f"file://{archive.stdout.strip()}",
    }
    options = checked(said)
    return from_options(options), options


@pytest.fixture
def dashboard(asked, tmp_path, folder):
    """Start a Ray of our own with the environment that the workers' containers get."""
    from rayproxy.checkpoint.manifest import environment

    port = free_port()
    command = [
        f"{Path(sys.executable).parent}/ray", "start", "--head", "--block", "--disable-usage-stats",
        "--node-ip-address=127.0.0.1", f"--port={free_port()}", f"--dashboard-port={port}",
        f"--dashboard-agent-listen-port={free_port()}", f"--dashboard-agent-grpc-port={free_port()}",
        f"--ray-client-server-port={free_port()}", f"--metrics-export-port={free_port()}",
        "--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000", f"--temp-dir={folder}",
    ]  # fmt: skip
    variables = os.environ | environment(*asked) | {"RAY_AUTH_MODE": "disabled"}
    with (tmp_path / "ray.log").open("w") as log:
        ray = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        # The dashboard answers before its part for Serve does.
        until(lambda: fetch(f"http://127.0.0.1:{port}/api/serve/applications/")[0] == 200, 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        ray.send_signal(signal.SIGTERM)  # it ends what it started, and then itself
        ray.wait(60)


def test_serve_deploy_of_the_generated_config_brings_the_model_server_up(asked, dashboard, tmp_path):
    from rayproxy.checkpoint.serve_config import serve_config_v2

    _, options = asked
    config = tmp_path / "serve.yaml"
    config.write_text(serve_config_v2(options, "/apis/rayservice/chat", (2, 60, 0)), encoding="utf-8")

    serve = [f"{Path(sys.executable).parent}/serve", "deploy", str(config), "--address", dashboard]
    subprocess.run(serve, check=True, timeout=60)

    def running():
        _, status = fetch(f"{dashboard}/api/serve/applications/")
        application = (status or {}).get("applications", {}).get("default", {})
        assert application.get("status") != "DEPLOY_FAILED", application.get("message")
        return application.get("status") == "RUNNING" and application

    application = until(running, 200)
    assert application["deployments"]["LlamaDeployment"]["status"] == "HEALTHY"
    url = f"http://127.0.0.1:{options.port}"
    # Ray Serve's proxy listens a moment after the application runs.
    models = until(lambda: fetch(f"{url}/v1/models")[1], 60)
    assert models["data"][0]["id"] == "tiny-tuned"
    status, answer = fetch(f"{url}/inference", json.dumps({"input": "你好"}).encode())
    assert status == 200
    assert {"output", "tokenLength", "elapsedTime", "tokenPerSec"} <= answer.keys()
