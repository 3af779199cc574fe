"""What KubeRay's released operators did, and a stand-in that does the same to any RayService.

Recorded while 1.5.2, 1.6.2 and 1.7.0 ran with Ray 2.60.0 in real pods, and cut down to what is read; the application
of incremental-1.6.2 was called `echo`. finalizer-*.json is a RayService before and after the operator added its
finalizer, managedFields included; *.jsonl are watches of RayServices, Pods and Services, with the seconds since then.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rayproxy.checkpoint.stages import Observed, current_cluster, serve_service
from tests.support.apiserver import Cluster
from tests.support.quantities import WRITTEN_BACK

FOLDER = Path(__file__).parents[1] / "recorded" / "deploy"
RELEASES = ("1.6.2", "1.7.0")
FINALIZER = "ray.io/rayservice-finalizer"
MANAGER = "kuberay-operator"

Object = dict[str, Any]


def finalizer(release: str) -> tuple[Object, Object]:
    """Return a RayService before and after the operator of a release added its finalizer."""
    recorded = json.loads((FOLDER / f"finalizer-{release}.json").read_text(encoding="utf-8"))
    return recorded["before"], recorded["after"]


def add_finalizer(server: Cluster, path: str, spec: Object | None = None) -> Object:
    """Add it as the operator does: by an Update of the whole object, which is written back in Go's form."""
    live = server.call("GET", path)
    live["metadata"]["finalizers"] = [FINALIZER]
    live["spec"] = spec or as_go_writes(live["spec"])
    return server.call("PUT", f"{path}?fieldManager={MANAGER}", live)


def as_go_writes(spec: Object) -> Object:
    """Return the spec of a RayService as the operator writes it back."""
    spec = copy.deepcopy(spec)
    spec["serveService"].setdefault("status", {"loadBalancer": {}})
    cluster = spec["rayClusterConfig"]
    for group in cluster["workerGroupSpecs"]:
        group.setdefault("scaleStrategy", {})
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        group["template"].setdefault("metadata", {})
        for container in group["template"]["spec"]["containers"]:
            for amounts in container.get("resources", {}).values():
                amounts.update({name: WRITTEN_BACK.get(amount, amount) for name, amount in amounts.items()})
    return spec


def applied_at(name: str) -> float:
    """Return when the RayService was applied: made, or of another generation than in the beginning."""
    rayservices = [each for each in _lines(name) if each["resource"] == "rayservices"]
    first = rayservices[0]["object"]["metadata"].get("generation")
    changed = (each for each in rayservices if each["object"]["metadata"].get("generation") != first)
    made = first == 1 and "status" not in rayservices[0]["object"]
    return rayservices[0]["t"] if made else next(changed, rayservices[0])["t"]


def looks(name: str, service: str) -> Iterator[tuple[float, Observed]]:
    """Yield what a look each second since then would have seen; `service` is the one that is waited for."""
    start, lines = applied_at(name), _lines(name)
    for second in range(int(lines[-1]["t"] - start) + 60):
        yield second, _seen([line for line in lines if line["t"] <= start + second + 0.5], service)


def _lines(name: str) -> list[Object]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _seen(lines: list[Object], service: str) -> Observed:
    objects: dict[tuple[str, str], Object] = {}
    for line in lines:
        key = line["resource"], line["object"]["metadata"]["name"]
        objects[key] = line["object"]
        if line["type"] == "DELETED":
            del objects[key]
    rayservice = next((found for (resource, _), found in objects.items() if resource == "rayservices"), None)
    cluster = current_cluster(rayservice or {})
    pods = [found for (resource, _), found in objects.items() if resource == "pods"]
    own = tuple(pod for pod in pods if pod["metadata"]["labels"]["ray.io/cluster"] == cluster)
    name = serve_service(rayservice or {}, service)
    return Observed(rayservice, own, service=objects.get(("services", name)))
