"""What both sources share: a whole snapshot, or the word that there is none yet."""

from __future__ import annotations

from typing import Protocol

from rayproxy.model import Snapshot


class NotSyncedError(Exception):
    """Say that no complete list has been seen yet: unknown is not empty."""


class UnconfirmedError(Exception):
    """Say that a second look did not agree with the first."""


class Source(Protocol):
    """Know the RayServices and Services that there are."""

    def snapshot(self) -> Snapshot:
        """Return everything known now, whole; raise NotSyncedError before the first complete list."""
        ...

    def confirm(self) -> Snapshot:
        """Look again, past every cache, and return what is really there; raise UnconfirmedError if that fails."""
        ...
