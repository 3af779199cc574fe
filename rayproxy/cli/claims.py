"""What the commands say of held names, and how they get at them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from rayproxy import wiring
from rayproxy.kinds.claims import Claim, Held, Name
from rayproxy.kinds.names import holders
from rayproxy.kube.api import PATIENT
from rayproxy.ledger.base import Found
from rayproxy.ledger.entries import Changes, Claims
from rayproxy.objects import rfc3339
from rayproxy.settings import Settings


def open_claims(settings: Settings) -> Callable[[Changes], Found]:
    """Return a function that writes changes, if any, and returns what is held then."""
    server = wiring.make_api(settings, PATIENT) if settings.source == "kubernetes" else None
    store = wiring.make_store(settings, server)
    return lambda changes: store.update(changes, int(time.time()) + settings.name_hold)


def held(settings: Settings) -> Held:
    """Return who has which name, as the daemon on this state folder knows it."""
    return Held(_live(settings), open_claims(settings)({}).claims, now=int(time.time()), keep=settings.name_hold)


def _live(settings: Settings) -> dict[Name, str]:
    if not (settings.state / "current").exists():
        return {}
    revisions = wiring.make_revisions(settings)
    current = revisions.current()
    return holders(revisions.routes(current).values()) if current else {}


def table(claims: Claims, keep: int) -> str:
    """Return what `rayproxy routes --held` prints."""
    rows = [("KIND", "NAME", "NAMESPACE", "UNTIL")]
    rows += [(*name, claim.namespace, until(claim, keep) or "it is gone") for name, claim in sorted(claims.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows)


def as_json(claims: Claims, keep: int) -> str:
    """Return the same as JSON."""
    rows = [
        {"kind": kind, "name": name, "namespace": claim.namespace, "until": until(claim, keep)}
        for (kind, name), claim in sorted(claims.items())
    ]
    return json.dumps(rows, indent=2)


def until(claim: Claim, keep: int) -> str | None:
    """Return when a claim ends, None where its object is still there."""
    return None if claim.gone is None else rfc3339(claim.gone + keep)
