"""Watch files with watchdog: any change wakes, none of them is believed to say what changed.

What nobody watches is read at the next resync, so that it cannot be watched ends nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from watchdog.events import DirCreatedEvent, FileSystemEvent, FileSystemEventHandler
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

    def add_tree(self, tree: Path, wake: Callable[[], None]) -> None:
        watch = self.add(_Tree(self, tree, wake), tree, recursive=True)
        if self._observer and watch:
            first = DirCreatedEvent(str(tree))  # as if it came now: its links are looked for, in the observer's thread
            self._observer.event_queue.put((first, watch))

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

    Not watchdog's own way to follow links, which never ends where two of them lead up. Links are looked for in the
    observer's thread alone, which holds watchdog's lock meanwhile: with a lock of our own besides, two threads could
    wait for each other.
    """

    def __init__(self, watches: _Watches, tree: Path, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self._watches = watches
        self._tree = tree
        self._linked: dict[Path, ObservedWatch] = {}

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _COMING and _is_folder(Path(os.fsdecode(event.dest_path or event.src_path))):
            while self._follow():
                pass  # once more: a link may have come into a folder before that was watched
        super().on_any_event(event)

    def _follow(self) -> bool:
        """Watch what links lead to now, and nothing else; return whether that is more than before."""
        wanted = _linked(self._tree)
        for folder in self._linked.keys() - wanted:
            self._watches.remove(self._linked.pop(folder))
        new = {folder: self._watches.add(self, folder, recursive=True) for folder in wanted - self._linked.keys()}
        came = {folder: watch for folder, watch in new.items() if watch}
        self._linked |= came
        return bool(came)


@contextlib.contextmanager
def watched(folders: Iterable[Path], trees: Iterable[Path], wake: Callable[[], None]) -> Iterator[None]:
    """Meanwhile call `wake` on every change in the folders, and in the trees with all their sub-folders."""
    watches = _Watches()
    for folder in {folder.resolve() for folder in folders}:
        watches.add(_Handler(wake), folder)
    for tree in {tree.resolve() for tree in trees}:
        watches.add_tree(tree, wake)
    try:
        yield
    finally:
        watches.stop()


def _is_folder(path: Path) -> bool:
    """Tell whether it is one, as far as that can be known: what is raised here would end the observer's thread."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def _linked(tree: Path) -> set[Path]:
    """Return the folders other than `tree` that links below it lead to; circles end."""
    linked: set[Path] = set()
    seen = {tree}
    folders = [tree]
    while folders:
        for entry in _folders_in(folders.pop()):
            folder = entry.resolve()
            if entry.is_symlink() and folder != tree:
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
