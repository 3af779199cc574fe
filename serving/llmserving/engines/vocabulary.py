"""How many tokens a loaded model knows: its tokenizer may have more, and one of them would end everybody's step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmserving.engines.base import SequenceError, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel


def vocabulary_of(model: PreTrainedModel) -> Vocabulary:
    """Return the sizes of a causal model's embedding and logits."""
    read = rows(model.get_input_embeddings())
    head = model.get_output_embeddings()
    return Vocabulary(read, read if head is None else rows(head))


def rows(layer: Any) -> int:  # noqa: ANN401 - an embedding or a head, of torch or of whoever quantised it
    """Return how many tokens an embedding or a head has."""
    for name in ("num_embeddings", "out_features"):
        if isinstance(size := getattr(layer, name, None), int):
            return size
    return int(layer.weight.shape[0])


def check(prompt: Sequence[int], size: int) -> None:
    """Raise SequenceError for an id that no embedding of this size has: a kernel would end with it, for everybody."""
    if not prompt or min(prompt) < 0 or max(prompt) >= size:
        raise SequenceError(f"a token of the prompt is not among the {size} that the model can read")
