"""File systems of the test's own: mounted in a mount namespace that ends with the process that has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def can_mount() -> bool:
    """Tell whether this user may make a mount namespace."""
    return subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode == 0


needs_mounts = pytest.mark.skipif(
    not can_mount(), reason="needs mount namespaces: run as root, or allow `unshare -rm`"
)


def inside(pid: int, path: Path) -> Path:
    """Return how a file that a process sees is seen from outside its mount namespace."""
    return Path(f"/proc/{pid}/root{path}")


def set_read_only(pid: int, path: Path) -> None:
    """Lay a read-only mount over what a process sees at a path."""
    _mount(pid, "--bind", path, path)
    _mount(pid, "-o", "remount,bind,ro", path)


def set_writable(pid: int, path: Path) -> None:
    """Take it away again."""
    _mount(pid, "-o", "remount,bind,rw", path)


def _mount(pid: int, *arguments: object) -> None:
    flags = ["-U", "--preserve-credentials"] if os.geteuid() else []
    subprocess.run(["nsenter", *flags, "-t", str(pid), "-m", "mount", *map(str, arguments)], check=True)
