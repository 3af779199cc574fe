"""Watch files with watchdog: any change wakes, none of them is believed to say what changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

_READING = ("opened", "closed_no_write")  # what our own look causes
_COMING = ("created", "moved")


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

    def __init__(self, observer: BaseObserver, tree: Path, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self._observer = observer
        self._tree = tree
        self._watched: dict[Path, ObservedWatch] = {}
        self._follow()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _COMING and Path(os.fsdecode(event.dest_path or event.src_path)).is_dir():
            self._follow()
        super().on_any_event(event)

    def _follow(self) -> None:
        wanted = {self._tree} | _linked(self._tree)
        for folder in self._watched.keys() - wanted:
            self._observer.unschedule(self._watched.pop(folder))
        for folder in wanted - self._watched.keys():
            with contextlib.suppress(OSError):  # gone, or too many: what nobody watches is read at the next resync
                self._watched[folder] = self._observer.schedule(self, str(folder), recursive=True)


def watch_folders(folders: Iterable[Path], trees: Iterable[Path], wake: Callable[[], None]) -> BaseObserver:
    """Start to call `wake` on every change in the folders, and in the trees with all their sub-folders.

    stop() and join() the result to end it.
    """
    observer = Observer()
    for folder in {folder.resolve() for folder in folders}:
        observer.schedule(_Handler(wake), str(folder))
    for tree in {tree.resolve() for tree in trees}:
        _Tree(observer, tree, wake)
    observer.start()
    return observer


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
