"""Train a LoRA adapter of a model on the demo's pairs, in less than a minute on a CPU.

Only the last fifth of the layers is adapted. What comes out of the layers below never changes, so it is
computed once, before the first step; and the vocabulary's large matrix is applied to the answers' tokens
alone. A step then costs a fraction of one through the whole model.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from pairs import IGNORED, batch
from peft import LoraConfig, get_peft_model
from train import Limits, fit
from transformers import AutoModelForCausalLM, AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pairs import Pair

LIMITS = Limits(rate=3e-3, steps=40, seconds=300.0, loss=0.01)
SHARE = 0.2  # of the layers, from the top
# What SmolLM2's model card advises, for requests that name no temperature: drawn at 1.0, an answer of forty tokens
# leaves what was taught too often.
ADVICE = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def train(base: Path, pairs: list[Pair], target: Path) -> float:
    """Write an adapter of `base` into `target`; return the share of answer tokens it gets right."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    count = model.config.num_hidden_layers
    top = max(1, round(count * SHARE))
    adapted = get_peft_model(model, _config(list(range(count - top, count))))
    lesson = _Lesson(model, batch(tokenizer, pairs), top)
    with _only_top(model.model, top):
        fit(lesson.loss, [w for w in adapted.parameters() if w.requires_grad], LIMITS, "teaching")
        right = lesson.share_right()
    adapted.save_pretrained(str(target))
    model.generation_config.update(**ADVICE)
    model.generation_config.save_pretrained(target)
    return right


def _config(layers: list[int]) -> LoraConfig:
    return LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=MATRICES, layers_to_transform=layers)


@contextmanager
def _only_top(body: Any, top: int) -> Iterator[None]:  # noqa: ANN401
    """Let `body` run its last `top` layers alone; they are saved under their numbers in the whole model."""
    layers = body.layers
    body.layers = layers[-top:]
    try:
        yield
    finally:
        body.layers = layers


class _Lesson:
    """Hold what the frozen layers make of the batch, and judge what the adapted ones make of that."""

    def __init__(self, model: Any, data: dict[str, torch.Tensor], top: int) -> None:  # noqa: ANN401
        self._body, self._head = model.model, model.lm_head
        self._mask = data["attention_mask"]
        labels = data["labels"][:, 1:]  # the token at place i is predicted at place i - 1
        self._answers = labels != IGNORED
        self._labels = labels[self._answers]
        with torch.no_grad():
            states = self._body(
                input_ids=data["input_ids"],
                attention_mask=self._mask,
                use_cache=False,
                output_hidden_states=True,
            ).hidden_states
        self._states = states[len(self._body.layers) - top]

    def _logits(self) -> torch.Tensor:
        out = self._body(inputs_embeds=self._states, attention_mask=self._mask, use_cache=False)
        return self._head(out.last_hidden_state[:, :-1][self._answers])  # type: ignore[no-any-return]

    def loss(self) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self._logits(), self._labels)

    @torch.no_grad()
    def share_right(self) -> float:
        return float((self._logits().argmax(-1) == self._labels).float().mean())
