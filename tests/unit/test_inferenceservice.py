"""What becomes of every InferenceService: the table of decisions, and KServe's status in words."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from rayproxy.kinds.backend import Policy
from rayproxy.kinds.inferenceservice import KIND, MODE, TOLD, read_inferenceservice
from rayproxy.kinds.kserve_status import STOP
from rayproxy.model import Decision, Pending, Refused, Rejection, Route, Suspended, Target
from rayproxy.nginx.render import unrouted
from tests.support.deciding import decide
from tests.support.kserve import (
    LABEL,
    addressed,
    condition,
    gateway,
    host,
    inferenceservice,
    placeholder,
    service,
    status,
)
from tests.support.manifests import YOUNG, rayservice
from tests.support.manifests import service as rays_service
from tests.support.routes import GATEWAYS, snapshot

Obj = dict[str, Any]
POLICY = Policy(gateways=GATEWAYS)
CHAT = inferenceservice()
KNATIVE = inferenceservice(status=addressed())
WORKING = condition("PredictorReady", "Unknown", "Deploying")


def decided(*objects: Obj, policy: Policy = POLICY) -> dict[str, Decision]:
    """Return what becomes of each InferenceService, by namespace and name."""
    return {str(each.ref): each for each in decide(snapshot(list(objects)), policy) if each.ref.kind == KIND.name}


def chat(*objects: Obj, policy: Policy = POLICY) -> Decision:
    return decided(*objects, policy=policy)["default/chat"]


def target(*objects: Obj, policy: Policy = POLICY) -> Target:
    decision = chat(*objects, policy=policy)
    assert isinstance(decision, Route), decision
    (only,) = decision.targets
    return only


def refused(*objects: Obj, policy: Policy = POLICY) -> tuple[str, str]:
    decision = chat(*objects, policy=policy)
    assert isinstance(decision, Rejection), decision
    return decision.reason, decision.message


def with_metadata(obj: Obj, **metadata: Any) -> Obj:
    return obj | {"metadata": obj["metadata"] | metadata}


def test_one_in_mode_standard_goes_to_port_80_of_its_predictor_ready_or_not():
    assert target(CHAT, service(CHAT)) == Target("10.0.0.1", 80)
    failing = inferenceservice(status=status(condition("PredictorReady", "False", "MinimumReplicasUnavailable")))
    assert target(failing, service(failing)) == Target("10.0.0.1", 80)


def test_the_path_has_the_kind_and_a_rayservice_of_the_name_is_no_conflict():
    ray = rayservice("chat")
    decisions = decide(snapshot([CHAT, service(CHAT), ray, rays_service(ray)]), POLICY)
    assert [each.path for each in decisions if isinstance(each, Route)] == [
        "/apis/inferenceservice/chat",
        "/apis/rayservice/chat",
    ]


def test_the_transformer_is_the_entry_where_there_is_one():
    both = inferenceservice(spec={"predictor": {}, "transformer": {"containers": []}})
    assert isinstance(chat(both, service(both)), Pending)
    assert target(both, service(both), service(both, "transformer", clusterIP="10.0.0.2")).host == "10.0.0.2"


def test_a_predictor_with_a_name_has_it_in_its_service():
    named = inferenceservice(spec={"predictor": {"name": "blue"}})
    assert isinstance(chat(named, service(named)), Pending)
    assert target(named, service(named, name="chat-blue-predictor")).port == 80


MODES = [{}, *({"annotations": {MODE: mode}} for mode in ("RawDeployment", "Serverless", "Standard")),
         *({"status": {"deploymentMode": mode}} for mode in ("RawDeployment", "Standard"))]  # fmt: skip


@pytest.mark.fault(144)
@pytest.mark.parametrize("how", MODES)
def test_the_services_name_of_old_releases_counts_whatever_mode_is_said(how: Obj):
    old = inferenceservice(**how)
    kept = service(old, name="chat-predictor-default", clusterIP="10.0.0.2")
    assert target(old, kept).host == "10.0.0.2"
    assert target(old, kept, service(old)).host == "10.0.0.1", "the name of today comes first"
    both = inferenceservice(spec={"predictor": {}, "transformer": {}}, **how)
    assert isinstance(chat(both, kept), Pending)
    assert target(both, service(both, "transformer", "chat-transformer-default")).port == 80


@pytest.mark.fault(144)
def test_a_serverless_one_of_an_old_release_goes_to_the_gateway_with_the_name_of_its_own():
    at = host("chat-predictor-default")
    old = inferenceservice(status=addressed(at) | {"deploymentMode": "Serverless"})
    assert target(old, placeholder(old, "predictor-default"), gateway()) == Target("10.0.0.80", 80, at)


@pytest.mark.fault(144)
def test_a_service_called_like_that_of_an_old_release_is_not_taken_from_anybody_else():
    one = inferenceservice(status={"deploymentMode": "Standard"})
    others = service(inferenceservice("other"), name="chat-predictor-default")
    assert refused(one, others)[0] == "ServiceNotOwned"


def test_a_port_of_another_number_is_taken_where_it_is_the_only_one_for_http():
    assert target(CHAT, service(CHAT, ports=[{"port": 8080}])).port == 8080
    grpc = {"name": "grpc", "port": 9000}
    assert target(CHAT, service(CHAT, ports=[grpc, {"name": "x", "port": 8080}])).port == 8080
    assert target(CHAT, service(CHAT, ports=[grpc, {"name": "x", "port": 80}, {"name": "y", "port": 81}])).port == 80


@pytest.mark.fault(143)
@pytest.mark.parametrize("name", ["ssl-bert", "tls-detector", "h2-forecast", "grpc-demo", "my-h2c", "bert-wss"])
def test_a_word_of_the_models_own_name_says_no_protocol_where_kserve_calls_the_port_like_the_service(name: str):
    model = inferenceservice(name)
    (decision,) = decided(model, service(model)).values()
    assert isinstance(decision, Route), decision
    model = inferenceservice(name, spec={"predictor": {}, "transformer": {}})
    (decision,) = decided(model, service(model, "transformer")).values()
    assert isinstance(decision, Route), decision


@pytest.mark.fault(143)
@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ({"name": "grpc-demo-predictor", "port": 80, "appProtocol": "kubernetes.io/h2c"}, "GrpcOnly"),
        ({"name": "grpc-demo-predictor", "port": 80, "appProtocol": "https"}, "NeedsTLS"),
        ({"name": "grpc-demo-predictor", "port": 8443}, "NeedsTLS"),
        ({"name": "grpc-demo", "port": 80}, "GrpcOnly"),
    ],
)
def test_a_port_called_like_its_service_is_known_by_its_app_protocol_and_number(port: Obj, reason: str):
    model = inferenceservice("grpc-demo")
    (decision,) = decided(model, service(model, ports=[port])).values()
    assert isinstance(decision, Rejection)
    assert decision.reason == reason


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        (
            {"type": "ExternalName", "clusterIP": "", "externalName": "metadata.internal"},
            "ExternalName",
            "point anywhere",
        ),
        ({"clusterIP": "None"}, "Headless", "set serviceClusterIPNone to false in KServe's ConfigMap and delete"),
        ({"clusterIP": "169.254.169.254"}, "AddressForbidden", "link-local"),
        ({"selector": {}}, "NoSelector", "whoever may write its endpoints"),
        (
            {"ports": [{"name": "h2c", "port": 80, "appProtocol": "kubernetes.io/h2c"}]},
            "GrpcOnly",
            "found: h2c=80 gRPC",
        ),
        ({"ports": [{"name": "my-grpc1", "port": 80}]}, "GrpcOnly", "gRPC alone"),
        ({"ports": [{"name": "https", "port": 8443}]}, "NeedsTLS", "security.opendatahub.io/enable-auth"),
        ({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}, "NoHttpPort", "found: a=1, b=2"),
        ({"ports": []}, "NoHttpPort", "found: none"),
        ({"ports": [{"port": 80, "protocol": "UDP"}]}, "NoHttpPort", "found: none"),
    ],
)
def test_its_own_service_that_cannot_be_a_backend_is_rejected_with_the_mend(spec: Obj, reason: str, words: str):
    said = refused(CHAT, service(CHAT, **spec))
    assert said[0] == reason
    assert words in said[1]


def test_an_address_outside_the_allowed_networks_is_rejected_behind_a_gateway_too():
    narrow = Policy((ipaddress.ip_network("10.9.0.0/16"),), gateways=GATEWAYS)
    assert refused(CHAT, service(CHAT), policy=narrow)[0] == "AddressNotAllowed"
    assert refused(KNATIVE, placeholder(KNATIVE), gateway(), policy=narrow)[0] == "AddressNotAllowed"


def test_a_service_without_an_address_is_waited_for():
    decision = chat(CHAT, service(CHAT, clusterIP=""))
    assert isinstance(decision, Pending)
    assert "has no ClusterIP yet" in decision.message


@pytest.mark.fault(77)
def test_a_serverless_one_goes_to_the_gateway_with_the_host_that_knative_knows():
    assert target(KNATIVE, placeholder(KNATIVE), gateway()) == Target("10.0.0.80", 80, host())


@pytest.mark.parametrize(
    ("at", "domain"),
    [
        (f"http://{host(domain='corp.example')}", "corp.example"),
        (f"http://{host(domain='corp.example')}/", "corp.example"),
        ("http://chat.default.svc.cluster.local", "cluster.local"),
        (f"http://{host('other-predictor', domain='evil.example')}", "cluster.local"),
        (f"http://{host(domain='evil;}')}", "cluster.local"),
        (f"http://{host(domain='a' * 300)}", "cluster.local"),
        ("nonsense", "cluster.local"),
    ],
)
@pytest.mark.fault(77)
def test_the_hosts_domain_is_the_clusters_own_and_the_rest_of_it_is_never_taken_from_a_status(at: str, domain: str):
    one = inferenceservice(status={"components": {"predictor": {"address": {"url": at}}}})
    assert target(one, placeholder(one), gateway()).name == host(domain=domain)


def test_a_headless_placeholder_goes_to_the_only_gateway_that_is_there():
    headless = placeholder(KNATIVE, type="ClusterIP", clusterIP="None", externalName="")
    kourier = gateway("kourier-system/kourier-internal", clusterIP="10.0.0.81")
    assert target(KNATIVE, headless, kourier).host == "10.0.0.81"
    reason, words = refused(KNATIVE, headless, kourier, gateway())
    assert (reason, "leave the right one" in words) == ("NoGateway", True)
    assert refused(KNATIVE, headless)[0] == "NoGateway"


def test_of_two_gateways_that_are_there_the_placeholder_names_one():
    kourier = gateway("kourier-system/kourier-internal", clusterIP="10.0.0.81")
    assert target(KNATIVE, placeholder(KNATIVE), gateway(), kourier).host == "10.0.0.80"


@pytest.mark.fault(76)
@pytest.mark.parametrize(
    "leads",
    ["metadata.google.internal", "169.254.169.254", "evil.default.svc.cluster.local",
     "knative-local-gateway.evil.svc.cluster.local", "knative-local-gateway.istio-system.svc.x;", ""],
)  # fmt: skip
def test_a_placeholder_that_leads_anywhere_else_is_not_followed(leads: str):
    for_gateway = gateway("evil/knative-local-gateway")
    reason, words = refused(KNATIVE, placeholder(KNATIVE, externalName=leads), gateway(), for_gateway)
    assert reason == "ExternalName" or leads.endswith(";")
    assert "RAYPROXY_GATEWAYS" in words


@pytest.mark.parametrize(
    "there", [[], [gateway(ports=[{"port": 8080}])], [gateway(type="ExternalName", clusterIP="")]], ids=str
)
def test_a_gateway_that_is_not_there_or_of_no_use_is_named(there: list[Obj]):
    reason, words = refused(KNATIVE, placeholder(KNATIVE), *there)
    assert reason in ("NoGateway", "ExternalName")
    assert "istio-system/knative-local-gateway" in words


@pytest.mark.parametrize("leads", [{}, {"type": "ClusterIP", "clusterIP": "None", "externalName": ""}], ids=str)
def test_a_gateway_that_may_not_be_read_is_unknown_and_one_that_is_not_there_is_not(leads: Obj):
    seen = snapshot([KNATIVE, placeholder(KNATIVE, **leads)])
    for unread, unknown in ((GATEWAYS[:1], True), ((), False), (GATEWAYS[1:], "externalName" in leads)):
        (decision,) = decide(replace(seen, unread=frozenset(unread)), POLICY)
        assert isinstance(decision, Rejection)
        assert (decision.reason, decision.unknown) == ("NoGateway", unknown)


def test_a_placeholder_for_a_mesh_alone_needs_a_gateway():
    mesh = placeholder(KNATIVE, type="ClusterIP", clusterIP="10.0.0.3", externalName="")
    reason, words = refused(KNATIVE, mesh, gateway())
    assert (reason, "give Knative's ingress a private gateway" in words) == ("NoGateway", True)


def test_knatives_placeholder_is_waited_for_until_it_was_ready_once():
    deploying = inferenceservice(status=status(WORKING))
    public = placeholder(deploying, externalName="chat-predictor.default.example.com")
    decision = chat(deploying, public, gateway())
    assert isinstance(decision, Pending)
    assert decision.message.startswith("its predictor is being rolled out: Deploying")


def forged(**changes: Any) -> Obj:
    obj = service(CHAT)
    obj["metadata"]["ownerReferences"][0] |= changes
    return obj


@pytest.mark.fault(76)
@pytest.mark.parametrize(
    "foreign",
    [
        forged(kind="ConfigMap", apiVersion="v1"),
        forged(name="other"),
        forged(apiVersion="example.com/v1"),
        forged(apiVersion="serving.knative.dev/v1", kind="Route"),
        with_metadata(service(CHAT), ownerReferences=[]),
        with_metadata(service(CHAT), labels={LABEL: "chat", "component": "explainer"}),
        with_metadata(placeholder(KNATIVE), labels={LABEL: "other", "serving.knative.dev/route": "chat-predictor"}),
        with_metadata(placeholder(KNATIVE), labels={LABEL: "chat", "serving.knative.dev/route": "other"}),
    ],
    ids=str,
)
def test_a_service_that_somebody_else_made_is_not_its_entry(foreign: Obj):
    reason, words = refused(KNATIVE, foreign, gateway())
    assert reason == "ServiceNotOwned"
    assert "default/chat-predictor" in words


def test_a_service_without_an_owner_is_taken_where_the_operator_says_so():
    by_hand = with_metadata(service(CHAT, selector={}), ownerReferences=[])
    assert target(CHAT, by_hand, policy=Policy(unowned=True)).host == "10.0.0.1"


@pytest.mark.fault(76)
def test_the_service_of_the_deleted_one_of_this_name_is_waited_out():
    decision = chat(with_metadata(CHAT, uid="new"), service(CHAT))
    assert isinstance(decision, Pending)
    assert "deleted InferenceService of this name" in decision.message


def test_one_out_of_git_goes_to_the_service_that_was_exported():
    git = with_metadata(CHAT)
    del git["metadata"]["uid"]
    assert target(git, service(CHAT)).port == 80


def test_of_two_whose_services_have_one_name_only_its_owner_is_routed():
    a, ab = inferenceservice("a", spec={"predictor": {"name": "b"}}), inferenceservice("a-b")
    made = decided(a, ab, service(ab))
    assert isinstance(made["default/a-b"], Route)
    assert isinstance(made["default/a"], Rejection)
    assert "owned by InferenceService a-b" in made["default/a"].message


def test_the_older_of_two_namespaces_has_the_name():
    younger = inferenceservice("chat", "other", creationTimestamp=YOUNG)
    made = decided(younger, service(younger), CHAT, service(CHAT))
    assert isinstance(made["default/chat"], Route)
    assert isinstance(made["other/chat"], Rejection)
    assert made["other/chat"].reason == "NameConflict"


def test_one_that_is_being_deleted_is_nothing():
    assert decided(with_metadata(CHAT, deletionTimestamp=YOUNG), service(CHAT)) == {}


@pytest.mark.parametrize("name", ["1chat", "a.b", "a" * 64, "-a", "A", "a;b"])
def test_a_name_that_is_none_is_rejected(name: str):
    (decision,) = decided(inferenceservice(name)).values()
    assert isinstance(decision, Rejection)
    assert decision.reason == "InvalidName"


@pytest.mark.parametrize("where", [{"annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
                                   {"status": {"deploymentMode": "ModelMesh"}}])  # fmt: skip
def test_modelmesh_is_rejected(where: Obj):
    reason, words = refused(inferenceservice(**where))
    assert (reason, "Standard" in words) == ("ModelMesh", True)


@pytest.mark.parametrize("how", [{"annotations": {STOP: "true"}}, {"status": status(condition("Stopped", "True"))}])
def test_one_that_was_stopped_is_no_fault_and_has_no_route(how: Obj):
    stopped = inferenceservice(**how)
    decision = chat(stopped, service(stopped))
    assert isinstance(decision, Suspended)
    assert "stopped on purpose: remove the annotation" in decision.message


SAYS = [
    ("nobody looked", {}, "KServe has not looked at it yet", " (where that lasts, its Events say why);"),
    ("load failed", status(WORKING, transition="BlockedByFailedLoad",
                           failure={"reason": "ModelLoadFailed", "message": "no such\n  file", "exitCode": 1}),
     "its model failed to load: ModelLoadFailed", ": no such file (exit code 1);"),
    ("load failed, later", status(WORKING, target="FailedToLoad", transition="UpToDate",
                                  failure={"reason": "ModelLoadFailed", "message": "old"}),
     "its model failed to load", ";"),
    ("revision failed", status(condition("PredictorReady", "False", "RevisionFailed", "cannot pull")),
     "its predictor is not ready: RevisionFailed", ": cannot pull;"),
    ("transformer failed", status(condition("PredictorReady", "True"), condition("TransformerReady", "False", "X")),
     "its transformer is not ready: X", ";"),
    ("failed for no word", status(condition("PredictorReady", "False", "No word; {}")),
     "its predictor is not ready", ": No word; {};"),
    ("rolled out", status(WORKING), "its predictor is being rolled out", ": Deploying;"),
    ("rolled out, without a reason", status(condition("PredictorReady", "Unknown")),
     "its predictor is being rolled out", ";"),
    ("loading", status(condition("PredictorReady", "True"), target="Loading"), "its model is being loaded", ";"),
    ("starting", status(condition("Ready", "Unknown"), target="Pending"), "the server of its model is starting", ";"),
    ("no ingress", status(condition("PredictorRouteReady", "False", "IngressNotConfigured")),
     "Knative has no ingress for it yet", ": IngressNotConfigured;"),
    ("no ingress of KServe", status(condition("IngressReady", "False", "Predictor ingress not created")),
     "KServe has no ingress for it yet", ": Predictor ingress not created;"),
    ("ready", status(condition("IngressReady", "True")), "KServe says that it is ready", ";"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "told", "more"), [each[1:] for each in SAYS], ids=[each[0] for each in SAYS])
def test_what_is_waited_for_is_said_in_kserves_words_of_which_callers_read_the_beginning(
    said: Obj, told: str, more: str
):
    decision = chat(inferenceservice(status=said))
    assert isinstance(decision, Pending)
    assert decision.message == f"{told}{more} no Service chat-predictor in namespace default yet"
    assert unrouted([decision]) == {"/apis/inferenceservice/chat": ("pending", told)}


def test_a_spec_that_kserve_refuses_is_refused_in_its_words():
    failure = {"reason": "NoSupportingRuntime", "message": "no runtime for llama"}
    said = status(WORKING, transition="InvalidSpec", failure=failure)
    assert chat(inferenceservice(status=said)) == Refused(
        chat(CHAT).ref, "uid-default-chat", "NoSupportingRuntime", "no runtime for llama"
    )
    edited = inferenceservice(status=said)
    assert isinstance(chat(edited, service(edited)), Route), "what worked before a bad edit goes on"


def test_a_name_that_no_service_can_have_is_refused():
    long = "a" * 60
    decision = decided(inferenceservice(long))[f"default/{long}"]
    assert isinstance(decision, Refused)
    assert "70 characters" in decision.message


@pytest.mark.fault(76)
def test_what_a_container_said_reaches_no_file_and_changes_none():
    first, other = (
        chat(inferenceservice(status=status(condition("PredictorReady", "False", "Error", words))))
        for words in ("token=secret'; }", "x" * 10_000)
    )
    assert (
        unrouted([first])
        == unrouted([other])
        == {"/apis/inferenceservice/chat": ("pending", "its predictor is not ready: Error")}
    )
    assert isinstance(other, Pending)
    assert len(other.message) < 500


def test_every_state_has_words_for_callers():
    assert {"pending", "rejected", "suspended", "refused"} == TOLD.keys()


@pytest.mark.parametrize("hostile", [
    {"spec": []}, {"spec": {"predictor": "x", "transformer": 1}}, {"status": {"conditions": {"a": 1}}},
    {"status": {"conditions": [1, None, {"type": 1}], "modelStatus": [], "components": 3}},
    {"status": {"modelStatus": {"lastFailureInfo": 1, "transitionStatus": "InvalidSpec"}, "conditions": [{}]}},
    {"annotations": [1]}, {"status": {"conditions": [{"type": "PredictorReady", "status": "False", "reason": {}}]}},
])  # fmt: skip
def test_an_object_of_any_shape_is_decided_on(hostile: Obj):
    obj = inferenceservice(**hostile)
    assert hash(read_inferenceservice(obj))
    assert decided(obj)
