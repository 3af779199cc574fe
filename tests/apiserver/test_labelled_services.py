"""Plain Services with the label, on a real API server: routed where the settings say so, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.waiting import until


def states(daemon: Daemon) -> dict[tuple[str, str], str]:
    return {(row["kind"], row["name"]): row["state"] for row in daemon.rows()}


def behind(daemon: Daemon, name: str) -> tuple[str, int] | None:
    found = next(row["behind"] for row in daemon.rows() if (row["kind"], row["name"]) == ("service", name))
    return found and (found["state"], found["ready"])


def test_a_labelled_service_answers_and_kuberays_own_is_not_routed_twice(
    make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path
):
    _, rays = kuberay.routed("chat")
    kuberay.patch_service(rays["metadata"]["name"], {"metadata": {"labels": {"app": "prediction"}}})
    made = {}
    for name, label in (("vllm", "prediction"), ("other", "other")):
        spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": kuberay.port}]}
        body = {"metadata": {"name": name, "labels": {"app": label}}, "spec": spec}
        made[name] = kuberay.cluster.call("POST", f"/api/v1/namespaces/{kuberay.namespace}/services", body)
    config = {"KUBECONFIG": str(kuberay.cluster.kubeconfig(folder)), "NAMESPACES": kuberay.namespace}
    daemon = make_daemon(**config, KINDS="rayservice,service").start()
    expected = {("rayservice", "chat"): "accepted", ("service", "vllm"): "accepted"}
    until("both are routed, and nothing else", lambda: states(daemon) == expected)
    assert daemon.get("/apis/service/vllm/v1/models").json["line"] == "GET /v1/models HTTP/1.1"
    assert daemon.get("/apis/service/other/v1/models").error_type == "service_not_found"
    for ready, told in ((True, ("ready", 1)), (False, ("unavailable", 0))):
        kuberay.endpoints(made["vllm"], ready)
        until(f"who answers is told: {told}", lambda told=told: behind(daemon, "vllm") == told)
    kuberay.patch_service("vllm", {"metadata": {"labels": {"app": None}}})
    until("its route ends with its label", lambda: ("service", "vllm") not in states(daemon))


def test_no_service_is_routed_for_its_label_where_no_setting_says_so(daemon: Daemon, kuberay: KubeRay):
    spec = {"selector": {"app": "vllm"}, "ports": [{"name": "http", "port": kuberay.port}]}
    body = {"metadata": {"name": "vllm", "labels": {"app": "prediction"}}, "spec": spec}
    kuberay.cluster.call("POST", f"/api/v1/namespaces/{kuberay.namespace}/services", body)
    kuberay.routed("chat")
    daemon.start()
    until("the other is routed", lambda: ("rayservice", "chat") in states(daemon))
    assert ("service", "vllm") not in states(daemon)
    assert daemon.get("/apis/service/vllm/").error_type == "service_not_found"
