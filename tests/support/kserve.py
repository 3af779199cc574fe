"""InferenceServices and what KServe and Knative make for them, as objects and in a cluster.

From KServe's code, 0.11 to 0.20, and from a recording of 0.20.0's controller (tests/recorded/kserve-standard.jsonl).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayproxy.settings import KNATIVE_GATEWAYS
from tests.support.apiserver import Cluster
from tests.support.manifests import OLD

Obj = dict[str, Any]
GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
LABEL = "serving.kserve.io/inferenceservice"
ISTIO = KNATIVE_GATEWAYS[0]
CONTAINER = {"name": "kserve-container", "image": "example.invalid/model"}
SPEC = {"predictor": {"containers": [CONTAINER]}}


def inferenceservice(name: str = "chat", namespace: str = "default", **more: Any) -> Obj:
    """Return an InferenceService; `spec` and `status` are taken as they are, the rest is metadata."""
    spec, status = more.pop("spec", SPEC), more.pop("status", {})
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "creationTimestamp": OLD,
        "labels": {"app": "prediction"},
    }
    head = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "InferenceService", "metadata": metadata | more}
    return head | {"spec": spec, "status": status}


def controller(of: Obj) -> Obj:
    """Return the ownerReference of a controller."""
    metadata = of["metadata"]
    return {"apiVersion": of["apiVersion"], "kind": of["kind"], "name": metadata["name"], "uid": metadata["uid"],
            "controller": True, "blockOwnerDeletion": True}  # fmt: skip


def service(of: Obj, component: str = "predictor", name: str = "", **spec: Any) -> Obj:
    """Return the Service that KServe makes in mode Standard; `spec` replaces parts of its spec."""
    owner = of["metadata"]["name"]
    name = name or f"{owner}-{component}"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": of["metadata"].get("namespace", "default"),
            "labels": {"app": f"isvc.{name}", "component": component, LABEL: owner},
            "ownerReferences": [controller(of)],
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "10.0.0.1",
            "selector": {"app": f"isvc.{name}"},
            "ports": [{"name": name, "port": 80, "protocol": "TCP", "targetPort": 8080}],
        }
        | spec,
    }


def placeholder(of: Obj, component: str = "predictor", **spec: Any) -> Obj:
    """Return the Service that Knative makes of a Route; by default the one that leads to Istio's private gateway."""
    owner, namespace = of["metadata"]["name"], of["metadata"].get("namespace", "default")
    name = f"{owner}-{component}"
    labels = {"app": "prediction", "component": component, LABEL: owner, "serving.knative.dev/route": name}
    route = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Route",
        "metadata": {"name": name, "uid": f"uid-r-{name}"},
    }
    leads = {"type": "ExternalName", "externalName": "knative-local-gateway.istio-system.svc.cluster.local"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels | {"serving.knative.dev/service": name},
            "ownerReferences": [controller(route)],
        },
        "spec": {"ports": [{"name": "http2", "port": 80}], **(leads | spec)},
    }


def gateway(key: str = ISTIO, **spec: Any) -> Obj:
    """Return a private gateway's Service."""
    namespace, name = key.split("/")
    ports = [{"name": "status-port", "port": 15020}, {"name": "http2", "port": 80, "targetPort": 8081}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.80", "selector": {"istio": "i"}, "ports": ports} | spec,
    }


def host(name: str = "chat-predictor", namespace: str = "default", domain: str = "cluster.local") -> str:
    """Return the Host that the private gateway knows a Route by."""
    return f"{name}.{namespace}.svc.{domain}"


def addressed(at: str = "", component: str = "predictor") -> Obj:
    """Return the status of a model that Knative had ready once."""
    return {"components": {component: {"address": {"url": f"http://{at or host()}"}}}}


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def status(*conditions: Obj, transition: str = "", target: str = "", failure: Obj | None = None) -> Obj:
    """Return a status: conditions, and what is said of the model."""
    model = {"transitionStatus": transition, "states": {"targetModelState": target}, "lastFailureInfo": failure or {}}
    return {"conditions": list(conditions), "modelStatus": model}


@dataclass
class KServe:
    """Make InferenceServices and their Services in one namespace; `port` is where the test's upstream listens."""

    cluster: Cluster
    namespace: str
    port: int

    def inferenceservice(self, name: str, spec: Obj | None = None, **metadata: Any) -> Obj:
        """Create an InferenceService, as a person does."""
        body = inferenceservice(name, self.namespace, spec=spec or SPEC)
        body["metadata"] = {"name": name, "labels": {"app": "prediction"}, **metadata}
        return self.cluster.call("POST", self._of(PLURAL), body)

    def create(self, obj: Obj) -> Obj:
        """Create a Service; the API server gives it an address."""
        if obj["spec"].get("clusterIP") != "None":
            obj["spec"].pop("clusterIP", None)
        return self.cluster.call("POST", f"/api/v1/namespaces/{obj['metadata']['namespace']}/services", obj)

    def service(self, of: Obj, component: str = "predictor", **spec: Any) -> Obj:
        """Create the entry's Service of mode Standard."""
        name = f"{of['metadata']['name']}-{component}"
        return self.create(service(of, component, ports=[{"name": name, "port": self.port}], **spec))

    def routed(self, name: str) -> tuple[Obj, Obj]:
        """Create both."""
        made = self.inferenceservice(name)
        return made, self.service(made)

    def get(self, name: str) -> Obj:
        return self.cluster.call("GET", self._of(PLURAL, name))

    def patch(self, name: str, patch: Obj) -> Obj:
        return self.cluster.call("PATCH", self._of(PLURAL, name), patch, "application/merge-patch+json")

    def set_status(self, name: str, said: Obj) -> Obj:
        path = self._of(PLURAL, name) + "/status"
        return self.cluster.call("PATCH", path, {"status": said}, "application/merge-patch+json")

    def delete(self, name: str) -> None:
        self.cluster.call("DELETE", self._of(PLURAL, name))

    def delete_service(self, name: str) -> None:
        self.cluster.call("DELETE", f"/api/v1/namespaces/{self.namespace}/services/{name}")

    def events(self, name: str) -> list[Obj]:
        """Return the Events about an InferenceService."""
        found = self.cluster.call("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        wanted = {"kind": "InferenceService", "name": name}
        return [event for event in found if wanted.items() <= event["involvedObject"].items()]

    def _of(self, plural: str, name: str = "") -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")
