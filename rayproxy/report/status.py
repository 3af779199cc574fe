"""What an operator asks for: each object's state, since when, and why. Written by the daemon, read by `routes`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rayproxy.kinds import KINDS
from rayproxy.model import WHOLE, Decision, Pending, Ref, Refused, Rejection, Route, Suspended, Target
from rayproxy.report.behind import UNAVAILABLE, Behind

T = TypeVar("T", bound="Status | Behind")

KEPT = "kept as it was: its object cannot be read at the moment"
ACCEPTED, PENDING, SUSPENDED, REFUSED, REJECTED = STATES = "accepted", "pending", "suspended", "refused", "rejected"


@dataclass(frozen=True, slots=True)
class Status:
    """The state of one object; `since` is RFC 3339, when the state or its reason began."""

    namespace: str
    name: str
    uid: str
    state: str
    backend: str
    reason: str
    message: str
    since: str
    kind: str = "rayservice"
    behind: Behind | None = None  # of a route; None is not known

    @property
    def ref(self) -> Ref:
        """Return kind, namespace and name."""
        return Ref(self.kind, self.namespace, self.name)


def statuses(decisions: Iterable[Decision], before: Mapping[Ref, Status], now: str) -> dict[Ref, Status]:
    """Return the status of each decision; `since` is kept where nothing but the wording changed."""
    found = {}
    for decision in decisions:
        status = _status(decision, now)
        old = before.get(decision.ref)
        if old and (old.uid, old.state, old.backend, old.reason) == (
            status.uid, status.state, status.backend, status.reason
        ):  # fmt: skip
            status = _status(decision, old.since)
        found[decision.ref] = status
    return found


def kept(routes: Iterable[Route], before: Mapping[Ref, Status], now: str) -> dict[Ref, Status]:
    """Return the status of live routes whose objects cannot be read: which objects these are was known before."""
    known = (replace(route, uid=before[route.ref].uid) if route.ref in before else route for route in routes)
    return {ref: replace(status, message=KEPT) for ref, status in statuses(known, before, now).items()}


def _status(decision: Decision, since: str) -> Status:
    state, backend, reason, message = _told(decision)
    ref = decision.ref
    return Status(ref.namespace, ref.name, decision.uid, state, backend, reason, message, since, ref.kind)


def _told(decision: Decision) -> tuple[str, str, str, str]:
    """Return state, backend, reason and message."""
    match decision:
        case Route(targets=targets):
            return ACCEPTED, ", ".join(map(_backend, targets)), "Accepted", ""
        case Pending(message=message):
            return PENDING, "", "ServiceNotReady", message
        case Suspended(message=message):
            return SUSPENDED, "", "Suspended", message
        case Refused(reason=reason, message=message):
            return REFUSED, "", reason, message
        case Rejection(reason=reason, message=message):
            return REJECTED, "", reason, message


def _backend(target: Target) -> str:
    shown = f"{target} as {target.name}" if target.name else str(target)
    return shown if target.weight == WHOLE else f"{shown} ({target.weight} %)"


def write(path: Path, found: Mapping[Ref, Status]) -> None:
    """Replace the status file atomically."""
    staged = path.with_suffix(".tmp")
    staged.write_text(json.dumps([_row(status) for _, status in sorted(found.items())]))
    staged.rename(path)


def _row(status: Status) -> dict[str, Any]:
    """Return what asdict() does, which takes ten times as long: thousands may be written again and again."""
    return _fields(status) | {"behind": _fields(status.behind) if status.behind else None}


def _fields(value: Status | Behind) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def read(path: Path) -> dict[Ref, Status]:
    """Read the status file; a missing or foreign one reads as empty, and a newer build may have had other kinds."""
    try:
        rows = json.loads(path.read_text())
        return {status.ref: status for status in map(_read, rows) if status.kind in KINDS}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _read(row: Any) -> Status:  # noqa: ANN401 - files hold anything
    fields = dict(**row)
    behind = fields.pop("behind", None)
    return _checked(Status(**fields, behind=_checked(Behind(**behind)) if behind else None))


def _checked(found: T) -> T:
    """Return what was read if all of it is of the types that are written; raise TypeError."""
    numbers = ("ready", "endpoints")
    for name in found.__slots__:
        value = getattr(found, name)
        if name != "behind" and not isinstance(value, int if name in numbers else str):
            raise TypeError(f"{name} is {value!r:.40}")
    return found


def table(found: Iterable[Status]) -> str:
    """Return what `rayproxy routes` prints."""
    rows = [("NAME", "NAMESPACE", "KIND", "STATE", "BACKEND", "SINCE", "ENDPOINTS", "REASON")]
    rows += [
        (
            _shown(s.name),
            _shown(s.namespace),
            s.kind,
            s.state,
            s.backend or "-",
            s.since,
            str(s.behind or "-"),
            _shown(_reason(s) or "-", 500),
        )
        for s in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[7]]).rstrip()
        for row in rows
    )


def _reason(status: Status) -> str:
    """Return why a state is as it is, or what there is to say of who answers."""
    behind = status.behind
    if behind is None:
        return f"{status.reason}: {status.message}" if status.state in (REFUSED, REJECTED) else status.message
    since = f"since {behind.since}" if behind.state == UNAVAILABLE else ""
    return ": ".join(filter(None, (since, behind.words)))


def _shown(text: str, most: int = 63) -> str:
    """Return text that cannot play with a terminal."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"
