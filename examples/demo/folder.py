"""Folders that are either whole or not there."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = "made-from"  # a file with the fingerprint of what the folder was made from


def fingerprint(*sources: Path) -> str:
    """Return a short hash of the files' content."""
    content = hashlib.sha256()
    for source in sources:
        content.update(hashlib.sha256(source.read_bytes()).digest())
    return content.hexdigest()[:16]


def made_from(folder: Path) -> str | None:
    """Return the fingerprint that `folder` was made from; None when it is not there."""
    mark = folder / MARK
    return mark.read_text() if mark.is_file() else None


@contextmanager
def replace(folder: Path, mark: str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` at the end, unless an exception is raised."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # what an interrupted run left
    part.mkdir(parents=True)
    try:
        yield part
        (part / MARK).write_text(mark)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
