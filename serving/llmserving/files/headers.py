"""What a safetensors file holds, read from its header; and, where it cannot be read, the likely cause and the mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

Shapes: TypeAlias = dict[str, tuple[int, ...]]

LENGTH = 8  # bytes that say how long the header is
MOST_HEADER = 100_000_000  # bytes, the format's own limit
LOOK = 64  # bytes that tell the kinds of files apart
POINTER = b"version https://git-lfs"
AGAIN = "fetch or copy it again, and compare its size with the original's"


def read(path: Path) -> Shapes:
    """Return the shape of each tensor; raise ValueError with the file, what is wrong with it, and what to do."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(LOOK)
        refuse_other_kinds(path, start)
        length = int.from_bytes(start[:LENGTH], "little")
        if length > MOST_HEADER:
            raise ValueError(f"{path}: not a safetensors file (its header would be of {length} bytes): {AGAIN}")
        if LENGTH + length > size:
            raise ValueError(f"{path}: cut off in its header, at {size} bytes: {AGAIN}")
        file.seek(LENGTH)
        described = _parse(path, file.read(length))
    end = LENGTH + length + max((entry["data_offsets"][1] for entry in described.values()), default=0)
    if size < end:
        raise ValueError(f"{path}: cut off: {size} bytes of {end}: {AGAIN}")
    return {name: tuple(entry["shape"]) for name, entry in described.items()}


def refuse_other_kinds(path: Path, start: bytes) -> None:
    """Raise ValueError for a file whose first bytes are those of something else than a model's file."""
    if not start:
        raise ValueError(f"{path}: empty (0 bytes): {AGAIN}")
    if start.startswith(POINTER):
        raise ValueError(
            f"{path}: a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned, or download it"
        )
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise ValueError(f"{path}: an HTML page, most often a login or an error: download the file itself")
    # A header begins with a brace, after its length: 640 bytes are the \x80\x02 with which pickles begin.
    is_header = start[LENGTH : LENGTH + 1] == b"{"
    if path.suffix == ".safetensors" and not is_header and start.startswith((b"PK\x03\x04", b"\x80\x02")):
        raise ValueError(f"{path}: a pickle of torch.save under another name: save it with safetensors")


def _parse(path: Path, header: bytes) -> dict[str, dict[str, list[int]]]:
    try:
        described = json.loads(header)
        described.pop("__metadata__", None)
        for entry in described.values():
            start, end = entry["data_offsets"]
            if not all(isinstance(number, int) and number >= 0 for number in (*entry["shape"], start, end)):
                raise TypeError("a size that is no number")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: its header is no description of tensors ({error}): {AGAIN}") from error
    found: dict[str, dict[str, list[int]]] = described
    return found
