"""Play KubeRay's part, and kubelet's, while one RayService comes up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.support.apiserver import Cluster
from tests.support.kuberay import reference
from tests.support.objects import MERGE, RAYSERVICES

Object = dict[str, Any]


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


class Rollout:
    """Bring one RayService up, a step at a time."""

    def __init__(self, server: Cluster, namespace: str, name: str) -> None:
        self._server = server
        self._namespace = namespace
        self.name = name
        self.cluster = f"{name}-x7k2p"

    def rayservice(self) -> Object:
        """Return the RayService."""
        return self._server.call("GET", f"{RAYSERVICES.format(self._namespace)}/{self.name}")

    def status(self, application: str | None = None, message: str = "", **more: object) -> None:
        """Write the RayService's status; `application` is Ray Serve's word for how the application is."""
        statuses = {"default": {"status": application, "message": message}} if application else {}
        found = self.rayservice()
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "activeServiceStatus": {"rayClusterName": self.cluster, "applicationStatuses": statuses},
            **more,
        }
        path = f"{RAYSERVICES.format(self._namespace)}/{self.name}/status?fieldManager=manager"
        self._server.call("PATCH", path, {"status": status}, MERGE)

    def pod(self, kind: str) -> None:
        """Create a Pod of the cluster, `kind` "head" or "worker", whose image is still to be pulled."""
        labels = {"ray.io/cluster": self.cluster, "ray.io/node-type": kind}
        spec = {
            "containers": [{"name": f"ray-{kind}", "image": "model:1"}],
            "automountServiceAccountToken": False,
        }
        metadata = {"name": f"{self.cluster}-{kind}", "labels": labels}
        self._create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.container(kind, {"waiting": {"reason": "ContainerCreating"}})

    def container(self, kind: str, state: Object, *, pulled: bool = False, ready: bool = False) -> None:
        """Write what kubelet says of a Pod's container."""
        container = {
            "name": f"ray-{kind}",
            "image": "model:1",
            "imageID": "sha256:1" if pulled else "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        conditions = [{"type": "Ready", "status": str(ready)}]
        path = f"/api/v1/namespaces/{self._namespace}/pods/{self.cluster}-{kind}/status"
        phase = "Running" if "running" in state else "Pending"
        status = {"phase": phase, "containerStatuses": [container], "conditions": conditions}
        self._server.call("PATCH", path, {"status": status}, MERGE)

    def warning(self, kind: str, reason: str, message: str) -> None:
        """Record an Event about a Pod, or about their `RayCluster`."""
        about = {"kind": "Pod", "namespace": self._namespace, "name": f"{self.cluster}-{kind}"}
        if kind == "RayCluster":
            about |= {"kind": kind, "name": self.cluster}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "e-"},
            "involvedObject": about,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self._create("events", event)

    def service(self, port: int = 8000, cluster_ip: str | None = None) -> Object:
        """Make the serve Service, owned by the RayService as KubeRay's is."""
        found = self.rayservice()
        metadata = {
            "name": found["spec"]["serveService"]["metadata"]["name"],
            "labels": {
                "ray.io/serve": f"{self.name}-serve",
                **found["spec"]["serveService"]["metadata"]["labels"],
            },
            "ownerReferences": [reference(found)],
        }
        spec = {
            "selector": {"ray.io/cluster": self.cluster, "ray.io/serve": "true"},
            "ports": [{"name": "serve", "port": port}],
            **({"clusterIP": cluster_ip} if cluster_ip else {}),
        }
        return self._create("services", {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})

    def _create(self, resource: str, made: Object) -> Object:
        return self._server.call("POST", f"/api/v1/namespaces/{self._namespace}/{resource}", made)
