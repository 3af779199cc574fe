"""What people write for KServe, applied as it is, labelled, and called through nginx, with a Host of the caller's own.

The manifests are tests/quickstart/kserve.yaml; RAYPROXY_TEST_QUICK_START may name a file of Markdown with others. What
KServe makes of them is its part: the recording of mode Standard under their names, and Knative's Services.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.apiserver.conftest import CRDS, inferenceservice_crds
from tests.support import deploy
from tests.support.apiserver import Cluster
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.knative import leads_to, private_gateway
from tests.support.kserve import KServe, condition, host, placeholder, status
from tests.support.upstream import Upstream
from tests.support.waiting import until

TESTS = Path(__file__).parents[1]
RECORDED = TESTS / "recorded" / "kserve-standard.jsonl"
CALLS = {"llama2-7b-chat": "openai/v1/completions", "ysz-t1": "v1/completions", "qwen2-72b": "openai/v1/completions"}
FENCED = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
Played = tuple[str, list[Upstream]]  # the gateway, namespace and name, and who answers


def written(namespace: str) -> list[deploy.Manifest]:
    """Return the manifests as they were written, in a namespace."""
    named = os.environ.get("RAYPROXY_TEST_QUICK_START")
    text = (Path(named) if named else TESTS / "quickstart" / "kserve.yaml").read_text(encoding="utf-8")
    found = [each for part in FENCED.findall(text) or [text] for each in yaml.safe_load_all(part)]
    for each in found:
        each["metadata"]["namespace"] = namespace
    return found


def recorded(kind: str, name: str, like: str) -> dict[str, Any]:
    """Return what KServe 0.20.0 made for the InferenceService `like`, under another name."""
    lines = map(json.loads, RECORDED.read_text(encoding="utf-8").splitlines())
    wanted = (kind, like if kind == "InferenceService" else f"{like}-predictor")
    [found] = [each for each in lines if (each["kind"], each["metadata"]["name"]) == wanted]
    return json.loads(re.sub(rf"\b{like}\b", name, json.dumps(found)))


def standard(kserve: KServe, made: list[deploy.Manifest], stack: ExitStack) -> Played:
    """Play KServe in a cluster whose default is mode Standard; the models listen on port 80 of their addresses."""
    models = []
    for obj in made:
        name = obj["metadata"]["name"]
        like = "llm" if "model" in obj["spec"]["predictor"] else "echo"
        kserve.patch(name, {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "Standard"}}})
        service = recorded("Service", name, like)
        service["metadata"]["namespace"] = kserve.namespace
        service["metadata"]["ownerReferences"][0]["uid"] = obj["metadata"]["uid"]
        at = kserve.create(service)["spec"]["clusterIP"]
        kserve.set_status(name, recorded("InferenceService", name, like)["status"])
        models.append(stack.enter_context(closing(Upstream(at, 80, name))))
    return "", models


def serverless(kserve: KServe, made: list[deploy.Manifest], stack: ExitStack) -> Played:
    """Play KServe and Knative in mode Serverless; one gateway answers for all models, by the Host."""
    key, gateway = stack.enter_context(private_gateway(kserve))
    for obj in made:
        name = obj["metadata"]["name"]
        at = host(f"{name}-predictor", kserve.namespace)
        gateway.models.add(at)
        kserve.create(placeholder(obj, externalName=leads_to(key)))
        ready = (condition(kind, "True") for kind in ("PredictorReady", "IngressReady", "Ready"))
        components = {"predictor": {"address": {"url": f"http://{at}"}}}
        kserve.set_status(name, status(*ready, transition="UpToDate", target="Loaded") | {"components": components})
    return key, [gateway]


@pytest.fixture(params=inferenceservice_crds(), ids=lambda path: path.stem)
def kserve(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[KServe]:
    """Return KServe's part, with each of its CRDs."""
    if os.geteuid():
        pytest.skip("needs port 80: run the tests as root")
    cluster.put_crd(request.param)
    yield KServe(cluster, cluster.namespace(), 80)
    cluster.put_crd(CRDS / "inferenceservices.yaml")


def curl(daemon: Daemon, name: str, *, stream: bool) -> list[str]:
    """Return the command by which a user calls a model."""
    url = f"http://127.0.0.1:{daemon.port}/apis/inferenceservice/{name}/{CALLS[name]}"
    body = json.dumps({"model": "any", "prompt": "Hello", "stream": stream, "max_tokens": 30})
    return ["curl", "-sSfN", "-X", "POST", url, "-H", "Content-Type: application/json", "-d", body]


def accepted(daemon: Daemon) -> set[str]:
    return {row["name"] for row in daemon.rows() if row["state"] == "accepted"}


@pytest.mark.parametrize("mode", [standard, serverless], ids=lambda mode: mode.__name__)
def test_manifests_as_they_are_written_are_answered_after_one_label_with_no_host_from_the_caller(
    make_daemon: Callable[..., Daemon], kserve: KServe, folder: Path, mode: Callable[..., Played]
):
    config = kserve.cluster.kubeconfig(folder)
    manifests = written(kserve.namespace)
    deploy.kubectl(config, "apply", "-f", "-", manifests=manifests)
    made = [kserve.get(each["metadata"]["name"]) for each in manifests]
    assert not [path for asked, there in zip(manifests, made, strict=True) for path in deploy.lost(asked, there)]
    with ExitStack() as stack:
        gateway, servers = mode(kserve, made, stack)
        settings = {"GATEWAYS": gateway} if gateway else {}
        daemon = make_daemon(KUBECONFIG=str(config), NAMESPACES=kserve.namespace, **settings).start()
        assert daemon.get("/apis/inferenceservice/ysz-t1/v1/models").status == 404, "it has no label"
        checked = rayproxy(daemon, "check").stdout
        assert "0 InferenceServices match 'app=prediction'; 3 do not and have no route" in checked
        for name in CALLS:
            deploy.kubectl(
                config, "label", "-n", kserve.namespace, "inferenceservice", name, "app=prediction"
            )  # as docs/kserve.md says
        for name, path in CALLS.items():
            until(f"{name} is served", lambda name=name: name in accepted(daemon))
            answer = json.loads(subprocess.check_output(curl(daemon, name, stream=False)))
            assert answer["line"] == f"POST /{path} HTTP/1.1"
            assert json.loads(answer["body"])["prompt"] == "Hello"
            at = host(f"{name}-predictor", kserve.namespace) if gateway else f"127.0.0.1:{daemon.port}"
            assert answer["headers"]["host"] == at
        for name in CALLS:
            with subprocess.Popen(curl(daemon, name, stream=True), stdout=subprocess.PIPE, text=True) as caller:
                assert caller.stdout
                assert caller.stdout.readline() == "data: first\n"
                for server in servers:
                    server.release.set()
                assert caller.stdout.read() == "\ndata: last\n\n"
            for server in servers:
                server.release.clear()
        assert "3 InferenceServices match 'app=prediction'" in rayproxy(daemon, "check").stdout
