"""`rayproxy deploy --wait`, with the test playing KubeRay and kubelet, against a real API server."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support import definitions, golden
from tests.support.objects import RAYSERVICES, install, remove, there
from tests.support.rollout import RUNNING, Rollout
from tests.support.waiting import until

NAME = "finetune-sample"


@pytest.fixture(scope="module")
def server(api_server):
    """Return an API server that has the RayService of today's KubeRay."""
    rayservices, _ = definitions.OWN_TODAY.load()
    install(api_server, rayservices)
    yield api_server
    remove(api_server, rayservices)


@pytest.fixture
def namespace(server):
    name = "datatunerx-dev"
    path = f"/api/v1/namespaces/{name}"
    if not there(server, path):
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        server.call("POST", "/api/v1/namespaces", made)
    yield name
    server.call("DELETE", RAYSERVICES.format(name))
    now = {"gracePeriodSeconds": 0}
    for collection in ("pods", "services", "events"):
        for item in server.call("GET", f"{path}/{collection}")["items"]:
            server.call("DELETE", f"{path}/{collection}/{item['metadata']['name']}", now)


@pytest.fixture
def rollout(server, namespace):
    return Rollout(server, namespace, NAME)


class Command:
    """Run `rayproxy deploy --wait` beside the test."""

    def __init__(self, log, kubeconfig, *words):
        self._log = log
        command = [sys.executable, "-m", "rayproxy", "deploy", "--kubeconfig", str(kubeconfig)]
        command += ["-f", str(golden.INPUTS / "documented.yaml"), "--wait", *words]
        with log.open("w") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr)

    def says(self, text):
        until(text, lambda: text in self.said() or self.process.poll() is not None, 30)
        assert text in self.said(), self.said()

    def said(self):
        return self._log.read_text()

    def ends_with(self, code):
        assert self.process.wait(30) == code, self.said()


@pytest.fixture
def deploy(tmp_path, server, folder):
    """Return a function that starts the command; it is ended with the test."""
    running = []

    def start(*words):
        running.append(Command(tmp_path / "stderr", server.kubeconfig(folder), *words))
        return running[-1]

    yield start
    for command in running:
        command.process.kill()
        command.process.wait()


class Proxy(BaseHTTPRequestHandler):
    """Answer as a front end before the proxy may: a page of its own, with 200, until there is a route."""

    routed = threading.Event()

    def do_GET(self):
        found = self.path == f"/apis/rayservice/{NAME}/-/healthz" and self.routed.is_set()
        body = b"success" if found else b"<html>welcome</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy():
    Proxy.routed.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def bring_up_to(rollout, stage):
    """Do what KubeRay and kubelet do until `stage` is reached."""
    steps = {
        "pods": lambda: (rollout.status(), rollout.pod("head"), rollout.pod("worker")),
        "image pulled": lambda: [rollout.container(kind, RUNNING, pulled=True) for kind in ("head", "worker")],
        "head up": lambda: rollout.container("head", RUNNING, pulled=True, ready=True),
        "model loading": lambda: rollout.status("DEPLOYING"),
        "app running": lambda: rollout.status("RUNNING"),
        "Service there": rollout.service,
    }
    for name, step in steps.items():
        step()
        if name == stage:
            return


def test_each_stage_is_named_as_it_comes_until_the_first_answer_through_the_proxy(deploy, rollout, proxy):
    command = deploy("--proxy", proxy)
    command.says("RayService finetune-sample applied in namespace datatunerx-dev")

    rollout.status()
    rollout.pod("head")
    rollout.pod("worker")
    command.says("[0/7] applied")
    rollout.container("head", RUNNING, pulled=True)
    rollout.warning("worker", "FailedScheduling", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    command.says("waiting for 'image pulled': finetune-sample-x7k2p-worker: FailedScheduling: 0/3 nodes are")
    rollout.container("worker", {"waiting": {"reason": "PodInitializing"}}, pulled=True)
    command.says("[1/7] image pulled")
    rollout.container("head", RUNNING, pulled=True, ready=True)
    command.says("[2/7] head up")
    rollout.container("worker", RUNNING, pulled=True)
    command.says("[3/7] worker up")
    rollout.status("DEPLOYING")
    command.says("[4/7] model loading")
    rollout.status("RUNNING")
    command.says("[5/7] app running")
    rollout.service()
    command.says("[6/7] Service there")
    assert command.process.poll() is None
    Proxy.routed.set()
    command.says("[7/7] routed")
    command.ends_with(0)


@pytest.mark.fault(168)
def test_what_stops_pods_from_being_made_is_told(deploy, rollout):
    command = deploy()
    command.says("applied")

    rollout.status()
    rollout.warning("RayCluster", "FailedToCreateHeadPod", "Failed to create head Pod: exceeded quota: gpus")

    command.says(
        "waiting for 'image pulled': finetune-sample-x7k2p: FailedToCreateHeadPod: Failed to create head Pod: "
    )


def test_without_a_proxy_it_is_over_when_the_service_is_there(deploy, rollout):
    command = deploy()
    command.says("applied")
    bring_up_to(rollout, "Service there")

    command.says("[6/6] Service there")
    command.ends_with(0)


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (
            lambda rollout: rollout.container(
                "worker", {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
            ),
            "Pod finetune-sample-x7k2p-worker: ImagePullBackOff: no such image",
        ),
        (
            lambda rollout: rollout.status("DEPLOY_FAILED", "The deployment failed: no CHECKPOINT_DIR"),
            "Ray Serve could not deploy it: The deployment failed: no CHECKPOINT_DIR",
        ),
        (
            lambda rollout: rollout.status(
                observedGeneration=0,  # which KubeRay does not note while it refuses
                conditions=[
                    {
                        "type": "Ready",
                        "status": "False",
                        "reason": "ValidationFailed",
                        "message": "the name is too long",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }
                ],
            ),
            "KubeRay gave up: ValidationFailed: the name is too long",
        ),
    ],
    ids=["no image", "deployment failed", "refused by KubeRay"],
)
def test_a_clear_failure_ends_the_wait_with_its_reason(happens, reason, deploy, rollout, proxy):
    command = deploy("--proxy", proxy)
    command.says("applied")
    bring_up_to(rollout, "pods")

    happens(rollout)

    command.says(reason)
    command.ends_with(1)


def test_a_rayservice_that_is_taken_away_meanwhile_ends_the_wait(deploy, rollout, server, namespace):
    command = deploy()
    command.says("[0/6] applied")

    server.call("DELETE", f"{RAYSERVICES.format(namespace)}/{NAME}")

    command.says("the RayService is gone")
    command.ends_with(1)


def test_the_wait_is_over_in_time_and_names_the_stage(deploy, rollout):
    command = deploy("--timeout", "2")
    command.says("applied")
    bring_up_to(rollout, "model loading")

    command.says("not there after 2 s: waiting for '")
    command.ends_with(1)
