"""Whether one more reload may leave workers behind that drain. Pure but for what it holds.

    workers that drain, of those that may | a reload
    ------------------------------------- | ---------------------------------------------------------------
    up to CROWDED                         | is done
    more                                  | is done, but for one that greedy namespaces alone wish for
    so many that one more fills the room  | is done, but for one that namespaces alone wish for which caused more
                                          |   than the others on average
    all of them                           | waits, whoever wishes for it

An object that changes again and again waits by itself (damping.py). Many objects of one namespace that do so in turns,
or are deleted one by one, are held back here: greedy is a namespace whose reloads filled SHARE of the room, and that
caused more of them than the others on average. So four of them could share all of it: of the last reload the second
counts alone. What they wish for goes with the next reload of anybody else.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection
from enum import IntEnum

CROWDED = 0.75  # of the workers that may drain: from there on room is scarce
SHARE = 0.25  # of the same
ROUNDING = 1e-6  # of a reload, which several may share


class Space(IntEnum):
    """How much of the room for workers that drain is left."""

    ENOUGH = 0
    SCARCE = 1  # reloads are rarer
    NONE = 2  # no reload is possible


def space(draining: int, most: int) -> Space:
    """Return what is left where so many of the workers that may drain do."""
    if draining >= most:
        return Space.NONE
    return Space.SCARCE if draining > CROWDED * most else Space.ENOUGH


class Room:
    """Hold which namespaces' changes caused the reloads whose workers may still drain."""

    def __init__(self, most: int, workers: int, longest: int) -> None:
        """Take how many workers may drain, how many a reload leaves behind, and for how long (s) they drain."""
        self._most = most
        self._longest = longest
        self._last = max(CROWDED * most, most - workers - 1)
        self._least = SHARE * most / workers  # reloads that any namespace may cause
        self._lately: deque[tuple[float, Collection[str]]] = deque()

    def took(self, wishes: Collection[str], now: float) -> None:
        """Note a reload (at monotonic s) for changes that these namespaces wished for."""
        self._forget(now)
        if wishes:
            self._lately.append((now, wishes))

    def lacks(self, draining: int, wishes: Collection[str], there: set[str], now: float) -> str:
        """Return why there is no room for what these namespaces wish, of those that are there, or ""."""
        if draining >= self._most:
            return (
                f"as many nginx workers drain as RAYPROXY_MAX_DRAINING allows ({self._most}): changes wait "
                "until some have ended, which they do with their last stream, and at the latest after "
                f"RAYPROXY_WORKER_SHUTDOWN_TIMEOUT ({self._longest} s)"
            )
        least = 0.0 if draining > self._last else self._least
        if draining > CROWDED * self._most and wishes and self._greedy(there, least, now).issuperset(wishes):
            return (
                f"nearly as many nginx workers drain as RAYPROXY_MAX_DRAINING allows ({self._most}), and changes of "
                f"{', '.join(sorted(wishes))} caused most of the reloads: more of them wait until fewer drain, or go "
                "with a change of another namespace"
            )
        return ""

    def _greedy(self, there: set[str], least: float, now: float) -> set[str]:
        """Return the namespaces that caused more reloads than that, and than the others on average."""
        self._forget(now)
        caused: dict[str, float] = defaultdict(float)
        for _, wishes in self._lately:
            for namespace in wishes:
                caused[namespace] += 1 / len(wishes)
        average = len(self._lately) / max(1, len(there | caused.keys()))
        return {namespace for namespace, count in caused.items() if count > max(least, average) + ROUNDING}

    def _forget(self, now: float) -> None:
        """Forget the reloads whose workers have ended since."""
        while self._lately and self._lately[0][0] <= now - self._longest:
            self._lately.popleft()
