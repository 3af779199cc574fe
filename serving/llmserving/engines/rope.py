"""Positions: which kinds of rotary embedding depend on more than the sequence that they turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transformers import PretrainedConfig, PreTrainedModel

FROM_LONGEST = ("longrope", "dynamic")  # transformers computes their frequencies from the longest position of a step


def depends_on_company(config: PretrainedConfig, length: int) -> str | None:
    """Return the kind of position whose result depends on the other sequences of a step, if there is one.

    Up to the length that a model was first trained on nothing is scaled, and a context no longer than that is safe.
    """
    text = config.get_text_config()
    for parameters in _parameters(text):
        kind = str(parameters.get("rope_type") or parameters.get("type"))
        trained = getattr(text, "max_position_embeddings", 0)
        if kind == "longrope":
            trained = parameters.get("original_max_position_embeddings") or trained
        if any(name in kind for name in FROM_LONGEST) and length > trained:
            return kind
    return None


def _parameters(config: PretrainedConfig) -> Iterator[Mapping[str, Any]]:
    """Yield each group of rotary parameters: there may be one for each kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        found = getattr(config, name, None)
        if isinstance(found, dict):
            yield found
            yield from (part for part in found.values() if isinstance(part, dict))


def start_anew(model: PreTrainedModel) -> None:
    """Forget how long the last sequence was: dynamic frequencies stay those of the longest one otherwise."""
    for module in model.modules():
        trained = getattr(module, "original_max_seq_len", None)
        if trained is None or "dynamic" not in str(getattr(module, "rope_type", "")):
            continue
        for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
            setattr(module, name, trained)
        for name in [name for name, _ in module.named_buffers(recurse=False) if name.endswith("inv_freq")]:
            original = getattr(module, name.replace("inv_freq", "original_inv_freq"), None)
            if original is not None:
                module.register_buffer(name, original.to(module.get_buffer(name).device), persistent=False)
