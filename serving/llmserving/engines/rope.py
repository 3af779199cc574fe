"""Positions: which kinds of rotary embedding depend on more than the sequence that they turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmserving.loading.context import rope_kind, ropes

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

FROM_LONGEST = ("longrope", "dynamic")  # transformers computes their frequencies from the longest position of a step


def depends_on_company(config: PretrainedConfig, length: int) -> str | None:
    """Return the kind of position whose result depends on the other sequences of a step, if there is one.

    Up to the length that a model was first trained on nothing is scaled, and a context no longer than that is safe.
    """
    text = config.get_text_config().to_dict()
    for rope in ropes(text):
        kind, trained = rope_kind(rope), text.get("max_position_embeddings") or 0
        if kind == "longrope":
            trained = rope.get("original_max_position_embeddings") or trained
        if any(name in kind for name in FROM_LONGEST) and length > trained:
            return kind
    return None


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
