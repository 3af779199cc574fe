"""Watching begins while folders come: it waits for nothing, and misses nothing."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import ObservedWatch

from rayproxy.sources import filewatcher
from rayproxy.sources.filewatcher import watched
from rayproxy.sources.watches import Wanted, Watches
from tests.support.waiting import until

# watchdog's, of a folder that it sees twice: in the walk and as an event
pytestmark = pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")

LINKS, FOLDERS = 5, 50
PATH_MAX = 4096


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder whose links lead to large folders, as git-sync lays it out."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for link in range(LINKS):
        for folder in range(FOLDERS):
            (tmp_path / f"checkout{link}" / f"team{folder}").mkdir(parents=True)
        (tree / f"link{link}").symlink_to(tmp_path / f"checkout{link}")
    return tree


@contextmanager
def folders_come(*where: Path) -> Iterator[None]:
    """Meanwhile make folders, as fast as a checkout does."""
    enough = threading.Event()

    def make() -> None:
        for number in itertools.count():
            (where[number % len(where)] / f"new{number}").mkdir()
            if enough.wait(0.001):
                return

    writer = threading.Thread(target=make)
    writer.start()
    try:
        yield
    finally:
        enough.set()
        writer.join()


def watching(tree: Path, wake: Callable[[], None]) -> ExitStack:
    """Begin to watch; fail where that does not come to its end."""
    stack, begun = ExitStack(), threading.Event()

    def begin() -> None:
        stack.enter_context(watched([], [tree], wake))
        begun.set()

    threading.Thread(target=begin, daemon=True).start()
    assert begun.wait(20), "it waits for ever"
    return stack


def test_watching_begins_while_folders_come_below_what_links_lead_to(tree: Path, tmp_path: Path):
    with folders_come(tree, *(tmp_path / f"checkout{link}" for link in range(LINKS))):
        for _ in range(5):
            watching(tree, lambda: None).close()


def test_a_link_that_comes_while_watching_begins_is_followed(tree: Path, tmp_path: Path):
    late = tmp_path / "late"
    late.mkdir()
    woken = threading.Event()

    def told() -> bool:
        woken.clear()
        (late / "change").write_text("")
        return woken.wait(0.2)

    with ExitStack() as stack:
        with folders_come(tree):
            stack.enter_context(watching(tree, woken.set))
            (tmp_path / "checkout0" / "linked").symlink_to(late)
        until("a change of what it leads to wakes", told)


def test_a_folder_that_is_made_anew_as_soon_as_it_is_watched_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """That it was removed is heard before it is noted as watched, and what is made there may have its inode."""
    tree, first = tmp_path / "tree", iter([True])
    woken, heard, made = threading.Event(), threading.Event(), threading.Event()
    tree.mkdir()
    add, note = Watches.add, filewatcher._Watcher.on_any_event

    def add_and_make_anew(watches: Watches, handler: FileSystemEventHandler, wanted: Wanted) -> ObservedWatch | None:
        watch = add(watches, handler, wanted)
        if next(first, False):
            tree.rmdir()
            tree.mkdir()
            if heard.wait(20):
                made.set()
        return watch

    def tell_and_note(watcher: filewatcher._Watcher, event: FileSystemEvent) -> None:
        note(watcher, event)
        if event.event_type == "deleted":
            heard.set()

    monkeypatch.setattr(Watches, "add", add_and_make_anew)
    monkeypatch.setattr(filewatcher._Watcher, "on_any_event", tell_and_note)
    monkeypatch.setattr(filewatcher, "identity", lambda path: (1, 1) if path.is_dir() else None)
    with watching(tree, woken.set):
        assert made.wait(20)
        until("a change in it wakes", lambda: _wakes(tree / "change", woken), 10)


def test_a_path_that_cannot_be_looked_at_ends_no_watching(tree: Path):
    """Here it is too long; a folder that loses its x has such paths as well."""
    deep, woken = tree, threading.Event()
    while len(str(deep)) < PATH_MAX - 200:
        deep /= "d" * 150
    deep.mkdir(parents=True)
    with watching(tree, woken.set):
        inside = os.open(deep, os.O_RDONLY)
        os.close(os.open("f" * 250, os.O_CREAT, dir_fd=inside))
        os.close(inside)
        until("a change of another file wakes", lambda: _wakes(tree / "other", woken))


def _wakes(file: Path, woken: threading.Event) -> bool:
    woken.clear()
    file.write_text("")
    return woken.wait(0.2)
