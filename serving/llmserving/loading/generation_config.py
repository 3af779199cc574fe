"""The authors' advice on sampling, and the ids that end an answer or are never in one, read field by field.

What else is in the file ends no start; what of it would change an answer's words is known by name, to be said.
"""

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
    """What a request that says nothing gets, what ends an answer (chat models have several ids), what is in none.

    `unheeded` are the names of what changes words in transformers, and is not done here; `file` is where all is from.
    """

    sampling: Mapping[str, float] = field(default_factory=dict)
    stop_ids: frozenset[int] = frozenset()
    suppressed: frozenset[int] = frozenset()
    unheeded: tuple[str, ...] = ()
    file: str = FILE


# As a request's own values are bounded.
BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: 0 <= value <= 100, "0 to 100"),  # noqa: PLR2004
    "top_p": (lambda value: 0 < value <= 1, "more than 0, 1 at most"),
    "top_k": (lambda value: value >= -1 and value == int(value), "a whole number, -1 or 0 for all"),
    "min_p": (lambda value: 0 <= value <= 1, "0 to 1"),
    "repetition_penalty": (lambda value: 0.01 <= value <= 10, "0.01 to 10"),  # noqa: PLR2004
}

# What else changes the words of an answer in transformers' `generate`: the values, beside null, that change none.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "bad_words_ids": ([],),  # of several tokens: a single one is suppressed
    "begin_suppress_tokens": ([],),
    "constraints": ([],),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "epsilon_cutoff": (0, 1),
    "eta_cutoff": (0, 1),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "penalty_alpha": (0,),
    "sequence_bias": ([], {}),
    "stop_strings": ([],),
    "token_healing": (False,),
    "top_h": (),
    "typical_p": (1,),
    "watermarking_config": (),
}


def read_advice(folders: Folders) -> Advice:
    """Return the advice of the adapter's folder, else of the weights', else of the configuration there.

    Raises ValueError for a value that cannot be.
    """
    for folder in (folders.adapter, folders.weights):
        if folder is not None and (folder / FILE).is_file():
            return _advice(folder / FILE, read_object(folder / FILE))
    path = folders.weights / CONFIG  # where the advice stood before the file was invented: transformers follows it
    config = read_object(path)
    return _advice(path, {**_given(config.get("text_config")), **_given(config)})


def _given(config: object) -> dict[str, Any]:
    """Return what a configuration says, without its nulls."""
    return {name: value for name, value in config.items() if value is not None} if isinstance(config, dict) else {}


def _advice(path: Path, said: Mapping[str, Any]) -> Advice:
    stop_ids = _ids(path, "eos_token_id", said.get("eos_token_id"))
    words = said.get("bad_words_ids")
    single = [word for word in words if isinstance(word, list) and len(word) == 1] if isinstance(words, list) else []
    suppressed = _ids(path, "suppress_tokens", said.get("suppress_tokens"))
    bad = _ids(path, "bad_words_ids", single) - stop_ids  # as transformers has it: an answer may end
    left = dict(said) | ({"bad_words_ids": None} if single and len(single) == len(words or ()) else {})
    unheeded = tuple(name for name, values in NEUTRAL.items() if left.get(name) not in (None, *values))
    return Advice(_sampling(path, said), stop_ids, suppressed | bad, unheeded, path.name)


def _sampling(path: Path, said: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, (fits, wanted) in BOUNDS.items():
        value = said.get(name)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf
        if not number or not fits(value):
            raise ValueError(f"{path}: {name} {value!r}: it is {wanted}; correct it, or take it out")
        values[name] = int(value) if name == "top_k" else value
    if said.get("do_sample") is False:
        values["temperature"] = 0.0
    return values


def _ids(path: Path, name: str, said: object) -> frozenset[int]:
    ids = list(_flat(said))
    wrong = [value for value in ids if isinstance(value, bool) or not isinstance(value, int) or value < 0]
    if wrong:
        raise ValueError(f"{path}: {name} {said!r}: token ids are whole numbers")
    return frozenset(ids)  # type: ignore[arg-type]  # the others are refused


def _flat(value: object) -> Iterator[object]:
    """Yield what is in a list, however deep; nothing for null."""
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    elif value is not None:
        yield value
