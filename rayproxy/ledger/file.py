"""Claims in a file of the state folder, where there is no cluster, or no permission."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from rayproxy.ledger.base import Found, StoreError
from rayproxy.ledger.entries import Changes, due, read, write


class FileStore:
    """Claims in the state folder; the daemon and the command line take turns."""

    def __init__(self, state: Path, name: str = "names.json") -> None:
        self._path = state / name

    def update(self, changes: Changes, latest: int) -> Found:
        """Write changes, if any, and return what is there then; raise StoreError."""
        try:
            if not changes and not self._is_there():
                return Found({})
            with self._locked():
                return self._update(changes, latest)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error

    def _is_there(self) -> bool:
        """Tell whether there is a file; raise OSError where that cannot be known."""
        with contextlib.suppress(FileNotFoundError):
            self._path.stat()
            return True
        return False

    def _update(self, changes: Changes, latest: int) -> Found:
        data, problems = self._read()
        claims, wrong = read(data, latest)
        wanted = due(claims, changes)
        if wanted or problems:  # what is no file of claims is told once, and not until a claim happens to be made
            written = {**data, **dict(write(name, claim) for name, claim in wanted.items())}
            entries = {key: value for key, value in written.items() if value is not None}
            self._write(entries)
            claims, wrong = read(entries, latest)
        return Found(claims, problems + tuple(f"{self._path}: {each}" for each in wrong))

    def _read(self) -> tuple[dict[str, object], tuple[str, ...]]:
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, ()
        except (ValueError, RecursionError):
            data = None
        return (data, ()) if isinstance(data, dict) else ({}, (f"{self._path} held no claims, and was written anew",))

    def _write(self, entries: dict[str, object]) -> None:
        staged = self._path.with_suffix(".tmp")
        with staged.open("w", encoding="utf-8") as file:
            file.write(json.dumps(entries, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())  # else a machine that stops may leave an empty file under the name
        staged.rename(self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
