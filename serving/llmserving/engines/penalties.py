"""What biases and penalties make of a sequence's logits, at the same cost however long the sequence is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from llmserving.engines.base import SequenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmserving.engines.base import Sampling


class Penalties:
    """Biases and penalties as OpenAI and, for repetition, CTRL define them, for logits like those of the first step.

    What they count stays in tensors: made anew from lists at every step, one long sequence would hold up its batch.
    """

    def __init__(self, prompt: Sequence[int], wanted: Sampling, logits: torch.Tensor) -> None:
        self._wanted = wanted
        self._device = logits.device
        self._biased = self._ids_of(wanted.logit_bias)
        self._biases = torch.tensor(list(wanted.logit_bias.values()), device=self._device)
        if wanted.logit_bias and max(wanted.logit_bias) >= len(logits):
            # seen here: on a GPU a kernel would end with it, for everybody
            raise SequenceError(f"logit_bias: token {max(wanted.logit_bias)} has no score")
        self._places: dict[int, int] = {}  # of each token below
        self._seen = self._ids_of(())
        self._counts = torch.empty(0, device=self._device)  # in the answer
        if wanted.repetition_penalty != 1:
            self._see(token for token in prompt if token < len(logits))  # what a model can only read has no score

    @staticmethod
    def are_wanted(wanted: Sampling) -> bool:
        """Return whether there are any."""
        penalties = wanted.presence_penalty or wanted.frequency_penalty or wanted.repetition_penalty != 1
        return bool(penalties or wanted.logit_bias)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the scores that logits [vocabulary] become."""
        wanted, scores = self._wanted, logits.clone()
        scores[self._biased] += self._biases
        seen = scores[self._seen]
        if wanted.repetition_penalty != 1:
            seen = torch.where(seen > 0, seen / wanted.repetition_penalty, seen * wanted.repetition_penalty)
        seen = seen - wanted.presence_penalty * (self._counts > 0) - wanted.frequency_penalty * self._counts
        scores[self._seen] = seen.to(scores.dtype)
        return scores

    def count(self, token: int) -> None:
        """Take notice of a token of the answer."""
        self._see((token,))
        self._counts[self._places[token]] += 1

    def _see(self, tokens: Iterable[int]) -> None:
        new = [token for token in dict.fromkeys(tokens) if token not in self._places]
        if new:
            self._places.update(zip(new, range(len(self._places), len(self._places) + len(new)), strict=True))
            self._seen = torch.cat((self._seen, self._ids_of(new)))
            self._counts = torch.cat((self._counts, torch.zeros(len(new), device=self._device)))

    def _ids_of(self, tokens: Iterable[int]) -> torch.Tensor:
        return torch.tensor(list(tokens), dtype=torch.long, device=self._device)
