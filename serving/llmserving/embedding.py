"""Embeddings: the mean of the last hidden states, normalised, of an encoder or of the model itself."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from llmserving.tokenizer import Tokenizer


class Embedder:
    """Embed one text after the other, in a thread of its own."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one vector of length 1 for each prompt."""
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._thread, self._embed, prompt) for prompt in prompts]

    @torch.inference_mode()
    def _embed(self, prompt: Sequence[int]) -> list[float]:
        ids = torch.tensor([list(prompt)], device=self._model.device)
        hidden = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        vector: list[float] = torch.nn.functional.normalize(hidden.float().mean(dim=0), dim=0).tolist()
        return vector
