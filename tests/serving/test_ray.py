"""Behind Ray Serve, from a zip as a RayService would use it: streams, limits, a dead engine, an end without haste."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import urllib.error
from pathlib import Path

import httpx
import inference_zip
import pytest
from conftest import wait_for
from ray_node import LOOPBACK, PORTS, RayNode, free_ports

ROOT = Path(__file__).resolve().parents[2]

LONG = {"prompt": "a", "max_tokens": 400, "ignore_eos": True, "temperature": 0}
MAX_INSIDE = 8
ROOT_PATH = "/apis/rayservice/chat"  # as `rayproxy deploy` writes it; the proxy takes it off each request
# The deployment as it is, and routes that kill its engine's process and that slow its tokens down.
BREAKABLE = """
import asyncio
from contextlib import aclosing

from llmserving import deployment as real
from llmserving.app import build_app

def build_breakable(server):
    app = build_app(server)
    submit = server.engine.submit

    @app.post("/break")
    async def break_engine():
        server.engine._process.kill()

    async def slowly(prompt, sampling):
        async with aclosing(submit(prompt, sampling)) as tokens:
            async for token in tokens:
                await asyncio.sleep(0.01)
                yield token

    @app.post("/slow")
    async def slow_down():
        server.engine.submit = slowly

    return app

real.build_app = build_breakable
deployment = real.build({})
"""


def session_members(leader):
    """Return the processes of one session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if fields[3] == str(leader) and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def end_session(process):
    """Kill every process of the node's session, which are all ours."""

    def all_gone():
        for pid in session_members(process.pid):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
        process.poll()
        return not session_members(process.pid)

    wait_for(all_gone, "the node's processes are gone")


class Deployed:
    """The application on its own Ray node."""

    def __init__(self, node, port, archive):
        self.node, self.archive = node, archive
        self.client = httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=180)
        self.http = {"host": LOOPBACK, "port": port, "root_path": ROOT_PATH}

    def deploy(self, applications):
        config = {"proxy_location": "HeadOnly", "http_options": self.http, "applications": applications}
        wait_for(lambda: self._deployed(config), "Ray takes the config", 300)

    def _deployed(self, config):
        assert self.node.process.poll() is None, self.node.log.read_text()
        try:
            self.node.deploy(config)
        except urllib.error.HTTPError:
            raise
        except OSError:  # it does not listen yet
            return False
        return True

    def application(self):
        deployment = {
            "name": "LlamaDeployment",
            "ray_actor_options": {"num_cpus": 1},
            "health_check_period_s": 1,
        }
        return {
            "name": "default",
            "route_prefix": "/",
            "import_path": "breakable.deployment",
            "runtime_env": {"working_dir": self.archive.as_uri()},
            "deployments": [deployment],
        }

    def is_ready(self):
        try:
            return self.client.get("/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_until_ready(self):
        wait_for(self.is_ready, f"ready; {json.dumps(self.node.application())[:2000]}", 300)

    def metric(self, name):
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def ray(base, adapter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    source = shutil.copytree(ROOT / "serving", folder / "source")
    (source / "breakable.py").write_text(BREAKABLE)
    environment = {
        "HOME": str(folder),
        "BASE_MODEL_DIR": str(base),
        "CHECKPOINT_DIR": str(adapter),
        "SERVING_MAX_RUNNING": "4",
        "SERVING_MAX_WAITING": str(MAX_INSIDE - 4),
        "RAY_SERVE_ENABLE_METRICS": "1",
    }
    node = RayNode(folder / "state", environment)
    try:
        deployed = Deployed(node, free_ports(1)[0], inference_zip.write(source, folder / "zip"))
        deployed.deploy([deployed.application()])
        deployed.wait_until_ready()
        yield deployed
    finally:
        end_session(node.process)
        shutil.rmtree(node._temporary, ignore_errors=True)


def test_the_zip_answers_the_documented_call(ray):
    answer = ray.client.post("/inference", content='{\n  "input": "你好",\n}'.encode()).json()
    assert float(answer["tokenPerSec"]) > 0


def test_with_a_root_path_ray_is_healthy_and_says_its_routes_where_it_did_without_one(ray):
    """KubeRay asks the workers for the one before it calls them ready: ray-project/kuberay#4494."""
    assert ray.client.get("/-/healthz").text == "success"
    assert ray.client.get("/-/routes").json() == {"/": "default"}


def test_a_path_that_has_the_root_path_already_is_not_found(ray):
    assert ray.client.get(f"{ROOT_PATH}/ready").status_code == 404


def test_the_root_path_is_no_part_of_a_metric(ray):
    ray.client.post("/inference", json={"input": "a", "max_tokens": 1})
    routes = {part for part in ray.client.get("/metrics").text.split('"') if "inference" in part}
    assert routes == {"/inference"}


def test_a_stream_arrives_in_pieces(ray):
    before = ray.metric("serving_generation_tokens_total")
    with ray.client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        assert ray.metric("serving_generation_tokens_total") - before < LONG["max_tokens"]
        assert list(lines)[-2:] == ["data: [DONE]", ""]


def test_an_error_has_the_one_shape_behind_ray_too(ray):
    assert ray.client.get("/nowhere").json()["error"]["code"] == 404
    assert ray.client.post("/v1/completions", json={**LONG, "max_tokens": 9999}).json()["error"]["code"] == 400


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_slot(ray, stream):
    before = ray.metric("serving_generation_tokens_total")

    async def scenario():
        async with httpx.AsyncClient(base_url=ray.client.base_url) as client:
            body = {**LONG, "n": 4, "stream": stream}
            post = asyncio.create_task(client.post("/v1/completions", json=body))
            while ray.metric("serving_generation_tokens_total") == before:  # noqa: ASYNC110 - it is Ray that we wait for
                await asyncio.sleep(0.01)
            post.cancel()
            await asyncio.gather(post, return_exceptions=True)

    asyncio.run(scenario())
    wait_for(lambda: ray.metric("serving_sequences_running") == 0, "the slots are free")
    assert ray.metric("serving_generation_tokens_total") - before < 4 * LONG["max_tokens"]


def test_too_many_requests_get_json_before_rays_plain_text(ray):
    async def scenario():
        async with httpx.AsyncClient(base_url=ray.client.base_url, timeout=180) as client:
            return await asyncio.gather(*(client.post("/v1/completions", json=LONG) for _ in range(60)))

    responses = asyncio.run(scenario())
    refused = [response for response in responses if response.status_code != 200]
    assert len(responses) - len(refused) >= MAX_INSIDE
    assert refused
    for response in refused:
        assert (response.status_code, response.json()["error"]["type"]) == (429, "RateLimitError")
        assert int(response.headers["retry-after"]) > 0


def test_rays_own_metrics_have_the_same_figures(ray):
    option = f"--{PORTS[PORTS.index('metrics-export-port')]}="
    port = next(word for word in ray.node.process.args if word.startswith(option)).removeprefix(option)

    def exported():
        text = httpx.get(f"http://{LOOPBACK}:{port}/metrics").text
        names = ("requests", "generation_tokens", "time_to_first_token_seconds", "sequences_running")
        return all(f"ray_serving_{name}" in text for name in names)

    wait_for(exported, "Ray exports the metrics")


def test_ray_replaces_a_replica_whose_engine_has_died(ray):
    ray.client.post("/break")
    assert ray.client.post("/v1/completions", json=LONG).status_code == 503
    wait_for(lambda: not ray.is_ready(), "the dead engine is seen")
    ray.wait_until_ready()
    assert ray.client.post("/v1/completions", json=LONG).status_code == 200


def test_an_application_that_is_taken_away_finishes_its_streams(ray):
    ray.client.post("/slow")
    with ray.client.stream("POST", "/v1/completions", json={**LONG, "stream": True, "n": 4}) as response:
        lines = response.iter_lines()
        next(lines)
        ray.deploy([])
        wait_for(lambda: ray.node.application().get("status") in {None, "DELETING"}, "it is being taken away")
        finished = [line for line in lines if '"finish_reason":"length"' in line]
    assert len(finished) == 4
    wait_for(lambda: not ray.node.application(), "the application is gone")
    ray.deploy([ray.application()])
    ray.wait_until_ready()
