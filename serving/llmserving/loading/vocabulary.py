"""How many tokens a model has to have for its adapter: as many as the adapter was trained with."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmserving.files import tokens
from llmserving.files.headers import Shapes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

WHOLE = r"(\.base_layer|\.modules_to_save)?(\.default)?\.weight$"  # [tokens, width]
LORA_INPUT = r"\.lora_embedding_A(\.default)?(\.weight)?$"  # [rank, tokens]
LORA_OUTPUT = r"\.lora_B(\.default)?\.weight$"  # [tokens, rank]


def fit(model: PreTrainedModel, adapter: Path, shapes: Shapes, tokenizer: Path) -> None:
    """Give the model as many tokens as the adapter's tensors have, else as its tokenizer has, if that is more.

    Raises ValueError for an adapter whose tensors do not agree, or for a tokenizer that is broken.
    """
    have = size_of(model.get_input_embeddings())
    trained = rows(shapes, _name(model, "input"), _name(model, "output"))
    if len(trained) > 1:
        raise ValueError(f"{adapter}: its tensors are of vocabularies of different sizes: {sorted(trained)}")
    by_tokenizer = not trained
    wanted = trained.pop() if trained else max(have, tokens.count(tokenizer))
    if wanted != have:
        said = "its tokenizer has" if by_tokenizer else "its tensors have"
        log.info("%s: the model has %d tokens, %s %d: resized", adapter, have, said, wanted)
        model.resize_token_embeddings(wanted, mean_resizing=model.device.type != "meta")


def size_of(layer: Any) -> int:  # noqa: ANN401 - an embedding or a head, of torch or of whoever quantised it
    """Return how many tokens an embedding or a head has."""
    for name in ("num_embeddings", "out_features"):
        if isinstance(size := getattr(layer, name, None), int):
            return size
    return int(layer.weight.shape[0])


def rows(shapes: Shapes, embedding: str, head: str) -> set[int]:
    """Return the sizes of the vocabulary that tensors of an adapter have; none where it leaves both ends alone."""
    found = set()
    for name, shape in shapes.items():
        for end, patterns in ((embedding, (WHOLE, LORA_INPUT)), (head, (WHOLE, LORA_OUTPUT))):
            for pattern in patterns:
                if end and re.search(rf"(^|\.){re.escape(end)}{pattern}", name):
                    found.add(shape[1] if pattern is LORA_INPUT else shape[0])
    return found


def _name(model: PreTrainedModel, end: str) -> str:
    """Return the last part of the name of the embedding (`input`), or of what makes the logits (`output`)."""
    wanted = model.get_input_embeddings() if end == "input" else model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if module is wanted]
    return names[0].rpartition(".")[2] if names and wanted is not None else ""
