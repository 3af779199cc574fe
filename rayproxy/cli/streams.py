"""The standard streams of a command: UTF-8 whatever the locale says, and perhaps closed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def prepare() -> None:
    """Have UTF-8 read and written, as manifests are, and nothing of what is said fail where nobody can read it."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=stream.errors)
    if sys.stderr is None:  # print() would take standard output in its place
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process


@contextmanager
def written() -> Iterator[None]:
    """Have all of standard output written at the end; raise OSError where it cannot be."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _drop_what_nobody_takes()
        raise


def _drop_what_nobody_takes() -> None:
    """Leave nothing that Python would try to write once more at its end, with an exit code and words of its own."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
