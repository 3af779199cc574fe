"""How far a RayService has come on its way to the first answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayproxy.checkpoint.events import rejection
from rayproxy.checkpoint.serve_config import APPLICATION
from rayproxy.kinds.rayservice import INCREMENTAL
from rayproxy.objects import condition, dig, text

Object = dict[str, Any]

STAGES = (
    "image pulled",
    "head up",
    "worker up",
    "model loading",
    "app running",
    "Service there",
    "routed",
)
PODS_ARE_UP = STAGES.index("worker up") + 1
SERVICE_IS_THERE = STAGES.index("Service there") + 1
ANSWERED = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """Hold what was seen in one look at the cluster and at the proxy."""

    rayservice: Object | None
    pods: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    service: Object | None = None
    proxy: str | None = None  # why no answer came through it, ANSWERED where one did, None where it was not asked


def reached(seen: Observed) -> int:
    """Return how many of STAGES `seen` proves; a later stage implies the earlier ones."""
    if seen.rayservice is None or not taken_up(seen.rayservice):
        return 0  # whatever there is, is of what was applied before
    proofs = (*_pod_stages(seen.pods), *_application_stages(seen))
    return max((number for number, proven in enumerate(proofs, start=1) if proven), default=0)


def taken_up(rayservice: Object) -> bool:
    """Tell whether KubeRay has looked at what was applied."""
    status = rayservice.get("status") or {}
    generation = rayservice["metadata"].get("generation", 0)
    # Before 1.3, which has no conditions, KubeRay writes this number only where something else has changed as well.
    noted = status.get("observedGeneration", generation) if status.get("conditions") else generation
    return bool(status) and noted >= generation


def current_cluster(rayservice: Object) -> str:
    """Return the RayCluster that is being brought up, else the one that serves, else ""."""
    return text(service_status(rayservice), "rayClusterName")


def service_status(rayservice: Object) -> Object:
    """Return what KubeRay says of that RayCluster."""
    status = rayservice.get("status") or {}
    pending: Object = status.get("pendingServiceStatus") or {}
    active: Object = status.get("activeServiceStatus") or {}
    return pending if pending.get("rayClusterName") else active


def application(rayservice: Object) -> Object:
    """Return what Ray Serve says of the application."""
    applications: dict[str, Object] = service_status(rayservice).get("applicationStatuses") or {}
    return applications.get(APPLICATION) or {}


def serve_service(rayservice: Object, stable: str) -> str:
    """Return the name of the Service to wait for; with an incremental upgrade each RayCluster has its own."""
    if text(rayservice, "spec", "upgradeStrategy", "type") != INCREMENTAL:
        return stable
    return f"{text(rayservice, 'status', 'activeServiceStatus', 'rayClusterName')}-serve-svc"


def containers(pod: Object) -> list[Object]:
    """Return what kubelet says of a Pod's containers."""
    found: list[Object] = (pod.get("status") or {}).get("containerStatuses") or []
    return found


def _pod_stages(pods: tuple[Object, ...]) -> tuple[bool, bool, bool]:
    heads = [pod for pod in pods if _node_type(pod) == "head"]
    workers = [pod for pod in pods if _node_type(pod) == "worker"]
    pulled = bool(heads) and all(_pulled(pod) for pod in pods)
    head_up = any(condition(pod, "Ready").get("status") == "True" for pod in heads)
    # A worker is only Ready once Ray Serve answers on it, which is later than "up".
    worker_up = bool(workers) and all(_running(pod) for pod in workers)
    return pulled, head_up, head_up and worker_up


def _application_stages(seen: Observed) -> tuple[bool, bool, bool, bool]:
    rayservice = seen.rayservice or {}
    state = application(rayservice).get("status")
    # While an upgrade is under way, Service and answers are those of the old cluster.
    pending = text(rayservice, "status", "pendingServiceStatus", "rayClusterName")
    there = state == "RUNNING" and not pending and seen.service is not None
    # What answers at the path of one that is rejected is another namespace's.
    routed = there and seen.proxy == ANSWERED and not rejection(rayservice, seen.events)
    return state in ("DEPLOYING", "RUNNING"), state == "RUNNING", there, routed


def _pulled(pod: Object) -> bool:
    return _running(pod) or (bool(containers(pod)) and all(each.get("imageID") for each in containers(pod)))


def _running(pod: Object) -> bool:
    return text(pod, "status", "phase") == "Running"


def _node_type(pod: Object) -> str:
    return str((dig(pod, "metadata", "labels") or {}).get("ray.io/node-type", ""))
