"""From a RayService in a real API server to an answer through a real nginx."""

from __future__ import annotations

from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay


def test_a_rayservice_is_pending_until_its_service_is_there_and_then_answers(daemon: Daemon, kuberay: KubeRay):
    daemon.start()
    assert daemon.error("chat") == "rayservice_not_found"
    rayservice = kuberay.rayservice("chat")
    daemon.until_state("chat", "pending", kuberay.namespace)
    answer = daemon.route("chat")
    assert (answer.status, answer.error_type, answer.headers["retry-after"]) == (503, "rayservice_pending", "5")
    kuberay.service(rayservice)
    daemon.until_state("chat", "accepted", kuberay.namespace)
    assert daemon.answers_from("chat", "everywhere")


def test_a_deleted_rayservice_is_not_found(daemon: Daemon, kuberay: KubeRay):
    kuberay.routed("chat")
    daemon.start()
    assert daemon.answers_from("chat", "everywhere")
    kuberay.delete_rayservice("chat")
    daemon.until_gone("chat", kuberay.namespace)
    assert daemon.error("chat") == "rayservice_not_found"
