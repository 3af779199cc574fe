"""What both sources share: a whole snapshot, or the word that there is none yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from rayproxy.model import Snapshot


class NotSyncedError(Exception):
    """Say that no complete list has been seen yet: unknown is not empty."""


class MissingSourceError(NotSyncedError):
    """Say that what the objects come from is not there, which waiting alone does not mend."""


class UnconfirmedError(Exception):
    """Say that a second look did not agree with the first."""


class Source(Protocol):
    """Where objects come from."""

    @property
    def watched(self) -> tuple[Path, ...]:
        """Return the folders whose changes, anywhere below them, are a reason to look again."""
        ...

    @property
    def threads(self) -> list[tuple[str, Callable[[], None]]]:
        """Return a name and a blocking function for each thread that it needs."""
        ...

    def stop(self) -> None:
        """Let its threads end."""
        ...

    def snapshot(self) -> Snapshot:
        """Return everything known now, whole; raise NotSyncedError before the first complete list."""
        ...

    def confirm(self) -> Snapshot:
        """Look again, past every cache, and return what is really there; raise UnconfirmedError if that fails."""
        ...


class Nobody:
    """An observer for a single look, which tells what is wrong by itself."""

    def contact(self, resource: str) -> None:
        """Note nothing."""

    def failure(self, resource: str, reason: str, message: str) -> None:
        """Note nothing."""

    def repaired(self, resource: str, count: int) -> None:
        """Note nothing."""
