"""The embedded source: a folder of YAML files that hold RayServices and Services, watched with watchdog.

The folder is read whole each time. A file that cannot be read keeps what it last held; as long as it never could be
read, routes are added and none is taken away.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import yaml

from rayproxy.model import Key, RayService, Service, Snapshot
from rayproxy.objects import UnreadableError, labels_of, read_rayservice, read_service
from rayproxy.selector import parse_selector
from rayproxy.source import NotSyncedError, UnconfirmedError

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE = 16 * 1024 * 1024
MAX_DEPTH = 200  # a RayService with its Pod templates has about 20
SECOND_LOOK = 0.5  # s: an editor or a ConfigMap swap is over by then

_Found = tuple[tuple[RayService, ...], tuple[Service, ...], tuple[str, ...]]
_T = TypeVar("_T", RayService, Service)
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ManifestSource:
    """Know the RayServices and Services that stand in a folder."""

    def __init__(self, folder: Path, selector: str) -> None:
        self.folder = folder
        self._matches = parse_selector(selector)
        self._held: dict[Path, _Found] = {}

    def snapshot(self) -> Snapshot:
        """Read the folder; raise NotSyncedError where that is not possible."""
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
        except OSError as error:
            raise NotSyncedError(f"the manifests folder {self.folder} cannot be read: {error.strerror}") from error
        problems: list[str] = []
        unknown = False
        held: dict[Path, _Found] = {}
        for path in paths:
            try:
                held[path] = self._read(path)
            except (OSError, ValueError, RecursionError) as error:
                problems.append(f"{path.name} is not read: {_words(error)}")
                if path in self._held:
                    held[path] = self._held[path]
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

    def _read(self, path: Path) -> _Found:
        if path.stat().st_size > MAX_FILE:
            raise ValueError(f"larger than {MAX_FILE} bytes")
        rayservices: list[RayService] = []
        services: list[Service] = []
        problems: list[str] = []
        for obj in _objects(path.read_text()):
            try:
                if obj.get("kind") == "RayService" and self._matches(labels_of(obj)):
                    rayservices.append(read_rayservice(obj))
                elif obj.get("kind") == "Service":
                    services.append(read_service(obj))
            except UnreadableError as error:
                problems.append(f"{path.name}: a {obj['kind']} was skipped: {error}")
        return tuple(rayservices), tuple(services), tuple(problems)


def _objects(text: str) -> Iterator[dict[object, object]]:
    try:
        _check_depth(text)
        documents = list(yaml.load_all(text, _LOADER))
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error
    for document in documents:
        items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
        yield from (item for item in (items or [document]) if isinstance(item, dict))


def _check_depth(text: str) -> None:
    """Raise ValueError where lists and mappings nest too deep: libyaml's loader would crash the process."""
    depth = 0
    for event in yaml.parse(text, _LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"lists and mappings nest deeper than {MAX_DEPTH}")


def _join(held: dict[Path, _Found], problems: tuple[str, ...], *, known: bool) -> Snapshot:
    rayservices, double_rayservices = _unique((path, found[0]) for path, found in held.items())
    services, double_services = _unique((path, found[1]) for path, found in held.items())
    skipped = tuple(problem for found in held.values() for problem in found[2])
    return Snapshot(rayservices, services, known, known, problems + skipped + double_rayservices + double_services)


def _unique(files: Iterable[tuple[Path, tuple[_T, ...]]]) -> tuple[tuple[_T, ...], tuple[str, ...]]:
    """Return the objects, the first of each key, and what is wrong with the others."""
    objects: dict[Key, _T] = {}
    doubles = [
        f"{path.name}: the {type(obj).__name__} {obj.key} is there twice; the first is used"
        for path, found in files
        for obj in found
        if objects.setdefault(obj.key, obj) is not obj
    ]
    return tuple(objects.values()), tuple(doubles)


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)[:300]
