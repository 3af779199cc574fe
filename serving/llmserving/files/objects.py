"""The small files of a model that are JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise ValueError with the file where there is none."""
    said = read_json(path)
    if isinstance(said, dict):
        return said
    raise ValueError(f"{path}: a {type(said).__name__}, not an object with fields")


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever is in it
    """Return what is in a JSON file; raise ValueError with the file where it is none."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
