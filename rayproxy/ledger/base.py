"""What a place for claims is.

A change is written only where the claim still is what it was when the change was decided; what somebody else wrote
meanwhile stays, and is decided on anew. So of two replicas the first word counts, and neither corrects the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rayproxy.ledger.entries import Changes, Claims


class StoreError(Exception):
    """Say why claims could be neither read nor written."""


@dataclass(frozen=True)
class Found:
    """What lies in a store now, and what is wrong with it."""

    claims: Claims
    problems: tuple[str, ...] = ()


class Store(Protocol):
    """Where claims lie; none whose object is said to have gone after `latest` is believed."""

    def update(self, changes: Changes, latest: int) -> Found:
        """Write changes, if any, and return what is there then; raise StoreError."""
