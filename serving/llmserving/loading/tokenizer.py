"""The checkpoint's tokenizer and chat template, or, where it lacks one, the base's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)


def load_tokenizer(folders: Sequence[Path], *, trust: bool) -> Any:  # noqa: ANN401 - transformers' own
    """Return the first folder's tokenizer; the next one's where it cannot be loaded, or for its chat template.

    Raises ValueError with the file and the likely cause where none can be loaded.
    """
    first, *others = folders
    try:
        tokenizer = _load(first, trust=trust)
    except ValueError as error:
        if not others or _adds_tokens(first):
            raise
        log.warning("%s; the tokenizer of %s is taken", error, others[0])
        return load_tokenizer(others, trust=trust)
    for other in others:
        if not tokenizer.chat_template and (lent := _load(other, trust=trust).chat_template):
            log.warning("%s has no chat template: the one of %s is taken", first, other)
            tokenizer.chat_template = lent
    return tokenizer


def _load(folder: Path, *, trust: bool) -> Any:  # noqa: ANN401
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds, and the echo engine needs none

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust)
    except Exception as error:
        raise ValueError(f"{folder}: its tokenizer cannot be loaded{_likely(folder, error)}") from error


def _likely(folder: Path, error: Exception) -> str:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return f": no tokenizer.json, tokenizer.model or vocab.json is there ({type(error).__name__}: {error})"
    if isinstance(error, ImportError) or "tiktoken" in str(error) or "sentencepiece" in str(error).lower():
        return (
            f": {_files(folder)} want a package that is not here (sentencepiece, tiktoken or protobuf); save the "
            f"tokenizer as tokenizer.json where it is ({type(error).__name__}: {error})"
        )
    return f": {type(error).__name__}: {error}"


def _files(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*token*") if path.is_file())
    return ", ".join(names) or "its files"


def _adds_tokens(folder: Path) -> bool:
    """Return whether a folder names tokens that fine-tuning added: another tokenizer would not know them."""
    path = folder / "added_tokens.json"
    return path.is_file() and bool(path.read_text(encoding="utf-8").strip("{} \n"))
