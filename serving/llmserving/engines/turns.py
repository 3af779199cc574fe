"""Whose sequence is begun next: one request after the other, however many sequences each of them has.

A request for 128 answers is as good as one for a single answer, and holds up nobody else's.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Work = TypeVar("Work")
KEPT = 8  # one place of so many is for requests that have none yet


def kept(places: int) -> int:
    """Return how many of some places are kept for requests that have none."""
    return places // KEPT


def in_turn(waiting: Sequence[tuple[Work, int]], running: Iterable[int], places: int) -> list[Work]:
    """Return what may begin now, in order: of the request that has fewest running first, else as it came.

    `waiting` are pieces of work and their requests' numbers, `running` the requests of what runs.
    """
    had = Counter(running)
    room = places - kept(places) - had.total()
    places_of: list[tuple[int, Work]] = []
    for work, request in waiting:
        places_of.append((had[request], work))
        had[request] += 1
    begin = []
    for ahead, work in sorted(places_of, key=lambda pair: pair[0]):
        if ahead == 0 or room > 0:
            begin.append(work)
            room -= 1
    return begin


class Line(Generic[Work]):
    """A line for one place, in which each request has its turn; any thread may add, take and drop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[int, deque[Work]] = {}

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return bool(self._lines)

    def add(self, request: int, work: Work) -> None:
        """Let a piece of a request's work wait."""
        with self._lock:
            self._lines.setdefault(request, deque()).append(work)

    def drop(self, request: int, work: Work) -> None:
        """Let a piece of a request's work wait no more, if it still does."""
        with self._lock:
            line = self._lines.get(request)
            if line is not None and work in line:
                line.remove(work)
                if not line:
                    del self._lines[request]

    def take(self) -> Work | None:
        """Return what is next, None for nothing; its request goes to the end with what is left of it."""
        with self._lock:
            if not self._lines:
                return None
            request = next(iter(self._lines))
            line = self._lines.pop(request)
            work = line.popleft()
            if line:
                self._lines[request] = line
            return work
