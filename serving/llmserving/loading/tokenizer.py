"""The checkpoint's tokenizer and chat template, or, where it lacks one, the base's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmserving.files import tokens
from llmserving.files.folders import PROCESSORS, TEMPLATE, TOKENIZER_CONFIG, has_tokenizer
from llmserving.files.objects import read_object
from llmserving.files.weights import some
from llmserving.loading import probes

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)


def load_tokenizer(folders: Sequence[Path], *, trust: bool) -> tuple[Any, Path]:
    """Return the first folder's tokenizer, else the next one's, and the folder that its chat template is from.

    Raises ValueError with the file and the likely cause where none can be loaded.
    """
    first, *others = folders
    if others and not has_tokenizer(first):
        return _in_its_place(first, others, ValueError(f"{first} has no tokenizer"), trust=trust)
    try:
        tokenizer = _load(first, trust=trust)
    except ValueError as error:
        if not others:
            raise
        return _in_its_place(first, others, error, trust=trust)
    for other in others:
        if not tokenizer.chat_template and (lent := _lent(other)):
            log.warning("%s has no chat template: the one of %s is taken", first, other)
            tokenizer.chat_template = lent
            return tokenizer, other
    return tokenizer, first


def template_file(folder: Path) -> Path:
    """Return the file that a folder's chat template is read from."""
    own, processors, config = (folder / name for name in (TEMPLATE, PROCESSORS, TOKENIZER_CONFIG))
    if own.is_file():
        return own
    has_one = config.is_file() and read_object(config).get("chat_template")
    return processors if processors.is_file() and not has_one else config


def read_template(file: Path) -> Any:  # noqa: ANN401 - a text, or several by name
    """Return the chat template that a file holds, None where it holds none; raise ValueError where it is broken."""
    if file.suffix == ".json":
        said = read_object(file).get("chat_template")
        try:
            return {each["name"]: each["template"] for each in said} if isinstance(said, list) else said
        except (KeyError, TypeError) as error:
            raise ValueError(f"{file}: its chat templates have no name, or no template ({error!r})") from error
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: a chat template is text in UTF-8: {error}") from error


def _in_its_place(first: Path, others: Sequence[Path], error: ValueError, *, trust: bool) -> tuple[Any, Path]:
    """Return another folder's tokenizer in place of the first one's, if it has the tokens that the first one names.

    How a chat is written, and where an answer ends, is what the first one says all the same.
    """
    try:
        tokenizer, lender = load_tokenizer(others, trust=trust)
    except ValueError as other:
        raise ValueError(f"{error}; {other}") from error
    vocabulary = tokenizer.get_vocab()
    end = tokens.end(first)
    lacking = {token for token, number in tokens.added(first).items() if vocabulary.get(token) != number}
    if end and end not in vocabulary:
        lacking.add(end)
    if lacking:
        raise ValueError(
            f"{error}; the tokenizer of {others[0]} cannot take its place: "
            f"it lacks {some(sorted(lacking))}, or has other ids"
        ) from error
    if end:
        tokenizer.eos_token = end
    if own := _template_of(first):
        tokenizer.chat_template, lender = own, first
    its_chats = f", with the chat template of {lender}" if tokenizer.chat_template else ""
    log.warning("%s; the tokenizer of %s is taken%s", error, others[0], its_chats)
    return tokenizer, lender


def _lent(folder: Path) -> Any:  # noqa: ANN401 - a text, or several by name
    """Return a base's chat template, whatever its tokenizer is; None, and a line in the log, where it is broken."""
    try:
        return _template_of(folder)
    except ValueError as error:
        log.warning("no chat template is taken from %s: %s", folder, error)
        return None


def _template_of(folder: Path) -> Any:  # noqa: ANN401
    """Return the chat template that a folder's files hold, None where they hold none."""
    file = template_file(folder)
    return read_template(file) if file.is_file() else None


def _load(folder: Path, *, trust: bool) -> Any:  # noqa: ANN401
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds, and the echo engine needs none

    try:
        # Where mistral_common is installed, as it is with vLLM, its tokenizer would be taken for a tekken.json that
        # lies beside: one without chat templates.
        own = False if (folder / tokens.TOKENIZER).is_file() else None
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust, mistral_format=own
        )
        fault = probes.fault(tokenizer, folder)
    except Exception as error:
        raise ValueError(f"{folder}: its tokenizer cannot be loaded{_likely(folder, error)}") from error
    if fault:
        raise ValueError(f"{folder}: its tokenizer cannot be loaded: {fault}")
    file = template_file(folder)
    if not tokenizer.chat_template and file.name == PROCESSORS:
        tokenizer.chat_template = read_template(file)
    return tokenizer


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
