"""How much may be told of a thing, as with the Events of Kubernetes' own controllers: who changes much says little."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

BURST = 25  # words at once, and one more each REFILL; both are those of client-go's EventCorrelator
REFILL = 300.0  # s
MOST = 10_000  # things that are remembered; those that had the last words


class Allowance:
    """Events, or lines of the log, that each thing has left; the time comes from whoever asks."""

    def __init__(self) -> None:
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # {thing: (words, monotonic s)}

    def take(self, thing: Hashable, now: float) -> bool:
        """Tell whether one more may be told of a thing, and count it."""
        left, at = self._left.pop(thing, (float(BURST), now))
        left = min(BURST, left + (now - at) / REFILL)
        may = left >= 1
        self._left[thing] = (left - 1 if may else left, now)
        if len(self._left) > MOST:
            self._left.popitem(last=False)
        return may
