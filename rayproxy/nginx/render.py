"""Turn decisions into the text of every file of a revision. Pure: same decisions, same bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rayproxy.dns_names import DNS_1123_SUBDOMAIN, MAX_NAME
from rayproxy.kinds import FIRST, KINDS, route_file
from rayproxy.kinds.base import path
from rayproxy.model import Decision, Pending, Ref, Refused, Rejection, Route, Suspended, Target
from rayproxy.nginx import routes
from rayproxy.nginx.templates import LocationTemplate, TemplateError, own, prefix
from rayproxy.settings import NginxSettings

UNROUTED: Mapping[type, str] = {
    Pending: "pending", Suspended: "suspended", Refused: "refused", Rejection: "rejected",
}  # fmt: skip
# What a browser obeys for the whole origin that it comes from. docs/http.md says what each does, and why others pass.
ORIGIN_FIELDS = (
    "Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security", "Public-Key-Pins",
    "Expect-CT", "Alt-Svc", "NEL", "Report-To", "Accept-CH", "Set-Login", "Use-As-Dictionary",
    "Sec-Session-Registration", "Secure-Session-Registration",
)  # fmt: skip
FIXED = (  # change with the settings only
    "nginx.conf", "fields.conf", "request-fields.conf", "credential-fields.conf", "answer-fields.conf",
    "hidden-fields.conf", "origin-fields.conf",
)  # fmt: skip
BASE = (*FIXED, "unrouted.conf", "trusted.conf")  # without which nginx cannot load
HTTP_PORT = 80
_PLAIN = re.compile(r"[A-Za-z0-9 :]{1,200}")


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
        kinds = list(KINDS.values())
        files = [f"{kind.file_prefix}-*.conf" for kind in kinds]
        here = {"listen": self.listen, "run_dir": self.run_dir, "user": self.user, "origin_fields": ORIGIN_FIELDS}
        here |= {"hidden": list(map(spelled, self.settings.hidden_paths))}
        return dict(self.settings) | here | {"kinds": kinds, "route_files": files}


class Marks(NamedTuple):
    """What the settings say of one model."""

    stream_body: bool = False
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Routed:
    """A route, its file, and what stands of it in routes.json."""

    route: Route
    file: File
    entry: str


class RouteFiles:
    """Render routes; those that were there in the last round as they are now are not rendered again."""

    def __init__(self) -> None:
        self._last: dict[tuple[Route, LocationTemplate, Marks], Routed | TemplateError] = {}

    @property
    def failed(self) -> dict[str, str]:
        """Return {file name: why} of the routes for which the template could not be rendered in the last round."""
        found = ((route_file(key[0].ref), each) for key, each in self._last.items())
        return {name: str(each) for name, each in found if isinstance(each, TemplateError)}

    def __call__(self, wanted: Iterable[Route], template: LocationTemplate, conf: NginxConf) -> dict[str, Routed]:
        """Return {file name: Routed}, without those that `failed` names."""
        keys = [(route, template, marks(conf.settings, route.ref)) for route in wanted]
        last = self._last
        self._last = {key: last.get(key) or _routed_or_not(*key) for key in keys}
        return {route_file(key[0].ref): found for key, found in self._last.items() if isinstance(found, Routed)}


def render(decisions: Iterable[Decision], template: LocationTemplate, conf: NginxConf) -> dict[str, File]:
    """Return {file name: File} for a whole revision but for revision.conf, which names the revision itself.

    Raises TemplateError where the template cannot be rendered for a route.
    """
    decisions = list(decisions)
    wanted = [decision for decision in decisions if isinstance(decision, Route)]
    found = {route_file(route.ref): routed(route, template, marks(conf.settings, route.ref)) for route in wanted}
    return render_base(decisions, wanted, conf) | route_files(found)


def empty(conf: NginxConf) -> dict[str, File]:
    """Return the files of a revision without routes."""
    return render_base([], [], conf) | route_files({})


def route_files(found: Mapping[str, Routed]) -> dict[str, File]:
    """Return the files of these routes, and routes.json."""
    entries = {name: each.entry for name, each in found.items()}
    return {name: each.file for name, each in found.items()} | {routes.ROUTES: file(routes.text(entries))}


def render_base(decisions: Iterable[Decision], served: Collection[Route], conf: NginxConf) -> dict[str, File]:
    """Return the files without which nginx cannot load; `served` are the routes, those that were kept included."""
    paths = {path(route.ref) for route in served}
    found = sorted((where, *said) for where, said in unrouted(decisions).items() if where not in paths)
    trusted = sorted(
        trusted_route(route, target)
        for route in served
        if trusts(conf.settings.trusted_pages, route)
        for target in route.targets
    )
    values = conf.values | {"unrouted": found, "trusted": trusted}
    return {name: file(own(f"{name}.j2")(values)) for name in BASE}


def trusts(pages: Collection[str], route: Route) -> bool:
    """Tell whether the pages of a route may run as the front end's."""
    return "*" in pages or named(pages, route.ref)


def trusted_route(route: Route, target: Target) -> str:
    """Return what nginx knows a route by: its path, and the backend that really answers, as $backend_host has it."""
    return f"{path(route.ref)}@{target.name or (target.host if target.port == HTTP_PORT else target)}"


def spelled(text: str) -> str:
    """Return a regular expression for a path in every spelling that means it: escaped, or with empty segments.

    Of slashes it takes all at once, and gives none back: a path has no two of them in a row.
    """
    return "".join("(?:/+|%2f)++" if char == "/" else f"(?:{re.escape(char)}|%{ord(char):02x})" for char in text)


def named(texts: Iterable[str], ref: Ref) -> bool:
    """Tell whether an object is among those of a setting: NAMESPACE/NAME, NAMESPACE/*, or NAME of the first kind.

    A name alone was given to one model, and another namespace must not have what it was given with another kind.
    """
    names = {f"{ref.namespace}/*", str(ref)} | ({ref.name} if ref.kind == FIRST else set())
    return not names.isdisjoint(texts)


def marks(settings: NginxSettings, ref: Ref) -> Marks:
    """Return what the settings say of a model by its name; `*` stands in nginx.conf, once for all."""
    return Marks(named(settings.stream_bodies, ref), named(settings.trusted_pages, ref))


def routed(route: Route, template: LocationTemplate, of: Marks = Marks()) -> Routed:  # noqa: B008 - it is frozen
    """Render one route; raise TemplateError. Every value in it was checked by type before it came here."""
    target, *lighter = route.targets
    template = suited(template, route)
    values: dict[str, object] = {
        "Kind": route.ref.kind,
        "Name": route.ref.name,
        "Namespace": route.ref.namespace,
        "ClusterIP": target.host,
        "Port": target.port,
        "Host": target.name,
        "Lighter": str(lighter[0]) if lighter else "",
        "Percent": lighter[0].weight if lighter else 0,
        "StreamBody": of.stream_body,
        "Trusted": of.trusted,
    }
    text = template.render(values)
    if template.adds_redirect:
        text += "\n" + own("ray-redirect.conf.j2")(values)
    return Routed(route, file(text), routes.entry(route))


def _routed_or_not(route: Route, template: LocationTemplate, of: Marks) -> Routed | TemplateError:
    try:
        return routed(route, template, of)
    except TemplateError as error:
        return error


def suited(template: LocationTemplate, route: Route) -> LocationTemplate:
    """Return the template, or `prefix` where it knows only the first kind's paths, or no Host but the caller's."""
    fits = route.ref.kind == FIRST or template.knows("Kind")
    fits &= template.knows("Host") or not any(target.name for target in route.targets)
    return template if fits else prefix()


def unrouted(decisions: Iterable[Decision]) -> dict[str, tuple[str, str]]:
    """Return {path: (pending | suspended | refused | rejected, why)} of the paths that have no route.

    Of two objects of one kind and name one is rejected for it, so whatever the other is wins.
    """
    rejected_first = sorted(decisions, key=lambda decision: not isinstance(decision, Rejection))
    found = {path(each.ref): each for each in rejected_first if _is_name(each.ref.name)}
    return {where: (UNROUTED[type(each)], _why(each)) for where, each in found.items() if type(each) in UNROUTED}


def _why(decision: Decision) -> str:
    """Return what callers are told of it besides its state: words that are safe in a file, or ""."""
    why = {Pending: "told", Refused: "reason"}.get(type(decision), "")
    words = getattr(decision, why, "")
    return words if _PLAIN.fullmatch(words) else ""


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and bool(DNS_1123_SUBDOMAIN.fullmatch(text))


def revision_conf(revision: str, run_dir: str) -> str:
    """Return the text of revision.conf."""
    return own("revision.conf.j2")(revision=revision, run_dir=run_dir)


def file(text: str) -> File:
    """Return the text with its digest."""
    return File(text, hashlib.sha256(text.encode()).hexdigest())
