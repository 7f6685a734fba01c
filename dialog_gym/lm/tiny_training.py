"""Batches, learning rates and updates that the stages of ``dialog_gym.lm.build_tiny`` share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def batches(lengths: Sequence[int], size: int, epochs: float, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield batches of like length in random order, so that little is padding."""
    for epoch in range(math.ceil(epochs)):
        order = np.argsort(np.array(lengths) + rng.uniform(0, 12, len(lengths)))
        groups = [order[i : i + size].tolist() for i in range(0, len(order), size)]
        share = min(1.0, epochs - epoch)
        for i in rng.permutation(len(groups))[: round(share * len(groups))]:
            yield groups[i]


def cosine(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule that rises over a fiftieth of ``steps`` and falls to 0 as a cosine."""
    warm = max(1, steps // 50)
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, i / steps))))
    )


def step(loss: Tensor, parameters: Any, optimiser: torch.optim.Optimizer, schedule: Any) -> None:
    """Take one step down ``loss``, its gradient clipped to length 1."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()
    schedule.step()
