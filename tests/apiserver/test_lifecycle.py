"""From a RayService in a real API server to an answer through a real nginx, with every definition at hand."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.conftest import rayservice_crds
from tests.support.apiserver import Cluster, local_api_server
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.waiting import until


@pytest.fixture(scope="session")
def clusters(api_server: Cluster) -> Iterator[Callable[[Path], Cluster]]:
    """Return a function from a RayService definition to an API server that has it: one each."""
    ours, *_ = rayservice_crds()
    running = {ours: api_server}
    with contextlib.ExitStack() as stack:

        def cluster_with(path: Path) -> Cluster:
            if path not in running:
                running[path] = stack.enter_context(local_api_server())
            running[path].install_crd(path)
            return running[path]

        yield cluster_with


@pytest.fixture(params=rayservice_crds(), ids=lambda path: path.stem)
def cluster(request: pytest.FixtureRequest, clusters: Callable[[Path], Cluster]) -> Cluster:
    return clusters(request.param)


def backend(daemon: Daemon, kuberay: KubeRay, name: str) -> str:
    return daemon.routes()[f"{kuberay.namespace}/{name}"]["backend"]


@pytest.mark.fault(23)
def test_a_rayservice_is_pending_until_its_service_is_there_and_then_answers(daemon: Daemon, kuberay: KubeRay):
    daemon.start()
    assert daemon.error("chat") == "rayservice_not_found"
    rayservice = kuberay.rayservice("chat")
    daemon.until_state("chat", "pending", kuberay.namespace)
    answer = daemon.route("chat")
    assert (answer.status, answer.error_type, answer.headers["retry-after"]) == (503, "rayservice_pending", "5")
    service = kuberay.service(rayservice)
    daemon.until_state("chat", "accepted", kuberay.namespace)
    assert daemon.answers_from("chat", "everywhere")
    assert backend(daemon, kuberay, "chat") == f"{service['spec']['clusterIP']}:{kuberay.port}"


@pytest.mark.fault(23)
def test_a_service_that_was_there_first_waits_for_its_rayservice(daemon: Daemon, kuberay: KubeRay):
    rayservice, _ = kuberay.routed("chat")
    kuberay.patch_rayservice("chat", {"metadata": {"labels": {"app": None}}})
    daemon.start()
    assert daemon.error("chat") == "rayservice_not_found"
    kuberay.patch_rayservice("chat", {"metadata": {"labels": rayservice["metadata"]["labels"]}})
    daemon.until_state("chat", "accepted", kuberay.namespace)
    assert daemon.answers_from("chat", "everywhere")


def test_a_label_that_is_taken_away_ends_the_route(daemon: Daemon, kuberay: KubeRay):
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    kuberay.patch_rayservice("chat", {"metadata": {"labels": {"app": "something-else"}}})
    daemon.until_gone("chat", kuberay.namespace)
    assert daemon.error("chat") == "rayservice_not_found"


@pytest.mark.fault(24)
def test_a_service_that_comes_back_with_another_address_is_followed(daemon: Daemon, kuberay: KubeRay):
    rayservice, first = kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    kuberay.delete_service("chat-serve-svc")
    other = f"127.96.200.{10 + int(first['spec']['clusterIP'].rsplit('.', 1)[1]) % 200}"
    kuberay.service(rayservice, clusterIP=other)
    until("routed to the new address", lambda: backend(daemon, kuberay, "chat") == f"{other}:{kuberay.port}")
    assert daemon.answers_from("chat", "everywhere")
    assert other in daemon.files()["ray-chat.conf"]


def test_a_service_of_another_name_is_followed(daemon: Daemon, kuberay: KubeRay):
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    old = backend(daemon, kuberay, "chat")
    rayservice = kuberay.patch_rayservice("chat", {"spec": {"serveService": {"metadata": {"name": "renamed"}}}})
    renamed = kuberay.service(rayservice)  # KubeRay makes the new one and leaves the old one be
    address = f"{renamed['spec']['clusterIP']}:{kuberay.port}"
    until("routed to the renamed Service", lambda: backend(daemon, kuberay, "chat") == address)
    assert old != address
    assert daemon.answers_from("chat", "everywhere")


def test_a_deleted_rayservice_is_not_found(daemon: Daemon, kuberay: KubeRay):
    kuberay.routed("chat")
    kuberay.routed("other")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    kuberay.delete_rayservice("chat")
    daemon.until_gone("chat", kuberay.namespace)
    assert daemon.error("chat") == "rayservice_not_found"
    assert daemon.answers_from("other", "everywhere")


def test_a_rayservice_made_anew_does_not_get_what_its_namesake_left(daemon: Daemon, kuberay: KubeRay):
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    kuberay.delete_rayservice("chat")
    anew = kuberay.rayservice("chat")
    row = daemon.until_state("chat", "pending", kuberay.namespace)
    assert row["uid"] == anew["metadata"]["uid"]
    assert "still belongs to the deleted RayService" in row["message"]
    kuberay.delete_service("chat-serve-svc")
    service = kuberay.service(anew)
    daemon.until_state("chat", "accepted", kuberay.namespace)
    assert backend(daemon, kuberay, "chat") == f"{service['spec']['clusterIP']}:{kuberay.port}"


@pytest.mark.fault(25)
def test_of_two_with_one_name_the_older_is_routed_also_after_a_restart(
    make_daemon: Callable[..., Daemon], kuberay: KubeRay, folder: Path
):
    cluster = kuberay.cluster
    later = KubeRay(cluster, cluster.namespace("aa"), kuberay.port)  # first in the alphabet, last in time
    rayservice, _ = kuberay.routed("chat")
    born = dt.datetime.fromisoformat(rayservice["metadata"]["creationTimestamp"])
    until("another second begins", lambda: dt.datetime.now(dt.UTC) >= born + dt.timedelta(seconds=1))
    later.routed("chat")
    daemon = make_daemon(
        KUBECONFIG=str(cluster.kubeconfig(folder)), NAMESPACES=f"{later.namespace},{kuberay.namespace}"
    )
    for _ in range(2):
        daemon.start()
        daemon.until_state("chat", "accepted", kuberay.namespace)
        loser = daemon.until_state("chat", "rejected", later.namespace)
        assert loser["reason"] == "NameConflict"
        assert f"older RayService {kuberay.namespace}/chat" in loser["message"]
        daemon.stop()
    told = [event for event in later.events("chat") if event["reason"] == "RouteRejected"]
    assert len(told) == 1
    daemon.start()
    kuberay.delete_rayservice("chat")
    daemon.until_state("chat", "accepted", later.namespace)
    assert daemon.answers_from("chat", "everywhere")


@pytest.mark.fault(50)
def test_what_changed_while_the_daemon_was_away_is_caught_up_with(daemon: Daemon, kuberay: KubeRay):
    for name in ("stays", "goes", "moves"):
        kuberay.routed(name)
    daemon.start()
    daemon.until_state("moves", "accepted", kuberay.namespace)
    daemon.stop()
    kuberay.delete_rayservice("goes")
    moves = kuberay.patch_rayservice("moves", {"spec": {"serveService": {"metadata": {"name": "elsewhere"}}}})
    service = kuberay.service(moves)
    kuberay.routed("comes")
    daemon.start()
    daemon.until_state("comes", "accepted", kuberay.namespace)
    assert daemon.error("goes") == "rayservice_not_found"
    assert backend(daemon, kuberay, "moves") == f"{service['spec']['clusterIP']}:{kuberay.port}"
    assert all(daemon.answers_from(name, "everywhere") for name in ("stays", "moves", "comes"))
    assert daemon.reloads == 1, "one reload for all of it"


@pytest.mark.fault(58)
def test_changes_of_status_alone_cause_no_reload_no_write_and_no_cycle(daemon: Daemon, kuberay: KubeRay):
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    current, reloads = (daemon.state / "current").resolve(), daemon.reloads
    cycles = daemon.metric("rayproxy_reconcile_duration_seconds_count")
    contact = 'rayproxy_source_last_contact_timestamp_seconds{resource="rayservices"}'
    for number in range(200):
        kuberay.set_status("chat", {"observedGeneration": number + 1})
    last = dt.datetime.now(dt.UTC).timestamp()
    kuberay.set_status("chat", {"observedGeneration": 999})
    until("the last one was read", lambda: daemon.metric(contact) >= last)
    # one cycle may still be owed to the start
    assert daemon.metric("rayproxy_reconcile_duration_seconds_count") <= cycles + 1
    assert daemon.reloads == reloads
    assert (daemon.state / "current").resolve() == current
