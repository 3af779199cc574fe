"""The transformers engines, loaded into this process."""

from __future__ import annotations

import copy
import itertools
import logging
from typing import TYPE_CHECKING

from llmserving import loading
from llmserving.engines.continuous import ContinuousEngine
from llmserving.engines.encoder import Encoder, load_encoder
from llmserving.engines.generate import GenerateEngine

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llmserving.engines.base import Engine
    from llmserving.settings import Settings

log = logging.getLogger(__name__)


def load_local(settings: Settings) -> tuple[Engine, Encoder]:
    """Load the model, and return the transformers engine that the settings ask for, and what embeds."""
    if settings.tensor_parallel_size > 1:
        raise ValueError(f"tensor_parallel_size {settings.tensor_parallel_size}: only the vllm engine splits a model")
    folders = loading.find_folders(settings)
    config = loading.read_config(settings, folders)
    length = loading.context_length(config, settings)
    model = loading.load_model(settings, folders, config)
    plain = twin(model)  # before continuous batching changes how the model attends
    engine = transformers_engine(settings, model, plain, length)
    return engine, load_encoder(settings) or Encoder(plain.base_model, length)


def transformers_engine(settings: Settings, model: PreTrainedModel, plain: PreTrainedModel, length: int) -> Engine:
    """Return continuous batching, or `generate`, on the plain twin, where it is asked for or the model is refused."""
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
