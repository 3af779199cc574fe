"""Choose the next token of each sequence in a batch: the same code for every transformers engine.

transformers' own processors know no seed, no presence or frequency penalty and no log-probabilities of a single
request, and its top-k and top-p sort the whole vocabulary for every row, greedy ones too. Here a row pays for
what it asks for: a greedy one costs its argmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from llmserving.engines.base import Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

LIKELY = 1024  # tokens looked at first for top-p: they nearly always hold the whole share


class SequenceState:
    """What choosing one sequence's tokens has to remember."""

    def __init__(self, prompt: Sequence[int], sampling: Sampling, device: torch.device) -> None:
        self.sampling = sampling
        self.reports: list[Token] = []  # of every token so far, if log-probabilities are wanted
        self._counts: dict[int, int] = {}
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else set()
        self._generator: torch.Generator | None = None
        if sampling.seed is not None:
            self._generator = torch.Generator(device)
            self._generator.manual_seed(sampling.seed)

    def token(self, place: int, token_id: int) -> Token:
        """Return the token at a place of the answer, with its log-probability if that was wanted."""
        return self.reports[place] if self.reports else Token(token_id)

    @property
    def is_plain(self) -> bool:
        """Return whether the likeliest token is the answer, as the model gives it."""
        wanted = self.sampling
        return wanted.temperature == 0 and wanted.logprobs is None and not self._is_biased

    @property
    def _is_biased(self) -> bool:
        wanted = self.sampling
        penalties = wanted.presence_penalty or wanted.frequency_penalty or wanted.repetition_penalty != 1
        return bool(penalties or wanted.logit_bias)

    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token for logits of shape [vocabulary]."""
        wanted = self.sampling
        scores = self._biased(logits) if self._is_biased else logits
        token_id = int(scores.argmax()) if wanted.temperature == 0 else draw(scores, wanted, self._generator)
        if wanted.logprobs is not None:
            self.reports.append(report(logits, token_id, wanted.logprobs))
        self._counts[token_id] = self._counts.get(token_id, 0) + 1
        if wanted.repetition_penalty != 1:
            self._seen.add(token_id)
        return token_id

    def _biased(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits after biases and penalties, as OpenAI and, for repetition, CTRL define them."""
        wanted, scores = self.sampling, logits.clone()
        if wanted.logit_bias:
            ids = torch.tensor(list(wanted.logit_bias), device=scores.device)
            scores[ids] += torch.tensor(list(wanted.logit_bias.values()), device=scores.device)
        if self._seen:
            ids = torch.tensor(sorted(self._seen), device=scores.device)
            seen, penalty = scores[ids], wanted.repetition_penalty
            scores[ids] = torch.where(seen > 0, seen / penalty, seen * penalty)
        if self._counts and (wanted.presence_penalty or wanted.frequency_penalty):
            ids = torch.tensor(list(self._counts), device=scores.device)
            counts = torch.tensor(list(self._counts.values()), device=scores.device)
            scores[ids] -= wanted.presence_penalty + wanted.frequency_penalty * counts
        return scores


def choose(logits: torch.Tensor, states: Sequence[SequenceState | None]) -> torch.Tensor:
    """Return the next token of each row of logits [batch, vocabulary]; a row of None gets its likeliest."""
    chosen = logits.argmax(dim=-1)
    for row, state in enumerate(states):
        if state is not None and not state.is_plain:
            chosen[row] = state.choose(logits[row])
    return chosen


def draw(scores: torch.Tensor, wanted: Sampling, generator: torch.Generator | None) -> int:
    """Return a token at random from scores [vocabulary], after temperature, min-p, top-k and top-p."""
    scores = scores.float() / wanted.temperature
    ids = None
    if wanted.top_k and wanted.top_k < len(scores):
        scores, ids = scores.topk(wanted.top_k)
    probabilities = scores.softmax(dim=-1)
    if wanted.min_p:
        probabilities = probabilities.where(probabilities >= wanted.min_p * probabilities.max(), 0)
    if wanted.top_p < 1:
        probabilities, order = nucleus(probabilities / probabilities.sum(), wanted.top_p)
        ids = order if ids is None else ids[order]
    place = int(torch.multinomial(probabilities, 1, generator=generator))
    return place if ids is None else int(ids[place])


def nucleus(probabilities: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the likeliest tokens that together reach a share, and their places; never none."""
    some = min(LIKELY, len(probabilities))
    values, order = probabilities.topk(some)
    if values.sum() < share and some < len(probabilities):
        values, order = probabilities.sort(descending=True)
    before = values.cumsum(dim=-1) - values  # what the likelier ones have reached without it
    count = max(1, int((before < share).sum()))
    return values[:count], order[:count]


def report(logits: torch.Tensor, token_id: int, others: int) -> Token:
    """Return the token with its log-probability and those of the likeliest, by the model's own logits."""
    logprobs = logits.float().log_softmax(dim=-1)
    values, ids = logprobs.topk(others)
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Token(token_id, float(logprobs[token_id]), top)
