"""Train some weights until the loss is small, with a bar, and never longer than allowed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import torch
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Limits(NamedTuple):
    """Say when to stop: the loss is below `loss`, or `steps` are done, or `seconds` have passed."""

    rate: float
    steps: int
    seconds: float
    loss: float


def fit(
    loss_of: Callable[[], torch.Tensor], weights: Iterable[torch.nn.Parameter], limits: Limits, label: str
) -> float:
    """Train the weights on one and the same batch and return the last loss."""
    optimizer = torch.optim.AdamW(weights, lr=limits.rate, weight_decay=0.0)
    deadline = time.monotonic() + limits.seconds
    loss = float("inf")
    with tqdm(total=limits.steps, desc=label, unit="step", disable=None) as bar:
        while bar.n < limits.steps and loss > limits.loss and time.monotonic() < deadline:
            loss = _step(optimizer, loss_of())
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
        bar.total = bar.n  # learnt sooner than allowed: the bar is full all the same
        bar.refresh()
    return loss


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())
