"""Read the few fields that matter out of Kubernetes objects that may hold anything.

What decides a route is kept and the rest is dropped: two objects that differ only in status or annotations
become equal values, so a heartbeat wakes nobody and an annotation of a megabyte is not held in memory.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from rayproxy.dns_names import MAX_NAME
from rayproxy.model import Key, Owner, Port, Service

SERVE_LABEL = "ray.io/serve"
MAX_INT = 2**63
MAX_PORTS = 50  # of a Service, of those called serve and of the others; KubeRay makes a handful
MAX_TEXT = 80  # characters of a word that is only compared and shown
MAX_TRACEBACK = 100_000  # characters of another's message in which its last line is looked for
_INSTANT = "%Y-%m-%dT%H:%M:%SZ"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PYDANTIC_ENDS = "For further information visit "  # after the last line that says what is wrong
_WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class UnreadableError(ValueError):
    """Say that something is not a Kubernetes object at all: it has no name to call it by."""


def read_service(obj: object) -> Service:
    """Read a Service; raise UnreadableError where it has no usable name."""
    labels = dig(obj, "metadata", "labels")
    return Service(
        key=read_key(obj),
        created=created(obj),
        terminating=bool(dig(obj, "metadata", "deletionTimestamp")),
        serves=isinstance(labels, dict) and SERVE_LABEL in labels,
        owner=controller(obj),
        type=text(obj, "spec", "type"),
        cluster_ip=text(obj, "spec", "clusterIP"),
        ports=_ports(array(obj, "spec", "ports")),
        selects=bool(dig(obj, "spec", "selector")),
        cluster=name_in(obj, "spec", "selector", "ray.io/cluster"),
        uid=text(obj, "metadata", "uid")[:MAX_TEXT],
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
    return next((each for each in array(obj, "status", "conditions") if dig(each, "type") == kind), {})


def dig(obj: object, *path: str) -> Any:  # noqa: ANN401 - objects hold anything
    """Return what stands under these names, None where anything on the way is missing or something else."""
    for step in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(step)
    return obj


def array(obj: object, *path: str) -> list[Any]:
    """Return the list that stands under these names, an empty one where there is none."""
    value = dig(obj, *path)
    return value if isinstance(value, list) else []


def text(obj: object, *path: str) -> str:
    """Return the text that stands under these names, "" where there is none."""
    value = dig(obj, *path)
    return value if isinstance(value, str) else ""


def name_in(obj: object, *path: str) -> str:
    """Return the name that stands under these names: where nobody bounds it, one that is too long is none's."""
    return text(obj, *path)[: MAX_NAME + 1]


def last_line(words: str) -> str:
    """Return the last line that says something, in which a traceback has the error; "" where none does."""
    lines = (" ".join(line.split()) for line in reversed(plain(words[-MAX_TRACEBACK:]).splitlines()))
    return next((line for line in lines if line and not line.startswith(_PYDANTIC_ENDS)), "")


def plain(words: str) -> str:
    """Return another's words without colours, which Ray's tracebacks have, and whatever else plays with a terminal."""
    uncoloured = _COLOUR.sub("", words)
    return "".join(char if char.isprintable() or char == "\n" else " " for char in uncoloured)


def created(obj: object) -> str:
    """Return when an object was made, "" where that is not said."""
    return instant(text(obj, "metadata", "creationTimestamp"))


def rfc3339(moment: float) -> str:
    """Return a moment (s since 1970) as the API server writes it."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime(_INSTANT)


def instant(written: str) -> str:
    """Return a time as the API server writes it, since times are compared as texts; "" where it is none."""
    if _WRITTEN.fullmatch(written):
        return written
    try:  # a person wrote it, into a manifest
        value = dt.datetime.fromisoformat(written)
        return (value if value.tzinfo else value.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).strftime(_INSTANT)
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


def controller(obj: object) -> Owner | None:
    """Return the owner that is an object's controller."""
    for reference in array(obj, "metadata", "ownerReferences"):
        if dig(reference, "controller") is True:
            kind, name, uid = (name_in(reference, each) for each in ("kind", "name", "uid"))
            group, slash, _ = name_in(reference, "apiVersion").rpartition("/")
            return Owner(kind, name, uid, group if slash else "")
    return None
