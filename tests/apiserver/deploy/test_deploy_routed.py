"""From the documented LLMCheckpoint to an answer through nginx, with the test playing KubeRay."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from rayproxy.__main__ import main
from tests.support import definitions, golden
from tests.support.objects import CHECKPOINTS, MERGE, install, remove, there
from tests.support.rollout import RUNNING, Rollout
from tests.support.waiting import until

NAME = "finetune-sample"


class Model(BaseHTTPRequestHandler):
    """Answer as Ray Serve and the model server would."""

    def do_GET(self):
        known = self.path == "/-/healthz"
        self._answer(200 if known else 404, b"success" if known else b"Path not found", "text/plain")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"output": asked["input"], "tokenLength": "1", "elapsedTime": "0.1", "tokenPerSec": "10.0"}
        self._answer(200, json.dumps(answer).encode(), "application/json")

    def _answer(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def model():
    """Return the port of a model that answers on every ClusterIP."""
    with ThreadingHTTPServer(("0.0.0.0", 0), Model) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found.server_port
        found.shutdown()


@pytest.fixture
def server(api_server):
    crds = definitions.OWN_TODAY.load()
    for crd in crds:
        install(api_server, crd)
    yield api_server
    for crd in crds:
        remove(api_server, crd)


@pytest.fixture
def namespace(server):
    """Return a namespace that holds the documented LLMCheckpoint, tuned with success."""
    name = server.namespace()
    document = yaml.safe_load((golden.INPUTS / "documented.yaml").read_text(encoding="utf-8"))
    document["metadata"]["namespace"] = name
    server.call("POST", CHECKPOINTS.format(name), document)
    path = f"{CHECKPOINTS.format(name)}/{NAME}/status"
    server.call("PATCH", path, {"status": {"state": "SUCCESSFUL"}}, MERGE)
    return name


def test_the_documented_checkpoint_is_served_and_answers_through_nginx(server, namespace, make_daemon, folder, model):
    kubeconfig = str(server.kubeconfig(folder))
    daemon = make_daemon(KUBECONFIG=kubeconfig, NAMESPACES=namespace).start()
    words = ["deploy", NAME, "-n", namespace, "--kubeconfig", kubeconfig, "--port", str(model)]
    wait = ["--wait", "--proxy", f"http://127.0.0.1:{daemon.port}", "--timeout", "100"]
    log = folder / "deploy.log"
    rollout = Rollout(server, namespace, NAME)
    with log.open("w") as stderr:
        command = subprocess.Popen([sys.executable, "-m", "rayproxy", *words, *wait], stderr=stderr)
    try:
        until("it is applied", lambda: "applied in namespace" in log.read_text(), 60)
        assert daemon.error(NAME) in ("rayservice_pending", "rayservice_not_found")

        rollout.status("DEPLOYING")
        for kind in ("head", "worker"):
            rollout.pod(kind)
            rollout.container(kind, RUNNING, pulled=True, ready=True)
        rollout.status("RUNNING")
        assert command.poll() is None, log.read_text()
        rollout.service(model)

        assert command.wait(60) == 0, log.read_text()
    finally:
        command.kill()
        command.wait()
    assert "[7/7] routed" in log.read_text()
    answer = daemon.route(NAME, "inference", method="POST", body=json.dumps({"input": "你好"}).encode())
    assert (answer.status, answer.json["output"]) == (200, "你好")

    undeploy = [sys.executable, "-m", "rayproxy", "undeploy", NAME, "-n", namespace, "--kubeconfig", kubeconfig]
    subprocess.run(undeploy, check=True, timeout=60, capture_output=True)

    daemon.until_gone(NAME, namespace)
    assert daemon.error(NAME) == "rayservice_not_found"
    assert there(server, f"{CHECKPOINTS.format(namespace)}/{NAME}"), "the checkpoint itself stays"


@pytest.mark.fault(131)
def test_the_answer_of_a_namesake_in_another_namespace_is_not_taken_for_ones_own(
    server, namespace, make_daemon, folder, model, capsys
):
    other = server.namespace()
    flags = ["--kubeconfig", str(server.kubeconfig(folder)), "--name", NAME, "--image", "model:1"]
    flags += ["--base-model-dir", "/model", "--port", str(model)]
    daemon = make_daemon(KUBECONFIG=flags[1], NAMESPACES=f"{namespace},{other}").start()
    assert main(["deploy", *flags, "-n", namespace]) == 0
    first = Rollout(server, namespace, NAME)
    first.status("RUNNING")
    first.service(model)
    daemon.until_state(NAME, "accepted", namespace)

    wait = ["--wait", "--proxy", f"http://127.0.0.1:{daemon.port}", "--timeout", "60"]
    assert main(["deploy", *flags, "-n", other, *wait]) == 1
    assert "the proxy rejects its route: NameConflict: the name finetune-sample belongs to" in capsys.readouterr().err

    second = Rollout(server, other, NAME)
    second.status("RUNNING")
    second.service(model)
    assert main(["deploy", *flags, "-n", other, *wait]) == 1, "all is there, and the namesake answers"
    assert "routed after" not in capsys.readouterr().err
