"""Attention for continuous batching on a CPU: each sequence attends to its own keys.

transformers lays the keys of all sequences side by side and masks out what is another's, so that a step of n
sequences pays n times for every key. On a GPU flash attention takes the lengths instead; this does so on a CPU.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.eager_paged import eager_paged_attention_forward

NAME = "paged|eager"  # the one name that continuous batching takes and nothing else uses


def install() -> str:
    """Register the function with transformers and return the name that a model asks for it by."""
    AttentionInterface.register(NAME, attend)
    return NAME


def attend(  # noqa: PLR0913, PLR0917 - the signature that transformers calls
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> tuple[torch.Tensor, None]:
    """Return the attention of packed sequences, [1, tokens, heads, width], for queries [1, heads, tokens, width]."""
    if hasattr(module, "sinks"):  # some models' own kind of attention
        packed: tuple[torch.Tensor, None] = eager_paged_attention_forward(
            module, query, key, value, attention_mask, scaling, **kwargs
        )
        return packed
    key, value = kwargs["cache"].update(key, value, module.layer_idx, kwargs)
    queries, keys = (pairwise(kwargs[name].tolist()) for name in ("cu_seq_lens_q", "cu_seq_lens_k"))
    parts = [
        _one(
            query[:, :, first:last],
            key[:, :, start:end],
            value[:, :, start:end],
            None if attention_mask is None else attention_mask[:, :, first:last, start:end],
            scaling,
            kwargs.get("softcap"),
        )
        for (first, last), (start, end) in zip(queries, keys, strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _one(  # noqa: PLR0913, PLR0917 - as torch's own function, and a cap
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    cap: float | None,
) -> torch.Tensor:
    """Return one sequence's attention; several heads of queries may share one of keys."""
    _, heads, tokens, width = query.shape
    shared = key.shape[1]
    if cap is not None:
        key, value = (part.repeat_interleave(heads // shared, dim=1) for part in (key, value))
        return _capped(query, key, value, mask, (scaling or width**-0.5, cap))
    if tokens == 1:  # the heads that share keys become the rows of one product
        rows = query.view(1, shared, heads // shared, width)
        return scaled_dot_product_attention(rows, key, value, mask, scale=scaling).view(1, heads, 1, width)
    key, value = (part.repeat_interleave(heads // shared, dim=1) for part in (key, value))
    return scaled_dot_product_attention(query, key, value, mask, scale=scaling)


def _capped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, by: tuple[float, float]
) -> torch.Tensor:
    """Return attention whose scores, scaled, stay below a cap (`by`: both): torch's own function knows none."""
    scaling, cap = by
    scores = torch.tanh(query @ key.transpose(2, 3) * (scaling / cap)) * cap
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ value
