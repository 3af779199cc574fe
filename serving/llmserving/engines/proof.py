"""Proof, before it serves, that the continuous engine computes what the plain model computes.

A model whose attention is its own may ignore the paged cache and answer other text, and nothing that transformers
declares says which do. So three short prompts go through both, token for token the same: two together, one of them
longer than a page of the cache, then one that shares that page. The logits are compared, not the tokens alone: near
ties fall either way in sums of another order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from llmserving.engines.base import HangingError, Sampling, UnprovenError
from llmserving.engines.sampler import SequenceState
from llmserving.engines.vocabulary import vocabulary_of
from llmserving.log import quieted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from llmserving.engines.continuous import ContinuousEngine

ANSWER_TOKENS = 6
LONG_TOKENS = 80  # a page of the cache and some more
SHARED_TOKENS = 70  # that page, and other tokens after it
SHORT_TOKENS = 5
PATIENCE_SECONDS = 60.0  # whatever the speed: a machine may be busy with something else
PATIENCE = 20  # times what the plain model took

# The root mean square of a row's difference, in standard deviations of the row, and which quantile of a prompt's rows
# it holds for. Sums of another order differ by up to 1e-5 in float32, 0.005 in float16 and 0.035 in bfloat16 (random
# weights, 2 to 48 layers), and in half precision a mixture of experts may choose another one at a near tie. Another
# computation differs by 0.001 (scores that should have been capped) to 1.4 (no cache).
TOLERANCES = {torch.float32: (2e-4, 1.0), torch.float16: (0.02, 0.5), torch.bfloat16: (0.04, 0.5)}
LARGEST = 1e4  # what models put in for "never" is no part of a difference


@dataclass(frozen=True)
class Probe:
    """A prompt and the answer that is forced on it, and the plain model's logits for each token of the answer."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    logits: torch.Tensor  # [answer, vocabulary]


@dataclass(frozen=True)
class Reference:
    """What the plain model computes, and how long it took, in seconds: in all, and for a token of a prompt."""

    probes: tuple[Probe, ...]
    seconds: float
    per_token: float

    def patience(self, tokens: int) -> float:
        """Return after how many seconds without a result something that computes so many tokens hangs."""
        return PATIENCE_SECONDS + PATIENCE * self.per_token * tokens

    @property
    def limit(self) -> float:
        """Return how many seconds a proof may take."""
        return PATIENCE_SECONDS + PATIENCE * self.seconds


def measure(plain: PreTrainedModel, length: int) -> Reference:
    """Let the plain model continue the probes, cut to a context of `length` tokens.

    Raise ValueError for a model whose logits are no numbers.
    """
    answer = max(1, min(ANSWER_TOKENS, length - 1))
    parts = [_numbers(seed, plain) for seed in range(4)]
    texts = [parts[0][:LONG_TOKENS], parts[1][:SHORT_TOKENS], parts[0][:SHARED_TOKENS] + parts[2][:SHORT_TOKENS]]
    prompts = [tuple(text[: max(1, length - answer)]) for text in texts]
    started = time.monotonic()
    logits = [_plain_logits(plain, prompt, tuple(parts[3][:answer])) for prompt in prompts]
    seconds = time.monotonic() - started
    if any(rows.isnan().any() for rows in logits):
        raise ValueError(f"in {plain.dtype} the model's logits are not numbers: set dtype to bfloat16 or float32")
    probes = [Probe(prompt, tuple(parts[3][:answer]), rows) for prompt, rows in zip(prompts, logits, strict=True)]
    return Reference(tuple(probes), seconds, seconds / sum(len(prompt) + answer for prompt in prompts))


def prove(engine: ContinuousEngine, reference: Reference) -> None:
    """Raise UnprovenError if the engine's logits are not the plain model's, or if it dies or hangs."""
    try:
        # What a worker dies of is said in one line: transformers' own traceback of it is not.
        with quieted("ContinuousBatchingLogger", logging.CRITICAL):
            found = asyncio.run(_continue(engine, reference))
    except TimeoutError as error:
        raise HangingError(f"no answer to a short prompt within {reference.limit:.0f} seconds") from error
    except Exception as error:
        raise UnprovenError((str(error).splitlines() or [type(error).__name__])[0]) from error
    for probe, logits in zip(reference.probes, found, strict=True):
        compare(logits, probe.logits, engine.dtype)


def compare(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """Raise UnprovenError if logits [rows, vocabulary] differ by more than sums of another order do."""
    tolerance, quantile = TOLERANCES.get(dtype, TOLERANCES[torch.bfloat16])
    found, expected = (rows.float().nan_to_num(torch.inf).clamp(-LARGEST, LARGEST) for rows in (found, expected))
    spread = expected.std(dim=-1, correction=0).clamp_min(1e-6)
    differences = (found - expected).square().mean(dim=-1).sqrt() / spread
    difference = float(differences.quantile(quantile))
    if difference > tolerance:
        raise UnprovenError(f"its logits differ from the plain model's by {difference:.2g} standard deviations")
    best, second = expected.topk(2, dim=-1).values.unbind(dim=-1)
    clear = best - second > 4 * torch.maximum(differences, torch.tensor(tolerance)) * spread
    if bool((clear & (found.argmax(dim=-1) != expected.argmax(dim=-1))).any()):
        raise UnprovenError("it chooses another token than the plain model, which has no doubt")


def _numbers(seed: int, model: PreTrainedModel) -> list[int]:
    """Return token ids at random, always the same: away from the vocabulary's ends, where special tokens are."""
    known = vocabulary_of(model)
    tokens = min(known.read, known.chosen)
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = torch.randint(tokens // 8, max(tokens // 2, 1), (LONG_TOKENS,), generator=generator).tolist()
    return drawn


@torch.inference_mode()
def _plain_logits(plain: PreTrainedModel, prompt: tuple[int, ...], answer: tuple[int, ...]) -> torch.Tensor:
    """Return the logits of the tokens that the model can read again: the engine chooses from no others."""
    ids = torch.tensor([prompt + answer], device=plain.device)
    logits: torch.Tensor = plain(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[0, len(prompt) - 1 : -1, : vocabulary_of(plain).read].float().cpu()


async def _continue(engine: ContinuousEngine, reference: Reference) -> list[torch.Tensor]:
    """Return the engine's logits for each probe: the first two together, the third when the first's page is kept."""
    first, second, third = (_Forced(probe) for probe in reference.probes)
    async with asyncio.timeout(reference.limit):
        await asyncio.gather(_follow(engine, first), _follow(engine, second))
        await _follow(engine, third)
    return [torch.stack(state.seen) for state in (first, second, third)]


async def _follow(engine: ContinuousEngine, state: _Forced) -> None:
    async with aclosing(engine.follow(state.prompt, state)) as tokens:
        async for _ in tokens:
            pass


class _Forced(SequenceState):
    """A sequence whose tokens are given: it keeps the logits that it would have chosen from."""

    is_plain = False

    def __init__(self, probe: Probe) -> None:
        super().__init__(probe.prompt, Sampling(max_tokens=len(probe.answer), temperature=0), torch.device("cpu"))
        self.prompt = probe.prompt
        self.seen: list[torch.Tensor] = []
        self._answer: Sequence[int] = probe.answer

    def choose(self, logits: torch.Tensor) -> int:
        """Return the next token of the answer, whatever the logits, [vocabulary], say."""
        self.seen.append(logits.detach().clone().float().cpu())
        return self._answer[len(self.seen) - 1]
