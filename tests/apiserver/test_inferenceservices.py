"""KServe's InferenceServices on a real API server: what its controller makes is played, and nginx is asked."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.conftest import CRDS, inferenceservice_crds
from tests.support.apiserver import Cluster
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.knative import Gateway, leads_to, private_gateway
from tests.support.kserve import KServe, addressed, condition, host, placeholder, service, status
from tests.support.kuberay import KubeRay
from tests.support.upstream import Upstream
from tests.support.waiting import until

RECORDED = Path(__file__).parents[1] / "recorded" / "kserve-standard.jsonl"
Obj = dict[str, Any]


EACH_DEFINITION = pytest.mark.parametrize("kserve", inferenceservice_crds(), ids=lambda path: path.stem, indirect=True)


@pytest.fixture
def kserve(cluster: Cluster, everywhere: Upstream, request: pytest.FixtureRequest) -> KServe:
    """Return KServe's part in a namespace of the test's own; a test says which CRD it is for, else it is our own."""
    cluster.put_crd(getattr(request, "param", CRDS / "inferenceservices.yaml"))
    return KServe(cluster, cluster.namespace(), everywhere.port)


@pytest.fixture
def knative(kserve: KServe) -> Iterator[tuple[str, Gateway]]:
    """Return a gateway's namespace and name, and what answers on port 80 of its ClusterIP: `chat` alone."""
    with private_gateway(kserve) as found:
        yield found


@pytest.fixture
def start(make_daemon: Callable[..., Daemon], kserve: KServe, folder: Path) -> Callable[..., Daemon]:
    """Return a function that starts a daemon which watches the test's namespace."""

    def run(**settings: str) -> Daemon:
        config = str(kserve.cluster.kubeconfig(folder))
        return make_daemon(**({"KUBECONFIG": config, "NAMESPACES": kserve.namespace} | settings)).start()

    return run


def ask(daemon: Daemon, name: str, tail: str = "", **options: Any) -> Any:
    return daemon.get(f"/apis/inferenceservice/{name}/{tail}", **options)


def error(daemon: Daemon, name: str) -> str:
    answer = ask(daemon, name)
    return "" if answer.status == 200 else answer.error_type


def state(daemon: Daemon, kserve: KServe, name: str, wanted: str) -> Obj:
    """Wait until the InferenceService has the state, and return its row."""

    def look() -> Obj | None:
        rows = daemon.rows()
        return next((row for row in rows if (row["kind"], row["name"], row["state"]) == (
            "inferenceservice", name, wanted)), None)  # fmt: skip

    return until(f"{name} is {wanted}", look)


@pytest.mark.fault(79)
@EACH_DEFINITION
def test_one_name_in_two_kinds_has_two_paths_and_each_its_own_words(start: Callable[..., Daemon], kserve: KServe):
    kuberay = KubeRay(kserve.cluster, kserve.namespace, kserve.port)
    daemon = start()
    made = kserve.inferenceservice("chat")
    kuberay.rayservice("chat")
    until("both are pending", lambda: (daemon.error("chat"), error(daemon, "chat")) == (
        "rayservice_pending", "inferenceservice_pending"))  # fmt: skip
    kserve.service(made)
    state(daemon, kserve, "chat", "accepted")
    answer = ask(daemon, "chat", "openai/v1/completions", method="POST", body=b"{}")
    assert answer.json["line"] == "POST /openai/v1/completions HTTP/1.1"
    assert answer.json["headers"]["host"] == "proxy.test"
    assert answer.json["headers"]["x-forwarded-prefix"] == "/apis/inferenceservice/chat"
    assert daemon.error("chat") == "rayservice_pending"
    assert error(daemon, "nobody") == "inferenceservice_not_found"
    assert daemon.get("/apis/inferenceservice/chat").headers["location"] == "chat/"
    event = until("an Event tells it", lambda: kserve.events("chat"))[0]
    assert event["message"].startswith("/apis/inferenceservice/chat/ goes to ")
    kserve.delete("chat")
    until("gone", lambda: error(daemon, "chat") == "inferenceservice_not_found")


def test_what_kserve_0_20_made_in_mode_standard_is_routed_or_told(start: Callable[..., Daemon], kserve: KServe):
    daemon = start()
    owners: dict[str, Obj] = {}
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        recorded = json.loads(line)
        if recorded["kind"] == "InferenceService":
            name = recorded["metadata"]["name"]
            owners[name] = kserve.inferenceservice(
                name, recorded["spec"], annotations=recorded["metadata"]["annotations"]
            )
            kserve.set_status(name, recorded["status"])
            continue
        recorded["metadata"]["namespace"] = kserve.namespace
        (owner,) = recorded["metadata"]["ownerReferences"]
        owner["uid"] = owners[owner["name"]]["metadata"]["uid"]
        kserve.create(recorded)
    for name in ("badimage", "echo", "llm", "two"):
        assert state(daemon, kserve, name, "accepted")["backend"].endswith(":80")
    assert error(daemon, "badimage") == "inferenceservice_unavailable"
    assert state(daemon, kserve, "grpc", "rejected")["reason"] == "GrpcOnly"
    assert error(daemon, "grpc") == "inferenceservice_rejected"
    told = state(daemon, kserve, "knative", "pending")["message"]
    assert told.startswith("its predictor is being rolled out; no Service knative-predictor")
    transformer = kserve.cluster.call("GET", f"/api/v1/namespaces/{kserve.namespace}/services/two-transformer")
    assert state(daemon, kserve, "two", "accepted")["backend"] == f"{transformer['spec']['clusterIP']}:80"


@pytest.mark.fault(77)
@EACH_DEFINITION
def test_a_serverless_model_is_asked_at_the_gateway_by_its_own_host(
    start: Callable[..., Daemon], kserve: KServe, knative: tuple[str, Gateway]
):
    key, server = knative
    daemon = start(GATEWAYS=key)
    made = kserve.inferenceservice("chat")
    leads = leads_to(key)
    kserve.create(placeholder(made, externalName=f"chat-predictor.{kserve.namespace}.example.com"))
    kserve.set_status("chat", status(condition("PredictorReady", "Unknown", "Deploying"), target="Loading"))
    until("rolled out", lambda: "Deploying" in state(daemon, kserve, "chat", "pending")["message"])
    kserve.cluster.call(
        "PATCH", f"/api/v1/namespaces/{kserve.namespace}/services/chat-predictor",
        {"spec": {"externalName": leads}}, "application/merge-patch+json",
    )  # fmt: skip
    kserve.set_status("chat", addressed(server.name))
    row = state(daemon, kserve, "chat", "accepted")
    assert row["backend"] == f"{server.host}:80 as {server.name}"
    orders = {"Knative-Serving-Namespace": "kube-system", "Knative-Serving-Revision": "other-00001"}
    answer = ask(daemon, "chat", "openai/v1/models", headers=orders)
    assert (answer.status, answer.json["headers"]["host"]) == (200, server.name)
    assert answer.json["headers"]["x-forwarded-host"] == "proxy.test"
    assert not {name.lower() for name in orders} & answer.json["headers"].keys()
    with socket.create_connection(("127.0.0.1", daemon.port), 10) as caller:
        caller.sendall(b"POST /apis/inferenceservice/chat/stream HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        seen = b""
        while b"data: first" not in seen:
            seen += caller.recv(4096)
        assert b"data: last" not in seen
        server.release.set()
        while b"data: last" not in seen:
            seen += caller.recv(4096)


@pytest.mark.fault(77)
def test_a_route_with_a_host_of_its_own_gives_it_to_no_other(
    start: Callable[..., Daemon], kserve: KServe, knative: tuple[str, Gateway]
):
    """The gateway's 404 for a Host that it does not know looks like a model's own: it is the caller's Host here."""
    key, _ = knative
    daemon = start(GATEWAYS=key)
    leads = leads_to(key)
    for name in ("chat", "other"):
        kserve.create(placeholder(kserve.inferenceservice(name), externalName=leads))
        kserve.set_status(name, addressed(host(f"{name}-predictor", kserve.namespace)))
        state(daemon, kserve, name, "accepted")
    kserve.routed("plain")
    state(daemon, kserve, "plain", "accepted")
    assert ask(daemon, "chat").status == 200
    assert ask(daemon, "other").status == 404
    assert ask(daemon, "plain").json["headers"]["host"] == "proxy.test"


def forged_owner(kserve: KServe, owner: Obj) -> Obj:
    made = service(owner, ports=[{"port": kserve.port}])
    made["metadata"]["ownerReferences"][0] |= {"apiVersion": "v1", "kind": "ConfigMap"}
    return made


def wrong_uid(kserve: KServe, owner: Obj) -> Obj:
    made = service(owner, ports=[{"port": kserve.port}])
    made["metadata"]["ownerReferences"][0]["uid"] = "00000000-0000-0000-0000-000000000000"
    return made


@pytest.mark.fault(76)
@pytest.mark.parametrize(
    ("make", "expected", "words"),
    [
        (forged_owner, "rejected", "owned by ConfigMap chat"),
        (wrong_uid, "pending", "deleted InferenceService of this name"),
        (lambda k, o: service(o, selector={}, ports=[{"port": k.port}]), "rejected", "has no selector"),
        (lambda k, o: service(o, clusterIP="None"), "rejected", "serviceClusterIPNone"),
        (lambda k, o: service(o, type="ExternalName", externalName="169.254.169.254"), "rejected", "point anywhere"),
        (lambda k, o: placeholder(o, externalName="metadata.example"), "rejected", "none of the gateways"),
        (lambda k, o: service(o, ports=[{"name": "grpc", "port": k.port}]), "rejected", "gRPC alone"),
    ],
    ids=["owner", "uid", "selector", "headless", "external-name", "gateway", "grpc"],
)
def test_a_service_that_may_not_answer_is_refused_and_everyone_is_told_why(
    start: Callable[..., Daemon], kserve: KServe, make: Callable[..., Obj], expected: str, words: str
):
    kserve.routed("good")
    owner = kserve.inferenceservice("chat")
    kserve.set_status("chat", addressed(host("chat-predictor", kserve.namespace)))
    kserve.create(make(kserve, owner))
    daemon = start(PENDING_WARNING="1")
    row = state(daemon, kserve, "chat", expected)
    assert words in row["message"]
    assert error(daemon, "chat") == f"inferenceservice_{expected}"
    assert ask(daemon, "good").status == 200
    assert "isvc-chat.conf" not in daemon.files()
    assert words in rayproxy(daemon, "routes").stdout
    assert words in until("an Event tells it", lambda: kserve.events("chat"))[0]["message"]


DEPLOYING = condition("PredictorReady", "Unknown", "Deploying", "Waiting for the image")
REFUSED = {"reason": "NoSupportingRuntime", "message": "for llama"}
BLOCKED = status(DEPLOYING, transition="BlockedByFailedLoad",
                 failure={"reason": "ModelLoadFailed", "message": "no file", "exitCode": 1})  # fmt: skip
WAITS = {  # what KServe says, the words that everyone reads, and those that only who may see the object reads
    "unseen": ({}, "KServe has not looked at it yet", " (where that lasts, its Events say why)"),
    "deploying": (status(DEPLOYING), "its predictor is being rolled out", ": Deploying: Waiting for the image"),
    "loading": (status(condition("PredictorReady", "True"), target="Loading"), "its model is being loaded", ""),
    "no-revision": (status(condition("PredictorReady", "False", "RevisionFailed", "cannot pull")),
                    "its predictor is not ready: RevisionFailed", ": cannot pull"),
    "no-model": (BLOCKED, "its model failed to load: ModelLoadFailed", ": no file (exit code 1)"),
}  # fmt: skip


@EACH_DEFINITION
def test_what_is_waited_for_and_what_failed_is_said_to_everyone_in_the_same_words(
    start: Callable[..., Daemon], kserve: KServe
):
    for name, (said, _, _) in WAITS.items():
        kserve.inferenceservice(name)
        kserve.set_status(name, said)
    daemon = start(PENDING_WARNING="1")
    for name, (_, told, more) in WAITS.items():
        row = state(daemon, kserve, name, "pending")
        assert row["message"].startswith(f"{told}{more}; no Service {name}-predictor ")
        answer = ask(daemon, name)
        assert (answer.status, answer.error_type) == (503, "inferenceservice_pending")
        expected = f"The InferenceService exists and does not answer yet ({told}). Try again shortly."
        assert answer.json["error"]["message"] == expected
        words = f"{told}{more}"
        assert words in rayproxy(daemon, "routes").stdout
        assert words in until("an Event", lambda name=name: kserve.events(name))[0]["message"]
        assert words in daemon.log.read_text()


@EACH_DEFINITION
def test_what_kserve_refuses_is_said_to_everyone_in_the_same_words(start: Callable[..., Daemon], kserve: KServe):
    kserve.inferenceservice("chat")
    daemon = start()
    state(daemon, kserve, "chat", "pending")
    kserve.set_status("chat", status(DEPLOYING, transition="InvalidSpec", failure=REFUSED))
    assert state(daemon, kserve, "chat", "refused")["reason"] == "NoSupportingRuntime"
    message = ask(daemon, "chat").json["error"]["message"]
    assert message.startswith("KServe refuses the InferenceService (NoSupportingRuntime), so nothing answers ")
    words = "NoSupportingRuntime: for llama"
    assert words in rayproxy(daemon, "routes").stdout
    assert words in until("an Event", lambda: kserve.events("chat"))[0]["message"]
    assert '"reason": "NoSupportingRuntime"' in daemon.log.read_text()
    assert '"message": "for llama"' in daemon.log.read_text()


@pytest.mark.fault(79)
@EACH_DEFINITION
def test_one_that_is_stopped_and_started_is_followed_to_its_new_address(start: Callable[..., Daemon], kserve: KServe):
    made, first = kserve.routed("chat")
    daemon = start()
    state(daemon, kserve, "chat", "accepted")
    kserve.patch("chat", {"metadata": {"annotations": {"serving.kserve.io/stop": "true"}}})
    kserve.delete_service("chat-predictor")
    assert "stopped on purpose" in state(daemon, kserve, "chat", "suspended")["message"]
    assert error(daemon, "chat") == "inferenceservice_suspended"
    kserve.patch("chat", {"metadata": {"annotations": {"serving.kserve.io/stop": None}}})
    state(daemon, kserve, "chat", "pending")
    second = kserve.service(made)
    assert second["spec"]["clusterIP"] != first["spec"]["clusterIP"]
    assert state(daemon, kserve, "chat", "accepted")["backend"].startswith(second["spec"]["clusterIP"])
    assert ask(daemon, "chat").status == 200


def test_one_without_the_label_is_never_routed_and_check_says_how_to_label_it(
    start: Callable[..., Daemon], kserve: KServe
):
    kserve.service(kserve.inferenceservice("unlabelled", labels={}))
    kserve.routed("chat")
    daemon = start()
    state(daemon, kserve, "chat", "accepted")
    assert error(daemon, "unlabelled") == "inferenceservice_not_found"
    done = rayproxy(daemon, "check")
    assert "1 InferenceServices match 'app=prediction'; 1 do not and have no route" in done.stdout
    assert f"({kserve.namespace}/unlabelled)" in done.stdout
    assert "kubectl label -n NAMESPACE inferenceservice NAME app=prediction" in done.stdout


def test_kinds_that_are_not_chosen_are_left_alone_and_unknown_ones_refuse_the_start(
    start: Callable[..., Daemon], kserve: KServe
):
    kserve.routed("chat")
    KubeRay(kserve.cluster, kserve.namespace, kserve.port).routed("ray")
    daemon = start(KINDS="rayservice")
    daemon.until_state("ray", "accepted", kserve.namespace)
    assert error(daemon, "chat") == "inferenceservice_not_found"
    daemon.stop()
    daemon.environment["RAYPROXY_KINDS"] = "rayservice,inferenceservices"
    done = rayproxy(daemon, "run")
    assert done.returncode == 1
    assert (
        "RAYPROXY_KINDS: there is no kind 'inferenceservices'; there are rayservice, inferenceservice, " in done.stderr
    )
