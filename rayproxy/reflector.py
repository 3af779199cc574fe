"""Reflect one Kubernetes resource into memory: list, then watch, and never less than a whole list.

What client-go's reflector does and the Python client's informer does not: resume from the last resourceVersion,
list again after 410 (so that deletes in the gap are found), back off when a watch dies young, notice silence.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from rayproxy.api import ApiError, ApiServer
from rayproxy.model import Key
from rayproxy.objects import UnreadableError, read_key

PAGE = 500
WATCH_SECONDS = (
    240,
    480,
)  # the server ends a watch by itself after so long, at random so that replicas spread
RELIST_SECONDS = (600, 900)  # a true list as a check on the watch
SILENCE = 80.0  # s; bookmarks come about each minute, so longer silence is a dead connection
YOUNG = 1.0  # s; a watch that ends sooner, and without an event, is a failure
BACKOFF_FIRST, BACKOFF_CAP, BACKOFF_RESET = 0.8, 30.0, 120.0  # s, client-go's
RETRY_AFTER_CAP = 300.0  # s; more is a mistake of whoever sent it
GONE, NOT_FOUND, FORBIDDEN, UNAUTHORIZED, TOO_MANY = 410, 404, 403, 401, 429

T = TypeVar("T")


class Condition(StrEnum):
    """Say how a resource can be read at the moment."""

    UNSYNCED = "unsynced"
    SYNCED = "synced"
    ABSENT = "crd-absent"
    FORBIDDEN = "forbidden"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Resource(Generic[T]):
    """Say what to list, and how to read an object of it."""

    name: str
    path: str
    query: dict[str, str]
    read: Callable[[object], T]


class Observer(Protocol):
    """Be told what a reflector lives through."""

    def contact(self, resource: str) -> None:
        """Note an answer of the API server."""

    def failure(self, resource: str, reason: str, message: str) -> None:
        """Note that a list or watch failed."""

    def repaired(self, resource: str, count: int) -> None:
        """Note that a relist found what the watch had not told."""


class _ExpiredError(Exception):
    pass


class Reflector(Generic[T]):
    """Keep {key: value} of one resource true; `run` blocks until stopped, the rest may be called from anywhere."""

    def __init__(
        self,
        api: ApiServer,
        resource: Resource[T],
        wake: Callable[[], None],
        observer: Observer,
        stop: threading.Event,
    ) -> None:
        self.resource = resource
        self.condition = Condition.UNSYNCED
        self.problems: dict[str, str] = {}
        self._api = api
        self._wake = wake
        self._observer = observer
        self._stop = stop
        self._items: dict[Key, T] | None = None
        self._version = ""
        self._relist_at = 0.0
        self._failures = 0
        self._paused = 0.0
        self._listed_at = 0.0
        self._lock = threading.Lock()

    def items(self) -> dict[Key, T] | None:
        """Return all that is known, or None before the first whole list."""
        with self._lock:
            return None if self._items is None else dict(self._items)

    def relist_soon(self) -> None:
        """Make the next turn a list: the watch was caught telling less than the truth."""
        self._relist_at = 0.0

    def run(self) -> None:
        """List and watch until stopped; whatever the API server does, try again."""
        while not self._stop.is_set():
            try:
                if time.monotonic() >= self._relist_at:
                    self._list()
                self._watch()
            except _ExpiredError:
                self._relist_at = 0.0
                self._pause_if_listed_just_now()
            except ApiError as error:
                self._failed(error)

    def fetch(self) -> tuple[dict[Key, T], str]:
        """List once, page by page, and return ({key: value}, resourceVersion); raise ApiError."""
        for _ in range(3):
            try:
                return self._pages()
            except ApiError as error:
                if error.status != GONE:  # a page's token expired: from the start, no half list
                    raise
        return self._pages()

    def _pages(self) -> tuple[dict[Key, T], str]:
        items: dict[Key, T] = {}
        problems: dict[str, str] = {}
        token = ""
        while True:
            query = {**self.resource.query, "limit": str(PAGE)} | ({"continue": token} if token else {})
            page = self._api.get(self.resource.path, query)
            metadata, objects = page.get("metadata"), page.get("items")
            if not isinstance(metadata, dict) or not isinstance(objects, list | None):
                raise ApiError(f"GET {self.resource.path}: the answer is not a list")
            for obj in objects or ():
                self._read_into(items, problems, obj)
            token = str(metadata.get("continue") or "")
            if not token:
                self.problems = problems
                return items, str(metadata.get("resourceVersion") or "")

    def _list(self) -> None:
        items, version = self.fetch()
        self._observer.contact(self.resource.name)
        with self._lock:
            before, self._items = self._items, items
        self._version = version
        self._listed_at = time.monotonic()
        self._relist_at = self._listed_at + random.uniform(*RELIST_SECONDS)  # noqa: S311
        self.condition = Condition.SYNCED
        if before is None or before != items:
            self._wake()
        if before is not None and (found := len(before.items() ^ items.items())):
            self._observer.repaired(self.resource.name, found)

    def _watch(self) -> None:
        started = time.monotonic()
        seconds = min(random.randint(*WATCH_SECONDS), max(1, int(self._relist_at - started)))  # noqa: S311
        query = {
            **self.resource.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        events = 0
        stream = self._connect(query)
        self._observer.contact(self.resource.name)
        self.condition = Condition.SYNCED
        for event in stream:
            events += 1
            self._observer.contact(self.resource.name)
            self._take(event)
            if self._stop.is_set() or time.monotonic() >= self._relist_at:
                return
        self._observer.contact(self.resource.name)
        if not events and time.monotonic() - started < YOUNG:
            raise ApiError(f"GET {self.resource.path}: the watch ended at once")

    def _connect(self, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        try:
            return self._api.watch(self.resource.path, query, SILENCE)
        except ApiError as error:
            if error.status == GONE:
                raise _ExpiredError from error
            raise

    def _take(self, event: dict[str, Any]) -> None:
        kind, obj = event.get("type"), event.get("object")
        if not isinstance(obj, dict):
            return
        if kind == "ERROR":
            code = obj.get("code")
            if code == GONE:
                raise _ExpiredError
            raise ApiError(
                f"GET {self.resource.path} (watch): {obj.get('message')}",
                code if isinstance(code, int) else 500,
            )
        metadata = obj.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("resourceVersion"), str):
            self._version = metadata["resourceVersion"]
        if kind in ("ADDED", "MODIFIED", "DELETED") and self._apply(obj, deleted=kind == "DELETED"):
            self._wake()

    def _apply(self, obj: object, *, deleted: bool) -> bool:
        """Take one object in; tell whether anything that matters changed."""
        changed: dict[Key, T] = {}
        self._read_into(changed, self.problems, obj)
        with self._lock:
            assert self._items is not None
            if deleted:
                return any(self._items.pop(key, None) is not None for key in changed)
            different = any(self._items.get(key) != value for key, value in changed.items())
            self._items.update(changed)
            return different

    def _read_into(self, items: dict[Key, T], problems: dict[str, str], obj: object) -> None:
        try:
            items[read_key(obj)] = self.resource.read(obj)
        except UnreadableError as error:
            problems[self.resource.name] = f"{self.resource.name}: an object was skipped: {error}"

    def _failed(self, error: ApiError) -> None:
        """Remember why, decide whether to list again, and wait."""
        before = self.condition
        if error.status == NOT_FOUND:
            self.condition = Condition.ABSENT
        elif error.status in (FORBIDDEN, UNAUTHORIZED):
            self.condition = Condition.FORBIDDEN
        else:
            self.condition = Condition.UNREACHABLE if self._items is not None else Condition.UNSYNCED
        if error.status not in (0, TOO_MANY):  # no answer, or not now: the watch resumes where it was
            self._relist_at = 0.0
        self._observer.failure(self.resource.name, _reason(error), str(error))
        if self.condition != before:
            self._wake()
        self._pause(error.retry_after)

    def _pause_if_listed_just_now(self) -> None:
        if time.monotonic() - self._listed_at < YOUNG:
            self._pause(None)

    def _pause(self, retry_after: float | None) -> None:
        now = time.monotonic()
        self._failures = 1 if now - self._paused > BACKOFF_RESET else self._failures + 1
        wait = BACKOFF_FIRST * 2 ** min(self._failures - 1, 10) * random.uniform(1, 2)  # noqa: S311
        self._stop.wait(max(min(wait, BACKOFF_CAP), min(retry_after or 0.0, RETRY_AFTER_CAP)))
        self._paused = time.monotonic()


def _reason(error: ApiError) -> str:
    reasons = {0: "unreachable", UNAUTHORIZED: "unauthorized", FORBIDDEN: "forbidden", NOT_FOUND: "not_found",
               GONE: "expired", TOO_MANY: "throttled"}  # fmt: skip
    return reasons.get(error.status, "server_error")
