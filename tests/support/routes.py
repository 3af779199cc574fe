"""The golden routes: objects in (`NAME.in.yaml`), the whole configuration out (`NAME.out.conf`).

The first document of a case is `policy: {unowned: ..., allowed: [...]}` and `shows: [KIND/ROW, ...]`, the rows of the
kind's table of decisions that it is an example of. What every revision has (nginx.conf and what changes with the
settings alone) stands once, in base.out.conf.
"""

from __future__ import annotations

import inspect
import ipaddress
from pathlib import Path
from typing import Any

import yaml

from rayproxy.kinds import KINDS, resources
from rayproxy.kinds.backend import Policy
from rayproxy.model import Decision, Key, Resource, Route, Snapshot
from rayproxy.nginx.render import FIXED, File, NginxConf, empty, render
from rayproxy.nginx.templates import load_location
from rayproxy.objects import group_of, read_key
from rayproxy.selector import parse_selector
from rayproxy.settings import KNATIVE_GATEWAYS, NginxSettings
from tests.support import tables
from tests.support.deciding import decide

FOLDER = Path(__file__).parents[1] / "golden" / "routes"
GATEWAYS = tuple(Key(*text.split("/")) for text in KNATIVE_GATEWAYS)
CASES = sorted(FOLDER.glob("*.in.yaml"))
CONF = NginxConf(NginxSettings(), ("127.0.0.1:8080",), "/var/lib/rayproxy/run")


def out(case: Path) -> Path:
    """Return where the configuration of a case stands."""
    return case.with_name(case.name.replace(".in.yaml", ".out.conf"))


def configuration(case: Path) -> str:
    """Return what becomes of each object, and every file but those of base.out.conf."""
    first, *objects = yaml.safe_load_all(case.read_text(encoding="utf-8"))
    decisions = decide(snapshot(objects), _policy(first["policy"]))
    files = render(decisions, load_location("prefix"), CONF)
    said = "".join(f"# {_said(decision)}\n" for decision in decisions)
    return said + _text({name: file for name, file in files.items() if name not in FIXED})


def base() -> str:
    """Return the files that change with the settings alone."""
    return _text({name: file for name, file in empty(CONF).items() if name in FIXED})


def rows() -> dict[str, str]:
    """Return {KIND/ROW: what becomes of an object}, from the tables above the kinds."""
    docs = {kind.name: inspect.getdoc(inspect.getmodule(kind.decide)) for kind in KINDS.values()}
    return {f"{kind}/{row}": becomes for kind, doc in docs.items() for row, becomes in tables.rows(doc).items()}


def decided(case: Path) -> list[str]:
    """Return what the golden file says of each object."""
    lines = out(case).read_text(encoding="utf-8").partition("# ----")[0].splitlines()
    return [line.partition(": ")[2] for line in lines if line]


def snapshot(objects: list[Any]) -> Snapshot:
    """Return what an API server's lists would give: an object is read for each resource that it is one of."""
    return Snapshot(
        {
            resource: tuple(resource.read(obj) for obj in objects if _is_one(obj, resource))
            for resource in resources(KINDS.values(), GATEWAYS)
        }
    )


def _is_one(obj: Any, resource: Resource[Any]) -> bool:
    labels = obj["metadata"].get("labels", {})
    same = (obj["kind"], group_of(obj)) == (resource.kind, resource.group)
    if resource.only is not None:
        return same and read_key(obj) in resource.only
    return same and parse_selector(resource.selector or "app=prediction")(labels)


def _policy(given: dict[str, Any]) -> Policy:
    return Policy(tuple(map(ipaddress.ip_network, given.get("allowed", ()))), given.get("unowned", False), GATEWAYS)


def _said(decision: Decision) -> str:
    if isinstance(decision, Route):
        return f"{decision.ref}: routed to {', '.join(map(str, decision.targets))}"
    reason = getattr(decision, "reason", "")
    return f"{decision.ref}: {type(decision).__name__.lower()}: {reason + ': ' if reason else ''}{decision.message}"


def _text(files: dict[str, File]) -> str:
    return "".join(f"\n# ---- {name}\n{file.text}" for name, file in sorted(files.items()))
