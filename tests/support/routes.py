"""The golden routes: objects in (`NAME.in.yaml`), the whole configuration out (`NAME.out.conf`).

The first document of a case is `policy: {unowned: ..., allowed: [...]}`. What every revision has (nginx.conf and what
changes with the settings alone) stands once, in base.out.conf.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import yaml

from rayproxy.kinds import decide, resources
from rayproxy.kinds.backend import Policy
from rayproxy.model import Decision, Resource, Route, Snapshot
from rayproxy.nginx.render import FIXED, File, NginxConf, empty, render
from rayproxy.nginx.templates import load_location
from rayproxy.objects import group_of
from rayproxy.settings import NginxSettings

FOLDER = Path(__file__).parents[1] / "golden" / "routes"
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


def snapshot(objects: list[Any]) -> Snapshot:
    """Return what an API server's lists would give: an object is read for each resource that it is one of."""
    return Snapshot(
        {resource: tuple(resource.read(obj) for obj in objects if _is_one(obj, resource)) for resource in resources()}
    )


def _is_one(obj: Any, resource: Resource[Any]) -> bool:
    labels = obj["metadata"].get("labels", {})
    same = (obj["kind"], group_of(obj)) == (resource.kind, resource.group)
    return same and (resource.selector is None or resource.selector in labels)


def _policy(given: dict[str, Any]) -> Policy:
    return Policy(tuple(map(ipaddress.ip_network, given.get("allowed", ()))), given.get("unowned", False))


def _said(decision: Decision) -> str:
    if isinstance(decision, Route):
        return f"{decision.ref}: routed to {', '.join(map(str, decision.targets))}"
    reason = getattr(decision, "reason", "")
    return f"{decision.ref}: {type(decision).__name__.lower()}: {reason + ': ' if reason else ''}{decision.message}"


def _text(files: dict[str, File]) -> str:
    return "".join(f"\n# ---- {name}\n{file.text}" for name, file in sorted(files.items()))
