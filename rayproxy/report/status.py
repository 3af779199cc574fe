"""What an operator asks for: each RayService's state, since when, and why. Written by the daemon, read by `routes`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rayproxy.model import Decision, Pending, Ref, Refused, Rejection, Route, Suspended

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


def _status(decision: Decision, since: str) -> Status:
    state, backend, reason, message = _told(decision)
    ref = decision.ref
    return Status(ref.namespace, ref.name, decision.uid, state, backend, reason, message, since, ref.kind)


def _told(decision: Decision) -> tuple[str, str, str, str]:
    """Return state, backend, reason and message."""
    match decision:
        case Route(targets=targets):
            return ACCEPTED, ", ".join(map(str, targets)), "Accepted", ""
        case Pending(message=message):
            return PENDING, "", "ServiceNotReady", message
        case Suspended(message=message):
            return SUSPENDED, "", "Suspended", message
        case Refused(reason=reason, message=message):
            return REFUSED, "", reason, message
        case Rejection(reason=reason, message=message):
            return REJECTED, "", reason, message


def write(path: Path, found: Mapping[Ref, Status]) -> None:
    """Replace the status file atomically."""
    staged = path.with_suffix(".tmp")
    staged.write_text(json.dumps([asdict(status) for _, status in sorted(found.items())]))
    staged.rename(path)


def read(path: Path) -> dict[Ref, Status]:
    """Read the status file; a missing or foreign one reads as empty."""
    try:
        rows = json.loads(path.read_text())
        return {status.ref: status for status in (Status(**row) for row in rows)}
    except (OSError, ValueError, TypeError):
        return {}


def table(found: Iterable[Status]) -> str:
    """Return what `rayproxy routes` prints."""
    rows = [("NAME", "NAMESPACE", "STATE", "BACKEND", "SINCE", "REASON")]
    rows += [
        (
            _shown(s.name),
            _shown(s.namespace),
            s.state,
            s.backend or "-",
            s.since,
            _shown(s.message or "-", 400),
        )
        for s in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip()
        for row in rows
    )


def _shown(text: str, most: int = 63) -> str:
    """Return text that cannot play with a terminal."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"
