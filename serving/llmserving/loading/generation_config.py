"""The authors' advice on sampling, and the ids that end an answer, read field by field: others end no start."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmserving.files.folders import CONFIG, Folders
from llmserving.files.objects import read_object

FILE = "generation_config.json"


@dataclass(frozen=True)
class Advice:
    """What a request that says nothing gets, and what ends an answer: chat models have several ids."""

    sampling: Mapping[str, float] = field(default_factory=dict)
    stop_ids: frozenset[int] = frozenset()


# As a request's own values are bounded.
BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: 0 <= value <= 100, "0 to 100"),  # noqa: PLR2004
    "top_p": (lambda value: 0 < value <= 1, "more than 0, 1 at most"),
    "top_k": (lambda value: value >= -1 and value == int(value), "a whole number, -1 or 0 for all"),
    "min_p": (lambda value: 0 <= value <= 1, "0 to 1"),
    "repetition_penalty": (lambda value: 0.01 <= value <= 10, "0.01 to 10"),  # noqa: PLR2004
}


def read_advice(folders: Folders) -> Advice:
    """Return the advice of the adapter's folder, else of the weights'; raise ValueError for a value that cannot be."""
    for folder in (folders.adapter, folders.weights):
        if folder is not None and (folder / FILE).is_file():
            said = read_object(folder / FILE)
            return Advice(_sampling(folder / FILE, said), _stop_ids(folder / FILE, said.get("eos_token_id")))
    config = read_object(folders.weights / CONFIG)
    text = config.get("text_config")
    ids = config.get("eos_token_id", text.get("eos_token_id") if isinstance(text, dict) else None)
    return Advice({}, _stop_ids(folders.weights / CONFIG, ids))


def _sampling(path: Path, said: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, (fits, wanted) in BOUNDS.items():
        value = said.get(name)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not fits(value):
            raise ValueError(f"{path}: {name} {value!r}: it is {wanted}; correct it, or take it out")
        values[name] = int(value) if name == "top_k" else value
    if said.get("do_sample") is False:
        values["temperature"] = 0.0
    return values


def _stop_ids(path: Path, said: object) -> frozenset[int]:
    ids = list(_flat(said))
    wrong = [value for value in ids if isinstance(value, bool) or not isinstance(value, int) or value < 0]
    if wrong:
        raise ValueError(f"{path}: eos_token_id {said!r}: token ids are whole numbers")
    return frozenset(ids)  # type: ignore[arg-type]  # the others are refused


def _flat(value: object) -> Iterator[object]:
    """Yield what is in a list, however deep; nothing for null."""
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    elif value is not None:
        yield value
