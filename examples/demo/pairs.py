"""The question and answer pairs that the demo's model is taught, as text and as tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

QUESTIONS = Path(__file__).with_name("questions.jsonl")
IGNORED = -100  # the label that transformers leaves out of the loss


class Pair(NamedTuple):
    """Hold a question and the answer to learn."""

    question: str
    answer: str


def read(path: Path = QUESTIONS) -> list[Pair]:
    """Return the pairs of a file with one JSON object in each line."""
    lines = path.read_text("utf-8").splitlines()
    return [Pair(**json.loads(line)) for line in lines if line.strip()]


def batch(tokenizer: Any, pairs: list[Pair]) -> dict[str, torch.Tensor]:  # noqa: ANN401 - transformers types none
    """Return the pairs as padded (pairs, tokens) tensors; only the answers carry labels."""
    rows = [_row(tokenizer, pair) for pair in pairs]
    width = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([_pad(ids, width, tokenizer.eos_token_id) for ids, _ in rows]),
        "attention_mask": torch.tensor([_pad([1] * len(ids), width, 0) for ids, _ in rows]),
        "labels": torch.tensor([_pad(labels, width, IGNORED) for _, labels in rows]),
    }


def _pad(values: list[int], width: int, filler: int) -> list[int]:
    return values + [filler] * (width - len(values))


def _row(tokenizer: Any, pair: Pair) -> tuple[list[int], list[int]]:  # noqa: ANN401
    question = [{"role": "user", "content": pair.question}]
    asked = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True)["input_ids"]
    told = [*tokenizer.encode(pair.answer, add_special_tokens=False), tokenizer.eos_token_id]
    return [*asked, *told], [IGNORED] * len(asked) + told
