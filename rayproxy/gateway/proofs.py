"""What this replica has proven in its nginx: told by the loop, as everybody is told how a cycle ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from rayproxy.model import Decision, Ref
from rayproxy.reconcile.reconciler import Outcome

GRACE = 10.0  # s for which cycles may fail, or nginx be without workers: until then what was proven still is


class Proofs:
    """Hold what was decided last, and whether nginx serves that; `told` hears of news."""

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self._lock = threading.Lock()  # for the next three
        self._found: Mapping[Ref, Decision] | None = None
        self._failing: float | None = None  # since when, in monotonic s
        self._workerless: float | None = None

    @property
    def found(self) -> Mapping[Ref, Decision] | None:
        """Return what was decided on each object, None before anything was."""
        with self._lock:
            return self._found

    @property
    def hold(self) -> bool:
        """Tell whether nginx is known to serve what was decided."""
        with self._lock:
            since = [each for each in (self._failing, self._workerless) if each is not None]
        return all(time.monotonic() - each < GRACE for each in since)

    def done(self, outcome: Outcome, seconds: float, waited: float | None) -> None:  # noqa: ARG002 - a Report's
        """Take a cycle that ended with the proof that nginx serves what it should, or without room for that."""
        found = {each.ref: each for each in outcome.decisions}
        with self._lock:
            self._found = found
            self._failing = _since(self._failing) if outcome.waits else None
        self._told()

    def failed(self, error: Exception) -> None:  # noqa: ARG002 - a Report's
        """Note that a cycle failed: nginx may lag behind what is wished by now."""
        with self._lock:
            self._failing = _since(self._failing)

    def nginx(self, workers: int, draining: int) -> None:  # noqa: ARG002 - a Report's
        """Note whether nginx has workers."""
        with self._lock:
            self._workerless = None if workers else _since(self._workerless)


def _since(before: float | None) -> float:
    return time.monotonic() if before is None else before
