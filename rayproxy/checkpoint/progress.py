"""How far a RayService has come on its way to the first answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rayproxy.checkpoint.ownership import applied_at
from rayproxy.checkpoint.serve_config import APPLICATION

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
_PODS_ARE_UP = STAGES.index("worker up") + 1
# What kubelet says of a container that only a person can help.
_HOPELESS = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
}
_REFUSED_BY_KUBERAY = {"InvalidRayServiceMetadata", "InvalidRayServiceSpec"}


@dataclass(frozen=True, slots=True)
class Observed:
    """Hold what was seen in one look at the cluster and at the proxy."""

    rayservice: Object | None
    pods: tuple[Object, ...] = ()
    events: tuple[Object, ...] = ()
    service: Object | None = None
    answered: bool = False  # through the proxy


@dataclass(frozen=True, slots=True)
class Progress:
    """Say how many of STAGES are reached, what is seen beside that, and why it is over, if it is."""

    reached: int
    detail: str = ""
    failure: str = ""


def progress(seen: Observed) -> Progress:
    """Return the furthest stage that `seen` proves; a later stage implies the earlier ones."""
    failure = _failure(seen)
    if failure:
        return Progress(0, failure=failure)
    proofs = (*_pod_stages(seen.pods), *_application_stages(seen))
    reached = max((number for number, proven in enumerate(proofs, start=1) if proven), default=0)
    return Progress(reached, _detail(seen, pods_matter=reached < _PODS_ARE_UP))


def current_cluster(rayservice: Object) -> str:
    """Return the RayCluster that is being brought up, else the one that serves, else ""."""
    status = _service_status(rayservice)
    return str(status.get("rayClusterName", ""))


def _pod_stages(pods: tuple[Object, ...]) -> tuple[bool, bool, bool]:
    heads = [pod for pod in pods if _node_type(pod) == "head"]
    workers = [pod for pod in pods if _node_type(pod) == "worker"]
    pulled = bool(pods) and all(container.get("imageID") for pod in pods for container in _containers(pod))
    head_up = any(_condition(pod, "Ready").get("status") == "True" for pod in heads)
    # A worker is only Ready once Ray Serve answers on it, which is later than "up".
    worker_up = bool(workers) and all(_running(pod) for pod in workers)
    return pulled and bool(heads), head_up, head_up and worker_up


def _application_stages(seen: Observed) -> tuple[bool, bool, bool, bool]:
    rayservice = seen.rayservice or {}
    state = _application(rayservice).get("status")
    # While an upgrade is under way, Service and answers are those of the old cluster.
    settled = state == "RUNNING" and _settled(rayservice)
    there = settled and seen.service is not None
    return state in ("DEPLOYING", "RUNNING"), state == "RUNNING", there, there and seen.answered


def _settled(rayservice: Object) -> bool:
    status = rayservice.get("status") or {}
    generation = rayservice["metadata"].get("generation", 0)
    pending = (status.get("pendingServiceStatus") or {}).get("rayClusterName")
    return not pending and status.get("observedGeneration", generation) >= generation


def _failure(seen: Observed) -> str:
    if seen.rayservice is None:
        return "the RayService is gone"
    ready = _condition(seen.rayservice, "Ready")
    if ready.get("reason") in ("ValidationFailed", "InitializingTimeout"):
        return f"KubeRay gave up: {ready['reason']}: {ready.get('message', '')}"
    for event in _news(seen):
        if event.get("reason") in _REFUSED_BY_KUBERAY and not current_cluster(seen.rayservice):
            return f"KubeRay refuses it: {event.get('message', '')}"
    for pod in seen.pods:
        for container in _containers(pod):
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _HOPELESS:
                return f"Pod {pod['metadata']['name']}: {waiting['reason']}: {waiting.get('message', '')}"
    application = _application(seen.rayservice)
    if application.get("status") == "DEPLOY_FAILED":
        return f"Ray Serve could not deploy it: {application.get('message', '').strip()}"
    return ""


def _detail(seen: Observed, *, pods_matter: bool) -> str:
    """Return the newest warning about the RayService, or its Pods, else what its application says."""
    name = (seen.rayservice or {})["metadata"]["name"]
    warnings = [
        event
        for event in _news(seen)
        if event.get("type") == "Warning" and (pods_matter or event["involvedObject"]["name"] == name)
    ]
    newest = max(warnings, key=_time, default=None)
    if newest is not None:
        return f"{newest['involvedObject']['name']}: {newest.get('reason')}: {newest.get('message', '')}"
    return str(_application(seen.rayservice or {}).get("message", "")).strip()


def _news(seen: Observed) -> list[Object]:
    """Return the Events since the RayService was last applied; earlier ones are about what it was then."""
    applied = applied_at(seen.rayservice or {})
    return [event for event in seen.events if _time(event) >= applied]


def _time(event: Object) -> str:
    # An eventTime has microseconds: without them, texts in RFC 3339 compare as their times do.
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")[:19]


def _service_status(rayservice: Object) -> Object:
    status = rayservice.get("status") or {}
    pending: Object = status.get("pendingServiceStatus") or {}
    active: Object = status.get("activeServiceStatus") or {}
    return pending if pending.get("rayClusterName") else active


def _application(rayservice: Object) -> Object:
    applications: dict[str, Object] = _service_status(rayservice).get("applicationStatuses") or {}
    return applications.get(APPLICATION) or {}


def _condition(found: Object, kind: str) -> Object:
    conditions: list[Object] = (found.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def _containers(pod: Object) -> list[Object]:
    containers: list[Object] = (pod.get("status") or {}).get("containerStatuses") or []
    return containers


def _running(pod: Object) -> bool:
    containers = _containers(pod)
    return bool(containers) and all("running" in container.get("state", {}) for container in containers)


def _node_type(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get("ray.io/node-type", ""))
