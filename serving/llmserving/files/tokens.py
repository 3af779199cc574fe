"""The tokens that a tokenizer's files name, without loading it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .folders import TOKENIZER_CONFIG
from .objects import read_object

TOKENIZER = "tokenizer.json"


def count(folder: Path) -> int:
    """Return how many tokens the tokenizer of a folder has, 0 where it does not say.

    Raises ValueError for a file that is broken.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        return 0
    data = read_object(path)
    try:
        vocabulary = data["model"].get("vocab", ())
        ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
        return 1 + max([*ids, *_listed(data).values()], default=-1)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: does not list its tokens as tokenizers does ({error!r})") from error


def added(folder: Path) -> dict[str, int]:
    """Return the ids of the tokens that stand beside the vocabulary: special ones, and those of a fine-tuning.

    Raises ValueError for a file that is broken.
    """
    found: dict[str, int] = {}
    for name, tokens in (
        ("added_tokens.json", dict),
        (TOKENIZER_CONFIG, _decoded),
        (TOKENIZER, _listed),
    ):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found |= tokens(read_object(path))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: does not list its added tokens as tokenizers does ({error!r})") from error
    return found


def end(folder: Path) -> str | None:
    """Return the token that a folder's tokenizer ends a text with, None where it does not say."""
    path = folder / TOKENIZER_CONFIG
    said = read_object(path).get("eos_token") if path.is_file() else None
    content = said.get("content") if isinstance(said, dict) else said
    return content if isinstance(content, str) else None


def _decoded(config: dict[str, Any]) -> dict[str, int]:
    return {token["content"]: int(number) for number, token in config.get("added_tokens_decoder", {}).items()}


def _listed(data: dict[str, Any]) -> dict[str, int]:
    listed: Iterable[dict[str, Any]] = data.get("added_tokens") or ()
    return {token["content"]: token["id"] for token in listed}
