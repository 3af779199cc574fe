"""Choose the next token of each sequence in a batch: the same code for every transformers engine.

transformers' own processors know no seed, no presence or frequency penalty and no log-probabilities of a single
request, and its top-k and top-p sort the whole vocabulary for every row, greedy ones too. Here a row pays for
what it asks for: a greedy one costs its argmax.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import torch

from llmserving.engines.base import SequenceError, Token
from llmserving.engines.penalties import Penalties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmserving.engines.base import Sampling

log = logging.getLogger(__name__)

NO_NUMBERS = "the model's numbers for the next token are no numbers: NaN or infinite"
LIKELY = 1024  # tokens looked at first for top-p: they nearly always hold the whole share


class SequenceState:
    """What choosing one sequence's tokens has to remember."""

    def __init__(self, prompt: Sequence[int], sampling: Sampling, device: torch.device) -> None:
        self.sampling = sampling
        self.failure: str | None = None  # why it cannot go on; what is chosen from then on means nothing
        self.reports: list[Token] = []  # of every token so far, if log-probabilities are wanted
        self._prompt = prompt
        self._is_penalised = Penalties.are_wanted(sampling)
        self._penalties: Penalties | None = None  # until there are logits
        self._suppressed: torch.Tensor | None = None
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
        return wanted.temperature == 0 and wanted.logprobs is None and not self._is_penalised

    def takes(self, likeliest: int) -> bool:
        """Return whether the likeliest token is the answer without a further look."""
        return self.is_plain and likeliest not in self.sampling.suppressed

    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token for logits of shape [vocabulary]."""
        token_id = self._next(self._scores(logits))
        if self.sampling.logprobs is not None:
            self.reports.append(report(logits, token_id, self.sampling.logprobs))
        if self._penalties is not None:
            self._penalties.count(token_id)
        return token_id

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what penalties and biases make of logits, without what is in no answer."""
        if self._is_penalised and self._penalties is None:
            self._penalties = Penalties(self._prompt, self.sampling, logits)
        scores = logits if self._penalties is None else self._penalties.apply(logits)
        if not self.sampling.suppressed:
            return scores
        if self._suppressed is None:
            there = [token for token in self.sampling.suppressed if token < len(logits)]
            self._suppressed = torch.tensor(there, dtype=torch.long, device=logits.device)
        return scores.index_fill(0, self._suppressed, -math.inf)

    def _next(self, scores: torch.Tensor) -> int:
        wanted = self.sampling
        return likeliest(scores) if wanted.temperature == 0 else draw(scores, wanted, self._generator)


def choose(logits: torch.Tensor, states: Sequence[SequenceState | None]) -> torch.Tensor:
    """Return the next token of each row of logits [batch, vocabulary]; a row of None gets its likeliest.

    What goes wrong in one row is that sequence's failure: the others have their tokens.
    """
    best, chosen = logits.max(dim=-1)
    rows = zip(states, best.isfinite().tolist(), chosen.tolist(), strict=True)
    for row, (state, sound, token) in enumerate(rows):
        if state is None:
            continue
        if not sound:
            state.failure = NO_NUMBERS
        elif not state.takes(token):
            chosen[row] = attempt(state, logits[row], otherwise=chosen[row])
    return chosen


def attempt(state: SequenceState, logits: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor | int:
    """Return a sequence's next token for logits [vocabulary], or `otherwise` and why it failed in its state."""
    try:
        return state.choose(logits)
    except torch.AcceleratorError:  # the device's context is lost for good
        raise
    except Exception as error:
        if not isinstance(error, SequenceError):
            log.exception("a token could not be chosen")
        state.failure = str(error) if isinstance(error, SequenceError) else "its next token could not be chosen"
        return otherwise


def likeliest(scores: torch.Tensor) -> int:
    """Return the token with the highest of scores [vocabulary]; raise SequenceError if that is no number."""
    best, token_id = scores.max(dim=-1)
    if not math.isfinite(best):
        raise SequenceError(NO_NUMBERS)
    return int(token_id)


def draw(scores: torch.Tensor, wanted: Sampling, generator: torch.Generator | None) -> int:
    """Return a token at random from scores [vocabulary], after temperature, min-p, top-k and top-p.

    Raise SequenceError if the scores leave no probabilities.
    """
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
    if not 0 < float(probabilities.sum()) < math.inf:  # seen here: on a GPU the next line would end the process
        raise SequenceError(NO_NUMBERS)
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
    values, ids = logprobs.topk(min(others, len(logprobs)))
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Token(token_id, float(logprobs[token_id]), top)
