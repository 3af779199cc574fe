"""Turn decisions into the text of every file of a revision. Pure: same decisions, same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from rayproxy.model import Backend, Decision, Key, Pending, Refused, Rejection, Route, Suspended
from rayproxy.rayservice import DNS_1123_SUBDOMAIN
from rayproxy.templates import LocationTemplate, own

UNROUTED: Mapping[type, str] = {
    Pending: "pending", Suspended: "suspended", Refused: "refused", Rejection: "rejected",
}  # fmt: skip
MAX_NAME = 253  # characters: what Kubernetes takes; others are in manifests only, and no path names them
FIXED = ("nginx.conf", "fields.conf", "request-fields.conf", "answer-fields.conf")  # change with the settings only
BASE = (*FIXED, "unrouted.conf", "trusted.conf")  # without which nginx cannot load
SAMPLE = Route(Key("default", "template-check"), "", Backend("192.0.2.1", 8000))


@dataclass(frozen=True, slots=True)
class File:
    """Hold a file's text and its SHA-256."""

    text: str
    digest: str


@dataclass(frozen=True)
class NginxSettings:
    """Hold what nginx.conf is rendered from; durations in seconds."""

    listen: tuple[str, ...]
    run_dir: str
    user: str  # "" leaves it to nginx
    workers: int
    worker_connections: int
    worker_shutdown_timeout: int
    read_timeout: int
    max_body: str
    access_log: bool
    stream_bodies: tuple[str, ...]  # *, NAME, NAMESPACE/NAME and NAMESPACE/*
    trusted_pages: tuple[str, ...]  # *, NAME, NAMESPACE/NAME and NAMESPACE/*


def route_file(name: str) -> str:
    """Return the file name of a route."""
    return f"ray-{name}.conf"


def render(decisions: Iterable[Decision], template: LocationTemplate, settings: NginxSettings) -> dict[str, File]:
    """Return {file name: File} for a whole revision but for revision.conf, which names the revision itself."""
    decisions = list(decisions)
    routes = [decision for decision in decisions if isinstance(decision, Route)]
    files = render_base(decisions, settings)
    files |= {
        route_file(route.key.name): render_route(route, template, streams(settings.stream_bodies, route))
        for route in routes
    }
    return files


def render_base(decisions: Iterable[Decision], settings: NginxSettings) -> dict[str, File]:
    """Return the files that are there even with no route at all."""
    decisions = list(decisions)
    states = sorted(unrouted(decisions).items())
    trusted = [trusted_route(decision) for decision in decisions if trusts(settings.trusted_pages, decision)]
    map_size = 2048 if max(len(states), len(trusted)) <= 512 else 65536  # noqa: PLR2004 - large only where it is needed
    values = vars(settings) | {"map_size": map_size, "unrouted": states, "trusted": trusted}
    return {name: file(own(f"{name}.j2")(values)) for name in BASE}


def trusts(pages: Collection[str], decision: Decision) -> bool:
    """Tell whether a RayService is routed and its pages are among those that may run as the front end's."""
    return isinstance(decision, Route) and ("*" in pages or names(pages, decision.key))


def trusted_route(route: Decision) -> str:
    """Return what nginx knows a route by: its name, and the backend that really answers."""
    assert isinstance(route, Route)
    return f"{route.key.name}@{route.backend}"


def streams(bodies: tuple[str, ...], route: Route) -> bool:
    """Tell whether a route's request bodies are to be streamed for its own sake; * is the server's business."""
    return names(bodies, route.key)


def names(texts: Iterable[str], key: Key) -> bool:
    """Tell whether a RayService is among those of a setting: NAME, NAMESPACE/NAME or NAMESPACE/*."""
    return not {key.name, f"{key.namespace}/*", str(key)}.isdisjoint(texts)


@lru_cache(maxsize=65536)
def render_route(route: Route, template: LocationTemplate, stream_body: bool = False) -> File:  # noqa: FBT001, FBT002
    """Return the file of one route. Every value in it was checked by type before it came here."""
    values: dict[str, object] = {
        "Name": route.key.name,
        "Namespace": route.key.namespace,
        "ClusterIP": route.backend.host,
        "Port": route.backend.port,
        "StreamBody": stream_body,
    }
    text = template.render(values)
    if template.adds_redirect:
        text += "\n" + own("ray-redirect.conf.j2")(values)
    return file(text)


def unrouted(decisions: Iterable[Decision]) -> dict[str, str]:
    """Return {name: pending | suspended | refused | rejected} of the names that have no route.

    Of two RayServices of one name one is rejected for it, so whatever the other is wins.
    """
    decisions = sorted(decisions, key=lambda decision: not isinstance(decision, Rejection))
    found = {decision.key.name: type(decision) for decision in decisions}
    return {
        name: UNROUTED[kind]
        for name, kind in found.items()
        if kind in UNROUTED and len(name) <= MAX_NAME and DNS_1123_SUBDOMAIN.fullmatch(name)
    }


def revision_conf(revision: str, run_dir: str) -> str:
    """Return the text of revision.conf."""
    return own("revision.conf.j2")(revision=revision, run_dir=run_dir)


def file(text: str) -> File:
    """Return the text with its digest."""
    return File(text, hashlib.sha256(text.encode()).hexdigest())
