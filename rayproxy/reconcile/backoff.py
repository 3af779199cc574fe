"""When to try again after a failure."""

from __future__ import annotations

import time
from dataclasses import dataclass

RETRY_FIRST = 1.0  # s


@dataclass
class Backoff:
    """Hold when to try again; each failure doubles the wait, up to `cap` seconds."""

    cap: float
    at: float | None = None  # monotonic s; None where nothing has failed
    wait: float = RETRY_FIRST

    def failed(self) -> None:
        """Note a failure."""
        self.at = time.monotonic() + self.wait
        self.wait = min(self.wait * 2, self.cap)

    def worked(self) -> None:
        """Note a success."""
        self.at, self.wait = None, RETRY_FIRST

    @property
    def waits(self) -> bool:
        """Tell whether it is too early to try again."""
        return self.at is not None and time.monotonic() < self.at
