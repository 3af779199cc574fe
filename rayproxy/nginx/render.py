"""Turn decisions into the text of every file of a revision. Pure: same decisions, same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from rayproxy.kinds import KINDS, route_file
from rayproxy.model import Decision, Pending, Ref, Refused, Rejection, Route, Suspended, Target
from rayproxy.names import DNS_1123_SUBDOMAIN, MAX_NAME
from rayproxy.nginx import routes
from rayproxy.nginx.templates import LocationTemplate, own
from rayproxy.settings import NginxSettings

UNROUTED: Mapping[type, str] = {
    Pending: "pending", Suspended: "suspended", Refused: "refused", Rejection: "rejected",
}  # fmt: skip
FIXED = ("nginx.conf", "fields.conf", "request-fields.conf", "answer-fields.conf")  # change with the settings only
BASE = (*FIXED, "unrouted.conf", "trusted.conf")  # without which nginx cannot load
SAMPLE = Route(
    Ref("rayservice", "default", "template-check"), "", "/apis/rayservice/template-check", (Target("192.0.2.1", 8000),)
)


@dataclass(frozen=True, slots=True)
class File:
    """Hold a file's text and its SHA-256."""

    text: str
    digest: str


@dataclass(frozen=True)
class NginxConf:
    """What nginx.conf is rendered from: the operator's settings, and what this machine adds to them."""

    settings: NginxSettings
    listen: tuple[str, ...]
    run_dir: str
    user: str = ""  # "" leaves it to nginx

    @property
    def values(self) -> dict[str, object]:
        """Return what the templates know by name."""
        files = [f"{kind.file_prefix}-*.conf" for kind in KINDS.values()]
        here = {"listen": self.listen, "run_dir": self.run_dir, "user": self.user, "route_files": files}
        return dict(self.settings) | here


@dataclass(frozen=True, slots=True)
class Routed:
    """A route, its file, and what stands of it in routes.json."""

    route: Route
    file: File
    entry: str


class RouteFiles:
    """Render routes; those that were there in the last round as they are now are not rendered again."""

    def __init__(self) -> None:
        self._last: dict[tuple[Route, LocationTemplate, bool], Routed] = {}

    def __call__(self, wanted: Iterable[Route], template: LocationTemplate, conf: NginxConf) -> dict[str, Routed]:
        """Return {file name: Routed}."""
        keys = [(route, template, named(conf.settings.stream_bodies, route.ref)) for route in wanted]
        last = self._last
        self._last = {key: last.get(key) or routed(*key) for key in keys}
        return {route_file(key[0].ref): found for key, found in self._last.items()}


def render(decisions: Iterable[Decision], template: LocationTemplate, conf: NginxConf) -> dict[str, File]:
    """Return {file name: File} for a whole revision but for revision.conf, which names the revision itself."""
    decisions = list(decisions)
    wanted = [decision for decision in decisions if isinstance(decision, Route)]
    return render_base(decisions, conf) | route_files(RouteFiles()(wanted, template, conf))


def empty(conf: NginxConf) -> dict[str, File]:
    """Return the files of a revision without routes."""
    return render_base([], conf) | route_files({})


def route_files(found: Mapping[str, Routed]) -> dict[str, File]:
    """Return the files of these routes, and routes.json."""
    entries = {name: each.entry for name, each in found.items()}
    return {name: each.file for name, each in found.items()} | {routes.ROUTES: file(routes.text(entries))}


def render_base(decisions: Iterable[Decision], conf: NginxConf) -> dict[str, File]:
    """Return the files without which nginx cannot load, with or without routes."""
    decisions = list(decisions)
    states = sorted(unrouted(decisions).items())
    trusted = [trusted_route(decision) for decision in decisions if trusts(conf.settings.trusted_pages, decision)]
    values = conf.values | {"unrouted": states, "trusted": trusted}
    return {name: file(own(f"{name}.j2")(values)) for name in BASE}


def trusts(pages: Collection[str], decision: Decision) -> bool:
    """Tell whether an object is routed and its pages are among those that may run as the front end's."""
    return isinstance(decision, Route) and ("*" in pages or named(pages, decision.ref))


def trusted_route(route: Decision) -> str:
    """Return what nginx knows a route by: its name, and the backend that really answers."""
    assert isinstance(route, Route)
    return f"{route.ref.name}@{route.targets[0]}"


def named(texts: Iterable[str], ref: Ref) -> bool:
    """Tell whether an object is among those of a setting: NAME, NAMESPACE/NAME or NAMESPACE/*."""
    return not {ref.name, f"{ref.namespace}/*", str(ref)}.isdisjoint(texts)


def routed(route: Route, template: LocationTemplate, stream_body: bool = False) -> Routed:  # noqa: FBT001, FBT002
    """Render one route. Every value in it was checked by type before it came here."""
    (target,) = route.targets
    values: dict[str, object] = {
        "Name": route.ref.name,
        "Namespace": route.ref.namespace,
        "ClusterIP": target.host,
        "Port": target.port,
        "StreamBody": stream_body,
    }
    text = template.render(values)
    if template.adds_redirect:
        text += "\n" + own("ray-redirect.conf.j2")(values)
    return Routed(route, file(text), routes.entry(route))


def unrouted(decisions: Iterable[Decision]) -> dict[str, str]:
    """Return {name: pending | suspended | refused | rejected} of the names that have no route.

    Of two RayServices of one name one is rejected for it, so whatever the other is wins.
    """
    decisions = sorted(decisions, key=lambda decision: not isinstance(decision, Rejection))
    found = {decision.ref.name: type(decision) for decision in decisions}
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
