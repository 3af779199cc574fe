"""How many tokens a loaded model knows: its tokenizer may have more, and one of them would end everybody's step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmserving.engines.base import SequenceError, Vocabulary
from llmserving.loading.vocabulary import size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import PreTrainedModel


def vocabulary_of(model: PreTrainedModel) -> Vocabulary:
    """Return the sizes of a causal model's embedding and logits."""
    read = size_of(model.get_input_embeddings())
    head = model.get_output_embeddings()
    return Vocabulary(read, read if head is None else size_of(head))


def check(prompt: Sequence[int], size: int) -> None:
    """Raise SequenceError for an id that no embedding of this size has: a kernel would end with it, for everybody."""
    if not prompt or min(prompt) < 0 or max(prompt) >= size:
        raise SequenceError(f"a token of the prompt is not among the {size} that the model can read")


def check_suppressed(
    suppressed: Iterable[int], vocabulary: Vocabulary, engine: str, file: str = "generation_config.json"
) -> None:
    """Raise ValueError for a model whose authors forbid more tokens, in a file, than an engine can."""
    count = len(vocabulary.of_these(suppressed))
    if vocabulary.biased is not None and count > vocabulary.biased:
        raise ValueError(
            f"engine {engine}: {file} forbids {count} tokens (suppress_tokens, bad_words_ids), and "
            f"this engine can forbid {vocabulary.biased}; engine continuous serves this model"
        )
