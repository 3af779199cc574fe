"""Folders as they are on disk: which one a path means now, and where links below it lead."""

from __future__ import annotations

import os
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


def linked(tree: Path) -> dict[Path, Path]:
    """Return the links below a tree, but for those to files, and where each leads or would lead; circles end."""
    found: dict[Path, Path] = {}
    seen = {tree}
    folders = [tree]
    while folders:
        for path, is_link in _folders_in(folders.pop()):
            folder = resolved(path) if is_link else path
            if is_link:
                found[path] = folder
            if folder not in seen:
                seen.add(folder)
                folders.append(folder)
    return found


def is_direct(link: Path, folder: Path) -> bool:
    """Tell whether a link leads there by no other link: only another link, or another folder, changes that then."""
    try:
        return Path(os.path.normpath(link.parent / link.readlink())) == folder
    except OSError:
        return False


def _folders_in(folder: Path) -> list[tuple[Path, bool]]:
    """Return what may be a folder, now or once a link leads to one, and whether it is a link."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            kinds = [(folder / each.name, each.is_symlink(), each.is_dir(follow_symlinks=False)) for each in visible]
    except OSError:
        return []
    return [(path, is_link) for path, is_link, is_dir in kinds if is_dir or (is_link and not _is_file(path))]


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # it may be a folder later on
        return False
