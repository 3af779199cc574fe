"""Read the few fields that matter out of Kubernetes objects that may hold anything.

What decides a route is kept and the rest is dropped: two objects that differ only in status or annotations
become equal values, so a heartbeat wakes nobody and an annotation of a megabyte is not held in memory.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from rayproxy.model import Key, Owner, Port, Service

SERVE_LABEL = "ray.io/serve"
MAX_INT = 2**63
MAX_PORTS = 50  # of a Service, of those called serve and of the others; KubeRay makes a handful
MAX_TEXT = 80  # characters of a word that is only compared and shown
INSTANT = "%Y-%m-%dT%H:%M:%SZ"
_WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class UnreadableError(ValueError):
    """Say that something is not a Kubernetes object at all: it has no name to call it by."""


def read_service(obj: object) -> Service:
    """Read a Service; raise UnreadableError where it has no usable name."""
    labels = dig(obj, "metadata", "labels")
    ports = dig(obj, "spec", "ports")
    return Service(
        key=read_key(obj),
        created=created(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        serves=isinstance(labels, dict) and SERVE_LABEL in labels,
        owner=_controller(dig(obj, "metadata", "ownerReferences")),
        type=text(obj, "spec", "type"),
        cluster_ip=text(obj, "spec", "clusterIP"),
        ports=_ports(ports) if isinstance(ports, list) else (),
        selects=bool(dig(obj, "spec", "selector")),
    )


def read_key(obj: object) -> Key:
    """Read namespace ("default" where there is none, as kubectl does) and name."""
    name = text(obj, "metadata", "name")
    if not name:
        raise UnreadableError("metadata.name is missing or not a string")
    return Key(text(obj, "metadata", "namespace") or "default", name)


def group_of(obj: object) -> str:
    """Return the API group, "" for the core's; raise UnreadableError where there is no apiVersion."""
    version = text(obj, "apiVersion")
    if not version:
        raise UnreadableError("apiVersion is missing or not a string")
    return version.rpartition("/")[0]


def labels_of(obj: object) -> dict[str, str]:
    """Return the labels that are strings, and no others."""
    labels = dig(obj, "metadata", "labels")
    if not isinstance(labels, dict):
        return {}
    return {key: value for key, value in labels.items() if isinstance(key, str) and isinstance(value, str)}


def condition(obj: object, kind: str) -> dict[str, object]:
    """Return the condition of a type, empty where there is none."""
    conditions = dig(obj, "status", "conditions")
    found = (each for each in (conditions if isinstance(conditions, list) else ()) if dig(each, "type") == kind)
    return next(found, {})


def dig(obj: object, *path: str) -> Any:  # noqa: ANN401 - objects hold anything
    """Return what stands under these names, None where anything on the way is missing or something else."""
    for step in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(step)
    return obj


def text(obj: object, *path: str) -> str:
    """Return the text that stands under these names, "" where there is none."""
    value = dig(obj, *path)
    return value if isinstance(value, str) else ""


def created(obj: object) -> str:
    """Return the time as the API server writes it, since times are compared as texts; "" where there is none."""
    written = text(obj, "metadata", "creationTimestamp")
    if _WRITTEN.fullmatch(written):
        return written
    try:  # a person wrote it, into a manifest
        value = dt.datetime.fromisoformat(written)
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).strftime(INSTANT)
    except (ValueError, OverflowError):  # the latter in the year 1, or 9999
        return ""


def _ports(ports: list[object]) -> tuple[Port, ...]:
    """Return the ports that a choice may fall on; an API server takes 20,000 of them."""
    read = [_port(port) for port in ports]
    likely = [port for port in read if port.name.startswith("serve")][:MAX_PORTS]
    others = [port for port in read if not port.name.startswith("serve")][:MAX_PORTS]
    return (*likely, *others)


def _port(port: object) -> Port:
    number, protocol = _hashable(dig(port, "port")), text(port, "protocol") or "TCP"
    target = _hashable(dig(port, "targetPort"))
    return Port(
        text(port, "name")[:MAX_TEXT], number, protocol[:MAX_TEXT], text(port, "appProtocol")[:MAX_TEXT], target
    )


def _hashable(value: object) -> object:
    """Return a value that can be compared and shown: NaN equals nothing, and an int of 5,000 digits has no text."""
    if value is None or (isinstance(value, int) and abs(value) < MAX_INT):
        return value
    return value[:80] if isinstance(value, str) else type(value).__name__


def _controller(references: object) -> Owner | None:
    if not isinstance(references, list):
        return None
    for reference in references:
        if dig(reference, "controller") is True:
            group, slash, _ = text(reference, "apiVersion").rpartition("/")
            name, uid = text(reference, "name"), text(reference, "uid")
            return Owner(text(reference, "kind"), name, uid, group if slash else "")
    return None
