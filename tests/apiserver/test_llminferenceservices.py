"""KServe's LLMInferenceServices on a real API server: the Service of its controller is made, and nginx is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import llminferenceservice_crds
from tests.support.apiserver import Cluster
from tests.support.daemon import Daemon
from tests.support.kserve import controller
from tests.support.upstream import Upstream
from tests.support.waiting import until

Obj = dict[str, Any]
PATH = "/apis/serving.kserve.io/v1alpha2/namespaces/{}/llminferenceservices"


def row(daemon: Daemon) -> dict[str, Any]:
    """Return what the status file says of the only one."""
    found = [each for each in daemon.rows() if each["kind"] == "llminferenceservice"]
    return found[0] if found else {"state": "", "message": ""}


def made(cluster: Cluster, namespace: str) -> Obj:
    """Make one, as a person does."""
    body = {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": "chat", "labels": {"app": "prediction"}},
        "spec": {"model": {"uri": "pvc://models/chat"}},
    }
    return cluster.call("POST", PATH.format(namespace), body)


def workload(cluster: Cluster, owner: Obj, target: int) -> Obj:
    """Make its Service, as KServe 0.20 does; port 8000 leads to `target` in a pod."""
    metadata = owner["metadata"]
    labels = {"app.kubernetes.io/name": metadata["name"], "app.kubernetes.io/part-of": "llminferenceservice"}
    body = {
        "metadata": {"name": "chat-kserve-workload-svc", "labels": labels, "ownerReferences": [controller(owner)]},
        "spec": {
            "selector": labels,
            "ports": [{"name": "http", "port": 8000, "targetPort": target, "appProtocol": "http"}],
        },
    }
    return cluster.call("POST", f"/api/v1/namespaces/{metadata['namespace']}/services", body)


@pytest.mark.parametrize("definition", llminferenceservice_crds(), ids=lambda path: path.stem)
def test_one_is_pending_in_kserves_words_until_its_service_is_there_and_then_answers(
    cluster: Cluster, make_daemon: Callable[..., Daemon], folder: Path, definition: Path
):
    cluster.put_crd(definition)
    namespace = cluster.namespace()
    daemon = make_daemon(KUBECONFIG=str(cluster.kubeconfig(folder)), NAMESPACES=namespace).start()
    owner = made(cluster, namespace)
    until("pending", lambda: row(daemon)["state"] == "pending")
    answer = daemon.get("/apis/llminferenceservice/chat/v1/models")
    assert (answer.status, answer.error_type) == (503, "llminferenceservice_pending")
    failed = {"type": "WorkloadsReady", "status": "False", "reason": "NoImage", "message": "cannot be pulled"}
    said = {"status": {"conditions": [failed | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]}}
    cluster.call("PATCH", f"{PATH.format(namespace)}/chat/status", said, "application/merge-patch+json")
    words = "WorkloadsReady is False: NoImage: cannot be pulled"
    until(words, lambda: words in row(daemon)["message"])
    service = workload(cluster, owner, 8000)
    until("accepted", lambda: row(daemon)["state"] == "accepted")
    upstream = Upstream(service["spec"]["clusterIP"], 8000, "vllm")
    answer = daemon.get("/apis/llminferenceservice/chat/v1/models?a=b")
    upstream.close()
    assert (answer.json["upstream"], answer.json["line"]) == ("vllm", "GET /v1/models?a=b HTTP/1.1")
