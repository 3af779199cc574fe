"""Who answers behind the routes that are accepted: since when, and when that is told.

A turn is told once it has stayed: pods come and go in seconds, and a route is not news each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rayproxy.model import Decision, Readiness, Ref, Route

READY, UNAVAILABLE = "ready", "unavailable"
HOLD = 10.0  # s that a turn must stay before it is told
PACE = 1.0  # s between two looks
SHARE = 50  # of all time, one part in so many goes into looking


@dataclass(frozen=True, slots=True)
class Behind:
    """Who answers behind a route: `state` is ready or unavailable; `since` is RFC 3339."""

    state: str
    since: str
    ready: int
    endpoints: int
    words: str = ""  # of what makes and runs it, "" where all is well

    def __str__(self) -> str:
        return f"{self.state} {self.ready}/{self.endpoints}"


def behind(seen: Readiness, before: Behind | None, now: str) -> Behind:
    """Return what is seen as a state, `since` kept where that did not change."""
    state = READY if seen.ready else UNAVAILABLE
    since = before.since if before and before.state == state else now
    return Behind(state, since, seen.ready, seen.total, seen.words)


class Looks:
    """Look at who answers behind the routes, at a pace of its own.

    `found` is what is known now, `last` what was known last of each route that is still there.
    """

    def __init__(self, look: Callable[[Route], Readiness | None], before: Mapping[Ref, Behind]) -> None:
        self.found: Mapping[Ref, Behind] = {}
        self.last = before
        self.changed = False  # by the last look
        self._look = look
        self._routes: tuple[Route, ...] = ()
        self._next = 0.0

    def take(self, decisions: Iterable[Decision]) -> None:
        """Take what is accepted from now on."""
        self._routes = tuple(decision for decision in decisions if isinstance(decision, Route))
        self._next = 0.0

    def again(self, now: str) -> bool:
        """Look where it is time to, and tell whether it was. `now` is RFC 3339."""
        started = time.monotonic()
        if started < self._next:
            return False
        before, last = self.found, self.last
        seen = ((route.ref, self._look(route)) for route in self._routes)
        self.found = {ref: behind(each, last.get(ref), now) for ref, each in seen if each}
        self.last = {route.ref: last[route.ref] for route in self._routes if route.ref in last} | self.found
        self.changed = self.found != before
        self.rest(time.monotonic() - started)
        return True

    def rest(self, took: float) -> None:
        """Put the next look off, by how many seconds this one took with all that came of it."""
        self._next = time.monotonic() + max(PACE, SHARE * took)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that has stayed; `words` are those that are told with it, or were told when it turned unavailable."""

    ref: Ref
    state: str
    words: str


class Turns:
    """What was last told of each route: that it is unavailable, in which words, or nothing, which stands for ready."""

    def __init__(self, told: Iterable[Ref]) -> None:
        self._told = dict.fromkeys(told, "")
        self._seen: Mapping[Ref, tuple[str, float]] = {}

    def due(self, looks: Looks, now: float) -> list[Turn]:
        """Return what has turned and stayed so, each once; `now` is in monotonic seconds."""
        self._told = {ref: words for ref, words in self._told.items() if ref in looks.last}
        self._seen = {ref: self._since(ref, each.state, now) for ref, each in looks.found.items()}
        stayed = (ref for ref, (_, since) in self._seen.items() if now - since >= HOLD)
        return [self._turn(ref, looks.found[ref]) for ref in stayed if self._is_news(ref, looks.found[ref])]

    def lasting(self, ref: Ref, looks: Looks) -> Turn | None:
        """Return that a route goes on to be unavailable, where that was told, in the words of today."""
        found = looks.found.get(ref)
        if found is None or found.state != UNAVAILABLE or ref not in self._told:
            return None
        return Turn(ref, UNAVAILABLE, found.words)

    def _since(self, ref: Ref, state: str, now: float) -> tuple[str, float]:
        before = self._seen.get(ref)
        return before if before and before[0] == state else (state, now)

    def _is_news(self, ref: Ref, found: Behind) -> bool:
        return (found.state == UNAVAILABLE) != (ref in self._told)

    def _turn(self, ref: Ref, found: Behind) -> Turn:
        if found.state == READY:
            return Turn(ref, READY, self._told.pop(ref))
        self._told[ref] = found.words
        return Turn(ref, UNAVAILABLE, found.words)
