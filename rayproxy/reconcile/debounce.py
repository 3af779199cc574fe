"""Decide when the next cycle is due: at once after calm, gathered in a storm. Pure but for the state it holds.

Each reload costs callers their idle connections and leaves workers behind that drain, so their rate is bounded:
a burst, and one more for each few seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

DEBOUNCE = 0.3  # s without a change before a batch is complete
MAX_DELAY = 2.0  # s that a batch may wait for that
BURST = 4
REFILL = 4.0  # s for one more reload; 500 objects changed 20 times in a minute make at most 19 reloads
DRAINING = 30.0  # s between reloads while many workers drain


@dataclass
class Pace:
    """Hold when changes came and reloads happened; times are monotonic seconds."""

    _first: float | None = None
    _last: float = 0.0
    _reloaded: float = float("-inf")
    _tokens: float = BURST
    _counted: float = float("-inf")

    def changed(self, now: float) -> None:
        """Note a change."""
        self._first = now if self._first is None else self._first
        self._last = now

    def take(self) -> float | None:
        """Take the changes noted so far; return when the first of them came."""
        first, self._first = self._first, None
        return first

    def reloaded(self, now: float) -> None:
        """Note a reload."""
        self._tokens = max(0.0, self._available(now) - 1)
        self._counted = self._reloaded = now

    def due(self, now: float, *, crowded: bool) -> float | None:
        """Return when the noted changes should be taken, or None when there are none."""
        if self._first is None:
            return None
        calm = self._first - self._reloaded >= MAX_DELAY
        due = self._first if calm else min(self._last + DEBOUNCE, self._first + MAX_DELAY)
        if crowded:
            due = max(due, self._reloaded + DRAINING)
        if (available := self._available(now)) < 1:
            due = max(due, now + (1 - available) * REFILL)
        return due

    def _available(self, now: float) -> float:
        return min(BURST, self._tokens + max(0.0, (now - self._counted) / REFILL))
