"""Routes made up to try a location template on: two of each shape that routes can have, which share nothing else.

Two of each, since a template with a constant path is fine for one route alone. They share neither name nor namespace
nor address: with a path for each namespace, say, a template may be right where each of them has one model.
"""

from __future__ import annotations

from rayproxy.kinds import FIRST, route_file
from rayproxy.kinds.base import path
from rayproxy.model import Ref, Route, Target
from rayproxy.nginx.render import File, NginxConf, render_base, route_files, routed
from rayproxy.nginx.templates import LocationTemplate

KINDS = (FIRST, "inferenceservice")  # a template may know the first one alone, or the others too


def _sample(number: int) -> Route:
    ref = Ref(KINDS[number % len(KINDS)], f"template-check-in-{number}", f"template-check-{number}")
    return Route(ref, "", path(ref), (Target(f"192.0.2.{number}", 8000),))


SAMPLES = tuple(_sample(number) for number in range(2 * len(KINDS)))


def files(template: LocationTemplate, conf: NginxConf) -> dict[str, File]:
    """Return the files of a revision with the samples; raise TemplateError where one cannot be rendered."""
    found = {route_file(route.ref): routed(route, template) for route in SAMPLES}
    return render_base([], SAMPLES, conf) | route_files(found)
