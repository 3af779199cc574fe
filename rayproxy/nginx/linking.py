"""Link the files of one folder into another, those alone that still are what their digests say.

Reading 5,000 files again takes as long as the rest of a change. A file whose inode, size and times are as they were
when it was last read is the same file: nobody but root can set back the time of its last change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_Signature = tuple[int, int, int, int]  # inode, size, mtime, ctime
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Linker:
    """Remember which files were read and found right, of the last folder that was made."""

    def __init__(self) -> None:
        self._proven: dict[_Signature, str] = {}

    def link(self, digests: Mapping[str, str], source: Path, target: Path) -> list[str]:
        """Link what is in `source` with its digest into `target`; return the names of what must be written instead."""
        proven: dict[_Signature, str] = {}
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
                    proven[signature] = digest
        self._proven = proven
        return rest

    def _linked(self, name: str, digest: str, old: int, new: int) -> _Signature | None:
        """Link one file; return its signature then, for a link changes the ctime, or None where it is another file."""
        if self._proven.get(_signature(name, old)) != digest and _read(name, old) != digest:
            return None
        os.link(name, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        return _signature(name, new)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _signature(name: str, folder: int) -> _Signature:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(name: str, folder: int) -> str:
    with os.fdopen(os.open(name, _FLAGS, dir_fd=folder), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
