"""Keep whole configuration trees on disk: write, activate, roll back, prune.

    <root>/revisions/<hash>/   nginx.conf, revision.conf, unrouted.conf, ray-<name>.conf ..., routes.json, SHA256SUMS
    <root>/current             a symbolic link, replaced by rename(2)

A revision is named by the hash of its SHA256SUMS, so a torn or edited tree betrays itself, and `sha256sum -c
SHA256SUMS` tells a person the same. Nothing is ever written in place: a full disk or a kill at any instant leaves
`current` as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rayproxy.model import Route
from rayproxy.nginx.linking import Linker
from rayproxy.nginx.render import File, file
from rayproxy.nginx.routes import ROUTES, read, taken_over

SUMS = "SHA256SUMS"
REVISION_CONF = "revision.conf"
KEEP = 3  # current and two before it: a reload in flight may still read the one before

_NAME = re.compile(r"[0-9a-f]{16}(?:-[0-9]+)?")
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][-A-Za-z0-9_.]*)")


@dataclass(frozen=True)
class Revision:
    """Hold a tree's name, its folder and {file name: digest}; where it is not whole, of the files that are."""

    name: str
    path: Path
    sums: Mapping[str, str]
    whole: bool = True

    @property
    def conf(self) -> Path:
        """Return the file that `nginx -t -c` takes."""
        return self.path / "nginx.conf"


class Revisions:
    """Own <root>/revisions and <root>/current; `revision_conf` renders revision.conf from a revision's name."""

    def __init__(self, root: Path, revision_conf: Callable[[str], str]) -> None:
        self.root = root
        self.folder = root / "revisions"
        self.link = root / "current"
        self._revision_conf = revision_conf
        self._unsynced: list[Path] = []
        self._linker = Linker()
        self.folder.mkdir(parents=True, exist_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what a daemon that was killed while writing left; for who has the state folder to itself."""
        for leftover in self.folder.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def current(self) -> Revision | None:
        """Return the revision that `current` points at, or None where there is none that can be trusted."""
        try:
            name = self.link.readlink().name
        except OSError:
            return None
        return self._read(name)

    def intact(self, revision: Revision) -> bool:
        """Read every file and tell whether the tree is exactly what its name says."""
        try:
            found = {entry.name for entry in os.scandir(revision.path) if entry.name.endswith((".conf", ".json"))}
            if found != revision.sums.keys() | {REVISION_CONF}:
                return False
            if (revision.path / REVISION_CONF).read_text() != self._revision_conf(revision.name):
                return False
            return all(_is(revision.path / name, digest) for name, digest in revision.sums.items())
        except (OSError, UnicodeDecodeError):
            return False

    def salvage(self, revision: Revision) -> Revision:
        """Return what is left of a revision that someone spoiled: the files that are what their digests say."""
        left = {name: digest for name, digest in revision.sums.items() if _is(revision.path / name, digest)}
        return Revision(revision.name, revision.path, left, whole=False)

    def files(self, revision: Revision, names: Iterable[str]) -> dict[str, File]:
        """Read files of a revision back, those that still are what their digests say; raise OSError."""
        found = {name: file((revision.path / name).read_bytes().decode(errors="replace")) for name in names}
        return {name: read for name, read in found.items() if read.digest == revision.sums[name]}

    def routes(self, revision: Revision) -> Mapping[str, Route]:
        """Return {file name: route} of a revision; what is not whole any more is left out.

        Where routes.json is missing, spoiled or a later version's, the files say what they can: no change waits.
        """
        try:
            found = read(self.files(revision, [ROUTES])[ROUTES].text)
        except (OSError, KeyError, ValueError):
            left = self.salvage(revision).sums
            return taken_over({name: each.text for name, each in self.files(revision, left).items()})
        return {name: route for name, route in found.items() if name in revision.sums}

    def recover(self) -> Revision | None:
        """Return the current revision if it is intact, else activate and return the newest other one that is."""
        current = self.current()
        if current and self.intact(current):
            return current
        for candidate in self._newest_first():
            if self.intact(candidate):
                self.activate(candidate)
                return candidate
        return None

    def write(self, files: Mapping[str, File], base: Revision | None) -> Revision:
        """Write a tree, with the files that `base` has already linked from it; raise OSError and leave nothing."""
        sums = {name: file.digest for name, file in sorted(files.items())}
        listing = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        name = self._free_name(hashlib.sha256(listing.encode()).hexdigest()[:16])
        path = self.folder / name
        if path.exists():
            os.utime(path / SUMS)  # in use again: the newest, so that it is not pruned
            return Revision(name, path, sums)
        staged = self.folder / f".tmp-{os.getpid()}"
        try:
            staged.mkdir(parents=True)  # someone may have removed the folder
            texts = {REVISION_CONF: self._revision_conf(name), SUMS: listing}
            texts |= {file_name: files[file_name].text for file_name in self._not_linked(sums, base, staged)}
            for file_name, text in texts.items():
                (staged / file_name).write_text(text)
            staged.rename(path)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        self._unsynced += [path, *(path / file_name for file_name in texts)]
        return Revision(name, path, sums)

    def _not_linked(self, sums: Mapping[str, str], base: Revision | None, folder: Path) -> list[str]:
        """Link what `base` has already into the folder; return the names of the rest."""
        if base is None:
            return list(sums)
        there = {name: digest for name, digest in sums.items() if base.sums.get(name) == digest}
        return [name for name in sums if name not in there] + self._linker.link(there, base.path, folder)

    def activate(self, revision: Revision) -> None:
        """Let `current` point at the revision, atomically."""
        staged = self.root / ".current.tmp"
        staged.unlink(missing_ok=True)
        staged.symlink_to(Path("revisions") / revision.name)
        staged.rename(self.link)

    def fsync(self) -> None:
        """Let what was written reach the disk; raise OSError.

        Not needed before: after a power cut a torn tree is known by its hash, and the one before it is used.
        """
        unsynced, self._unsynced = self._unsynced, []
        for path in unsynced:
            if path.exists():  # a refused candidate is gone
                _sync(path)
        _sync(self.folder)
        _sync(self.root)

    def discard(self, revision: Revision) -> None:
        """Remove a candidate that was refused; never the current one."""
        current = self.current()
        if current is None or current.name != revision.name:
            self._remove(revision, current)

    def prune(self) -> None:
        """Remove all but the newest few revisions, and never the current one or anything that is not ours."""
        current = self.current()
        for revision in self._newest_first()[KEEP:]:
            if current is None or revision.name != current.name:
                self._remove(revision, current)

    def _remove(self, revision: Revision, current: Revision | None) -> None:
        """Take its name away first: a kill in the middle leaves a leftover, never half a revision."""
        going = self.folder / f".tmp-old-{revision.name}"
        with contextlib.suppress(OSError):
            revision.path.rename(going)
        remove = partial(shutil.rmtree, going, ignore_errors=True)
        self._linker.unlink(remove, revision.sums, current.path if current else None)

    def _newest_first(self) -> list[Revision]:
        def written(revision: Revision) -> int:
            return (revision.path / SUMS).stat().st_mtime_ns

        return sorted(self._all(), key=written, reverse=True)

    def _all(self) -> Iterator[Revision]:
        for entry in os.scandir(self.folder):
            if revision := self._read(entry.name):
                yield revision

    def _read(self, name: str) -> Revision | None:
        if not _NAME.fullmatch(name):
            return None
        path = self.folder / name
        try:
            listing = (path / SUMS).read_text()
        except (OSError, UnicodeDecodeError):
            return None
        if hashlib.sha256(listing.encode()).hexdigest()[:16] != name[:16]:
            return None
        matches = [_SUM_LINE.fullmatch(line) for line in listing.splitlines()]
        return Revision(name, path, {match[2]: match[1] for match in matches if match})

    def _free_name(self, wanted: str) -> str:
        """Return `wanted` unless a damaged tree has that name already, then the next free one."""
        name, number = wanted, 0
        while (self.folder / name).exists():
            revision = self._read(name)
            if revision and self.intact(revision):
                return name
            number += 1
            name = f"{wanted}-{number}"
        return name


def _is(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
