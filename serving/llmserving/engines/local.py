"""The transformers engines, loaded into this process."""

from __future__ import annotations

import copy
import itertools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmserving import container, loading
from llmserving.engines import budget, rope
from llmserving.engines.base import HangingError, UnprovenError
from llmserving.engines.budget import STEP_TOKENS
from llmserving.engines.continuous import ContinuousEngine
from llmserving.engines.encoder import load_encoder, own_encoder
from llmserving.engines.generate import GenerateEngine
from llmserving.engines.proof import measure, prove

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

    from llmserving.engines.base import Engine
    from llmserving.engines.encoder import Encoder
    from llmserving.engines.proof import Reference
    from llmserving.settings import Settings

log = logging.getLogger(__name__)


def load_local(settings: Settings, proving: Callable[[float], None] = lambda _: None) -> tuple[Engine, Encoder | None]:
    """Load the model, and return the transformers engine that the settings ask for, and what embeds, if anything does.

    `proving` is told when an engine is about to prove itself, and in how many seconds it has to be done.
    """
    if settings.tensor_parallel_size > 1:
        raise ValueError(f"tensor_parallel_size {settings.tensor_parallel_size}: only the vllm engine splits a model")
    folders = loading.find_folders(settings)
    config = loading.read_config(settings, folders)
    length = loading.context_length(config, settings)
    device = loading.pick_device(settings)
    before = container.memory_left()
    if device.type == "cpu":
        dtype = loading.pick_dtype(settings, device)
        budget.refuse_larger(budget.needs(folders, config, dtype, settings.embedding_model_dir), dtype, before)
    with budget.explained("the model's weights"):
        model = loading.load_model(settings, folders, config)
        encoder = load_encoder(settings)
    loaded = [model] if encoder is None else [model, encoder.model]
    candidate = Candidate(
        model, shared_copy(model), length, budget.room(before, *loaded) if device.type == "cpu" else None
    )
    engine = transformers_engine(settings, candidate, proving)
    return engine, encoder or own_encoder(shared_copy(candidate.plain).base_model, engine.context_length)


@dataclass(frozen=True)
class Candidate:
    """A model to find the engine for, twice: one is changed by continuous batching, the other stays plain.

    `length` is its context in tokens, `space` what a cache may have in bytes: None where a GPU keeps it.
    """

    model: PreTrainedModel
    plain: PreTrainedModel
    length: int
    space: int | None = None


def transformers_engine(
    settings: Settings, candidate: Candidate, proving: Callable[[float], None] = lambda _: None
) -> Engine:
    """Return continuous batching where it is right, else `generate`, on the plain copy.

    Raise ValueError where continuous batching is asked for by name and is not right, or where memory does not suffice;
    HangingError where it hangs.
    """
    reference = measure(candidate.plain, candidate.length)
    if settings.engine == "generate":
        return one_at_a_time(settings, candidate, reference)
    try:
        refuse_unsound(settings, candidate)
        proving(reference.limit)
        engine = ContinuousEngine(candidate.model, candidate.length, settings, candidate.space)
        return proven(engine, reference)
    except (HangingError, budget.TooLittleMemoryError):
        raise
    except Exception as error:
        if settings.engine == "continuous":
            raise ValueError(f"engine continuous: {_words(error)}; engine generate serves this model") from error
        log.warning("continuous batching is not for this model (%s): one sequence at a time", _words(error))
        return one_at_a_time(settings, candidate, reference)


def one_at_a_time(settings: Settings, candidate: Candidate, reference: Reference) -> GenerateEngine:
    """Return `generate`, which knows by the model's speed when it hangs."""
    length = candidate.length
    if candidate.space is not None:
        longest = budget.alone(budget.Shape.of(candidate.plain), candidate.space)
        length = budget.served_length(length, longest, settings)
    engine = GenerateEngine(candidate.plain, length)
    engine.patience = reference.patience
    return engine


def refuse_unsound(settings: Settings, candidate: Candidate) -> None:
    """Raise UnprovenError for a model that a short proof says too little about."""
    kind = rope.depends_on_company(candidate.model.config, candidate.length)
    if kind is not None:
        raise UnprovenError(f"with {kind} positions an answer would depend on the other sequences of a step")
    if settings.engine != "continuous" and not type(candidate.model).__module__.startswith(("transformers.", "peft.")):
        raise UnprovenError("its code is the folder's own, and may do anything at another length")


def proven(engine: ContinuousEngine, reference: Reference) -> ContinuousEngine:
    """Return the engine when it has proved itself; else stop it, whatever came of it, and raise what is wrong."""
    try:
        prove(engine, reference)
    except BaseException:
        engine.close()
        raise
    engine.stall_seconds = reference.patience(STEP_TOKENS)
    return engine


def _words(error: Exception) -> str:
    """Return what happened, in one line."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, UnprovenError | ValueError) else f"{type(error).__name__}: {first}"


def shared_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a second model on the same weights, with settings of its own: no memory but for the modules.

    The frequencies of rotary embeddings are its own too: some kinds change them as they go.
    """
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    shared = {id(tensor): tensor for name, tensor in named if not name.endswith("inv_freq")}
    return copy.deepcopy(model, shared)
