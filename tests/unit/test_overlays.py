"""What kubectl makes of deploy/ in an overlay of one's own."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from tests.support import deploy, gatewayapi


def test_in_a_namespace_of_ones_own_every_permission_is_given_to_the_service_account_there(tmp_path: Path):
    rendered = gatewayapi.rendered(tmp_path, namespace="team-proxy")
    bindings = [each for each in rendered if each["kind"].endswith("RoleBinding")]
    assert len(bindings) == 4
    assert [each["subjects"] for each in bindings] == [
        [{"kind": "ServiceAccount", "name": "rayproxy", "namespace": "team-proxy"}] for _ in bindings
    ]


@pytest.mark.parametrize("overlay", ["all-namespaces", "one-namespace"])
def test_the_component_for_labels_of_namespaces_adds_that_they_may_be_listed_and_watched(tmp_path: Path, overlay: str):
    rendered = deploy.with_component(tmp_path, "namespace-labels", overlay, "team-proxy")
    added = [each for each in rendered if each["metadata"]["name"] == "rayproxy-namespaces"]
    assert [each["kind"] for each in added] == ["ClusterRole", "ClusterRoleBinding"]
    role, binding = added
    assert role["rules"] == [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "rayproxy", "namespace": "team-proxy"}]
    assert binding["roleRef"]["name"] == "rayproxy-namespaces"
    assert len(rendered) == len(deploy.render(f"deploy/overlays/{overlay}")) + len(added)


def test_with_the_patch_that_stands_there_two_proxies_of_one_cluster_may_list_namespaces_both(tmp_path: Path):
    text = (deploy.ROOT / "deploy/namespace-labels/kustomization.yaml").read_text()
    patch = "\n".join(re.findall(r"^#   (patches:|  .*(?:target|patch): .*)$", text, re.MULTILINE)) + "\n"
    bound = []
    for team in ("team-a", "team-b"):
        own = patch.replace("team-a", team)
        rendered = deploy.with_component(tmp_path, "namespace-labels", "one-namespace", team, own)
        [binding] = [each for each in rendered if each["kind"] == "ClusterRoleBinding"]
        deploy.one(rendered, "ClusterRole", binding["roleRef"]["name"])
        bound.append((binding["metadata"]["name"], binding["subjects"][0]["namespace"]))
    assert bound == [("rayproxy-namespaces-team-a", "team-a"), ("rayproxy-namespaces-team-b", "team-b")]


@pytest.mark.parametrize("overlay", ["all-namespaces", "one-namespace"])
def test_an_overlay_that_is_written_as_docs_operating_md_says_changes_settings_and_brings_a_file(
    tmp_path: Path, overlay: str
):
    blocks = re.findall(
        r"^```yaml\n(.*?)^```", (deploy.ROOT / "docs/operating.md").read_text(), re.DOTALL | re.MULTILINE
    )
    [own] = [block for block in blocks if "behavior: merge" in block]
    (tmp_path / "own").mkdir()
    (tmp_path / "own/names.yaml").write_text("- {namespaces: ['*'], names: ['test-*']}\n")
    rendered = deploy.with_component(tmp_path, "monitoring", overlay, "team-proxy", own)
    settings = deploy.one(rendered, "ConfigMap")["data"]
    before = deploy.one(deploy.render(f"deploy/overlays/{overlay}"), "ConfigMap")["data"]
    assert settings.items() > before.items()
    assert settings["RAYPROXY_MAX_BODY"] == "64m"
    pod = deploy.one(rendered, "Deployment")
    mounts = {name: each["volumeMounts"] for name, each in deploy.containers(pod).items()}
    file = PurePosixPath(settings["RAYPROXY_NAME_POLICY"])
    [volume] = [mount["name"] for mount in mounts["rayproxy"] if mount["mountPath"] == str(file.parent)]
    assert volume not in {mount["name"] for name in ("init", "nginx") for mount in mounts[name]}
    [source] = [each["configMap"] for each in pod["spec"]["template"]["spec"]["volumes"] if each["name"] == volume]
    assert file.name in deploy.one(rendered, "ConfigMap", source["name"])["data"]
