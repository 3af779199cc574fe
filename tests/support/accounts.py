"""The proxy's service account in a test's cluster: what it is allowed there, and its token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.apiserver import Cluster

NAME = "rayproxy"
GROUP = "rbac.authorization.k8s.io"


@dataclass
class Account:
    """A service account that is there already, of a namespace."""

    cluster: Cluster
    namespace: str

    def allow(self, namespace: str, role: str, rules: list[dict[str, Any]]) -> None:
        """Give it a role of its own in a namespace."""
        path = f"/apis/{GROUP}/v1/namespaces/{namespace}"
        self.cluster.call("POST", f"{path}/roles", {"metadata": {"name": role}, "rules": rules})
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": self.namespace}
        reference = {"apiGroup": GROUP, "kind": "Role", "name": role}
        binding = {"metadata": {"name": role}, "subjects": [subject], "roleRef": reference}
        self.cluster.call("POST", f"{path}/rolebindings", binding)

    def allow_everywhere(self, role: str, rules: list[dict[str, Any]]) -> None:
        """Give it a role in all namespaces, and of what is in none."""
        path, name = f"/apis/{GROUP}/v1", f"{role}-of-{self.namespace}"
        self.cluster.call("POST", f"{path}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": self.namespace}
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}
        binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
        self.cluster.call("POST", f"{path}/clusterrolebindings", binding)

    def token(self) -> str:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{NAME}/token"
        return self.cluster.call("POST", path, request)["status"]["token"]
