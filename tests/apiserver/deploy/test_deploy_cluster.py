"""`rayproxy deploy` and `undeploy` against a real API server, with each shape of RayService."""

import json
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from rayproxy.__main__ import main
from rayproxy.checkpoint.connect import connect
from tests.support import definitions, golden
from tests.support.cli import FailedError
from tests.support.objects import CHECKPOINTS, MERGE, RAYSERVICES, there
from tests.support.waiting import until

DOCS = Path(__file__).parents[3] / "docs/checkpoints.md"


@pytest.mark.skipif(not definitions.UPSTREAM, reason="name a folder with KubeRay's CRDs in RAYPROXY_TEST_CRDS")
def test_kuberays_own_definitions_take_part():
    assert {"kuberay-1.0.0", "kuberay-1.7.0"} <= {each.name for each in definitions.ALL}


def kept(sent, stored):
    """Tell whether all that was sent is stored; what the definition adds by default does not count."""
    if isinstance(sent, dict):
        return isinstance(stored, dict) and all(kept(value, stored.get(key)) for key, value in sent.items())
    if isinstance(sent, list):
        return len(sent) == len(stored) and all(kept(*pair) for pair in zip(sent, stored, strict=True))
    return sent == stored


CASES = [path for path in golden.FILES if "kuberay-1" not in path.stem]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_is_applied_is_stored_whole(path, defined, server, namespace, rayproxy):
    words = [word for word in golden.arguments(path)[1:] if word not in ("--kuberay", "1.7", "--dry-run")]
    words += [] if "-f" in words else ["-n", namespace]
    if defined.kuberay == "1.0" and "--root-path" in words:  # it has no place for it, and the command refuses it
        at = words.index("--root-path")
        del words[at : at + 2]
    if defined.kuberay == "1.0" and "--incremental" in words:
        with pytest.raises(FailedError, match="the RayService of this KubeRay has no clusterUpgradeOptions"):
            rayproxy("deploy", *words)
        return
    sent = yaml.safe_load(rayproxy("deploy", *words, "--dry-run"))

    rayproxy("deploy", *words)

    stored = server.call("GET", f"{RAYSERVICES.format(namespace)}/{sent['metadata']['name']}")
    assert kept(sent, stored), f"{json.dumps(sent)}\n{json.dumps(stored)}"


def test_the_definition_decides_how_ray_serve_is_configured(defined, server, namespace, rayproxy):
    rayproxy("deploy", "-f", "documented.yaml")

    spec = server.call("GET", f"{RAYSERVICES.format(namespace)}/finetune-sample")["spec"]
    assert ("serveConfig" in spec, "serveConfigV2" in spec) == (
        defined.kuberay == "1.0",
        defined.kuberay != "1.0",
    )


def test_a_field_that_the_cluster_would_drop_is_refused_before_anything_is_sent(defined, server, namespace, rayproxy):
    other, lost = {"1.0": ("1.7", "spec.rayClusterDeletionDelaySeconds"), "1.7": ("1.0", "spec.serveConfig")}[
        defined.kuberay
    ]

    with pytest.raises(FailedError, match=rf"(?s)the cluster's RayService does not take this:.*\b{lost}: unknown"):
        rayproxy("deploy", "-f", "documented.yaml", "--kuberay", other)

    assert not there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample")


def create_checkpoint(server, namespace, file, state="SUCCESSFUL"):
    """Create the LLMCheckpoint of a file, and its status as DataTunerX would write it."""
    document = yaml.safe_load((golden.INPUTS / file).read_text(encoding="utf-8"))
    document.pop("status", None)
    made = server.call("POST", CHECKPOINTS.format(namespace), document)
    path = f"{CHECKPOINTS.format(namespace)}/{made['metadata']['name']}"
    if state:
        server.call("PATCH", f"{path}/status", {"status": {"state": state}}, MERGE)
    return made["metadata"]["name"]


IMAGES = {
    "documented.yaml": "rayproject/ray271-llama2-7b-finetune:20231129",
    "published.yaml": "registry.example.com/dtx/ray2600-chatglm3-6b-finetune-checkpoint-qa:20240111",
}


@pytest.mark.parametrize("file", IMAGES)
def test_a_checkpoint_in_the_cluster_is_served_by_its_name(file, defined, server, namespace, rayproxy):
    if file == "documented.yaml" and not defined.name.startswith("own"):
        pytest.skip("the published definition requires llm, dataset and hyperparameter: no server takes this shape")
    name = create_checkpoint(server, namespace, file)

    rayproxy("deploy", name, "-n", namespace)

    stored = server.call("GET", f"{RAYSERVICES.format(namespace)}/{name}")
    assert stored["metadata"]["annotations"]["core.datatunerx.io/llmCheckpoint"] == name
    assert stored["metadata"]["labels"] == {"app": "prediction", "createdByFrontend": "true"}
    cluster = stored["spec"]["rayClusterConfig"]
    templates = [cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]]
    assert {template["spec"]["containers"][0]["image"] for template in templates} == {IMAGES[file]}


@pytest.mark.parametrize("state", ["INIT", "PENDING", "RUNNING", "FAILED", None])
def test_a_checkpoint_that_is_not_successful_is_refused_unless_any_state_will_do(state, server, namespace, rayproxy):
    name = create_checkpoint(server, namespace, "published.yaml", state)

    with pytest.raises(FailedError, match=f"status.state is {state or 'missing'}, not SUCCESSFUL"):
        rayproxy("deploy", name, "-n", namespace)
    assert not there(server, f"{RAYSERVICES.format(namespace)}/{name}")

    rayproxy("deploy", name, "-n", namespace, "--any-state")
    assert there(server, f"{RAYSERVICES.format(namespace)}/{name}")


def test_a_checkpoint_that_is_not_there_is_named(namespace, rayproxy):
    with pytest.raises(FailedError, match=f"there is no LLMCheckpoint nobody in namespace {namespace}"):
        rayproxy("deploy", "nobody", "-n", namespace)


def by_somebody_else(rayproxy, server, namespace):
    """Create the documented RayService as kubectl would."""
    made = yaml.safe_load(rayproxy("deploy", "-f", "documented.yaml", "--dry-run"))
    return server.call("POST", RAYSERVICES.format(namespace) + "?fieldManager=kubectl-create", made)


def test_a_rayservice_that_others_made_is_left_alone_unless_forced(server, namespace, rayproxy):
    before = by_somebody_else(rayproxy, server, namespace)

    with pytest.raises(FailedError, match="exists and was made by kubectl-create, not by rayproxy: give another"):
        rayproxy("deploy", "-f", "documented.yaml", "--cpu", "4")
    path = f"{RAYSERVICES.format(namespace)}/finetune-sample"
    assert server.call("GET", path)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]

    rayproxy("deploy", "-f", "documented.yaml", "--cpu", "4", "--force")
    assert '"cpu": "4"' in json.dumps(server.call("GET", path))


def test_a_field_that_others_changed_since_is_left_alone_unless_forced(server, namespace, rayproxy):
    rayproxy("deploy", "-f", "documented.yaml")
    path = f"{RAYSERVICES.format(namespace)}/finetune-sample"
    change = {"spec": {"rayClusterConfig": {"rayVersion": "2.99.0"}}}
    server.call("PATCH", f"{path}?fieldManager=kubectl-edit", change, MERGE)

    with pytest.raises(FailedError, match=r'(?s)rayVersion: conflict with "kubectl-edit".*"2\.99\.0".*with --force'):
        rayproxy("deploy", "-f", "documented.yaml")
    assert server.call("GET", path)["spec"]["rayClusterConfig"]["rayVersion"] == "2.99.0"

    rayproxy("deploy", "-f", "documented.yaml", "--force")
    assert server.call("GET", path)["spec"]["rayClusterConfig"]["rayVersion"] != "2.99.0"


def test_what_is_no_longer_asked_for_goes_and_what_others_added_stays(server, namespace, rayproxy):
    rayproxy("deploy", "-f", "documented.yaml", "--node-selector", "pool=gpu")
    path = f"{RAYSERVICES.format(namespace)}/finetune-sample"
    server.call("PATCH", f"{path}?fieldManager=kubectl-label", {"metadata": {"labels": {"team": "nlp"}}}, MERGE)

    rayproxy("deploy", "-f", "documented.yaml")

    stored = server.call("GET", path)
    (group,) = stored["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert "nodeSelector" not in group["template"]["spec"]
    assert stored["metadata"]["labels"]["team"] == "nlp"


def test_applying_the_same_again_changes_nothing(server, namespace, rayproxy):
    rayproxy("deploy", "-f", "documented.yaml", "--values", "values.yaml")
    path = f"{RAYSERVICES.format(namespace)}/qa-from-values"
    before = server.call("GET", path)["metadata"]

    rayproxy("deploy", "-f", "documented.yaml", "--values", "values.yaml")

    after = server.call("GET", path)["metadata"]
    assert (after["generation"], after["uid"]) == (before["generation"], before["uid"])


def test_a_service_that_others_made_is_not_given_to_kuberay_unless_forced(server, namespace, rayproxy):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "finetune-sample-service"},
        "spec": {"ports": [{"port": 80}]},
    }
    server.call("POST", f"/api/v1/namespaces/{namespace}/services" + "?fieldManager=helm", service)

    with pytest.raises(FailedError, match="Service finetune-sample-service exists and was made by helm"):
        rayproxy("deploy", "-f", "documented.yaml")
    assert not there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample")

    rayproxy("deploy", "-f", "documented.yaml", "--force")
    assert there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample")


def test_undeploy_takes_away_what_deploy_made(server, namespace, rayproxy):
    rayproxy("deploy", "-f", "documented.yaml")

    rayproxy("undeploy", "finetune-sample", "-n", namespace)

    until("it is gone", lambda: not there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample"))
    with pytest.raises(FailedError, match=f"there is no RayService finetune-sample in namespace {namespace}"):
        rayproxy("undeploy", "finetune-sample", "-n", namespace)


def test_undeploy_leaves_what_others_made_alone_unless_forced(server, namespace, rayproxy):
    by_somebody_else(rayproxy, server, namespace)

    with pytest.raises(FailedError, match="was made by kubectl-create, not by rayproxy: delete it with --force"):
        rayproxy("undeploy", "finetune-sample", "-n", namespace)
    assert there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample")

    rayproxy("undeploy", "finetune-sample", "-n", namespace, "--force")
    until("it is gone", lambda: not there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample"))


@contextmanager
def somebody(server, namespace, kubeconfig, tmp_path, rules):
    """Yield the kubeconfig of somebody who may do so much in the namespace, and nothing else."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "frugal"}}
    subject = {"kind": "ServiceAccount", "name": "frugal", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "frugal"}
    made = {
        f"{account}/frugal": {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "frugal"}},
        f"{rbac}/roles/frugal": {**kind, "kind": "Role", "rules": rules},
        f"{rbac}/rolebindings/frugal": {
            **kind,
            "kind": "RoleBinding",
            "subjects": [subject],
            "roleRef": role,
        },
    }
    for path, body in made.items():
        server.call("POST", path.rpartition("/")[0], body)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = server.call("POST", f"{account}/frugal/token", request)["status"]["token"]
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    config["users"][0]["user"] = {"token": token}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    yield path
    for made_path in made:
        server.call("DELETE", made_path)


@pytest.fixture
def frugal(server, namespace, kubeconfig, tmp_path):
    """Return the kubeconfig of somebody who may apply RayServices in the namespace, and nothing else."""
    rules = [
        {"apiGroups": ["ray.io"], "resources": ["rayservices"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
    ]
    with somebody(server, namespace, kubeconfig, tmp_path, rules) as path:
        yield path


@pytest.fixture
def documented(server, namespace, kubeconfig, tmp_path):
    """Return the kubeconfig of somebody who has the rights that docs/checkpoints.md asks for."""
    text = DOCS.read_text(encoding="utf-8")
    [block] = re.findall(r"<!-- rights:deploy -->\n```yaml\n(.*?)```", text, re.DOTALL)
    with somebody(server, namespace, kubeconfig, tmp_path, yaml.safe_load(block)["rules"]) as path:
        yield path


def test_the_documented_rights_are_enough_to_deploy_to_change_and_to_undeploy(
    documented, defined, server, namespace, capsys
):
    name = create_checkpoint(server, namespace, "documented.yaml")
    at = ["-n", namespace, "--kubeconfig", str(documented)]
    for more in ([], ["--replicas", "2"]):
        assert main(["deploy", name, *at, "--kuberay", defined.kuberay, *more]) == 0, capsys.readouterr().err
    assert there(server, f"{RAYSERVICES.format(namespace)}/{name}")
    api, _ = connect(str(documented), None)
    for plural in ("pods", "events"):  # a refusal would be no error, only fewer words
        assert "items" in api.get(f"/api/v1/namespaces/{namespace}/{plural}")
    assert main(["undeploy", name, *at]) == 0, capsys.readouterr().err
    until("it is gone", lambda: not there(server, f"{RAYSERVICES.format(namespace)}/{name}"))


def test_who_may_not_read_definitions_says_which_kuberay_it_is(frugal, defined, server, namespace, capsys):
    words = ["deploy", "-f", str(golden.INPUTS / "documented.yaml"), "--kubeconfig", str(frugal)]

    assert main(words) == 1
    assert "say which release of KubeRay it has with --kuberay" in capsys.readouterr().err

    assert main([*words, "--kuberay", defined.kuberay]) == 0
    assert there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample")


def test_the_context_says_which_namespace(server, namespace, kubeconfig, tmp_path, capsys):
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    (context,) = config["contexts"]
    context["context"]["namespace"] = namespace
    del config["current-context"]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    create_checkpoint(server, namespace, "published.yaml")

    words = ["deploy", "qa-service-chatglm3", "--kubeconfig", str(path), "--context", context["name"]]
    assert main(words) == 0, capsys.readouterr().err

    assert there(server, f"{RAYSERVICES.format(namespace)}/qa-service-chatglm3")


def test_an_api_server_that_is_away_is_named(tmp_path, capsys, kubeconfig):
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")

    assert main(["deploy", "-f", str(golden.INPUTS / "documented.yaml"), "--kubeconfig", str(path)]) == 1

    assert "https://127.0.0.1:1" in capsys.readouterr().err


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path, capsys):
    path = str(tmp_path / "nowhere")

    assert main(["undeploy", "x", "--kubeconfig", path]) == 1

    assert path in capsys.readouterr().err


def test_a_dry_run_against_the_cluster_changes_nothing(server, namespace, rayproxy):
    printed = json.loads(rayproxy("deploy", "-f", "documented.yaml", "--dry-run", "-o", "json"))

    assert printed["kind"] == "RayService"
    assert not there(server, f"{RAYSERVICES.format(namespace)}/finetune-sample")
