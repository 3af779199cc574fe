"""Which engine serves a model, and what goes with it."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig

from llmserving import loading
from llmserving.embedding import Embedder
from llmserving.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from llmserving.engines.base import Engine
    from llmserving.settings import Settings
    from llmserving.tokenizer import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """An engine, its model's tokenizer and advice on sampling, and what embeds."""

    engine: Engine
    tokenizer: Tokenizer
    defaults: Mapping[str, Any]
    embedder: Embedder | None


def load_engine(settings: Settings) -> Loaded:
    """Load the model and return the engine that the settings ask for, warmed up."""
    folders = loading.find_folders(settings)
    config = loading.read_config(settings, folders)
    generation = loading.read_generation_config(folders)
    tokenizer = ModelTokenizer(
        folders.tokenizer,
        stop_ids=loading.stop_ids(generation),
        template=settings.chat_template,
        trust=settings.trust_remote_code,
    )
    length = loading.context_length(config, settings)
    defaults = loading.sampling_advice(generation)
    encoder = _encoder(settings)
    if chosen_name(settings) == "vllm":
        from llmserving.engines.vllm import VllmEngine  # noqa: PLC0415 - not installed where it is not chosen

        return Loaded(VllmEngine(settings, folders, length), tokenizer, defaults, encoder)
    if settings.tensor_parallel_size > 1:
        raise ValueError(f"tensor_parallel_size {settings.tensor_parallel_size}: only the vllm engine splits a model")
    model = loading.load_model(settings, folders, config)
    plain = twin(model)  # before continuous batching changes how the model attends
    engine = transformers_engine(settings, model, plain, length)
    return Loaded(engine, tokenizer, defaults, encoder or Embedder(plain.base_model, tokenizer, length))


def chosen_name(settings: Settings) -> str:
    """Return the engine's name, `auto` decided."""
    if settings.engine != "auto":
        return settings.engine
    return "vllm" if torch.cuda.is_available() and importlib.util.find_spec("vllm") else "continuous"


def transformers_engine(settings: Settings, model: PreTrainedModel, plain: PreTrainedModel, length: int) -> Engine:
    """Return continuous batching, or `generate`, on the plain twin, where it is asked for or the model is refused."""
    # Not at the top: vLLM's image has another transformers.
    from llmserving.engines.continuous import ContinuousEngine  # noqa: PLC0415
    from llmserving.engines.generate import GenerateEngine  # noqa: PLC0415

    if settings.engine == "generate":
        return GenerateEngine(plain, length)
    try:
        return ContinuousEngine(model, length, settings)
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        if settings.engine == "continuous":
            raise
        log.warning("continuous batching refuses the model (%s): one sequence at a time", error)
        return GenerateEngine(plain, length)


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return a second model on the same weights, with settings of its own: no memory but for the modules."""
    shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


def _encoder(settings: Settings) -> Embedder | None:
    folder = settings.embedding_model_dir
    if folder is None:
        return None
    tokenizer = ModelTokenizer(folder, stop_ids=(), template=None, trust=settings.trust_remote_code)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=settings.trust_remote_code)
    return Embedder(loading.load_encoder(folder, settings), tokenizer, loading.context_length(config, settings))
