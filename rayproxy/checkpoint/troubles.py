"""What is said about a RayService on its way: why it is over, or why it takes so long. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from rayproxy.checkpoint.events import last, rejection
from rayproxy.checkpoint.ownership import applied_at
from rayproxy.checkpoint.stages import (
    PODS_ARE_UP,
    SERVICE_IS_THERE,
    Observed,
    application,
    containers,
    current_cluster,
    reached,
    taken_up,
)
from rayproxy.kinds.kuberay import cause
from rayproxy.kinds.rayservice import FINAL, INCREMENTAL
from rayproxy.objects import array, condition, dig, last_line, plain, text

Object = dict[str, Any]

# What kubelet says of a container that only a person can help.
_HOPELESS = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
}
_REFUSED_BY_KUBERAY = {"InvalidRayServiceMetadata", "InvalidRayServiceSpec"}
_KUBERAY = ("", "ray.io/kuberay-operator")
_QUEUE = "kueue.x-k8s.io/queue-name"
# Reasons for which the proxy rejects a route for a time that passes by itself.
_PASSING = ("NameHeld: ", "ChangesTooOften: ")
# KubeRay tries again each 2 s, and each healthy start has warnings for some 10 s: until Ray's dashboard answers.
_LASTING = 30.0
_MAX_SAID = 300


def failure(seen: Observed) -> str:
    """Return why the RayService will not come without a person, "" where it may."""
    if seen.rayservice is None:
        return "the RayService is gone"
    return next(_failures(seen, seen.rayservice), "")


def detail(seen: Observed) -> str:
    """Return what says best why it is not there yet, in one line; "" where nothing does."""
    said = next(filter(None, _details(seen, seen.rayservice)), "") if seen.rayservice else ""
    return said if len(said) <= _MAX_SAID else f"{said[:_MAX_SAID]}..."


def _failures(seen: Observed, rayservice: Object) -> Iterator[str]:
    if dig(rayservice, "metadata", "deletionTimestamp"):
        yield "the RayService is being deleted"
    yield from _given_up(rayservice)
    for event in _news(seen):
        if event.get("reason") in _REFUSED_BY_KUBERAY and not current_cluster(rayservice):
            yield f"KubeRay refuses it: {event.get('message', '')}"
    if _suspended(rayservice) and _QUEUE not in (dig(rayservice, "metadata", "labels") or {}):
        yield "it is suspended: set spec.suspend to false, and KubeRay starts it"
    if seen.proxy is not None and (said := _rejected(seen, rayservice)) and not said.startswith(_PASSING):
        yield f"the proxy rejects its route: {said}"
    if taken_up(rayservice):  # else Pods and application are those of what was applied before
        yield from _hopeless_pods(seen)
        yield from _failed(application(rayservice))


def _rejected(seen: Observed, rayservice: Object) -> str:
    """Return the proxy's words where it rejects the RayService as it is now.

    What it said before the RayService was applied may be about what this very change mends: then the proxy says
    otherwise at the latest when the Service is there.
    """
    event = rejection(rayservice, seen.events)
    if event is None or (last(event) < applied_at(rayservice) and reached(seen) < SERVICE_IS_THERE):
        return ""
    return last_line(text(event, "message"))


def _given_up(rayservice: Object) -> Iterator[str]:
    ready = condition(rayservice, "Ready")
    generation = rayservice["metadata"].get("generation", 0)
    of_now = int(str(ready.get("observedGeneration", generation))) >= generation
    # One that was mended keeps ValidationFailed until its first endpoint is ready, but has a cluster.
    mended = ready.get("reason") == "ValidationFailed" and taken_up(rayservice) and current_cluster(rayservice)
    if ready.get("reason") in FINAL and of_now and not mended:
        yield f"KubeRay gave up: {ready['reason']}: {ready.get('message', '')}"


def _failed(found: Object) -> Iterator[str]:
    if found.get("status") == "DEPLOY_FAILED":
        yield f"Ray Serve could not deploy it: {_last_first(cause(found))}"


def _hopeless_pods(seen: Observed) -> Iterator[str]:
    for pod in seen.pods:
        # KubeRay's `wait-gcs-ready` runs before a worker, and has the worker's image: there kubelet fails first.
        for container in (*array(pod, "status", "initContainerStatuses"), *containers(pod)):
            waiting = container.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _HOPELESS:
                yield f"Pod {pod['metadata']['name']}: {waiting['reason']}: {waiting.get('message', '')}"


def _last_first(message: str) -> str:
    """Return the last line of a traceback, which is the error, and then the whole."""
    last, whole = last_line(message), plain(message).strip()
    return last if whole == last else f"{last}\n{whole}"


def _details(seen: Observed, rayservice: Object) -> Iterator[str]:
    manager = text(rayservice, "spec", "managedBy")
    if manager not in _KUBERAY:
        yield f"spec.managedBy is {manager}: that controller brings it up, not this cluster's KubeRay"
    if _suspended(rayservice) or dig(rayservice, "spec", "rayClusterConfig", "suspend") is True:
        yield "it waits in a queue: its cluster is suspended until whoever keeps the queue, such as Kueue, has room"
    if said := _rejected(seen, rayservice):
        yield f"the proxy rejects its route: {said}"
    if seen.proxy and reached(seen) >= SERVICE_IS_THERE:  # before, it cannot answer
        yield seen.proxy
    yield _warning(seen, rayservice)
    if not taken_up(rayservice):
        yield "KubeRay has not looked at it yet"
        return
    yield from _of_the_application(application(rayservice))
    yield _traffic(rayservice)
    yield _old_words(seen, rayservice)


def _suspended(rayservice: Object) -> bool:
    return dig(rayservice, "spec", "suspend") is True


def _warning(seen: Observed, rayservice: Object) -> str:
    """Return the newest warning about the Pods or their RayCluster, or one that has lasted, also of the RayService."""
    name, ray_cluster = rayservice["metadata"]["name"], current_cluster(rayservice)
    own, clusters = _warnings(_about(seen, name)), _unmended(_about(seen, ray_cluster))
    about_pods = [event for event in _warnings(_news(seen)) if _of(event) not in (name, ray_cluster)]
    at_once = [*clusters, *about_pods] if reached(seen) < PODS_ARE_UP else []
    newest = max([*_lasting(own), *_lasting(clusters), *at_once], key=last, default=None)
    return _said(newest) if newest else ""


def _unmended(events: list[Object]) -> list[Object]:
    """Return the warnings unless KubeRay has said something better since: that the Pod is made, say."""
    newest = max(events, key=lambda event: (last(event), event.get("type") == "Warning"), default={})
    return _warnings(events) if newest.get("type") == "Warning" else []


def _lasting(warnings: list[Object]) -> list[Object]:
    return [
        event for event in warnings if _lasts([each for each in warnings if each.get("reason") == event.get("reason")])
    ]


def _lasts(events: list[Object]) -> bool:
    first = min(str(event.get("firstTimestamp") or last(event))[:19] for event in events)
    newest = max(map(last, events))
    return bool(first) and (_seconds(newest) - _seconds(first)) >= _LASTING


def _of_the_application(found: Object) -> Iterator[str]:
    status, said = text(found, "status"), last_line(text(found, "message"))
    if said:
        yield f"{status}: {said}"
    for name, deployment in sorted((dig(found, "serveDeploymentStatuses") or {}).items()):
        said = last_line(text(deployment, "message"))
        if said:
            yield f"{name} is {text(deployment, 'status')}: {said}"


def _traffic(rayservice: Object) -> str:
    """Return how far an incremental upgrade has come."""
    name = rayservice["metadata"]["name"]
    pending = dig(rayservice, "status", "pendingServiceStatus")
    if text(rayservice, "spec", "upgradeStrategy", "type") != INCREMENTAL or not text(pending, "rayClusterName"):
        return ""
    if application(rayservice).get("status") != "RUNNING":
        return ""
    percent = dig(pending, "trafficRoutedPercent")
    if not percent:
        return f"no traffic moves before Gateway {name}-gateway and HTTPRoute {name}-httproute are accepted"
    return f"the new cluster gets {percent} % of the traffic"


def _old_words(seen: Observed, rayservice: Object) -> str:
    """Return what KubeRay before 1.3 says: its serviceStatus has a word for each step, that of newer ones only one."""
    word = text(rayservice, "status", "serviceStatus")
    if word in ("", "Running"):
        return ""
    newest = max(_about(seen, rayservice["metadata"]["name"]), key=last, default=None)
    return f"{word}: {last_line(text(newest, 'message'))}" if newest else word


def _said(event: Object) -> str:
    return f"{_of(event)}: {event.get('reason')}: {last_line(text(event, 'message'))}"


def _warnings(events: list[Object]) -> list[Object]:
    return [event for event in events if event.get("type") == "Warning"]


def _about(seen: Observed, name: str) -> list[Object]:
    return [event for event in _news(seen) if _of(event) == name]


def _of(event: Object) -> str:
    return str(event["involvedObject"]["name"])


def _news(seen: Observed) -> list[Object]:
    """Return the Events since the RayService was last applied; earlier ones are about what it was then."""
    applied = applied_at(seen.rayservice or {})
    return [event for event in seen.events if last(event) >= applied]


def _seconds(instant: str) -> float:
    try:
        return dt.datetime.fromisoformat(instant).replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        return 0.0
