"""Which engine serves a model, and what goes with it."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmserving.engines.base import Embedder
from llmserving.engines.core_client import RemoteEngine
from llmserving.files import sentences
from llmserving.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmserving.engines.base import Engine, Vectors, Vocabulary
    from llmserving.settings import Settings
    from llmserving.tokenizer import Tokenizer


log = logging.getLogger(__name__)

NAMED = 3  # tokens that a warning names


@dataclass(frozen=True)
class Loaded:
    """An engine, its model's tokenizer and advice on sampling, and what embeds."""

    engine: Engine
    tokenizer: Tokenizer
    defaults: Mapping[str, Any]
    embedder: Embedder | None


def load_engine(settings: Settings) -> Loaded:
    """Return the engine that the settings ask for, its model loaded, in a process of its own."""
    if chosen_name(settings) == "vllm":
        from llmserving.engines.vllm import load_vllm  # noqa: PLC0415 - not installed where it is not chosen

        loaded = _complete(settings, *load_vllm(settings))
        warn_of_unread(loaded.tokenizer, loaded.engine.vocabulary)
        return loaded
    remote = RemoteEngine(settings)  # loads the model while this process loads what is here
    try:
        loaded = _complete(settings, remote, remote)
        remote.wait_until_loaded()
        if not remote.embedding_width:
            loaded = replace(loaded, embedder=None)
        warn_of_unread(loaded.tokenizer, remote.vocabulary)
    except BaseException:
        remote.close()
        raise
    return loaded


def warn_of_unread(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Log which of the tokenizer's tokens the model cannot read: a request that has one is refused."""
    unread = range(vocabulary.read, tokenizer.vocabulary_size)
    if unread:
        names = ", ".join(repr(tokenizer.decode([token], special=True)) for token in unread[:NAMED])
        log.warning(
            "the tokenizer has %d tokens and the model's embedding %d, not resized when tokens were added: "
            "requests that have one of the others are refused (%s%s)",
            tokenizer.vocabulary_size,
            vocabulary.read,
            names,
            ", ..." if len(unread) > NAMED else "",
        )


def chosen_name(settings: Settings) -> str:
    """Return the engine's name, `auto` decided."""
    if settings.engine != "auto":
        return settings.engine
    if importlib.util.find_spec("vllm") is None:
        return "continuous"
    import torch  # noqa: PLC0415 - takes seconds, in which the engine's process could have started

    return "vllm" if torch.cuda.is_available() else "continuous"


def _complete(settings: Settings, engine: Engine, vectors: Vectors | None) -> Loaded:
    """Load what belongs to an engine in the server's own process."""
    from llmserving import loading  # noqa: PLC0415 - brings torch

    folders = loading.find_folders(settings)
    advice = loading.read_advice(folders)
    if advice.unheeded:
        log.warning(
            "%s advises what would change the words of an answer and is not done here: %s",
            advice.file,
            ", ".join(advice.unheeded),
        )
    trust = settings.trust_remote_code
    tokenizer = ModelTokenizer(
        *folders.tokenizers, trust=trust, stop_ids=advice.stop_ids, template=settings.chat_template
    )
    if not tokenizer.has_chat_template:
        log.warning("%s has no chat template: /inference continues the text as it is", folders.tokenizers[0])
    embedder = None
    if vectors is not None:
        folder = settings.embedding_model_dir
        embedder = _embedder(folder, vectors, trust=trust) if folder else Embedder(tokenizer, vectors)
    return Loaded(engine, tokenizer, {**advice.sampling, "suppressed": advice.suppressed}, embedder)


def _embedder(folder: Path, vectors: Vectors, *, trust: bool) -> Embedder:
    said = sentences.read(folder)
    tokenizer = ModelTokenizer(folder, trust=trust, chats=False)
    if said.lower:
        tokenizer.lower()
    return Embedder(tokenizer, vectors, said.prompt)
