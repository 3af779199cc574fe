"""deploy/ as kubectl applies it, accepted by a real API server, with no permission too many."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from rayproxy.settings import Settings
from tests.e2e.conftest import token_of
from tests.support import deploy
from tests.support.apiserver import ApiProblem, Cluster

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
        for path in _lost(manifest, kept[manifest["kind"], manifest["metadata"]["name"]])
    ]
    assert lost == []


def _items(text: str) -> list[deploy.Manifest]:
    found = []
    for document in yaml.safe_load_all(text):
        found += document["items"] if document["kind"] == "List" else [document]
    return found


def _lost(given: object, kept: object, path: str = "") -> list[str]:
    """Return the paths of what was given and not kept; lists in their order, values by what they are called."""
    if isinstance(given, dict):
        if not isinstance(kept, dict):
            return [path]
        return [each for key in given for each in _lost(given[key], kept.get(key), f"{path}/{key}")]
    if isinstance(given, list):
        if not isinstance(kept, list) or len(kept) != len(given):
            return [path]
        return [each for i, (a, b) in enumerate(zip(given, kept, strict=True)) for each in _lost(a, b, f"{path}[{i}]")]
    return [] if kept is not None else [path]


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
    ("", "services", "list"),
    ("", "services", "watch"),
    ("", "events", "create"),
}


def test_the_service_account_may_do_what_is_needed_in_every_namespace_and_nothing_else(
    api_server: Cluster, deployed: list[deploy.Manifest]
):
    token = token_of(api_server, "rayproxy")
    for namespace in ("rayproxy", "default", api_server.namespace()):
        assert _rules(api_server, token, namespace) == ALL


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    "question",
    [
        ("get", "secrets"), ("list", "secrets"), ("list", "pods"), ("create", "pods"), ("create", "pods/exec"),
        ("list", "configmaps"), ("get", "nodes"), ("update", "endpoints"), ("patch", "services"),
        ("delete", "rayservices.ray.io"), ("update", "rayservices.ray.io/status"), ("list", "events"),
        ("create", "serviceaccounts/token"), ("impersonate", "users"), ("*", "*"),
    ],
)  # fmt: skip
def test_kubectl_says_no_to_anything_beyond(question: tuple[str, str], api_server: Cluster, tmp_path: Path):
    own = api_server.kubeconfig(tmp_path, token_of(api_server, "rayproxy"))
    with pytest.raises(AssertionError):  # exit code 1 says no
        deploy.kubectl(own, "auth", "can-i", *question, "-n", "default")
    assert deploy.kubectl(own, "auth", "can-i", "watch", "rayservices.ray.io", "-n", "default") == "yes\n"


def test_in_one_namespace_nothing_is_allowed_outside_of_it(api_server: Cluster, admin: Path, version: tuple[int, int]):
    here, elsewhere = api_server.namespace("models"), api_server.namespace()
    manifests = deploy.for_server(deploy.render("deploy/overlays/one-namespace"), version)
    assert not [manifest for manifest in manifests if manifest["kind"].startswith("ClusterRole")]
    moved = yaml.safe_load_all(yaml.safe_dump_all(manifests).replace("namespace: models", f"namespace: {here}"))
    deploy.kubectl(admin, "apply", "--server-side", "-f", "-", manifests=list(moved))
    token = token_of(api_server, here)
    assert _rules(api_server, token, here) == ALL
    assert _rules(api_server, token, elsewhere) == set()


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
