"""A fair queue: no namespace waits for all that another one has to be written."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Things of namespaces, `most` in all: those of one in their order, the namespaces in turns."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._of: dict[str, deque[T]] = {}  # none is empty; whose turn it is comes first
        self._there = threading.Condition()

    def __len__(self) -> int:
        """Return how many wait."""
        return self._count

    def put(self, namespace: str, thing: T) -> bool:
        """Add one; tell whether all still wait: else the youngest went of the namespace that has most."""
        with self._there:
            self._of.setdefault(namespace, deque()).append(thing)
            self._count += 1
            self._there.notify()
            if self._count <= self._most:
                return True
            self._take(max(self._of, key=lambda each: len(self._of[each])), youngest=True)
            return False

    def get(self) -> T:
        """Wait for one, and take it."""
        with self._there:
            self._there.wait_for(lambda: self._of)
            return self._take(next(iter(self._of)))

    def _take(self, namespace: str, *, youngest: bool = False) -> T:
        things = self._of.pop(namespace)
        thing = things.pop() if youngest else things.popleft()
        self._count -= 1
        if things:
            self._of[namespace] = things
        return thing
