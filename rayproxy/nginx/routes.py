"""The routes of a revision as data: routes.json, which stands in it beside the files of nginx. Pure.

What the daemon asks of a live revision (how many routes it has, whose they are, where they lead) it asks here, and
never of a file's name or of nginx's text. An object's uid is left out: made anew under the same address, it is the
same route.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from rayproxy.kinds.base import path
from rayproxy.model import WHOLE, Ref, Route, Target

ROUTES = "routes.json"
_OLD_FILE = re.compile(r"ray-(.+)\.conf")
_OLD_TARGET = re.compile(r"http://(\[[0-9a-f:.]+\]|[0-9.]+):([0-9]+)")


def entry(route: Route) -> str:
    """Return what stands of one route in routes.json."""
    targets = [_entry(target) for target in route.targets]
    ref = {"kind": route.ref.kind, "namespace": route.ref.namespace, "name": route.ref.name}
    return json.dumps(ref | {"path": route.path, "targets": targets})


def _entry(target: Target) -> dict[str, object]:
    more: dict[str, object] = {"name": target.name} if target.name else {}
    more |= {"weight": target.weight} if target.weight != WHOLE else {}
    return {"host": target.host, "port": target.port} | more


def text(entries: Mapping[str, str]) -> str:
    """Return the whole of routes.json, from {file name: entry}."""
    lines = ",\n".join(f"{json.dumps(name)}: {entries[name]}" for name in sorted(entries))
    return f"{{\n{lines}\n}}\n"


@lru_cache(maxsize=1)  # a live revision is asked several times in a cycle, and is the same for many
def read(routes: str) -> Mapping[str, Route]:
    """Return {file name: route} of a routes.json; raise ValueError where it is none."""
    try:
        return MappingProxyType({name: _route(found) for name, found in json.loads(routes).items()})
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{ROUTES} is not what this version writes: {error!r}") from error


def _route(found: Mapping[str, object]) -> Route:
    ref = Ref(*(str(found[name]) for name in ("kind", "namespace", "name")))
    targets = found["targets"]
    if not isinstance(targets, list):
        raise TypeError(f"targets is no list: {targets!r:.40}")
    return Route(ref, "", str(found["path"]), tuple(map(_target, targets)))


def _target(found: Mapping[str, Any]) -> Target:
    weight = int(found.get("weight", WHOLE))
    return Target(str(found["host"]), int(found["port"]), str(found.get("name", "")), weight=weight)


def taken_over(files: Mapping[str, str]) -> Mapping[str, Route]:
    """Return the routes of a revision of an earlier build, which had no routes.json, from {file name: text}."""
    named = ((name, match[1]) for name in files if (match := _OLD_FILE.fullmatch(name)))
    return {name: _old_route(rayservice, files[name]) for name, rayservice in named}


def _old_route(name: str, conf: str) -> Route:
    targets = tuple(Target(host, int(port)) for host, port in _OLD_TARGET.findall(conf)[:1])
    ref = Ref("rayservice", "", name)
    return Route(ref, "", path(ref), targets)
