"""Link the files of one folder into another, those alone that still are what their digests say.

Reading 5,000 files again takes as long as the rest of a change. A file whose inode, size and times are as they were
when it was last read is the same file: nobody but root can set back the time of its last change. Linking and
unlinking change that time as well, so whoever does it looks before and after.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_Signature = tuple[int, int, int, int]  # inode, size, mtime, ctime
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Linker:
    """Remember which files were read and found right, of the last folder that was made."""

    def __init__(self) -> None:
        self._proven: dict[str, tuple[_Signature, str]] = {}  # {name: what it was then, its digest}

    def link(self, digests: Mapping[str, str], source: Path, target: Path) -> list[str]:
        """Link what is in `source` with its digest into `target`; return the names of what must be written instead."""
        proven: dict[str, tuple[_Signature, str]] = {}
        rest = []
        with _folder(source) as old, _folder(target) as new:  # 5,000 paths need not be walked
            for name, digest in digests.items():
                try:
                    signature = self._linked(name, digest, old, new)
                except OSError:  # removed meanwhile, or a file system without hard links
                    signature = None
                if signature is None:
                    rest.append(name)
                else:
                    proven[name] = signature, digest
        self._proven = proven
        return rest

    def _linked(self, name: str, digest: str, old: int, new: int) -> _Signature | None:
        """Link one file; return its signature then, for a link changes the ctime, or None where it is another file."""
        if self._proven.get(name) != (_signature(name, old), digest) and _read(name, old) != digest:
            return None
        os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        return _signature(name, new)

    def unlink(self, remove: Callable[[], object], names: Iterable[str], kept: Path | None) -> None:
        """Call `remove`, which takes links of `names` away, and go on knowing the files of `kept` that were right.

        Whoever writes into one of them meanwhile changes its time of writing too.
        """
        right = {} if kept is None else self._still_right(kept, names)
        remove()
        for path, name in right.items():
            before, digest = self._proven[name]
            now = _seen(path)
            if now and now[:-1] == before[:-1]:
                self._proven[name] = now, digest

    def _still_right(self, folder: Path, names: Iterable[str]) -> dict[str, str]:
        """Return {path: name} of the known files of these names that are in the folder as they were."""
        paths = {f"{folder}/{name}": name for name in names if name in self._proven}
        return {path: name for path, name in paths.items() if _seen(path) == self._proven[name][0]}


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _seen(path: str) -> _Signature | None:
    try:
        return _signature(path)
    except OSError:
        return None


def _signature(name: str, folder: int | None = None) -> _Signature:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(name: str, folder: int) -> str:
    with os.fdopen(os.open(name, _FLAGS, dir_fd=folder), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
