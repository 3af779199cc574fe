"""The embedded source: a folder of YAML and JSON files that hold Kubernetes objects, watched with watchdog.

The folder is read whole each time, its sub-folders too; what begins with a dot is left out (a mounted ConfigMap has
its files twice). A file or a sub-folder that cannot be read keeps what it last held, and so does a file that is
emptied: a shell that writes one anew begins with that. As long as one never could be read, routes are added and none
is taken away. One that is as it was is not parsed again: a large one takes seconds.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayproxy.model import Key, Resource, Snapshot
from rayproxy.objects import UnreadableError, group_of, labels_of, read_key
from rayproxy.selector import Matcher, parse_selector
from rayproxy.sources.base import MissingSourceError, UnconfirmedError
from rayproxy.sources.documents import objects

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE = 16 * 1024 * 1024
SECOND_LOOK = 0.5  # s: an editor or a ConfigMap swap is over by then
SETTLED = 2.0  # s after which a file that is changed again has another time of change

_Read = Mapping[Resource[Any], tuple[tuple[Key, Any], ...]]


_Stamp = tuple[int, int, int, int]


class _EmptyError(ValueError):
    """Say that there is nothing in a file."""


@dataclass(frozen=True, slots=True)
class _Found:
    objects: _Read
    others: Counter[Resource[Any]]  # what the selector or the namespaces leave out
    problems: tuple[str, ...]


class ManifestSource:
    """What stands in a folder."""

    threads: list[tuple[str, Callable[[], None]]] = []  # noqa: RUF012 - it has none

    def __init__(
        self, folder: Path, resources: Iterable[Resource[Any]], selector: str, namespaces: Collection[str] = ()
    ) -> None:
        self.folder = folder
        self.watched = (folder,)
        self._resources = tuple(resources)
        self._matches = parse_selector(selector)
        self._namespaces = namespaces
        self._held: dict[str, _Found] = {}
        self._parsed: dict[str, tuple[_Stamp, _Found | ValueError]] = {}  # of files that have not changed lately
        self._lock = threading.Lock()  # for the two above: a second look may last into the next cycle

    def snapshot(self) -> Snapshot:
        """Read the folder; raise MissingSourceError where that is not possible."""
        with self._lock:
            return self._snapshot()

    def _snapshot(self) -> Snapshot:
        files, closed = self._files()
        problems = [f"{name} is not read: {words}" for name, words in closed.items()]
        unknown = not all(self._held_in(folder) for folder in closed)
        held = self._held_in(*closed)
        for name in files:
            try:
                held[name] = self._look(name)
            except (OSError, ValueError) as error:
                if isinstance(error, _EmptyError) and name not in self._held:
                    continue
                problems.append(f"{name} is not read: {_words(error)}")
                if name in self._held:
                    held[name] = self._held[name]
                else:
                    unknown = True
        self._held = dict(sorted(held.items()))
        self._parsed = {name: self._parsed[name] for name in files if name in self._parsed}
        return self._join(tuple(problems), known=not unknown)

    def _held_in(self, *folders: str) -> dict[str, _Found]:
        """Return what the files of these sub-folders last held."""
        inside = tuple(f"{folder}/" for folder in folders)
        return {name: found for name, found in self._held.items() if name.startswith(inside)}

    def stop(self) -> None:
        """Do nothing: there is no thread to end."""

    def confirm(self) -> Snapshot:
        """Read the folder again after a moment; raise UnconfirmedError where it is still changing."""
        time.sleep(SECOND_LOOK)
        first = self.snapshot()
        if first != self.snapshot():
            raise UnconfirmedError(f"the manifests folder {self.folder} is changing")
        return first

    def summary(self) -> str:
        """Say how much was found at the last look."""
        counts = {each.kind: self._count(each) for each in self._resources if each.only is None}
        return f"{' and '.join(counts.values())} in {len(self._held)} files"

    def _count(self, resource: Resource[Any]) -> str:
        found = self._held.values()
        others = sum(each.others[resource] for each in found)
        left_out = f" (and {others} that the selector or the namespaces leave out)" if others else ""
        return f"{sum(len(each.objects.get(resource, ())) for each in found)} {resource.kind}s{left_out}"

    def _join(self, problems: tuple[str, ...], *, known: bool) -> Snapshot:
        objects: dict[Resource[Any], tuple[Any, ...]] = {}
        doubles: tuple[str, ...] = ()
        for resource in self._resources:
            objects[resource], twice = _unique(resource, self._held)
            doubles += twice
        skipped = tuple(problem for found in self._held.values() for problem in found.problems)
        unknown = frozenset() if known else frozenset(self._resources)
        return Snapshot(objects, unknown, problems + skipped + tuple(dict.fromkeys(doubles)))

    def _files(self) -> tuple[list[str], dict[str, str]]:
        """Return the names of the files, and {sub-folder that cannot be read: why}; raise MissingSourceError."""
        found: list[str] = []
        closed: dict[str, str] = {}
        seen: set[tuple[int, int]] = set()
        folders = [self.folder]
        while folders:
            folder = folders.pop()
            try:
                where = folder.stat()
                entries = [] if (where.st_dev, where.st_ino) in seen else _visible(folder)
                seen.add((where.st_dev, where.st_ino))
                folders += [entry for entry in entries if entry.is_dir()]
                found += [self._name(each) for each in entries if each.suffix in SUFFIXES and each.is_file()]
            except OSError as error:
                if folder == self.folder:
                    words = f"the manifests folder {folder} cannot be read: {error.strerror}"
                    raise MissingSourceError(words) from error
                closed[self._name(folder)] = _words(error)
        return found, closed

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def _look(self, name: str) -> _Found:
        """Return what a file holds; raise OSError or ValueError."""
        now, stat = time.time(), (self.folder / name).stat()
        stamp = stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        before, found = self._parsed.get(name, (None, None))
        if found is None or before != stamp:
            found = self._read(name, stat.st_size)
            self._parsed.pop(name, None)
            if max(stat.st_mtime, stat.st_ctime) < now - SETTLED:
                self._parsed[name] = stamp, found
        if isinstance(found, ValueError):
            raise found
        return found

    def _read(self, name: str, size: int) -> _Found | ValueError:
        try:
            return self._parse(name, size)
        except _EmptyError as error:
            return error
        except RecursionError:
            return ValueError("lists and mappings nest too deep")
        except ValueError as error:
            return ValueError(_words(error))

    def _parse(self, name: str, size: int) -> _Found:
        path = self.folder / name
        if size > MAX_FILE:
            raise ValueError(f"larger than {MAX_FILE} bytes")
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise _EmptyError("it is empty, and what it held stays until it is removed")
        reading = _Reading(self._resources, self._matches, self._namespaces)
        for obj in objects(text, is_json=path.suffix == ".json"):
            reading.take(obj)
        problems = tuple(f"{name}: {problem}" for problem in reading.problems)
        return _Found({resource: tuple(found) for resource, found in reading.found.items()}, reading.others, problems)


class _Reading:
    """Gather what matters of the objects of one file."""

    def __init__(self, resources: Iterable[Resource[Any]], matches: Matcher, namespaces: Collection[str]) -> None:
        self.found: dict[Resource[Any], list[tuple[Key, Any]]] = defaultdict(list)
        self.others: Counter[Resource[Any]] = Counter()
        self.problems: list[str] = []
        self._resources: dict[str, list[Resource[Any]]] = defaultdict(list)
        for resource in resources:
            self._resources[resource.kind].append(resource)
        self._matches = matches
        self._namespaces = namespaces

    def take(self, obj: dict[object, object] | None) -> None:
        kind = obj.get("kind") if obj is not None else None
        if obj is None:
            self.problems.append("something that is no object was skipped")
        elif isinstance(kind, str) and kind in self._resources:
            try:
                self._read(kind, obj)
            except UnreadableError as error:
                self.problems.append(f"a {kind} was skipped: {error}")

    def _read(self, kind: str, obj: dict[object, object]) -> None:
        group = group_of(obj)
        for resource in self._resources[kind]:
            if resource.group != group:  # a Service of Knative is another thing
                continue
            key, read = read_key(obj), resource.read(obj)
            if resource.only is not None and key not in resource.only:
                continue
            if resource.selector is None and not self._is_wanted(key, obj):
                self.others[resource] += 1
            else:
                self.found[resource].append((key, read))

    def _is_wanted(self, key: Key, obj: object) -> bool:
        return self._matches(labels_of(obj)) and (not self._namespaces or key.namespace in self._namespaces)


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _unique(resource: Resource[Any], held: Mapping[str, _Found]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Return the objects of a resource, the first of each key, and what is wrong with the others."""
    objects: dict[Key, Any] = {}
    doubles = [
        f"{name}: the {resource.kind} {key} is there twice; the first is used"
        for name, found in held.items()
        for key, obj in found.objects.get(resource, ())
        if objects.setdefault(key, obj) is not obj
    ]
    return tuple(objects.values()), tuple(doubles)


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)[:300]
