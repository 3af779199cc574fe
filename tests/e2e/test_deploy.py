"""deploy/ as kubectl applies it, accepted by a real API server, with no permission too many."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from rayproxy.gateway.objects import CONTROLLER
from rayproxy.settings import Settings
from tests.e2e.conftest import token_of
from tests.support import deploy, gatewayapi
from tests.support.apiserver import ApiProblem, Cluster
from tests.support.waiting import until

FOLDERS = {"deploy": "rayproxy", "deploy/overlays/one-namespace": "models"}
pytestmark = pytest.mark.apiserver


@pytest.fixture(params=FOLDERS)
def overlay(request: pytest.FixtureRequest, api_server: Cluster) -> str:
    """Return a folder of deploy/, its namespace created."""
    with suppress(ApiProblem):  # it is there already
        api_server.call("POST", "/api/v1/namespaces", {"metadata": {"name": FOLDERS[request.param]}})
    return request.param


def test_the_api_server_accepts_every_object(overlay: str, admin: Path, version: tuple[int, int]):
    manifests = deploy.for_server(deploy.render(overlay), version)
    said = deploy.kubectl(admin, "apply", "--server-side", "--dry-run=server", "-f", "-", manifests=manifests)
    assert len(said.splitlines()) == len(manifests)


def test_nothing_that_the_api_server_was_given_is_unknown_to_it(overlay: str, admin: Path, version: tuple[int, int]):
    manifests = deploy.for_server(deploy.render(overlay), version)
    said = deploy.kubectl(
        admin, "apply", "--server-side", "--dry-run=server", "-o", "yaml", "-f", "-", manifests=manifests
    )
    kept = {(item["kind"], item["metadata"]["name"]): item for item in _items(said)}
    lost = [
        path
        for manifest in manifests
        for path in deploy.lost(manifest, kept[manifest["kind"], manifest["metadata"]["name"]])
    ]
    assert lost == []


def _items(text: str) -> list[deploy.Manifest]:
    found = []
    for document in yaml.safe_load_all(text):
        found += document["items"] if document["kind"] == "List" else [document]
    return found


def _rules(cluster: Cluster, token: str, namespace: str) -> set[tuple[str, str, str]]:
    """Return (group, resource, verb) for all that a token may do in a namespace, less what everyone may."""
    own = Cluster(cluster.url, token)
    review = {"spec": {"namespace": namespace}}
    answer = own.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    assert not answer["status"]["incomplete"]
    return {
        (group, resource, verb)
        for rule in answer["status"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not resource.startswith(("selfsubject", "clustertrustbundles"))  # the latter since 1.33
    }


ALL = {
    ("ray.io", "rayservices", "list"),
    ("ray.io", "rayservices", "watch"),
    ("serving.kserve.io", "inferenceservices", "list"),
    ("serving.kserve.io", "inferenceservices", "watch"),
    ("serving.kserve.io", "llminferenceservices", "list"),
    ("serving.kserve.io", "llminferenceservices", "watch"),
    ("", "services", "list"),
    ("", "services", "watch"),
    ("discovery.k8s.io", "endpointslices", "list"),
    ("discovery.k8s.io", "endpointslices", "watch"),
    ("", "events", "create"),
}

NAMES = {("", "configmaps", "get"), ("", "configmaps", "patch")}  # of one of them, where the proxy is


def test_the_service_account_may_do_what_is_needed_in_every_namespace_and_nothing_else(
    api_server: Cluster, deployed: list[deploy.Manifest]
):
    token = token_of(api_server, "rayproxy")
    for namespace in ("rayproxy", "default", api_server.namespace()):
        assert _rules(api_server, token, namespace) == (ALL | NAMES if namespace == "rayproxy" else ALL)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    "question",
    [
        ("get", "secrets"), ("list", "secrets"), ("list", "pods"), ("create", "pods"), ("create", "pods/exec"),
        ("list", "configmaps"), ("get", "configmaps/rayproxy-names"),
        ("get", "nodes"), ("update", "endpoints"), ("patch", "services"),
        ("delete", "rayservices.ray.io"), ("update", "rayservices.ray.io/status"), ("list", "events"),
        ("patch", "inferenceservices.serving.kserve.io"), ("get", "inferenceservices.serving.kserve.io/status"),
        ("patch", "llminferenceservices.serving.kserve.io"), ("list", "servingruntimes.serving.kserve.io"),
        ("list", "services.serving.knative.dev"), ("list", "httproutes.gateway.networking.k8s.io"),
        ("create", "serviceaccounts/token"), ("impersonate", "users"), ("*", "*"),
    ],
)  # fmt: skip
def test_kubectl_says_no_to_anything_beyond(question: tuple[str, str], api_server: Cluster, tmp_path: Path):
    own = api_server.kubeconfig(tmp_path, token_of(api_server, "rayproxy"))
    with pytest.raises(AssertionError):  # exit code 1 says no
        deploy.kubectl(own, "auth", "can-i", *question, "-n", "default")
    kserves = ("inferenceservices.serving.kserve.io", "llminferenceservices.serving.kserve.io")
    for watched in ("rayservices.ray.io", *kserves):
        assert deploy.kubectl(own, "auth", "can-i", "watch", watched, "-n", "default") == "yes\n"


@pytest.mark.usefixtures("deployed")
def test_of_its_own_namespace_the_service_account_may_change_the_held_names_alone(api_server: Cluster, tmp_path: Path):
    own = api_server.kubeconfig(tmp_path, token_of(api_server, "rayproxy"))
    assert deploy.kubectl(own, "auth", "can-i", "patch", "configmaps/rayproxy-names", "-n", "rayproxy") == "yes\n"
    for question in (("patch", "configmaps/other"), ("get", "configmaps"), ("create", "configmaps")):
        with pytest.raises(AssertionError):
            deploy.kubectl(own, "auth", "can-i", *question, "-n", "rayproxy")


def test_in_one_namespace_nothing_is_allowed_outside_of_it(api_server: Cluster, admin: Path, version: tuple[int, int]):
    here, elsewhere = api_server.namespace("models"), api_server.namespace()
    manifests = deploy.for_server(deploy.render("deploy/overlays/one-namespace"), version)
    assert not [manifest for manifest in manifests if manifest["kind"].startswith("ClusterRole")]
    moved = yaml.safe_load_all(yaml.safe_dump_all(manifests).replace("namespace: models", f"namespace: {here}"))
    deploy.kubectl(admin, "apply", "--server-side", "-f", "-", manifests=list(moved))
    token = token_of(api_server, here)
    assert _rules(api_server, token, here) == ALL | NAMES
    assert _rules(api_server, token, elsewhere) == set()


GATEWAYS = {
    ("gateway.networking.k8s.io", "gateways", "list"),
    ("gateway.networking.k8s.io", "gateways", "watch"),
    ("gateway.networking.k8s.io", "gateways/status", "patch"),
    ("gateway.networking.k8s.io", "httproutes", "list"),
    ("gateway.networking.k8s.io", "httproutes", "watch"),
    ("gateway.networking.k8s.io", "httproutes/status", "patch"),
}
CLASSES = {
    ("gateway.networking.k8s.io", "gatewayclasses", "list"),
    ("gateway.networking.k8s.io", "gatewayclasses", "watch"),
    ("gateway.networking.k8s.io", "gatewayclasses/status", "patch"),
}
REPLICAS = {("", "configmaps", "list"), ("", "configmaps", "watch")}  # of one of them, and patch as NAMES has


@pytest.mark.fault(120)
def test_the_component_for_gateways_adds_what_it_needs_and_nothing_else(
    api_server: Cluster, admin: Path, version: tuple[int, int], tmp_path: Path
):
    gatewayapi.install(api_server)
    here, elsewhere = api_server.namespace("models"), api_server.namespace()
    manifests = deploy.for_server(gatewayapi.rendered(tmp_path, "one-namespace"), version)
    moved = yaml.safe_load_all(yaml.safe_dump_all(manifests).replace("namespace: models", f"namespace: {here}"))
    deploy.kubectl(admin, "apply", "--server-side", "-f", "-", manifests=list(moved))
    token = token_of(api_server, here)
    wanted = ALL | NAMES | GATEWAYS | REPLICAS
    until("the API server goes by the new roles", lambda: _rules(api_server, token, here) >= wanted)
    assert _rules(api_server, token, here) == wanted
    assert _rules(api_server, token, elsewhere) == set()
    own = api_server.kubeconfig(tmp_path, token)
    assert deploy.kubectl(own, "auth", "can-i", "patch", "configmaps/rayproxy-replicas", "-n", here) == "yes\n"
    for question in (("list", "configmaps"), ("patch", "gateways.gateway.networking.k8s.io")):
        with pytest.raises(AssertionError):
            deploy.kubectl(own, "auth", "can-i", *question, "-n", here)


@pytest.mark.fault(120)
def test_the_component_for_all_namespaces_names_the_class_that_the_daemon_speaks_for(
    api_server: Cluster, admin: Path, version: tuple[int, int], tmp_path: Path
):
    gatewayapi.install(api_server)
    with suppress(ApiProblem):  # it is there already
        api_server.call("POST", "/api/v1/namespaces", {"metadata": {"name": "rayproxy"}})
    manifests = deploy.for_server(gatewayapi.rendered(tmp_path), version)
    deploy.kubectl(admin, "apply", "--server-side", "--dry-run=server", "-f", "-", manifests=manifests)
    made = deploy.one(manifests, "GatewayClass", "rayproxy-upgrades")
    settings = deploy.one(manifests, "ConfigMap")["data"]
    assert settings["RAYPROXY_GATEWAY_CLASS"] == made["metadata"]["name"]
    assert made["spec"]["controllerName"] == CONTROLLER
    rules = deploy.one(manifests, "ClusterRole", "rayproxy-gateway")["rules"]
    flat = {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    assert flat == GATEWAYS | CLASSES
    named = [rule["resourceNames"] for rule in rules if "resourceNames" in rule]
    assert named == [["rayproxy-upgrades"]] * 2
    configmap = deploy.one(manifests, "ConfigMap", "rayproxy-replicas")
    assert configmap["metadata"]["namespace"] == "rayproxy"


@pytest.fixture(scope="module")
def rendered() -> list[deploy.Manifest]:
    return deploy.render("deploy")


def test_only_the_daemon_has_a_token(rendered: list[deploy.Manifest]):
    deployment = deploy.one(rendered, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert deploy.one(rendered, "ServiceAccount")["automountServiceAccountToken"] is False
    holders = [
        name
        for name, container in deploy.containers(deployment).items()
        if any("serviceaccount" in mount["mountPath"] for mount in container["volumeMounts"])
    ]
    assert holders == ["rayproxy"]


def test_a_pod_may_drain_for_as_long_as_its_streams_may_last(rendered: list[deploy.Manifest]):
    spec = deploy.one(rendered, "Deployment")["spec"]["template"]["spec"]
    settings = deploy.one(rendered, "ConfigMap")["data"]
    shutdown = int(settings["RAYPROXY_WORKER_SHUTDOWN_TIMEOUT"])
    pause = int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert int(settings["RAYPROXY_READ_TIMEOUT"]) <= shutdown
    assert pause + shutdown < spec["terminationGracePeriodSeconds"]


def test_every_setting_is_one_that_the_daemon_knows(rendered: list[deploy.Manifest]):
    names = {name.removeprefix("RAYPROXY_").lower() for name in deploy.one(rendered, "ConfigMap")["data"]}
    assert names <= set(Settings.model_fields)


def test_the_services_the_budget_and_the_policy_select_the_pods_and_no_others(rendered: list[deploy.Manifest]):
    deployment = deploy.one(rendered, "Deployment")
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert labels == {"app.kubernetes.io/name": "rayproxy"}
    assert deploy.one(rendered, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    policy = deploy.one(rendered, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["egress"][0]["to"][0]["podSelector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    for name in ("rayproxy", "rayproxy-metrics"):
        assert deploy.one(rendered, "Service", name)["spec"]["selector"] == labels


ISVC = {"serving.kserve.io/inferenceservice": "chat", "component": "predictor", "app": "isvc.chat-predictor"}
LLM = {"app.kubernetes.io/name": "chat", "app.kubernetes.io/part-of": "llminferenceservice"}


@pytest.mark.parametrize(
    ("namespace", "labels", "port", "reached"),
    [
        ("models", {"ray.io/is-ray-node": "yes"}, 8000, True),
        ("models", ISVC, 8080, True),
        ("models", LLM, 8000, True),
        ("istio-system", {"istio": "ingressgateway"}, 8081, True),  # knative-local-gateway's port 80 leads there
        ("kourier-system", {"app": "3scale-kourier-gateway"}, 8081, True),  # so does kourier-internal's
        ("models", {"ray.io/is-ray-node": "yes"}, 8265, False),
        ("models", {}, 8080, False),
        ("models", ISVC, 8022, False),
        ("models", LLM, 9002, False),
        ("istio-system", {"istio": "pilot"}, 15010, False),
        ("models", {"istio": "ingressgateway"}, 8081, False),
    ],
)
def test_the_policy_lets_the_pods_of_every_kind_be_reached_and_those_beside_them_not(
    rendered: list[deploy.Manifest], namespace: str, labels: dict[str, str], port: int, reached: bool
):
    rules = deploy.one(rendered, "NetworkPolicy")["spec"]["egress"]
    open_to_all = [rule for rule in rules if "to" not in rule]  # the API server, whose address nobody knows
    assert [[each["port"] for each in rule["ports"]] for rule in open_to_all] == [[443, 6443]]
    assert any(_lets(rule, namespace, labels, port) for rule in rules if "to" in rule) is reached


def _lets(rule: deploy.Manifest, namespace: str, labels: dict[str, str], port: int) -> bool:
    ports = {each["port"] for each in rule["ports"]}
    where = {"kubernetes.io/metadata.name": namespace}
    return port in ports and any(
        _selects(to.get("namespaceSelector", {}), where) and _selects(to.get("podSelector", {}), labels)
        for to in rule["to"]
    )


def _selects(selector: deploy.Manifest, labels: dict[str, str]) -> bool:
    """Tell whether a selector takes these labels; of what it can say, what deploy/ uses is read."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    operators = {
        "Exists": lambda each: each["key"] in labels,
        "In": lambda each: labels.get(each["key"]) in each["values"],
    }
    said = (operators[each["operator"]](each) for each in selector.get("matchExpressions", ()))
    return selector.get("matchLabels", {}).items() <= labels.items() and all(said)
