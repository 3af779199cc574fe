"""Read the few fields that matter out of Kubernetes objects that may hold anything.

What decides a route is kept and the rest is dropped: two objects that differ only in status or annotations
become equal values, so a heartbeat wakes nobody and an annotation of a megabyte is not held in memory.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from rayproxy.model import Key, Owner, Port, RayService, Service

SERVE_LABEL = "ray.io/serve"
FINAL = ("ValidationFailed", "InitializingTimeout")  # reasons of Ready=False after which KubeRay waits for a person
MAX_INT = 2**63
INSTANT = "%Y-%m-%dT%H:%M:%SZ"
_WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
MAX_WORDS = 400  # characters of another's message that are kept: an Event and a line of `routes` hold no more


class UnreadableError(ValueError):
    """Say that something is not a Kubernetes object at all: it has no name to call it by."""


def read_rayservice(obj: object) -> RayService:
    """Read a RayService; raise UnreadableError where it has no usable name."""
    return RayService(
        key=read_key(obj),
        uid=_text(obj, "metadata", "uid"),
        created=_created(obj),
        terminating=bool(_dig(obj, "metadata", "deletionTimestamp")),
        serve_service=_text(obj, "spec", "serveService", "metadata", "name"),
        active_cluster=_text(obj, "status", "activeServiceStatus", "rayClusterName"),
        upgrade=_text(obj, "spec", "upgradeStrategy", "type")[:80],
        suspended=_dig(obj, "spec", "suspend") is True,
        halted=any(_condition(obj, kind).get("status") == "True" for kind in ("Suspending", "Suspended")),
        taken_up=_taken_up(obj),
        refusal=_refusal(obj),
    )


def _taken_up(obj: object) -> bool:
    statuses = ("activeServiceStatus", "pendingServiceStatus")
    return any(_text(obj, "status", each, "rayClusterName") for each in statuses)


def _refusal(obj: object) -> tuple[str, str] | None:
    """Return reason and words where KubeRay (1.5 and newer) does not go on.

    A RayService that was refused and mended keeps the condition ValidationFailed until its first endpoint is ready.
    Then KubeRay has seen the newest generation, which it does not note while it refuses, and has made a cluster.
    """
    ready = _condition(obj, "Ready")
    reason = _text(ready, "reason")
    seen = _dig(obj, "status", "observedGeneration") == _dig(obj, "metadata", "generation")
    mended = reason == "ValidationFailed" and seen and _taken_up(obj)
    if ready.get("status") != "False" or reason not in FINAL or mended:
        return None
    return reason, _text(ready, "message")[:MAX_WORDS]


def _condition(obj: object, kind: str) -> dict[str, object]:
    conditions = _dig(obj, "status", "conditions")
    found = (each for each in (conditions if isinstance(conditions, list) else ()) if _dig(each, "type") == kind)
    return next(found, {})


def read_service(obj: object) -> Service:
    """Read a Service; raise UnreadableError where it has no usable name."""
    labels = _dig(obj, "metadata", "labels")
    ports = _dig(obj, "spec", "ports")
    return Service(
        key=read_key(obj),
        created=_created(obj),
        terminating=bool(_dig(obj, "metadata", "deletionTimestamp")),
        serves=isinstance(labels, dict) and SERVE_LABEL in labels,
        owner=_controller(_dig(obj, "metadata", "ownerReferences")),
        type=_text(obj, "spec", "type"),
        cluster_ip=_text(obj, "spec", "clusterIP"),
        ports=tuple(_port(port) for port in ports) if isinstance(ports, list) else (),
    )


def read_key(obj: object) -> Key:
    """Read namespace ("default" where there is none, as kubectl does) and name."""
    name = _text(obj, "metadata", "name")
    if not name:
        raise UnreadableError("metadata.name is missing or not a string")
    return Key(_text(obj, "metadata", "namespace") or "default", name)


def group_of(obj: object) -> str:
    """Return the API group, "" for the core's; raise UnreadableError where there is no apiVersion."""
    version = _text(obj, "apiVersion")
    if not version:
        raise UnreadableError("apiVersion is missing or not a string")
    return version.rpartition("/")[0]


def labels_of(obj: object) -> dict[str, str]:
    """Return the labels that are strings, and no others."""
    labels = _dig(obj, "metadata", "labels")
    if not isinstance(labels, dict):
        return {}
    return {key: value for key, value in labels.items() if isinstance(key, str) and isinstance(value, str)}


def _dig(obj: object, *path: str) -> Any:  # noqa: ANN401 - objects hold anything
    for step in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(step)
    return obj


def _text(obj: object, *path: str) -> str:
    value = _dig(obj, *path)
    return value if isinstance(value, str) else ""


def _created(obj: object) -> str:
    """Return the time as the API server writes it, since times are compared as texts; "" where there is none."""
    text = _text(obj, "metadata", "creationTimestamp")
    if _WRITTEN.fullmatch(text):
        return text
    try:  # a person wrote it, into a manifest
        value = dt.datetime.fromisoformat(text)
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).strftime(INSTANT)
    except (ValueError, OverflowError):  # the latter in the year 1, or 9999
        return ""


def _port(port: object) -> Port:
    number, protocol = _hashable(_dig(port, "port")), _text(port, "protocol") or "TCP"
    return Port(_text(port, "name"), number, protocol, _text(port, "appProtocol"))


def _hashable(value: object) -> object:
    """Return a value that can be compared and shown: NaN equals nothing, and an int of 5,000 digits has no text."""
    if value is None or (isinstance(value, int) and abs(value) < MAX_INT):
        return value
    return value[:80] if isinstance(value, str) else type(value).__name__


def _controller(references: object) -> Owner | None:
    if not isinstance(references, list):
        return None
    for reference in references:
        if _dig(reference, "controller") is True:
            group, slash, _ = _text(reference, "apiVersion").rpartition("/")
            name, uid = _text(reference, "name"), _text(reference, "uid")
            return Owner(_text(reference, "kind"), name, uid, group if slash else "")
    return None
