"""Play KubeRay's part: make what it makes, when it makes it, with the owners and labels that it sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.apiserver import ApiProblem, Cluster

# The least that KubeRay's CRDs accept.
CONTAINER = {"name": "ray-head", "image": "example.invalid/ray"}
CLUSTER = {"headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [CONTAINER]}}}}


@dataclass
class KubeRay:
    """Make RayServices and their Services in one namespace; `port` is where the test's upstream listens."""

    cluster: Cluster
    namespace: str
    port: int
    selector: tuple[str, str] = ("app", "prediction")

    def rayservice(self, name: str, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
        """Create a RayService, as a person does."""
        body = {
            "apiVersion": "ray.io/v1",
            "kind": "RayService",
            "metadata": {"name": name, "labels": dict([self.selector]), **metadata},
            "spec": {"rayClusterConfig": CLUSTER, **(spec or {})},
        }
        return self.cluster.call("POST", self._rayservices(), body)

    def service(self, owner: dict[str, Any], name: str | None = None, **spec: Any) -> dict[str, Any]:
        """Create the serve Service of a RayService, as KubeRay does once every app runs."""
        rayservice = owner["metadata"]["name"]
        given = owner["spec"].get("serveService", {}).get("metadata", {}).get("name")
        body = {
            "metadata": {
                "name": name or given or f"{rayservice}-serve-svc",
                "labels": {
                    "ray.io/serve": f"{rayservice}-serve",
                    "ray.io/originated-from-cr-name": rayservice,
                    "ray.io/originated-from-crd": "RayService",
                },
                "ownerReferences": [reference(owner)],
            },
            "spec": {"selector": {"ray.io/serve": "true"}, "ports": [{"name": "serve", "port": self.port}], **spec},
        }
        return self.cluster.call("POST", self._services(), body)

    def routed(self, name: str, spec: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Create both."""
        rayservice = self.rayservice(name, spec)
        return rayservice, self.service(rayservice)

    def endpoints(self, service: dict[str, Any], *ready: bool) -> dict[str, Any]:
        """Make or change the EndpointSlice of a Service, as the cluster's own controller does."""
        body = endpoint_slice(service, *ready)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        name = body["metadata"]["name"]
        try:
            return self.cluster.call("PATCH", f"{path}/{name}", body, "application/merge-patch+json")
        except ApiProblem as problem:
            if problem.status != 404:
                raise
        return self.cluster.call("POST", path, body)

    def patch_rayservice(self, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        return self.cluster.call("PATCH", self._rayservices(name), patch, "application/merge-patch+json")

    def patch_service(self, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        return self.cluster.call("PATCH", self._services(name), patch, "application/merge-patch+json")

    def set_status(self, name: str, status: dict[str, Any]) -> dict[str, Any]:
        path = self._rayservices(name) + "/status"
        return self.cluster.call("PATCH", path, {"status": status}, "application/merge-patch+json")

    def delete_rayservice(self, name: str) -> None:
        self.cluster.call("DELETE", self._rayservices(name))

    def delete_service(self, name: str) -> None:
        self.cluster.call("DELETE", self._services(name))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the Events about a RayService."""
        found = self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [event for event in found if event["involvedObject"]["name"] == name]

    def exists(self, name: str) -> bool:
        try:
            self.cluster.call("GET", self._rayservices(name))
        except ApiProblem:
            return False
        return True

    def _rayservices(self, name: str = "") -> str:
        return f"/apis/ray.io/v1/namespaces/{self.namespace}/rayservices" + (f"/{name}" if name else "")

    def _services(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/services" + (f"/{name}" if name else "")


def reference(owner: dict[str, Any]) -> dict[str, Any]:
    """Return the ownerReference of a controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def endpoint_slice(service: dict[str, Any], *ready: bool, family: str = "IPv4") -> dict[str, Any]:
    """Return the slice that the cluster's controller makes for a Service, with an endpoint for each of `ready`."""
    metadata = service["metadata"]
    address = "10.88.0.{}" if family == "IPv4" else "fd00::{}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-{family.lower()}",
            "namespace": metadata["namespace"],
            "labels": {**metadata.get("labels", {}), "kubernetes.io/service-name": metadata["name"]},
            "ownerReferences": [reference({"apiVersion": "v1", "kind": "Service", "metadata": metadata})],
        },
        "addressType": family,
        "endpoints": [
            {"addresses": [address.format(1 + number)], "conditions": {"ready": each, "serving": each}}
            for number, each in enumerate(ready)
        ],
        "ports": [{"name": "serve", "port": 8000, "protocol": "TCP"}],
    }
