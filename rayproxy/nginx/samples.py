"""Routes made up to try a location template on: two of each shape that routes can have, which share nothing else.

Each shape, since a template may say something for some routes alone: those in an upgrade in steps, of another kind,
asked with a Host, or marked by the settings. Two of each, since a template with a constant path is fine for one route
alone. They share neither name nor namespace nor address: with a path for each namespace, say, a template may be right
where each of them has one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

from rayproxy.kinds import FIRST, route_file
from rayproxy.kinds.base import path
from rayproxy.model import Ref, Route, Target
from rayproxy.nginx.render import File, Marks, NginxConf, render_base, route_files, routed
from rayproxy.nginx.templates import LocationTemplate

OTHER = "inferenceservice"  # a template may know the first kind alone, or the others too
MARKS = tuple(Marks(*flags) for flags in product((False, True), repeat=2))


class Sample(NamedTuple):
    """A route that is made up, and how the settings mark it."""

    route: Route
    marks: Marks


def _whole(number: int) -> tuple[Target, ...]:
    return (Target(f"192.0.2.{number}", 8000),)


def _in_steps(number: int) -> tuple[Target, ...]:
    return (Target(f"192.0.2.{number}", 8000, weight=80), Target(f"198.51.100.{number}", 8000, weight=20))


def _with_host(number: int) -> tuple[Target, ...]:
    return (Target(f"192.0.2.{number}", 80, f"template-check-{number}.example.com"),)


_SHAPES: tuple[tuple[str, Callable[[int], tuple[Target, ...]]], ...] = (
    (FIRST, _whole), (FIRST, _in_steps), (OTHER, _whole), (OTHER, _with_host),
)  # fmt: skip


def _samples() -> Iterator[Sample]:
    for number, ((kind, targets), marks, _) in enumerate(product(_SHAPES, MARKS, range(2)), 1):
        ref = Ref(kind, f"template-check-in-{number}", f"template-check-{number}")
        yield Sample(Route(ref, "", path(ref), targets(number)), marks)


SAMPLES = tuple(_samples())


def files(template: LocationTemplate, conf: NginxConf) -> dict[str, File]:
    """Return the files of a revision with the samples; raise TemplateError where one cannot be rendered."""
    found = {route_file(route.ref): routed(route, template, marks) for route, marks in SAMPLES}
    return render_base([], [route for route, _ in SAMPLES], conf) | route_files(found)
