"""How large the cache of keys and values may be, by what this container may still use."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cache import PagedAttentionCache
from transformers.generation.continuous_batching.distributed import DistributedHelper
from transformers.generation.continuous_batching.initialization import resolve_continuous_batching_config
from transformers.generation.continuous_batching.model_runner import infer_max_single_request_tokens
from transformers.generation.continuous_batching.utils import (
    find_head_dim,
    find_num_key_value_heads,
    get_device_and_memory_breakdown,
)

from llmserving import container
from llmserving.files import adapters, weights
from llmserving.loading import memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel

    from llmserving.files.folders import Folders
    from llmserving.settings import Settings

log = logging.getLogger(__name__)

SHARE = 0.75  # of what is left after the weights; the rest is for steps, embeddings and the HTTP side
PAGE_TOKENS = 64  # small pages: a short sequence wastes less, a common beginning is shared sooner
STEP_TOKENS = 512  # of prompts in one step: more would hold up the tokens of those already running
SEQUENCES = 8  # full-length ones that a CPU's cache holds at most, unless a setting says how many tokens
FEWEST_TOKENS = 256  # of the longest sequence: nobody is served by less
GIB = 2**30


class TooLittleMemoryError(ValueError):
    """What is to be served does not fit; the message has the numbers, and what to set."""


@dataclass(frozen=True)
class Cache:
    """A cache of so many pages: of all sequences together, and the longest one it can hold alone, in tokens."""

    pages: int
    tokens: int
    longest: int
    bytes: int


@dataclass(frozen=True)
class Shape:
    """What of a model decides how large its cache is."""

    config: PretrainedConfig
    dtype: torch.dtype
    keeps_logits: bool = True  # it computes those alone that are asked for

    @classmethod
    def of(cls, model: PreTrainedModel) -> Shape:
        """Return a model's."""
        keeps = getattr(model, "_supports_logits_to_keep", None)
        return cls(model.config.get_text_config(), model.dtype, callable(keeps) and bool(keeps()))


def room(before: int, *models: PreTrainedModel) -> int:
    """Return how many bytes a cache may have; `before` were left before the models were loaded.

    Weights that are mapped from their files do not count as taken, and have to stay in memory all the same.
    """
    tensors = {id(one): one.nbytes for model in models for one in [*model.parameters(), *model.buffers()]}
    return int(SHARE * max(0, min(before - sum(tensors.values()), container.memory_left())))


def options(settings: Settings, **more: Any) -> ContinuousBatchingConfig:  # noqa: ANN401 - its own fields
    """Return how continuous batching is set up.

    Steps are synchronous and without CUDA graphs, since the choice of tokens is Python code between two of them.
    """
    return ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        max_batch_tokens=max(STEP_TOKENS, settings.max_running),
        max_requests_per_batch=settings.max_running,
        use_async_batching=False,
        use_cuda_graph=False,
        **more,
    )


def largest(shape: Shape, settings: Settings, space: int) -> Cache:
    """Return the largest cache that a number of bytes holds, with all that goes with it, as transformers counts.

    It is made without memory, on torch's device for that. Raise MemoryError if there is none.
    """
    _, total, reserved, allocated = get_device_and_memory_breakdown()
    share = min(1.0, space / max(1, total - max(reserved, allocated)))
    resolved = resolve_continuous_batching_config(
        config=shape.config,
        cb_config=options(settings, max_memory_percent=share),
        workload_hints=None,
        has_logit_processors=True,
        device=torch.device("cpu"),
    )
    try:
        whole = DistributedHelper(None, None, {})
        cache = PagedAttentionCache(shape.config, resolved, "meta", whole, shape.dtype, shape.keeps_logits)
    except ValueError as error:
        if "Invalid values" not in str(error):  # it has counted pages, and less than one
            raise
        raise MemoryError(f"{_gib(space)} hold no page of the cache") from error
    pages = cache.num_blocks
    per_page = cache.bytes_per_sector * cache.num_sectors // max(1, pages)
    return Cache(pages, pages * PAGE_TOKENS, infer_max_single_request_tokens(cache), per_page * pages)


def plan(shape: Shape, context: int, settings: Settings, space: int) -> Cache:
    """Return the cache to make in `space` bytes, for a context of so many tokens; `longest` is what can be served.

    Raise TooLittleMemoryError with the number to set where a setting asks for more than there is.
    """
    try:
        most = largest(shape, settings, space)
    except MemoryError:
        most = Cache(0, 0, 0, 0)
    if most.longest < min(context, FEWEST_TOKENS):
        raise TooLittleMemoryError(
            f"{_gib(space / SHARE)} of memory are left, and its cache would hold {most.longest} tokens:"
            " give the container more memory, or serve a smaller model"
        )
    wanted = settings.kv_cache_tokens
    if wanted > most.tokens:
        raise TooLittleMemoryError(
            f"kv_cache_tokens {wanted}: the memory that is left holds {most.tokens}; set at most that"
        )
    pages = min(most.pages, -(-max(wanted or SEQUENCES * context, context) // PAGE_TOKENS) + 1)
    made = Cache(pages, pages * PAGE_TOKENS, most.longest, most.bytes * pages // most.pages)
    log.info(
        "the cache takes %s of the %s that are left: %d tokens, %.1f sequences of %d",
        _gib(made.bytes),
        _gib(space / SHARE),
        made.tokens,
        made.tokens / context,
        context,
    )
    return made


def served_length(context: int, longest: int, settings: Settings) -> int:
    """Return the longest sequence to serve, and say so where it is not the model's own.

    Raise TooLittleMemoryError with the number to set where a setting asked for more.
    """
    if longest >= context:
        return context
    if longest < min(context, FEWEST_TOKENS):
        raise TooLittleMemoryError(f"the memory that is left holds {longest} tokens: give the container more")
    if settings.max_length:
        raise TooLittleMemoryError(
            f"max_length {settings.max_length}: the memory that is left holds {longest}; set at most that"
        )
    log.warning("the memory that is left holds %d tokens: the context is lowered to that from %d", longest, context)
    return longest


def alone(shape: Shape, space: int) -> int:
    """Return about how many tokens one sequence may have in `space` bytes when `generate` computes it."""
    config = shape.config
    try:
        width = find_num_key_value_heads(config) * find_head_dim(config)
    except Exception:  # noqa: BLE001 - not every model has heads, or the same in each layer: no more than this, then
        width = getattr(config, "hidden_size", 0)
    numbers = 2.5 * getattr(config, "num_hidden_layers", 1) * max(1, width)  # keys, values, and copies of some
    per_token = numbers * shape.dtype.itemsize
    heads = getattr(config, "num_attention_heads", 1)
    eager = getattr(config, "_attn_implementation", None) == "eager"
    per_pair = 3 * 4 * heads if eager else 1  # scores of a whole prompt, in float32, or a mask
    return int((math.sqrt(per_token**2 + 4 * per_pair * space) - per_token) / (2 * per_pair))


def needs(folders: Folders, config: PretrainedConfig, dtype: str, encoder: Path | None) -> list[tuple[Path, int]]:
    """Return what is to be loaded, and how many bytes of memory each takes: weights, adapter, encoder."""
    found = [(folders.weights, _size(weights.files(folders.weights), config, dtype))]
    if folders.adapter is not None:
        found.append((folders.adapter, _size([adapters.file(folders.adapter)])))
    if encoder is not None:
        found.append((encoder, _size(weights.files(encoder))))
    return found


def _size(files: Iterable[Path], config: PretrainedConfig | None = None, dtype: str = "auto") -> int:
    """Return how many bytes the tensors of files take in memory, in their own type of numbers or another."""
    size = sum(path.stat().st_size for path in files)
    kept, quantised = (getattr(config, name, None) for name in ("dtype", "quantization_config"))
    if dtype == "auto" or not isinstance(kept, torch.dtype) or quantised is not None:
        return size
    computed: torch.dtype = getattr(torch, dtype)
    return size * computed.itemsize // kept.itemsize


def refuse_larger(needed: Sequence[tuple[Path, int]], dtype: str, left: int) -> None:
    """Raise TooLittleMemoryError where what is to be loaded is larger than the memory that is left."""
    size = sum(each for _, each in needed)
    if size > left:
        shown = ", ".join(f"{folder}: {_gib(each)}" for folder, each in needed)
        raise TooLittleMemoryError(
            f"the weights take {_gib(size)} ({shown}; dtype {dtype}), and {_gib(left)} of memory are left: give the "
            "container more, or set dtype to bfloat16"
        )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn any way of being out of memory into a TooLittleMemoryError that says so."""
    try:
        yield
    except Exception as error:
        if not memory.is_out(error):
            raise
        raise TooLittleMemoryError(_words(what, error)) from error


def _words(what: str, error: BaseException) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"not enough memory for {what} ({reason}): give the container more, or set a smaller max_length"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.0f} MiB"
