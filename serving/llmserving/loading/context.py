"""How long a prompt and its answer may be together, as the model's configuration has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from llmserving.settings import Settings

UNKNOWN = 2048  # tokens, where neither the model nor the settings say
NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
# Their factors are in max_position_embeddings already.
COUNTED = frozenset({"default", "llama3", "longrope", "su", "mrope", "proportional"})


def context_length(config: PretrainedConfig, settings: Settings) -> int:
    """Return the longest prompt and answer together, in tokens; raise ValueError for more than the model has."""
    own = model_length(config.get_text_config().to_dict())
    if settings.max_length and own and settings.max_length > own:
        raise ValueError(
            f"max_length {settings.max_length}: the model goes to {own} tokens "
            "(max_position_embeddings in its config.json, times the factor of its rope scaling)"
        )
    return settings.max_length or own or UNKNOWN


def encoder_length(model: PreTrainedModel) -> int:
    """Return the longest text of an encoder, in tokens: where positions are counted on from the padding, fewer."""
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    offsets = (getattr(table, "padding_idx", None) for table in tables)
    skipped = max((offset + 1 for offset in offsets if offset is not None), default=0)
    return (model_length(model.config.get_text_config().to_dict()) or UNKNOWN) - skipped


def model_length(config: Mapping[str, Any]) -> int:
    """Return how far a text model's positions go, 0 where its configuration does not say.

    As vLLM has it: times the factor for linear, dynamic and yarn scaling, for yarn of the original length.
    """
    said = [config[name] for name in NAMES if isinstance(config.get(name), int) and config[name] > 0]
    if not said:
        return 0
    length: int = min(said)
    if str(config.get("model_type", "")).startswith("gemma3"):  # says the scaled length
        return length
    scaled = [_scaled(length, rope) for rope in ropes(config)]
    return max(scaled, default=length)


def ropes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rope parameters of a text configuration: one set, or one for each kind of layer."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    nested = [value for value in given.values() if isinstance(value, Mapping)]
    return nested or [given]


def rope_kind(rope: Mapping[str, Any]) -> str:
    """Return how a set of rope parameters scales positions."""
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _scaled(length: int, rope: Mapping[str, Any]) -> int:
    kind = rope_kind(rope)
    factor = rope.get("factor")
    if kind in COUNTED or not isinstance(factor, int | float) or factor <= 1:
        return length
    if kind == "yarn":
        length = rope.get("original_max_position_embeddings") or length
    return int(length * factor)
