"""Objects as the API server holds them, and a folder of them for the manifests source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayproxy.kinds.rayservice import RAYSERVICES, SERVICES
from rayproxy.model import Ref, Route, Snapshot, Target
from tests.support.daemon import Daemon

OLD, YOUNG = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"


def rayservice(name: str = "chat", namespace: str = "default", **more: Any) -> dict[str, Any]:
    """Return a RayService; `spec` and `status` are taken as they are, the rest is metadata."""
    spec, status = more.pop("spec", {}), more.pop("status", {})
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "creationTimestamp": OLD,
        "labels": {"app": "prediction"},
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata | more,
        "spec": spec,
        "status": status,
    }


def service(of: dict[str, Any], name: str | None = None, **spec: Any) -> dict[str, Any]:
    """Return the Service that KubeRay makes for a RayService; `spec` replaces parts of its spec."""
    owner = of["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name or f"{owner['name']}-serve-svc",
            "namespace": owner["namespace"],
            "creationTimestamp": OLD,
            "labels": {"ray.io/serve": f"{owner['name']}-serve"},
            "ownerReferences": [reference(of)],
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "127.0.0.1",
            "selector": {"ray.io/serve": "true"},
            "ports": [{"name": "serve", "port": 8000}],
        }
        | spec,
    }


def reference(of: dict[str, Any], kind: str = "RayService") -> dict[str, Any]:
    """Return the ownerReference of a controller."""
    metadata = of["metadata"]
    return {
        "apiVersion": "ray.io/v1",
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }


@dataclass
class Manifests:
    """Write the objects that a daemon watches; each file is replaced whole."""

    folder: Path
    port: int = 8000  # where the Services' upstream listens

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)

    def write(self, file: str, *objects: object) -> Path:
        """Write objects as one file. JSON is YAML."""
        path = self.folder / f"{file}.yaml"
        staged = self.folder / f".{file}.tmp"
        staged.write_text("".join(f"---\n{json.dumps(obj)}\n" for obj in objects))
        return staged.rename(path)

    def routed(self, name: str, namespace: str = "default", port: int = 0, **more: Any) -> Path:
        """Write a RayService and its Service."""
        ray = rayservice(name, namespace, **more)
        ports = [{"name": "serve", "port": port or self.port}]
        return self.write(f"{namespace}.{name}", ray, service(ray, ports=ports))

    def many(self, count: int, prefix: str = "m") -> list[str]:
        """Write many routes into one file; return their names."""
        names = [f"{prefix}{number}" for number in range(count)]
        rays = [rayservice(name) for name in names]
        self.write(prefix, *rays, *(service(ray, ports=[{"name": "serve", "port": self.port}]) for ray in rays))
        return names

    def remove(self, name: str, namespace: str = "default") -> None:
        """Remove what `routed` wrote."""
        (self.folder / f"{namespace}.{name}.yaml").unlink()


def routed_names(daemon: Daemon) -> set[str]:
    """Return the names of the routes in the live revision."""
    return {file.removeprefix("ray-").removesuffix(".conf") for file in daemon.files() if file.startswith("ray-")}


def route_of(decision: object) -> Route:
    """Return the decision, which must be a route."""
    assert isinstance(decision, Route), decision
    return decision


def ref(name: str = "chat", namespace: str = "default") -> Ref:
    return Ref("rayservice", namespace, name)


def route(name: str = "chat", host: str = "10.0.0.1", port: int = 8000) -> Route:
    return Route(ref(name), "u", f"/apis/rayservice/{name}", (Target(host, port),))


def snapshot(*objects: dict[str, Any]) -> Snapshot:
    """Return what a source makes of these objects."""
    return Snapshot(
        {
            resource: tuple(resource.read(obj) for obj in objects if obj.get("kind") == resource.kind)
            for resource in (RAYSERVICES, SERVICES)
        }
    )


def target_of(decision: object) -> Target:
    """Return the only target of the decision, which must be a route."""
    (target,) = route_of(decision).targets
    return target
