"""How a real API server writes quantities back."""

from __future__ import annotations

from tests.support.apiserver import Cluster
from tests.support.quantities import WRITTEN_BACK


def test_a_real_api_server_writes_quantities_back_as_the_table_says(cluster: Cluster):
    path = f"/api/v1/namespaces/{cluster.namespace()}/resourcequotas"
    for number, (given, written) in enumerate(WRITTEN_BACK.items()):
        body = {"metadata": {"name": f"c{number}"}, "spec": {"hard": {"limits.cpu": given}}}
        assert cluster.call("POST", path, body)["spec"]["hard"]["limits.cpu"] == written, given
