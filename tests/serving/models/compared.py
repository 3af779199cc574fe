"""Our text and log-probabilities beside transformers' own greedy `generate`, for one architecture."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import architectures
import torch
from llmserving.engines.base import Sampling
from llmserving.engines.continuous import ContinuousEngine
from llmserving.engines.local import load_local
from llmserving.settings import from_mapping
from transformers import AutoModelForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANSWER = 24  # tokens
LENGTHS = (6, 90, 600)  # of prompts: short, longer than a page of the cache, longer than a step
REFUSED, NOT_MADE = "refused", "not made"
CLOSE = 2e-3  # between two log-probabilities: sums of another order, in float32


@dataclass(frozen=True)
class Row:
    """Which engine serves an architecture, if one does, and why not the first."""

    name: str
    engine: str
    words: str = ""


class DifferentError(AssertionError):
    """Our answer is not transformers' own."""


def examine(name: str, folder: Path) -> Row:
    """Make an architecture, serve it, and return how; raise DifferentError if our answers are not transformers'."""
    try:
        architectures.make(name).save_pretrained(folder)
        expected = own_answers(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    except Exception as error:  # noqa: BLE001 - transformers cannot make or run it: nothing to compare with
        return Row(name, NOT_MADE, _first_line(error))
    with heard() as reasons:
        try:
            engine, _ = load_local(from_mapping({"model_dir": folder}))
        except Exception as error:  # noqa: BLE001 - a refusal
            return Row(name, REFUSED, _first_line(error))
    try:
        compare(asyncio.run(our_answers(engine)), expected)
    finally:
        engine.close()
    if isinstance(engine, ContinuousEngine):
        return Row(name, "continuous")
    return Row(name, "generate", " ".join(reasons).partition("model (")[2].rpartition("):")[0])


@contextmanager
def heard() -> Iterator[list[str]]:
    """Yield a list that fills with what the choice of an engine says in the log."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("llmserving.engines.local")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def prompts() -> list[list[int]]:
    """Return the prompts: away from the vocabulary's ends, where special tokens are."""
    generator = torch.Generator().manual_seed(11)
    return [torch.randint(20, 390, (length,), generator=generator).tolist() for length in LENGTHS]


Answer = list[tuple[int, float]]  # tokens with their log-probabilities


def own_answers(model: Any) -> list[Answer]:
    """Return what transformers' `generate` answers, each prompt alone."""
    return [_own_answer(model, torch.tensor([prompt])) for prompt in prompts()]


@torch.inference_mode()
def _own_answer(model: Any, ids: torch.Tensor) -> Answer:
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=ANSWER,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tokens = made.sequences[0, ids.shape[1] :].tolist()
    rows = [logits[0].float().log_softmax(-1) for logits in made.logits]
    return [(token, float(row[token])) for token, row in zip(tokens, rows, strict=True)]


async def our_answers(engine: Any) -> list[Answer]:
    """Return what the engine answers, all prompts at once."""
    return await asyncio.gather(*(_our_answer(engine, prompt) for prompt in prompts()))


async def _our_answer(engine: Any, prompt: list[int]) -> Answer:
    wanted = Sampling(max_tokens=ANSWER, temperature=0, logprobs=0)
    async with aclosing(engine.submit(prompt, wanted)) as tokens:
        return [(token.id, token.logprob) async for token in tokens]


def compare(ours: list[Answer], own: list[Answer]) -> None:
    """Raise DifferentError unless the tokens are the same, and their log-probabilities close."""
    for length, found, expected in zip(LENGTHS, ours, own, strict=True):
        if [token for token, _ in found] != [token for token, _ in expected]:
            raise DifferentError(f"prompt of {length} tokens: {found[:3]}... instead of {expected[:3]}...")
        worst = max(abs(first[1] - second[1]) for first, second in zip(found, expected, strict=True))
        if worst > CLOSE:
            raise DifferentError(f"prompt of {length} tokens: a log-probability is off by {worst:.2g}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
