"""Folders as they are on disk: which one a path means now, and where links below it lead."""

from __future__ import annotations

import stat
from pathlib import Path

Identity = tuple[int, int]


def resolved(path: Path) -> Path:
    """Return what a path means now; one that cannot be followed stays as it is written."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # the latter of a circle of links
        return path


def identity(folder: Path) -> Identity | None:
    """Return what tells a folder from another one in its place, None where there is none that can be looked at."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def linked(tree: Path) -> set[Path]:
    """Return the folders other than `tree` that links below it lead to; circles end."""
    found: set[Path] = set()
    seen = {tree}
    folders = [tree]
    while folders:
        for entry in _folders_in(folders.pop()):
            folder = resolved(entry)
            if entry.is_symlink() and folder != tree:
                found.add(folder)
            if folder not in seen:
                seen.add(folder)
                folders.append(folder)
    return found


def _folders_in(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
