"""What an operator asks for: each RayService's state, since when, and why. Written by the daemon, read by `routes`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rayproxy.model import Decision, Key, Pending, Refused, Rejection, Route, Suspended

ACCEPTED, PENDING, SUSPENDED, REFUSED, REJECTED = STATES = "accepted", "pending", "suspended", "refused", "rejected"


@dataclass(frozen=True, slots=True)
class Status:
    """Hold the state of one RayService; `since` is RFC 3339, when the state or its reason began."""

    namespace: str
    name: str
    uid: str
    state: str
    backend: str
    reason: str
    message: str
    since: str

    @property
    def key(self) -> Key:
        """Return namespace and name."""
        return Key(self.namespace, self.name)


def statuses(decisions: Iterable[Decision], before: Mapping[Key, Status], now: str) -> dict[Key, Status]:
    """Return the status of each decision; `since` is kept where nothing but the wording changed."""
    found = {}
    for decision in decisions:
        status = _status(decision, now)
        old = before.get(decision.key)
        if old and (old.uid, old.state, old.backend, old.reason) == (
            status.uid, status.state, status.backend, status.reason
        ):  # fmt: skip
            status = _status(decision, old.since)
        found[decision.key] = status
    return found


def _status(decision: Decision, since: str) -> Status:
    key = decision.key
    match decision:
        case Route(backend=backend):
            return Status(key.namespace, key.name, decision.uid, ACCEPTED, str(backend), "Accepted", "", since)
        case Pending(message=message):
            return Status(key.namespace, key.name, decision.uid, PENDING, "", "ServiceNotReady", message, since)
        case Suspended(message=message):
            return Status(key.namespace, key.name, decision.uid, SUSPENDED, "", "Suspended", message, since)
        case Refused(reason=reason, message=message):
            return Status(key.namespace, key.name, decision.uid, REFUSED, "", reason, message, since)
        case Rejection(reason=reason, message=message):
            return Status(key.namespace, key.name, decision.uid, REJECTED, "", reason, message, since)


def write(path: Path, found: Mapping[Key, Status]) -> None:
    """Replace the status file atomically."""
    staged = path.with_suffix(".tmp")
    staged.write_text(json.dumps([asdict(status) for _, status in sorted(found.items())]))
    staged.rename(path)


def read(path: Path) -> dict[Key, Status]:
    """Read the status file; a missing or foreign one reads as empty."""
    try:
        rows = json.loads(path.read_text())
        return {status.key: status for status in (Status(**row) for row in rows)}
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
