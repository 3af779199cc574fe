"""The Gateway API in a test's cluster, and what KubeRay 1.6 makes of it for an upgrade in steps.

The definitions are those of the Go module sigs.k8s.io/gateway-api where this machine's Go can have it, else as much of
them as the tests need. KubeRay's objects are those of tests/recorded/incremental/1.6.2-gateway.jsonl.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import deploy
from tests.support.accounts import Account
from tests.support.apiserver import ApiProblem, Cluster
from tests.support.kuberay import KubeRay, endpoint_slice, reference
from tests.support.objects import MERGE

MODULE = "sigs.k8s.io/gateway-api@v1.4.1"
CONTROLLER = "rayproxy.io/gateway"
MANAGER = "rayproxy-rayproxy"  # field manager of a proxy whose class is `rayproxy`
GROUP = "/apis/gateway.networking.k8s.io/v1"
OWN = Path(__file__).parents[1] / "crds"
PLURALS = ("gatewayclasses", "gateways", "httproutes")


@functools.cache
def definitions() -> tuple[Path, ...]:
    """Return the files of the definitions."""
    if folder := _module():
        standard = folder / "config" / "crd" / "standard"
        return tuple(standard / f"gateway.networking.k8s.io_{plural}.yaml" for plural in PLURALS)
    return tuple(OWN / f"{plural}.yaml" for plural in PLURALS)


def _module() -> Path | None:
    if shutil.which("go") is None:
        return None
    done = subprocess.run(["go", "mod", "download", "-json", MODULE], capture_output=True, check=False, timeout=120)
    return Path(json.loads(done.stdout)["Dir"]) if done.returncode == 0 else None


def install(cluster: Cluster) -> None:
    """Install the definitions, where they are not there already."""
    for path in definitions():
        cluster.install_crd(path)


@dataclass
class Steps:
    """An upgrade of a RayService in steps: make and change what KubeRay does, and read what is said."""

    kuberay: KubeRay
    name: str = "inc"
    class_name: str = "rayproxy"

    @property
    def cluster(self) -> Cluster:
        return self.kuberay.cluster

    def start(self, active: str = "inc-1") -> dict[str, Any]:
        """Make a RayService with a cluster that serves, its Gateway and its HTTPRoute."""
        strategy = {"upgradeStrategy": {"type": "NewClusterWithIncrementalUpgrade"}}
        made = self.kuberay.rayservice(self.name, strategy)
        self.kuberay.set_status(self.name, {"activeServiceStatus": {"rayClusterName": active}})
        self.service(active)
        self.gateway(made)
        self.httproute(made, active)
        return made

    def begin(self, pending: str = "inc-2", active: str = "inc-1") -> None:
        """Begin an upgrade: the new cluster is in the status and in the HTTPRoute; its Service is still to come."""
        self.kuberay.set_status(self.name, {"pendingServiceStatus": {"rayClusterName": pending}})
        self.change("httproutes", {"spec": {"rules": self._rules(active, pending)}})

    def move(self, percent: int) -> None:
        """Move that much to the new cluster."""
        shares = {"activeServiceStatus": 100 - percent, "pendingServiceStatus": percent}
        self.kuberay.set_status(self.name, {name: {"trafficRoutedPercent": each} for name, each in shares.items()})

    def service(self, cluster: str) -> dict[str, Any]:
        """Make a cluster's own Service."""
        owner = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": cluster, "uid": f"uid-{cluster}"},
        }
        return self.kuberay.service(owner | {"spec": {}}, f"{cluster}-serve-svc")

    def gateway(self, owner: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
        """Make the Gateway."""
        listener = {"name": "http", "port": 80, "protocol": "HTTP"}
        return self._make("Gateway", owner, {"gatewayClassName": self.class_name, "listeners": [listener], **spec})

    def httproute(self, owner: dict[str, Any] | None, *clusters: str, **spec: Any) -> dict[str, Any]:
        """Make the HTTPRoute."""
        parent = {"name": f"{self.name}-gateway", "namespace": self.kuberay.namespace}
        return self._make("HTTPRoute", owner, {"parentRefs": [parent], "rules": self._rules(*clusters), **spec})

    def change(self, plural: str, patch: dict[str, Any], *, status: bool = False) -> dict[str, Any]:
        """Change one of the two, as a person does."""
        return self.cluster.call("PATCH", self.path(plural) + ("/status" if status else ""), patch, MERGE)

    def update(self, plural: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Change one of the two as KubeRay does: by an Update of the whole object, as it read it."""
        live = self.cluster.call("GET", self.path(plural))
        return self.cluster.call("PUT", f"{self.path(plural)}?fieldManager=kuberay-operator", live | {"spec": spec})

    def path(self, plural: str) -> str:
        suffix = plural.removesuffix("s")
        return f"{GROUP}/namespaces/{self.kuberay.namespace}/{plural}/{self.name}-{suffix}"

    def live(self, plural: str) -> dict[str, Any]:
        return self.cluster.call("GET", self.path(plural))

    def said(self) -> dict[str, dict[str, Any]]:
        """Return {type: condition} of the Gateway and of the HTTPRoute: Accepted of the latter is `accepted`."""
        gateway = self.live("gateways").get("status", {}).get("conditions", [])
        parents = self.live("httproutes").get("status", {}).get("parents", [])
        ours = [each for parent in parents if parent["controllerName"] == CONTROLLER for each in parent["conditions"]]
        return {each["type"]: each for each in gateway} | {
            each["type"].replace("Accepted", "accepted"): each for each in ours
        }

    def managers(self) -> dict[str, str]:
        """Return how each field manager wrote the Gateway's status."""
        fields = self.live("gateways")["metadata"]["managedFields"]
        return {each["manager"]: each["operation"] for each in fields if each.get("subresource") == "status"}

    def versions(self) -> list[str]:
        """Return the resourceVersions of the two."""
        return [self.live(plural)["metadata"]["resourceVersion"] for plural in ("gateways", "httproutes")]

    def states(self) -> dict[str, str]:
        """Return the same as {type: "True Reason"}."""
        return {name: f"{each['status']} {each['reason']}" for name, each in self.said().items()}

    def goes_on(self) -> bool:
        """Tell whether KubeRay's upgrade goes on: IsGatewayReady and IsHTTPRouteReady of its code, v1.6."""
        states = self.states()
        return all(
            states.get(name, "").startswith("True") for name in ("Accepted", "Programmed", "accepted", "ResolvedRefs")
        )

    def _rules(self, *clusters: str) -> list[dict[str, Any]]:
        weights = [100] + [0] * (len(clusters) - 1)
        backends = [self.backend(each, weight) for each, weight in zip(clusters, weights, strict=True)]
        return [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends}]

    def backend(self, cluster: str, weight: int = 0) -> dict[str, Any]:
        """Return a backendRef to a cluster."""
        where = {"group": "", "kind": "Service", "name": f"{cluster}-serve-svc", "namespace": self.kuberay.namespace}
        return where | {"port": self.kuberay.port, "weight": weight}

    def _make(self, kind: str, owner: dict[str, Any] | None, spec: dict[str, Any]) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": f"{self.name}-{kind.lower()}"}
        metadata |= {"ownerReferences": [reference(owner)]} if owner else {}
        body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
        return self.cluster.call("POST", f"{GROUP}/namespaces/{self.kuberay.namespace}/{kind.lower()}s", body)


def make_class(cluster: Cluster, name: str, controller: str = CONTROLLER) -> str:
    """Make a GatewayClass, or have it be this controller's; return where it is."""
    body = {"metadata": {"name": name}, "spec": {"controllerName": controller}}
    kind = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass"}
    try:
        cluster.call("POST", f"{GROUP}/gatewayclasses", kind | body)
    except ApiProblem as problem:
        if problem.status != 409:
            raise
    return f"{GROUP}/gatewayclasses/{name}"


def rendered(folder: Path, overlay: str = "all-namespaces", namespace: str = "") -> list[deploy.Manifest]:
    """Return deploy/ with its component for Gateways, as an overlay of one's own has it, in its own namespace too."""
    return deploy.with_component(folder, f"gateway/{overlay}", overlay, namespace)


@dataclass
class Home:
    """The namespace of a proxy: its service account, its Service with its pods, and what they have agreed on."""

    cluster: Cluster
    namespace: str
    manifests: list[deploy.Manifest]

    def make(self) -> Home:
        """Make what deploy/ and its component have."""
        path = f"/api/v1/namespaces/{self.namespace}"
        self.cluster.call("POST", f"{path}/serviceaccounts", {"metadata": {"name": "rayproxy"}})
        self.cluster.call("POST", f"{path}/configmaps", {"metadata": {"name": "rayproxy-replicas"}})
        spec = {"selector": {"app.kubernetes.io/name": "rayproxy"}, "ports": [{"name": "http", "port": 80}]}
        body = {"metadata": {"name": "rayproxy"}, "spec": spec}
        self._service = self.cluster.call("POST", f"{path}/services", body)
        self.allow(self.namespace, "Role", "rayproxy-replicas")
        return self

    def allow(self, namespace: str, kind: str, name: str) -> None:
        """Give the service account in a namespace what a role of deploy/ has."""
        rules = deploy.one(self.manifests, kind, name)["rules"]
        self.account.allow(namespace, name, rules)

    @property
    def account(self) -> Account:
        """Return the proxy's service account."""
        return Account(self.cluster, self.namespace)

    def ready(self, *pods: str) -> None:
        """Have these pods be the ready ones, as the cluster's own controller tells."""
        body = endpoint_slice(self._service, *[True] * len(pods))
        for endpoint, pod in zip(body["endpoints"], pods, strict=True):
            endpoint["targetRef"] = {"kind": "Pod", "name": pod, "namespace": self.namespace}
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        try:
            self.cluster.call("POST", path, body)
        except ApiProblem as problem:
            if problem.status != 409:
                raise
            self.cluster.call("PATCH", f"{path}/{body['metadata']['name']}", body, MERGE)

    def entries(self) -> dict[str, str]:
        """Return what each replica said it has proven."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/rayproxy-replicas"
        return self.cluster.call("GET", path).get("data") or {}
