"""Whether merging an adapter changed what the model says, beside what the adapter itself changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from llmserving.loading.vocabulary import size_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE_TOKENS = 16
SHARE = 0.1  # of the adapter's own effect, that merging may be off by
ROUNDING = (
    1.5  # units of the type's precision, times the root of the layers: twice what half precision was seen to lose
)
NEVER = 1e4  # from here on a logit is no measure: infinity, or what models put in for a token that is never said
LEAST_ROUNDING = 1e-5  # of the largest logit: what float32 is off by, however few layers there are


def probe(model: PreTrainedModel, also: list[int]) -> torch.Tensor:
    """Return tokens [1, n] from the whole vocabulary, and those that the adapter names."""
    spread = torch.linspace(0, size_of(model.get_input_embeddings()) - 1, PROBE_TOKENS).long().tolist()
    return torch.tensor([[*spread, *also]], device=model.device)


@dataclass(frozen=True)
class Words:
    """What a base says of a few tokens, with an adapter beside its weights and without: logits [n, vocabulary]."""

    ids: torch.Tensor
    beside: torch.Tensor
    base: torch.Tensor
    rounded: float  # see `rounding`

    def are_of(self, model: PreTrainedModel) -> bool:
        """Return whether a model says the same as the adapter beside the weights."""
        return same(logits(model, self.ids), self.beside, self.base, self.rounded)

    @property
    def unchanged(self) -> bool:
        """Return whether the adapter changes nothing at all."""
        return torch.equal(self.beside, self.base)


@torch.inference_mode()
def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a model, or PEFT around it
    """Return what the model says of each token: [n, vocabulary], float32."""
    said: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    return said.float()


def rounding(model: PreTrainedModel) -> float:
    """Return what the model's type of numbers is off by in one and the same calculation, as a share of the logits."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None) or 1
    return max(ROUNDING * torch.finfo(model.dtype).eps * math.sqrt(layers), LEAST_ROUNDING)


def same(merged: torch.Tensor, beside: torch.Tensor, base: torch.Tensor, rounded: float) -> bool:
    """Return whether the merged model says what the adapter beside its base says.

    All are logits. The difference is judged by what the adapter changes, and by what is rounded anyway, as a share;
    what is never said by one has to be never said by the other.
    """
    if merged.shape != beside.shape:
        return False
    merged, beside, base = (each.clamp(-NEVER, NEVER) for each in (merged, beside, base))
    said = torch.maximum(beside.abs(), base.abs()) < NEVER
    off = (merged - beside).abs().max().item()
    effect = (beside - base).where(said, 0).abs().max().item()
    return bool(off <= max(SHARE * effect, rounded * beside.where(said, 0).abs().max().item()))
