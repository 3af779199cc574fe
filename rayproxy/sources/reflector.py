"""Reflect one Kubernetes resource into memory: list, then watch, and never less than a whole list.

What client-go's reflector does and the Python client's informer does not: resume from the last resourceVersion,
list again after 410 (so that deletes in the gap are found), back off when a watch dies young, notice silence.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeVar

from rayproxy.kube.api import ApiError, ApiServer, GarbledError
from rayproxy.model import Key
from rayproxy.objects import UnreadableError, read_key

PAGE_FIRST, PAGE_MOST = 10, 500  # objects
PAGE_BYTES = 4 << 20  # aimed at: what the API server must hold for one answer
PAGE_GROWTH = 4  # at most, from one page to the next: small objects may stand before large ones
PROBLEMS = 5  # that are told of one resource; more of them say nothing new

_VERSION = re.compile(r"[0-9]{1,20}")

T = TypeVar("T")


class SyncState(StrEnum):
    """Say how a resource can be read at the moment."""

    UNSYNCED = "unsynced"
    SYNCED = "synced"
    ABSENT = "crd-absent"
    FORBIDDEN = "forbidden"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Listed(Generic[T]):
    """What to list, and how to read an object of it."""

    name: str
    path: str
    query: dict[str, str]
    read: Callable[[object], T]


@dataclass(frozen=True)
class ReflectorConfig:
    """Hold every number of seconds that a reflector goes by; where client-go has one, it is client-go's.

    The server ends a watch after `watch` s, at random so that replicas spread; a true list comes every `relist` s as a
    check on the watch. Bookmarks come about each minute, so `silence` s without a byte mean a dead connection. A
    watch that ends before `young` s and told nothing new is a failure. The pause after a failure starts at
    `backoff_first` and doubles up to `backoff_cap`, until `healthy` s went well; a server that asks for a longer one
    gets it up to `retry_after_cap`. An older list than the last is disbelieved for `doubt` s.
    """

    watch: tuple[int, int] = (240, 480)
    relist: tuple[float, float] = (600, 900)
    silence: float = 80.0
    young: float = 1.0
    backoff_first: float = 0.8
    backoff_cap: float = 30.0
    healthy: float = 120.0
    retry_after_cap: float = 300.0
    doubt: float = 120.0


class Observer(Protocol):
    """Be told what a reflector lives through."""

    def contact(self, resource: str) -> None:
        """Note an answer of the API server."""

    def failure(self, resource: str, reason: str, message: str) -> None:
        """Note that a list or watch failed."""

    def repaired(self, resource: str, count: int) -> None:
        """Note that a relist found what the watch had not told."""


class _StaleError(ApiError):
    pass


class Reflector(Generic[T]):
    """Keep {key: value} of one resource true; `run` blocks until stopped, the rest may be called from anywhere."""

    def __init__(
        self,
        api: ApiServer,
        resource: Listed[T],
        wake: Callable[[], None],
        observer: Observer,
        timing: ReflectorConfig,
    ) -> None:
        self.resource = resource
        self.condition = SyncState.UNSYNCED
        self.problems: tuple[str, ...] = ()
        self._api = api
        self._wake = wake
        self._observer = observer
        self._timing = timing
        self._stop = threading.Event()
        self._lock = threading.Lock()  # the next three fit one another, also where another thread calls `refresh`
        self._items: dict[Key, T] | None = None
        self._version = ""
        self._stale_since: float | None = None
        self._relist_at = 0.0
        self._in_doubt = True  # after a failure: what a list finds then is no fault of the watch
        self._failures: Counter[str] = Counter()  # "gone" (410) and others, since all was well
        self._paused = 0.0

    def items(self) -> dict[Key, T] | None:
        """Return all that is known, or None before the first whole list."""
        with self._lock:
            return None if self._items is None else dict(self._items)

    def get(self, key: Key) -> T | None:
        """Return one object as it was last told."""
        with self._lock:
            return None if self._items is None else self._items.get(key)

    def stop(self) -> None:
        """Let `run` end at its next turn."""
        self._stop.set()

    def resume(self) -> None:
        """Take back a stop that `run` has not come to yet; else it may be called again, and goes on where it was."""
        self._stop.clear()

    def run(self) -> None:
        """List and watch until stopped; whatever the API server does, try again."""
        while not self._stop.is_set():
            try:
                if time.monotonic() >= self._relist_at:
                    self._list()
                self._watch()
            except ApiError as error:
                self._failed(error)

    def refresh(self) -> dict[Key, T]:
        """List once, page by page, past the watch; keep and return what is there; raise ApiError."""
        known = self._version  # when it was asked
        for _ in range(3):
            try:
                return self._keep(*self._pages(), known)
            except ApiError as error:
                if error.status != HTTPStatus.GONE:  # a page's token expired: from the start, no half list
                    raise
        return self._keep(*self._pages(), known)

    def _pages(self) -> tuple[dict[Key, T], tuple[str, ...], str]:
        items: dict[Key, T] = {}
        problems: tuple[str, ...] = ()
        token, limit = "", PAGE_FIRST
        while True:
            query = {**self.resource.query, "limit": str(limit)} | ({"continue": token} if token else {})
            page = self._api.list(self.resource.path, query)
            before = len(items)
            problems = (problems + self._read(page, items))[:PROBLEMS]
            token = str(page.metadata.get("continue") or "")
            if not token:
                return items, problems, str(page.metadata.get("resourceVersion") or "")
            limit = _next_limit(limit, len(items) - before, page.size)

    def _keep(self, items: dict[Key, T], problems: tuple[str, ...], version: str, known: str) -> dict[Key, T]:
        with self._lock:
            if _number(known) <= _number(version) < _number(self._version):
                # No lagging replica: the watch told more while the list came. That is newer, and stays; what either
                # has may be there, and what has gone meanwhile goes with the next look.
                return {**items, **(self._items or {})}
            self._doubt(version)
            before, self._items, self._version = self._items, items, version
        if before != items or problems != self.problems:
            self.problems = problems
            self._wake()
        self._observer.contact(self.resource.name)
        self._become(SyncState.SYNCED)
        return dict(items)

    def _doubt(self, version: str) -> None:
        """Refuse a list from before what is known: a replica lags. One that persists is a restored etcd."""
        if not (_number(version) and _number(version) < _number(self._version)):
            self._stale_since = None
            return
        now = time.monotonic()
        self._stale_since = self._stale_since or now
        if now - self._stale_since < self._timing.doubt:
            raise _StaleError(
                f"GET {self.resource.path}: the list of resourceVersion {version} is older than {self._version}"
            )
        self._stale_since = None

    def _list(self) -> None:
        before, checks_the_watch = self.items(), not self._in_doubt
        items = self.refresh()
        self._relist_at = time.monotonic() + random.uniform(*self._timing.relist)  # noqa: S311
        if before is not None and checks_the_watch and (count := _count_different(before, items)):
            self._observer.repaired(self.resource.name, count)

    def _watch(self) -> None:
        started, version = time.monotonic(), self._version
        seconds = min(random.randint(*self._timing.watch), max(1, int(self._relist_at - started)))  # noqa: S311
        query = {
            **self.resource.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        with closing(self._api.watch(self.resource.path, query, self._timing.silence)) as stream:
            self._observer.contact(self.resource.name)
            self._become(SyncState.SYNCED)
            self._in_doubt = False
            for event in stream:
                self._observer.contact(self.resource.name)
                self._take(event)
                if self._stop.is_set() or time.monotonic() >= self._relist_at:
                    return
        self._observer.contact(self.resource.name)
        if self._version == version and time.monotonic() - started < self._timing.young:
            raise ApiError(f"GET {self.resource.path}: the watch ended at once and told nothing new")

    def _take(self, event: dict[str, Any]) -> None:
        kind, obj = event.get("type"), event.get("object")
        if kind == "ERROR":
            raise self._error(obj)
        if kind == "BOOKMARK":
            self._apply(obj, {}, deleted=False)
        elif kind in ("ADDED", "MODIFIED", "DELETED"):
            items: dict[Key, T] = {}
            problems = self._read([obj], items)
            if self._apply(obj, items, deleted=kind == "DELETED"):
                self._wake()
            if new := tuple(problem for problem in problems if problem not in self.problems):
                self.problems = (self.problems + new)[-PROBLEMS:]
                self._wake()

    def _error(self, status: object) -> ApiError:
        code, message = (status.get("code"), status.get("message")) if isinstance(status, dict) else (None, status)
        text = f"GET {self.resource.path} (watch): {message}"
        return ApiError(text, code) if isinstance(code, int) and code else GarbledError(text)

    def _apply(self, obj: object, items: dict[Key, T], *, deleted: bool) -> bool:
        """Take what an event told; tell whether anything that matters changed."""
        with self._lock:
            if not self._advance(obj):
                return False
            assert self._items is not None
            if deleted:
                return any(self._items.pop(key, None) is not None for key in items)  # there is one at most
            different = any(self._items.get(key) != value for key, value in items.items())
            self._items.update(items)
            return different

    def _advance(self, obj: object) -> bool:
        """Note an event's resourceVersion; tell whether it is news, for a stream may repeat what a list has told."""
        metadata = obj.get("metadata") if isinstance(obj, dict) else None
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not isinstance(version, str) or not version:
            return True
        if _number(version) and _number(version) <= _number(self._version):
            return False
        self._version = version
        return True

    def _read(self, objects: Iterable[object], items: dict[Key, T]) -> tuple[str, ...]:
        """Add what the objects say to `items`, and return what is wrong with the others."""
        problems: dict[str, None] = {}
        for obj in objects:
            try:
                items[read_key(obj)] = self.resource.read(obj)
            except UnreadableError as error:
                problems[f"{self.resource.name}: an object was skipped: {error}"] = None
        return tuple(problems)[:PROBLEMS]

    def _become(self, condition: SyncState) -> None:
        if condition != self.condition:
            self.condition = condition
            self._wake()

    def _failed(self, error: ApiError) -> None:
        """Remember why, decide whether to list again, and wait."""
        self._in_doubt = True
        # Where no answer came, or "not now", the watch resumes where it was. Else, and above all after 410, only a
        # list shows what was deleted meanwhile.
        lost = isinstance(error, GarbledError) or error.status not in (0, HTTPStatus.TOO_MANY_REQUESTS)
        if lost:
            self._relist_at = 0.0
        self._observer.failure(self.resource.name, _reason(error), str(error))
        self._become(self._condition_after(error))
        self._pause(error)

    def _condition_after(self, error: ApiError) -> SyncState:
        if error.status == HTTPStatus.NOT_FOUND:
            return SyncState.ABSENT
        if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            return SyncState.FORBIDDEN
        if error.status == HTTPStatus.GONE:  # the server is well and forgets, as servers do
            return self.condition
        if self.items() is not None:
            return SyncState.UNREACHABLE
        # A server that does not answer takes nothing back: what was missing or forbidden is that until it says else.
        return self.condition if self.condition in (SyncState.ABSENT, SyncState.FORBIDDEN) else SyncState.UNSYNCED

    def _pause(self, error: ApiError) -> None:
        timing = self._timing
        if time.monotonic() - self._paused > timing.healthy:
            self._failures.clear()
        # A server that is back after an outage often says 410 first. Counted with the outage's failures, it would
        # put off the list that tells what was missed by another `backoff_cap`.
        kind = "gone" if error.status == HTTPStatus.GONE else "other"
        wait = timing.backoff_first * 2 ** min(self._failures[kind], 10) * random.uniform(1, 2)  # noqa: S311
        self._failures[kind] += 1
        self._stop.wait(max(min(wait, timing.backoff_cap), min(error.retry_after or 0.0, timing.retry_after_cap)))
        self._paused = time.monotonic()


def _count_different(before: Mapping[Key, T], now: Mapping[Key, T]) -> int:
    """Count what came, went or changed; not by sets of pairs, for values such as labels are dicts."""
    changed = sum(before[key] != now[key] for key in before.keys() & now.keys())
    return changed + len(before.keys() ^ now.keys())


def _next_limit(limit: int, objects: int, size: int) -> int:
    """Return how many objects to ask for next, after a page of `objects` in `size` bytes."""
    fitting = PAGE_BYTES * objects // max(size, 1)
    return max(1, min(fitting, limit * PAGE_GROWTH, PAGE_MOST))


def _number(version: str) -> int:
    """Return a resourceVersion as a number that can be compared, 0 where it is none."""
    return int(version) if _VERSION.fullmatch(version) else 0


def _reason(error: ApiError) -> str:
    if isinstance(error, GarbledError):
        return "garbled"
    if isinstance(error, _StaleError):
        return "stale"
    reasons: dict[int, str] = {
        0: "unreachable",
        HTTPStatus.UNAUTHORIZED: "unauthorized",
        HTTPStatus.FORBIDDEN: "forbidden",
        HTTPStatus.NOT_FOUND: "not_found",
        HTTPStatus.GONE: "expired",
        HTTPStatus.TOO_MANY_REQUESTS: "throttled",
    }
    return reasons.get(error.status, "server_error")
