"""Watch files with watchdog: any change wakes, none of them is believed to say what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

_READING = ("opened", "closed_no_write")  # what our own look causes


class _Handler(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _READING:
            self._wake()


def watch_folders(folders: Iterable[Path], trees: Iterable[Path], wake: Callable[[], None]) -> BaseObserver:
    """Start to call `wake` on every change in the folders, and in the trees with all their sub-folders.

    stop() and join() the result to end it.
    """
    observer = Observer()
    whole = {tree.resolve() for tree in trees}
    for folder in {folder.resolve() for folder in folders} | whole:
        observer.schedule(_Handler(wake), str(folder), recursive=folder in whole)
    observer.start()
    return observer
