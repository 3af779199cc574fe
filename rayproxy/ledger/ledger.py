"""What this replica knows of held names: what lies in the store, and its own words that are not there yet.

A thread of its own reads and writes the store, so that a slow API server holds no route up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

from rayproxy.kinds.claims import Claim, Held, Name
from rayproxy.kinds.names import Settled
from rayproxy.ledger.base import Found, Store, StoreError
from rayproxy.ledger.entries import Change
from rayproxy.sources.base import NotSyncedError

POLL = 5.0  # s between looks at what other replicas, or a person, wrote
SKEW = 60  # s by which replicas' clocks may differ


class Ledger:
    """Hold the claims; a deleted object's name is kept for `keep` seconds, and `told` hears of changes."""

    def __init__(self, store: Store, keep: int, told: Callable[[], None]) -> None:
        self._store = store
        self._keep = keep
        self._told = told
        self._lock = threading.Lock()  # for the next four
        self._found: Found | None = None
        self._changes: dict[Name, Change] = {}
        self._given: tuple[Mapping[Name, Claim], Mapping[Name, Claim]] = {}, {}
        self._failure = ""
        self._there: Collection[Name] | None = None
        self._news = threading.Event()

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with the store."""
        with self._lock:
            found = self._found.problems if self._found else ()
            return (*found, self._failure) if self._failure else found

    def held(self, live: Mapping[Name, str]) -> Held:
        """Return who has which name now; raise NotSyncedError before the store was read: unknown is not empty."""
        with self._lock:
            if self._found is None:
                raise NotSyncedError(self._failure or "it is not known yet which names are held")
            written = self._found.claims
            view = {**written, **{name: change.becomes for name, change in self._changes.items()}}
            claims = {name: claim for name, claim in view.items() if claim}
            self._given = written, claims
        return Held(live, claims, self._there, int(time.time()), self._keep)

    def note(self, settled: Settled) -> None:
        """Take the claims that stand after a look; what is new of them is written soon."""
        with self._lock:
            written, given = self._given
            for name in given.keys() | settled.claims.keys():
                if given.get(name) != settled.claims.get(name):
                    self._changes[name] = Change(written.get(name), settled.claims.get(name))
            waits = bool(self._changes)
        self._there = settled.there
        if waits:
            self._news.set()

    def run(self) -> None:
        """Keep in step with the store, for ever."""
        while True:
            self.look()
            self._news.wait(POLL)
            self._news.clear()

    def look(self) -> None:
        """Write what is to be written, and read what is there."""
        with self._lock:
            sent = dict(self._changes)
        try:
            found, failure = self._store.update(sent, int(time.time()) + self._keep + SKEW), ""
        except StoreError as error:
            found, failure = None, f"held names can be neither read nor written: {error}"
        with self._lock:
            news = failure != self._failure or (found is not None and found != self._found)
            self._failure = failure
            if found is not None:
                self._found, self._changes = found, self._left(sent, found)
        if news:
            self._told()

    def _left(self, sent: Mapping[Name, Change], found: Found) -> dict[Name, Change]:
        """Return what was decided while `sent` was on its way; it builds on that where it was written."""
        left = {name: each for name, each in self._changes.items() if sent.get(name) is not each}
        written = {name for name in left.keys() & sent.keys() if found.claims.get(name) == sent[name].becomes}
        return left | {name: Change(sent[name].becomes, left[name].becomes) for name in written}
