"""The Services of deploy/ on clusters of IPv4, of IPv6 and of both, as an API server of today gives them addresses."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest

from tests.support import deploy
from tests.support.apiserver import binaries, local_api_server

pytestmark = pytest.mark.apiserver
FOUR, SIX = "127.96.0.0/16", "fd00:96::/108"
IPV6_SERVER = ("--advertise-address=fd00::1",)  # nobody asks it there: its family has to be that of the first range


@pytest.fixture(scope="module", autouse=True)
def _young_enough() -> None:
    if (assets := binaries()) is None:
        pytest.skip("needs etcd and kube-apiserver as processes: set KUBEBUILDER_ASSETS")
    told = subprocess.run([assets / "kube-apiserver", "--version"], check=True, capture_output=True, text=True).stdout
    if tuple(map(int, told.split("v")[1].split(".")[:2])) < (1, 25):
        pytest.skip(f"{told.strip()} does not take deploy/ as it stands: name a newer one with KUBEBUILDER_ASSETS")


@pytest.mark.parametrize(
    ("ranges", "families"), [((FOUR,), [4]), ((SIX,), [6]), ((FOUR, SIX), [4, 6]), ((SIX, FOUR), [6, 4])]
)
def test_the_proxys_service_has_an_address_of_each_family_and_that_for_metrics_is_of_the_first(
    ranges: tuple[str, ...], families: list[int], tmp_path: Path
):
    flags = (f"--service-cluster-ip-range={','.join(ranges)}", *(IPV6_SERVER if ranges[0] == SIX else ()))
    with local_api_server(flags) as server:
        manifests = deploy.render("deploy")
        deploy.kubectl(server.kubeconfig(tmp_path), "apply", "--server-side", "-f", "-", manifests=manifests)
        services = "/api/v1/namespaces/rayproxy/services"
        addresses = server.call("GET", f"{services}/rayproxy")["spec"]["clusterIPs"]
        assert [ipaddress.ip_address(address).version for address in addresses] == families
        metrics = server.call("GET", f"{services}/rayproxy-metrics")["spec"]
        assert metrics["clusterIPs"] == ["None"]
        assert metrics["ipFamilies"] == [f"IPv{families[0]}"]
