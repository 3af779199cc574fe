"""Golden files: each begins with the command, as comments, and goes on with what it prints."""

from __future__ import annotations

import shlex
from pathlib import Path

TESTS = Path(__file__).parents[1]
INPUTS = TESTS / "checkpoints"
FILES = sorted((TESTS / "golden" / "deploy").glob("*.yaml"))


def head(path: Path) -> str:
    """Return the comment lines at the file's head."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(lines[: next((n for n, line in enumerate(lines) if line[0] != "#"), len(lines))])


def command(path: Path) -> str:
    """Return the command as a person types it."""
    return "".join(line.removeprefix("# ") for line in head(path).splitlines(keepends=True))


def arguments(path: Path) -> list[str]:
    """Return the words after `rayproxy`."""
    return shlex.split(command(path).replace("\\\n", " "))[1:]


def output(path: Path) -> str:
    """Return what the command is expected to print."""
    return path.read_text(encoding="utf-8").removeprefix(head(path))
