"""The embedded source: a folder of YAML and JSON files that hold RayServices and Services, watched with watchdog.

The folder is read whole each time, its sub-folders too; what begins with a dot is left out (a mounted ConfigMap has
its files twice). A file that cannot be read keeps what it last held; as long as it never could be read, routes are
added and none is taken away.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rayproxy.documents import objects
from rayproxy.model import Key, RayService, Service, Snapshot
from rayproxy.objects import UnreadableError, group_of, labels_of, read_rayservice, read_service
from rayproxy.selector import Matcher, parse_selector
from rayproxy.source import NotSyncedError, UnconfirmedError

SUFFIXES = (".yaml", ".yml", ".json")
GROUPS = {"RayService": "ray.io", "Service": ""}
MAX_FILE = 16 * 1024 * 1024
SECOND_LOOK = 0.5  # s: an editor or a ConfigMap swap is over by then

_T = TypeVar("_T", RayService, Service)


@dataclass(frozen=True, slots=True)
class _Found:
    rayservices: tuple[RayService, ...]
    others: int  # RayServices that the selector or the namespaces leave out
    services: tuple[Service, ...]
    problems: tuple[str, ...]


class ManifestSource:
    """Know the RayServices and Services that stand in a folder."""

    def __init__(self, folder: Path, selector: str, namespaces: Collection[str] = ()) -> None:
        self.folder = folder
        self._matches = parse_selector(selector)
        self._namespaces = namespaces
        self._held: dict[str, _Found] = {}

    def snapshot(self) -> Snapshot:
        """Read the folder; raise NotSyncedError where that is not possible."""
        files, problems = self._files()
        unknown = bool(problems)
        held: dict[str, _Found] = {}
        for name in files:
            try:
                held[name] = self._read(name)
            except (OSError, ValueError, RecursionError) as error:
                problems.append(f"{name} is not read: {_words(error)}")
                if name in self._held:
                    held[name] = self._held[name]
                else:
                    unknown = True
        self._held = held
        return _join(held, tuple(problems), known=not unknown)

    def confirm(self) -> Snapshot:
        """Read the folder again after a moment; raise UnconfirmedError where it is still changing."""
        time.sleep(SECOND_LOOK)
        first = self.snapshot()
        if first != self.snapshot():
            raise UnconfirmedError(f"the manifests folder {self.folder} is changing")
        return first

    def summary(self) -> str:
        """Say how much was found at the last look."""
        found = self._held.values()
        rayservices, others, services = (
            sum(len(each.rayservices) for each in found),
            sum(each.others for each in found),
            sum(len(each.services) for each in found),
        )
        left_out = f" (and {others} that the selector or the namespaces leave out)" if others else ""
        return f"{rayservices} RayServices{left_out} and {services} Services in {len(found)} files"

    def _files(self) -> tuple[list[str], list[str]]:
        """Return the names of the files, sorted, and what is wrong with sub-folders; raise NotSyncedError."""
        found: list[str] = []
        problems: list[str] = []
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
                    raise NotSyncedError(f"the manifests folder {folder} cannot be read: {error.strerror}") from error
                problems.append(f"{self._name(folder)} is not read: {_words(error)}")
        return sorted(found), problems

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def _read(self, name: str) -> _Found:
        path = self.folder / name
        if path.stat().st_size > MAX_FILE:
            raise ValueError(f"larger than {MAX_FILE} bytes")
        reading = _Reading(self._matches, self._namespaces)
        for obj in objects(path.read_text(encoding="utf-8-sig"), is_json=path.suffix == ".json"):
            reading.take(obj)
        problems = tuple(f"{name}: {problem}" for problem in reading.problems)
        return _Found(tuple(reading.rayservices), reading.others, tuple(reading.services), problems)


class _Reading:
    """Gather what matters of the objects of one file."""

    def __init__(self, matches: Matcher, namespaces: Collection[str]) -> None:
        self.rayservices: list[RayService] = []
        self.others = 0
        self.services: list[Service] = []
        self.problems: list[str] = []
        self._matches = matches
        self._namespaces = namespaces

    def take(self, obj: dict[object, object] | None) -> None:
        kind = obj.get("kind") if obj is not None else None
        if obj is None:
            self.problems.append("something that is no object was skipped")
        elif isinstance(kind, str) and kind in GROUPS:
            try:
                self._read(kind, obj)
            except UnreadableError as error:
                self.problems.append(f"a {kind} was skipped: {error}")

    def _read(self, kind: str, obj: dict[object, object]) -> None:
        if group_of(obj) != GROUPS[kind]:  # a Service of Knative is another thing
            return
        if kind == "Service":
            self.services.append(read_service(obj))
            return
        rayservice = read_rayservice(obj)
        if self._matches(labels_of(obj)) and (not self._namespaces or rayservice.key.namespace in self._namespaces):
            self.rayservices.append(rayservice)
        else:
            self.others += 1


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _join(held: dict[str, _Found], problems: tuple[str, ...], *, known: bool) -> Snapshot:
    rayservices, double_rayservices = _unique((name, found.rayservices) for name, found in held.items())
    services, double_services = _unique((name, found.services) for name, found in held.items())
    skipped = tuple(problem for found in held.values() for problem in found.problems)
    return Snapshot(rayservices, services, known, known, problems + skipped + double_rayservices + double_services)


def _unique(files: Iterable[tuple[str, tuple[_T, ...]]]) -> tuple[tuple[_T, ...], tuple[str, ...]]:
    """Return the objects, the first of each key, and what is wrong with the others."""
    objects: dict[Key, _T] = {}
    doubles = [
        f"{name}: the {type(obj).__name__} {obj.key} is there twice; the first is used"
        for name, found in files
        for obj in found
        if objects.setdefault(obj.key, obj) is not obj
    ]
    return tuple(objects.values()), tuple(doubles)


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)[:300]
