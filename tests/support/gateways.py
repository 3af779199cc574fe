"""The golden conditions of Gateways and HTTPRoutes: objects in (`NAME.in.yaml`), what is said of each out.

The first document of a case is `lacking: WORDS`, what a replica has not proven of any route, and `shows: [ROW, ...]`,
the rows of the tables in gateway/conditions.py that it is an example of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rayproxy.gateway.conditions import Conditions, at, of_class, of_gateway, of_httproute
from rayproxy.gateway.objects import read_class, read_gateway, read_httproute
from rayproxy.kinds.backend import Policy
from tests.support import routes
from tests.support.deciding import decide

FOLDER = Path(__file__).parents[1] / "golden" / "gateways"
CASES = sorted(FOLDER.glob("*.in.yaml"))
CLASS = "rayproxy"


def out(case: Path) -> Path:
    """Return where the conditions of a case stand."""
    return case.with_name(case.name.replace(".in.yaml", ".out.txt"))


def conditions(case: Path) -> str:
    """Return what is said of each GatewayClass, Gateway and HTTPRoute."""
    first, *objects = yaml.safe_load_all(case.read_text(encoding="utf-8"))
    return "".join(said(objects, first["lacking"]))


def said(objects: list[Any], lacking: str) -> Iterator[str]:
    """Yield what is said of each object, a paragraph each."""
    found = {each.ref: each for each in decide(routes.snapshot(objects), Policy())}
    gateways = [each for each in map(read_gateway, of_kind(objects, "Gateway")) if each.class_name == CLASS]
    for each in map(read_class, of_kind(objects, "GatewayClass")):
        yield paragraph(f"GatewayClass {each.key.name}", of_class(each))
    for gateway in gateways:
        yield paragraph(f"Gateway {gateway.key}", of_gateway(gateway, found, lambda _: lacking))
    by_key = {each.key: each for each in gateways}
    for httproute in map(read_httproute, of_kind(objects, "HTTPRoute")):
        for _, gateway in at(httproute, by_key):
            title = f"HTTPRoute {httproute.key} at {gateway.key}"
            yield paragraph(title, of_httproute(httproute, gateway, found))


def of_kind(objects: list[Any], kind: str) -> list[Any]:
    return [obj for obj in objects if obj["kind"] == kind]


def paragraph(title: str, said: Conditions | None) -> str:
    lines = ["    nothing\n"] if said is None else [
        f"    {each.type}: {each.status} {each.reason}: {each.message}\n" for each in said
    ]  # fmt: skip
    return f"{title}\n{''.join(lines)}"
