"""Watch files with watchdog: any change wakes, none of them is believed to say what changed.

What nobody watches is read at the next resync, so that it cannot be watched ends nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

T = TypeVar("T")
_READING = ("opened", "closed_no_write")  # what our own look causes
_COMING = ("created", "moved")
_GONE = (errno.ENOENT, errno.ENOTDIR)
_LIMITS = {errno.EMFILE: "fs.inotify.max_user_instances", errno.ENOSPC: "fs.inotify.max_user_watches"}


class _Watches:
    """What is watched; the first time that something cannot be is told."""

    def __init__(self) -> None:
        self._told = False
        self._observer = self._tried(_started)

    def add(self, handler: FileSystemEventHandler, folder: Path, *, recursive: bool = False) -> ObservedWatch | None:
        if self._observer is None:
            return None
        return self._tried(partial(self._observer.schedule, handler, str(folder), recursive=recursive))

    def remove(self, watch: ObservedWatch) -> None:
        if self._observer:
            self._observer.unschedule(watch)

    def stop(self) -> None:
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


def _started() -> BaseObserver:
    observer = Observer()
    observer.start()  # before it has anything to watch: of what is added then, each can fail alone
    return observer


def _tell(error: OSError) -> None:
    limit = _LIMITS.get(error.errno or 0)
    mend = f"; raise the node's sysctl {limit}" if limit else ""
    words = "files cannot be watched: their changes are seen at each resync alone (RAYPROXY_RESYNC)"
    structlog.get_logger().warning(words + mend, error=error.strerror)


class _Handler(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _READING:
            self._wake()


class _Tree(_Handler):
    """A folder with all its sub-folders, those included that links lead to.

    Not watchdog's own way to follow links, which never ends where two of them lead up.
    """

    def __init__(self, watches: _Watches, tree: Path, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self._watches = watches
        self._tree = tree
        self._watched: dict[Path, ObservedWatch] = {}
        self._following = threading.Lock()  # the first time here, then in the observer's thread
        self._follow()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _COMING and Path(os.fsdecode(event.dest_path or event.src_path)).is_dir():
            self._follow()
        super().on_any_event(event)

    def _follow(self) -> None:
        with self._following:
            wanted = {self._tree} | _linked(self._tree)
            for folder in self._watched.keys() - wanted:
                self._watches.remove(self._watched.pop(folder))
            for folder in wanted - self._watched.keys():
                if watch := self._watches.add(self, folder, recursive=True):
                    self._watched[folder] = watch


@contextlib.contextmanager
def watched(folders: Iterable[Path], trees: Iterable[Path], wake: Callable[[], None]) -> Iterator[None]:
    """Meanwhile call `wake` on every change in the folders, and in the trees with all their sub-folders."""
    watches = _Watches()
    for folder in {folder.resolve() for folder in folders}:
        watches.add(_Handler(wake), folder)
    for tree in {tree.resolve() for tree in trees}:
        _Tree(watches, tree, wake)
    try:
        yield
    finally:
        watches.stop()


def _linked(tree: Path) -> set[Path]:
    """Return the folders that links below `tree` lead to; circles end."""
    linked: set[Path] = set()
    seen = {tree}
    folders = [tree]
    while folders:
        for entry in _folders_in(folders.pop()):
            folder = entry.resolve()
            if entry.is_symlink():
                linked.add(folder)
            if folder not in seen:
                seen.add(folder)
                folders.append(folder)
    return linked


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
