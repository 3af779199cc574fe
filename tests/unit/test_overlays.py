"""What kubectl makes of deploy/ in an overlay of one's own."""

from __future__ import annotations

import re
from pathlib import Path

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
