"""Embeddings: the mean of the last hidden states, normalised, of an encoder or of the model itself."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from llmserving import loading
from llmserving.engines.base import SequenceError
from llmserving.engines.vocabulary import check, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from llmserving.settings import Settings


class Encoder:
    """Embed one text after the other, in a thread of its own."""

    def __init__(self, model: PreTrainedModel, embedding_tokens: int) -> None:
        self.embedding_tokens = embedding_tokens
        self.embedding_vocabulary = rows(model.get_input_embeddings())
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector of length 1 for each prompt; raise SequenceError where there is none."""
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._thread, self._embed, prompt) for prompt in prompts]

    @torch.inference_mode()
    def _embed(self, prompt: Sequence[int]) -> list[float]:
        check(prompt, self.embedding_vocabulary)
        ids = torch.tensor([list(prompt)], device=self._model.device)
        hidden = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        vector: list[float] = torch.nn.functional.normalize(hidden.float().mean(dim=0), dim=0).tolist()
        if not all(map(math.isfinite, vector)):
            raise SequenceError("the model's numbers for a text are no numbers: NaN or infinite")
        return vector


def load_encoder(settings: Settings) -> Encoder | None:
    """Return what embeds with a model of its own, if the settings name one."""
    folder = settings.embedding_model_dir
    if folder is None:
        return None
    model = loading.load_encoder(folder, settings)
    return Encoder(model, loading.encoder_length(model))
