"""Embeddings: one vector of a text's last hidden states, normalised, of an encoder or of the model itself."""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import torch

from llmserving import loading
from llmserving.engines import rope
from llmserving.engines.base import SequenceError
from llmserving.engines.vocabulary import check
from llmserving.files import sentences
from llmserving.loading import memory
from llmserving.loading.vocabulary import size_of
from llmserving.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel

    from llmserving.settings import Settings

log = logging.getLogger(__name__)

PROBE = (0, 1, 2, 3)  # tokens that every vocabulary has

# From [tokens, width] to [width], by the names of `files.sentences`.
POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda hidden: hidden.mean(dim=0),
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.amax(dim=0),
    "lasttoken": lambda hidden: hidden[-1],
    "weightedmean": lambda hidden: torch.arange(1.0, len(hidden) + 1, device=hidden.device) @ hidden,
}


class Encoder:
    """Embed one text after the other, in a thread of its own."""

    def __init__(self, model: PreTrainedModel, embedding_tokens: int, mode: str = sentences.MEAN) -> None:
        self.embedding_tokens = embedding_tokens
        self.embedding_vocabulary = size_of(model.get_input_embeddings())
        self.model = model
        self.embedding_width = self._hidden(PROBE[:embedding_tokens]).shape[-1]
        self._pool = POOLS[mode]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector of length 1 for each prompt; raise SequenceError where there is none."""
        return [await in_thread(partial(self.vector, prompt), self._thread) for prompt in prompts]

    def vector(self, prompt: Sequence[int]) -> list[float]:
        """Return the vector of one prompt, in this thread."""
        check(prompt, self.embedding_vocabulary)
        vector: list[float] = torch.nn.functional.normalize(self._pool(self._hidden(prompt)), dim=0).tolist()
        if not all(map(math.isfinite, vector)):
            raise SequenceError("the model's numbers for a text are no numbers: NaN or infinite")
        return vector

    @torch.inference_mode()
    def _hidden(self, prompt: Sequence[int]) -> torch.Tensor:
        """Return the last hidden states of one prompt: [tokens, width], float32."""
        rope.start_anew(self.model)
        ids = torch.tensor([list(prompt)], device=self.model.device)
        hidden: torch.Tensor = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        return hidden.float()


def own_encoder(model: PreTrainedModel, embedding_tokens: int) -> Encoder | None:
    """Return what embeds with the model that is served, None for one that shows no hidden states."""
    try:
        return Encoder(model, embedding_tokens)
    except Exception as error:
        if memory.is_out(error):
            raise
        log.warning("there is no /v1/embeddings of this model: %s: %s", type(error).__name__, error)
        return None


def load_encoder(settings: Settings) -> Encoder | None:
    """Return what embeds with a model of its own, if the settings name one; raise ValueError for one that does not."""
    folder = settings.embedding_model_dir
    if folder is None:
        return None
    said = sentences.read(folder)
    model = loading.load_encoder(folder, settings)
    try:
        longest = loading.encoder_length(model)
        encoder = Encoder(model, min(longest, said.tokens or longest), said.mode)
        encoder.vector(PROBE[: encoder.embedding_tokens])
    except Exception as error:  # every request would fail, of a server that is ready
        if memory.is_out(error):
            raise
        raise ValueError(f"{folder}: it does not embed a short text: {type(error).__name__}: {error}") from error
    return encoder
