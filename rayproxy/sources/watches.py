"""Watches of watchdog's, one for each folder or tree: what cannot be watched is told, and none ends another one."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from watchdog.events import FileSystemEventHandler
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD

T = TypeVar("T")
_GONE = (errno.ENOENT, errno.ENOTDIR)
_LIMITS = {errno.EMFILE: "fs.inotify.max_user_instances", errno.ENOSPC: "fs.inotify.max_user_watches"}

Wanted = tuple[Path, bool]  # a folder, and whether what is below it is meant as well


class BlindError(Exception):
    """Say that changes of files are heard no more, nor ever again."""


class _Reader(InotifyFD):
    """What all watches hear of.

    Where a folder leaves a tree, and another one comes in its place and is renamed or removed, watchdog's own books of
    that tree lack a path later on. A KeyError tells so when the first one is removed, and would end all hearing.
    """

    def handle_event(self, event: InotifyEvent) -> None:
        with contextlib.suppress(KeyError):
            super().handle_event(event)


class _Observer(BaseObserver):
    """As watchdog's own for inotify, but for the reader."""

    def __init__(self) -> None:
        self._reader = _Reader()
        super().__init__(InotifyEmitter, inotify_fd=self._reader)

    def on_thread_start(self) -> None:
        self._reader.start()
        super().on_thread_start()

    def on_thread_stop(self) -> None:
        super().on_thread_stop()
        self._reader.stop()

    def hears(self) -> bool:
        """Tell whether all threads live that should."""
        emitters = (each for each in self.emitters if each.should_keep_running())
        return all(thread.is_alive() for thread in (self, self._reader, *emitters))


class Watches:
    """What is watched; the first time that something cannot be is told."""

    def __init__(self) -> None:
        self._told = False
        self._observer = self._tried(_started)

    def add(self, handler: FileSystemEventHandler, wanted: Wanted) -> ObservedWatch | None:
        """Let the handler hear of that, where it can be watched."""
        if self._observer is None:
            return None
        folder, recursive = wanted
        return self._tried(partial(self._observer.schedule, handler, str(folder), recursive=recursive))

    def remove(self, watch: ObservedWatch) -> None:
        """Hear of that no more."""
        if self._observer:
            with contextlib.suppress(KeyError):  # that of `_Reader`: by then nothing is heard of it any more
                self._observer.unschedule(watch)

    def check(self) -> None:
        """Raise BlindError where a defect has ended what listens."""
        if self._observer and not self._observer.hears():
            raise BlindError("a thread that listens for changes of files has ended")

    def stop(self) -> None:
        """End all of it; each watch was removed before."""
        if self._observer:
            self._observer.stop()

    def _tried(self, start: Callable[[], T]) -> T | None:
        try:
            return start()
        except OSError as error:
            if error.errno not in _GONE and not self._told:
                self._told = True
                _tell(error)
            return None


def _started() -> _Observer:
    observer = _Observer()
    observer.start()  # before it has anything to watch: of what is added then, each can fail alone
    return observer


def _tell(error: OSError) -> None:
    limit = _LIMITS.get(error.errno or 0)
    mend = f"; raise the node's sysctl {limit}" if limit else ""
    words = "files cannot be watched: their changes are seen at each resync alone (RAYPROXY_RESYNC)"
    structlog.get_logger().warning(words + mend, error=error.strerror)
