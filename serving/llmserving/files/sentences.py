"""How an encoder's authors make one vector of a text, as a folder of Sentence Transformers says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .objects import read_json, read_object

MODULES = "modules.json"
MEAN = "mean"  # what is done where a folder does not say
MODES = (MEAN, "cls", "max", "lasttoken", "weightedmean")
KNOWN = ("Transformer", "Pooling", "Normalize")  # vectors are of length 1 here in any case

# By the fields that were written before version 5.4, in its order; the fourth is the mean, of another length.
FIELDS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": MEAN,
    "pooling_mode_mean_sqrt_len_tokens": MEAN,
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

# Of the Transformer; the first that is there. Some are of its first versions.
KINDS = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
CONFIGS = tuple(f"sentence_{kind}_config.json" for kind in KINDS)
PROMPTS = "config_sentence_transformers.json"
TOKENIZER = "tokenizer_config.json"
TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}


@dataclass(frozen=True)
class Sentences:
    """What is done to a text before it is embedded, and to its hidden states after; `tokens` None: no bound."""

    mode: str = MEAN
    lower: bool = False
    prompt: str = ""
    tokens: int | None = None


def read(folder: Path) -> Sentences:
    """Return what a folder says; raise ValueError with the file for vectors that are made as none are here."""
    path = folder / MODULES
    if not path.is_file():
        return Sentences()
    pooling = _pooling(folder, _places(path))
    prompt = _prompt(folder / PROMPTS)
    if prompt and pooling.get("include_prompt") is False:
        raise ValueError(f"{folder}: its prompt {prompt!r} is no part of the vector (include_prompt): not served")
    config = next((read_object(folder / name) for name in CONFIGS if (folder / name).is_file()), {})
    if (said := config.get("modality_config", {"text": TEXT}).get("text")) != TEXT:
        raise ValueError(f"{folder}: modality_config has {said} for a text: the model's last hidden states are served")
    return Sentences(pooling["mode"], bool(config.get("do_lower_case")), prompt, _tokens(folder, config))


def _places(path: Path) -> dict[str, str]:
    """Return the folder of each module."""
    try:
        places = {module["type"].rpartition(".")[2]: str(module["path"]) for module in read_json(path)}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: does not list what a text goes through ({error!r})") from error
    unknown = sorted(places.keys() - set(KNOWN))
    if unknown or "Pooling" not in places:
        raise ValueError(
            f"{path}: what makes its vectors is {', '.join(places) or 'nothing'}: served are {', '.join(KNOWN)}"
        )
    if inner := places.get("Transformer"):
        raise ValueError(f"{path}: its model lies in {inner}: move what is there beside it, and set that path to ''")
    return places


def _pooling(folder: Path, places: dict[str, str]) -> dict[str, Any]:
    """Return what a folder says of pooling, its `mode` among it."""
    path = folder / places["Pooling"] / "config.json"
    config = read_object(path)
    said = config.get("pooling_mode") or [mode for name, mode in FIELDS.items() if config.get(name)] or MEAN
    modes = {said} if isinstance(said, str) else set(map(str, said))
    mode = modes.pop().replace("mean_sqrt_len_tokens", MEAN)
    if modes or mode not in MODES:
        raise ValueError(f"{path}: pooling_mode {said!r} is not served: one of {', '.join(MODES)} is")
    return {**config, "mode": mode}


def _prompt(path: Path) -> str:
    """Return what stands before each text where its caller says nothing."""
    config = read_object(path) if path.is_file() else {}
    name = config.get("default_prompt_name")
    try:
        return str(config["prompts"][name] or "") if name is not None else ""
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: default_prompt_name {name!r} is not among its prompts") from error


def _tokens(folder: Path, config: dict[str, Any]) -> int | None:
    """Return the longest text that the authors embed: since version 5.4 the tokenizer says it."""
    said = config.get("max_seq_length")
    if said is None and (folder / TOKENIZER).is_file():
        said = read_object(folder / TOKENIZER).get("model_max_length")
    return int(said) if isinstance(said, int | float) and said > 0 else None
