"""Read the file that says which namespaces may have which names: RAYPROXY_NAME_POLICY."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rayproxy.kinds.grants import Grant, Grants, pattern
from rayproxy.validation_errors import reasons
from rayproxy.yaml_documents import documents

MAX_BYTES = 256 * 1024

_Pattern = Annotated[str, Field(pattern=r"^[a-z0-9*.-]{1,63}$")]
_Patterns = Annotated[list[_Pattern], Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    namespaces: _Patterns
    names: _Patterns


_ENTRIES = TypeAdapter(list[_Entry])


class PolicyError(Exception):
    """Say what is wrong with a name policy, and where."""


class NamePolicy:
    """Return what is granted now: the file is read again, and the last good one goes on where a later one is not."""

    def __init__(self, path: Path | None, most: int) -> None:
        self._path = path
        self._good = Grants(most=most)
        self._text: bytes | None = None
        if path:
            self._take(path)  # at the start there is no last good one, and without one everything would be granted

    def __call__(self) -> tuple[Grants, tuple[str, ...]]:
        """Return it, and what is wrong with the file."""
        if self._path is None:
            return self._good, ()
        try:
            self._take(self._path)
        except PolicyError as error:
            return self._good, (f"{error}; the last good one is used",)
        return self._good, ()

    def _take(self, path: Path) -> None:
        text = _text(path)
        if text != self._text:
            self._good = Grants(pattern(_grants(path, text)), self._good.most)
            self._text = text


def _text(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"the name policy {path} cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise PolicyError(f"the name policy {path} is larger than {MAX_BYTES} bytes")
    return text


def _grants(path: Path, text: bytes) -> list[Grant]:
    try:
        found = documents(text)
    except ValueError as error:
        raise PolicyError(f"the name policy {path} is not YAML: {error}") from error
    if len(found) > 1:
        raise PolicyError(f"the name policy {path} holds {len(found)} documents: put all entries into one list")
    try:
        entries = _ENTRIES.validate_python(found[0] if found else None)
    except ValidationError as error:
        raise PolicyError(f"the name policy {path}: {'; '.join(reasons(error))}") from error
    return [Grant(tuple(entry.namespaces), tuple(entry.names)) for entry in entries]
