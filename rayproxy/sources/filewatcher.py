"""Watch files with watchdog: any change wakes, none of them is believed to say what changed.

A watch is a folder's, not its path's, and hears nothing of one that takes its place: a link that git-sync flips, a
rename, `rm -r` and `mkdir`. So each second what is watched is compared with what is there. What nobody watches is read
at the next resync, so that it cannot be watched ends nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import ObservedWatch

from rayproxy.sources.folders import Identity, identity, is_direct, linked, resolved
from rayproxy.sources.watches import Wanted, Watches

LOOK = 1.0  # s between two looks for another folder in the place of one that is watched
_READING = ("opened", "closed_no_write")  # what our own look causes
_COMING = ("created", "moved")


class _Watcher(FileSystemEventHandler):
    """Folders, and trees with all their sub-folders, those included that links lead to.

    Not watchdog's own way to follow links, which never ends where two of them lead up. Watches are added and removed
    in the thread of `run` alone. Events come in the observer's, which holds watchdog's lock meanwhile, and only notes.
    """

    def __init__(self, folders: Iterable[Path], trees: Iterable[Path], wake: Callable[[], None]) -> None:
        self._folders = tuple(folders)
        self._trees = tuple(trees)
        self._wake = wake
        self._watches = Watches()
        self._news = threading.Event()
        self._stopped = threading.Event()
        self._came = threading.Event()  # folders did, and with them perhaps links
        self._came.set()
        self._gone: deque[Path] = deque()  # their inodes are free, and may be those of what is made in their place
        self._linked: set[Path] = set()
        self._indirect: dict[Path, Path] = {}  # links that lead by others, and where each was found to lead
        self._seen: dict[Wanted, Identity] = {}
        self._watching: dict[Wanted, ObservedWatch] = {}

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake, and note what may need another watch."""
        if event.event_type in _READING:
            return
        path = Path(os.fsdecode(event.dest_path or event.src_path))
        if event.event_type == "deleted" and event.is_directory:  # also of one that is not yet noted as watched
            self._gone.append(path)
            self._news.set()
        elif event.event_type in _COMING and identity(path):
            self._came.set()
            self._news.set()
        self._wake()

    def run(self) -> None:
        """Watch what is there, until stopped; raise BlindError where that has ended."""
        while not self._stopped.is_set():
            while self._look():
                pass  # once more: a link may have come into a folder before that was watched
            self._news.wait(LOOK)
            self._news.clear()
            self._watches.check()
        for watch in self._watching.values():
            self._watches.remove(watch)
        self._watches.stop()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopped.set()
        self._news.set()

    def _look(self) -> bool:
        """Watch what is there now, and nothing else; wake, and return whether that is other than before."""
        came, gone = self._came.is_set(), set[Path]()
        self._came.clear()
        while self._gone:
            gone.add(self._gone.popleft())
        gone &= {path for path, _ in self._watching}
        seen = self._there(anew=came)
        if seen == self._seen and not came and not gone:
            return False
        for each in [each for each in self._watching if seen.get(each) != self._seen.get(each) or each[0] in gone]:
            self._watches.remove(self._watching.pop(each))
        added = {each: self._watches.add(self, each) for each in seen.keys() - self._watching.keys()}
        new = {each: watch for each, watch in added.items() if watch}
        other = bool(new) or seen != self._seen
        self._watching |= new
        self._seen = seen
        if other:
            self._came.set()
            self._wake()
        return other

    def _there(self, *, anew: bool) -> dict[Wanted, Identity]:
        """Return the folders that are there; links are looked for `anew`, or where one leads elsewhere."""
        trees = {resolved(tree) for tree in self._trees}
        found = self._found(trees)
        if anew or any(identity(link) != found.get((folder, True)) for link, folder in self._indirect.items()):
            links = {link: folder for tree in trees for link, folder in linked(tree).items()}
            self._linked = set(links.values())
            self._indirect = {link: folder for link, folder in links.items() if not is_direct(link, folder)}
            found = self._found(trees)
        return found

    def _found(self, trees: set[Path]) -> dict[Wanted, Identity]:
        wanted = {(resolved(folder), False) for folder in self._folders}
        wanted |= {(folder, True) for folder in trees | self._linked}
        found = {each: identity(each[0]) for each in wanted}
        return {each: which for each, which in found.items() if which}


@contextlib.contextmanager
def watched(
    folders: Iterable[Path],
    trees: Iterable[Path],
    wake: Callable[[], None],
    guard: Callable[[str, Callable[[], None]], None] = lambda _, body: body(),
) -> Iterator[None]:
    """Meanwhile call `wake` on every change in the folders, and in the trees with all their sub-folders.

    `guard` runs the body of a thread of that name, and hears how it ends.
    """
    watcher = _Watcher(folders, trees, wake)
    threading.Thread(target=guard, args=("files", watcher.run), name="files", daemon=True).start()
    try:
        yield
    finally:
        watcher.stop()
