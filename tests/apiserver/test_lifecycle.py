"""From a RayService in a real API server to an answer through a real nginx, with every definition at hand."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apiserver.conftest import rayservice_crds
from tests.support.apiserver import Cluster, local_api_server
from tests.support.cli import rayproxy
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
@pytest.mark.fault(83)
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
        KUBECONFIG=str(cluster.kubeconfig(folder)),
        NAMESPACES=f"{later.namespace},{kuberay.namespace}",
        NAME_HOLD="0",
    )
    for _ in range(2):
        daemon.start()
        daemon.until_state("chat", "accepted", kuberay.namespace)
        loser = daemon.until_state("chat", "rejected", later.namespace)
        assert loser["reason"] == "NameConflict"
        assert kuberay.namespace not in loser["message"]
        daemon.stop()
    told = [event for event in later.events("chat") if event["reason"] == "RouteRejected"]
    assert len(told) == 1
    assert kuberay.namespace not in told[0]["message"]
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


def test_a_suspended_rayservice_is_told_as_such_without_a_warning(daemon: Daemon, kuberay: KubeRay):
    """In the order of KubeRay 1.7: the condition, then cluster and Service go; resumed, it makes a new Service."""
    kuberay.routed("chat")
    daemon.start()
    daemon.until_state("chat", "accepted", kuberay.namespace)
    if "suspend" not in kuberay.patch_rayservice("chat", {"spec": {"suspend": True}})["spec"]:
        pytest.skip("this definition has no spec.suspend: KubeRay 1.7 and newer have it")
    kuberay.set_status("chat", {"conditions": [condition("Suspending", "SuspendInProgress")]})
    assert daemon.answers_from("chat", "everywhere"), "its Service is still there"
    kuberay.delete_service("chat-serve-svc")
    kuberay.set_status("chat", {"conditions": [condition("Suspended", "SuspendComplete")]})
    row = daemon.until_state("chat", "suspended", kuberay.namespace)
    assert "set it to false" in row["message"]
    answer = daemon.route("chat")
    assert (answer.status, answer.error_type, "retry-after" in answer.headers) == (503, "rayservice_suspended", False)
    assert "suspended" in rayproxy(daemon, "routes").stdout
    event = until("an Event tells it", lambda: [e for e in kuberay.events("chat") if e["reason"] == "RouteSuspended"])[
        0
    ]
    assert event["type"] == "Normal"
    assert [e for e in kuberay.events("chat") if e["type"] == "Warning"] == []
    resumed = kuberay.patch_rayservice("chat", {"spec": {"suspend": False}})
    daemon.until_state("chat", "pending", kuberay.namespace)
    kuberay.service(resumed)
    daemon.until_state("chat", "accepted", kuberay.namespace)
    assert daemon.answers_from("chat", "everywhere")


def test_what_kuberay_refuses_is_told_in_its_words_until_it_is_mended(daemon: Daemon, kuberay: KubeRay):
    """As KubeRay 1.6.2 goes on: the condition stays after the mend, until an endpoint is ready."""
    daemon.start()
    made = kuberay.rayservice("chat", {"upgradeStrategy": {"type": "NewCluster"}})
    refusal = condition("Ready", "ValidationFailed", "False", "the field x is wrong")
    if "conditions" not in kuberay.set_status("chat", {"conditions": [refusal]}).get("status", {}):
        pytest.skip("this definition keeps no conditions: KubeRay 1.3 and newer have them")
    row = daemon.until_state("chat", "refused", kuberay.namespace)
    assert (row["reason"], row["message"]) == ("ValidationFailed", "the field x is wrong")
    answer = daemon.route("chat")
    assert (answer.status, answer.error_type, "retry-after" in answer.headers) == (503, "rayservice_refused", False)
    event = until("an Event tells it", lambda: kuberay.events("chat"))[0]
    assert (event["type"], event["reason"]) == ("Warning", "RouteRefused")
    assert "the field x is wrong" in event["message"]
    assert made["metadata"]["generation"] == 1
    kuberay.set_status(
        "chat",
        {"conditions": [refusal], "observedGeneration": 1, "pendingServiceStatus": {"rayClusterName": "chat-x7k2p"}},
    )
    daemon.until_state("chat", "pending", kuberay.namespace)
    kuberay.service(made)
    daemon.until_state("chat", "accepted", kuberay.namespace)


def told(kuberay: KubeRay) -> set[tuple[str, str]]:
    return {(event["type"], event["reason"]) for event in kuberay.events("chat")}


def condition(kind: str, reason: str, status: str = "True", message: str = "m") -> dict[str, str]:
    """Return a condition as KubeRay writes it."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}


def test_a_name_that_kubernetes_takes_and_the_proxy_does_not_is_told_as_rejected(daemon: Daemon, kuberay: KubeRay):
    names = ["7b-chat", "chat.v2", "a" * 253]
    for name in names:
        kuberay.rayservice(name)
    kuberay.routed("good")
    daemon.start()
    for name in names:
        daemon.until_state(name, "rejected", kuberay.namespace)
        assert daemon.error(name) == "rayservice_rejected"
    assert daemon.answers_from("good", "everywhere")
