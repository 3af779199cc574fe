"""How many Events an object may have, as with the controllers of Kubernetes itself: who changes much says little."""

from __future__ import annotations

from collections import OrderedDict

from rayproxy.model import Ref

BURST = 25  # Events at once, and one more each REFILL; both are those of client-go's EventCorrelator
REFILL = 300.0  # s
MOST = 10_000  # objects that are remembered; those that had the last Events


class Allowance:
    """Events that each object has left; the time comes from whoever asks."""

    def __init__(self) -> None:
        self._left: OrderedDict[Ref, tuple[float, float]] = OrderedDict()  # {object: (Events, monotonic s)}

    def take(self, ref: Ref, now: float) -> bool:
        """Tell whether the object may have one more Event, and count it."""
        left, at = self._left.pop(ref, (float(BURST), now))
        left = min(BURST, left + (now - at) / REFILL)
        may = left >= 1
        self._left[ref] = (left - 1 if may else left, now)
        if len(self._left) > MOST:
            self._left.popitem(last=False)
        return may
