"""Names that are granted by labels of namespaces, by a daemon with no more permissions than deploy/ gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import deploy
from tests.support.accounts import Account
from tests.support.apiserver import Cluster
from tests.support.cli import rayproxy
from tests.support.daemon import Daemon
from tests.support.kuberay import KubeRay
from tests.support.objects import MERGE
from tests.support.waiting import until

LABEL = "rayproxy.test/team"


@dataclass
class Team:
    """Hold a team's namespace, and the service account of a proxy that watches it."""

    kuberay: KubeRay
    account: Account
    manifests: list[deploy.Manifest]

    @property
    def cluster(self) -> Cluster:
        return self.kuberay.cluster

    def label(self, value: str | None) -> None:
        """Give the namespace a label, or take it."""
        patch = {"metadata": {"labels": {LABEL: value}}}
        self.cluster.call("PATCH", f"/api/v1/namespaces/{self.kuberay.namespace}", patch, MERGE)

    def rules(self, role: str) -> list[dict[str, list[str]]]:
        return deploy.one(self.manifests, "ClusterRole", role)["rules"]


@pytest.fixture
def team(kuberay: KubeRay, tmp_path: Path) -> Team:
    """Return a team, whose proxy has the permissions of deploy/ and not yet those of the component."""
    cluster, home = kuberay.cluster, kuberay.cluster.namespace("proxy")
    cluster.call("POST", f"/api/v1/namespaces/{home}/serviceaccounts", {"metadata": {"name": "rayproxy"}})
    made = Team(kuberay, Account(cluster, home), deploy.with_component(tmp_path, "namespace-labels"))
    made.account.allow(kuberay.namespace, "rayproxy", made.rules("rayproxy"))
    return made


@pytest.fixture
def daemon(team: Team, make_daemon: Callable[..., Daemon], folder: Path) -> Daemon:
    """Return a daemon, not started, whose policy goes by the label."""
    policy = folder / "policy.yaml"
    expression = f"{{key: {LABEL}, operator: In, values: [other, {team.kuberay.namespace}]}}"
    policy.write_text(f"- {{namespaceSelector: {{matchExpressions: [{expression}]}}, names: ['*']}}\n")
    settings = {
        "KUBECONFIG": str(team.cluster.kubeconfig(folder, team.account.token())),
        "NAMESPACES": team.kuberay.namespace,
        "NAME_POLICY": str(policy),
        "WORKERS": "1",
    }
    return make_daemon(**settings)


@pytest.mark.fault(166)
def test_a_route_comes_and_goes_with_a_label_of_its_namespace(team: Team, daemon: Daemon):
    namespace = team.kuberay.namespace
    team.kuberay.routed("chat")
    daemon.start(ready=False)
    until("it waits for the permission", lambda: "/api/v1/namespaces: forbidden" in daemon.admin("/readyz")[1])
    asked = [f"may {verb} namespaces in all namespaces, for the name policy" for verb in ("list", "watch")]
    said = rayproxy(daemon, "check").stdout
    assert all(f"FAIL  {question}: no: apply the component deploy/namespace-labels" in said for question in asked)
    team.account.allow_everywhere("rayproxy-namespaces", team.rules("rayproxy-namespaces"))
    until("namespaces are listed, half a minute later at most", lambda: daemon.routes().get(f"{namespace}/chat"), 60)
    assert daemon.until_state("chat", "rejected", namespace)["reason"] == "NameNotGranted"
    said = rayproxy(daemon, "check").stdout
    assert all(f"ok    {question}\n" in said for question in asked)
    team.label(namespace)
    daemon.until_state("chat", "accepted", namespace)
    assert daemon.answers_from("chat", "everywhere")
    team.label("somebody-else")
    assert daemon.until_state("chat", "rejected", namespace)["reason"] == "NameNotGranted"
    assert daemon.error("chat") == "rayservice_rejected"
    team.label("other")
    daemon.until_state("chat", "accepted", namespace)
    team.label(None)
    daemon.until_state("chat", "rejected", namespace)
    assert daemon.metric("rayproxy_source_problems") == 0
