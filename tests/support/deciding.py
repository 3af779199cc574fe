"""What becomes of objects where no name is held, and every namespace may have every name."""

from __future__ import annotations

from rayproxy.kinds import settle
from rayproxy.kinds.backend import Policy
from rayproxy.kinds.claims import Held
from rayproxy.kinds.grants import Grants
from rayproxy.model import Decision, Snapshot

EVERYTHING = Grants()


def decide(snapshot: Snapshot, policy: Policy) -> list[Decision]:
    """Decide on every object of every kind that is not being deleted, ordered by what it is."""
    return list(settle(snapshot, policy, Held(), EVERYTHING).decisions)
