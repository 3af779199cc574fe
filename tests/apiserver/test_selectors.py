"""The same selectors and labels before a real API server: manifests are held to what it says."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from rayproxy.selector import parse_selector
from tests.support.apiserver import ApiProblem, Cluster
from tests.support.selectors import MATCHES, NONE


@pytest.fixture
def objects(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Return {path's name: labels} of an object for each set of labels in the table."""
    sets = [dict(pairs) for pairs in {tuple(sorted(labels.items())) for _, labels, _ in MATCHES}]
    return {f"o{number}": labels for number, labels in enumerate(sets)}


def test_a_real_api_server_matches_every_selector_as_manifests_do(
    cluster: Cluster, objects: dict[str, dict[str, str]]
):
    path = f"/api/v1/namespaces/{cluster.namespace()}/configmaps"
    for name, labels in objects.items():
        cluster.call("POST", path, {"metadata": {"name": name, "labels": labels}})
    for selector in dict.fromkeys(selector for selector, _, _ in MATCHES):
        items = cluster.call("GET", f"{path}?labelSelector={quote(selector)}")["items"]
        found = {item["metadata"]["name"] for item in items} & objects.keys()
        assert found == {name for name, labels in objects.items() if parse_selector(selector)(labels)}, selector


def test_a_real_api_server_refuses_what_is_no_selector(cluster: Cluster):
    for selector in NONE:
        with pytest.raises(ApiProblem) as refused:
            cluster.call("GET", f"/api/v1/namespaces/default/configmaps?labelSelector={quote(selector)}")
        assert refused.value.status == 400, selector
