"""Which engine serves a model, and what goes with it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmserving.engines.base import Embedder
from llmserving.engines.remote import RemoteEngine
from llmserving.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from llmserving.engines.base import Engine, Vectors
    from llmserving.settings import Settings
    from llmserving.tokenizer import Tokenizer


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

        return _complete(settings, *load_vllm(settings))
    remote = RemoteEngine(settings)  # loads the model while this process loads what is here
    try:
        loaded = _complete(settings, remote, remote)
        remote.wait_until_loaded()
    except BaseException:
        remote.close()
        raise
    return loaded


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
    tokenizer = _tokenizer(settings, folders.tokenizers, advice.stop_ids, settings.chat_template)
    embedder = None
    if vectors is not None:
        folder = settings.embedding_model_dir
        embedder = Embedder(_tokenizer(settings, [folder]) if folder else tokenizer, vectors)
    return Loaded(engine, tokenizer, advice.sampling, embedder)


def _tokenizer(
    settings: Settings, folders: Sequence[Path], stop_ids: Iterable[int] = (), template: Path | None = None
) -> Tokenizer:
    return ModelTokenizer(*folders, stop_ids=stop_ids, template=template, trust=settings.trust_remote_code)
