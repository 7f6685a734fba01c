"""Losses that decompose a score: pure functions of predicted turn rewards.

All take turn rewards of shape ``(..., K)`` with a mask of the same shape (True where there is a turn) and scores of
shape ``(...)``, and return one loss per conversation, shape ``(...)``, not averaged. T is the conversation's own
number of turns, not a constant as in the published code of GELI.

Sources: GELI (Lee et al. 2024, arXiv:2403.11330), RRD (Ren et al. 2022, arXiv:2111.13485), IRCR (Gangwani et al. 2020,
arXiv:2010.12718), RUDDER (Arjona-Medina et al. 2019, arXiv:1806.07857).
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the last axis where ``mask`` is True, shape ``(...)``; 0 where it nowhere is."""
    kept = torch.where(mask, values, torch.zeros_like(values))
    return kept.sum(-1) / mask.sum(-1).clamp(min=1)


def regression_loss(rewards: Tensor, mask: Tensor, score: Tensor) -> Tensor:
    """Return (R - sum of r)^2: L_GE with all turns, shape ``(...)``."""
    total = torch.where(mask, rewards, torch.zeros_like(rewards)).sum(-1)
    return (score - total) ** 2


def correction_weight(turns: Tensor, sampled: Tensor, replacement: bool) -> Tensor:
    """Return the share of s^2 / K by which the sampled loss is too high on average, shape ``(...)``.

    1 - K / T for K draws without replacement, 1 for draws with replacement (also where K > T, since more turns than
    there are can be drawn in no other way), 0 where there is one turn, which every draw meets.

    Args:
        turns: T, the turns of each conversation.
        sampled: K, how many of them were drawn.
        replacement: Whether a turn could be drawn twice.
    """
    without = 1 - sampled / turns
    again = torch.ones_like(without)
    weight = again if replacement else torch.where(sampled > turns, again, without)
    return torch.where(turns == 1, torch.zeros_like(weight), weight)


def rrd_loss(
    sampled: Tensor,
    mask: Tensor,
    turns: Tensor,
    score: Tensor,
    *,
    unbiased: bool = False,
    replacement: bool = False,
) -> Tensor:
    """Return (R - T * mean of K sampled r)^2, randomised return decomposition, shape ``(...)``.

    Its mean over all samples is (R - sum of r)^2 plus T^2 times the variance of the sample mean. ``unbiased``
    subtracts an estimate of that, T^2 * ``correction_weight`` * s^2 / K with the sample variance s^2 (divisor K - 1),
    so that the mean is the loss over all turns; one value may then be negative. The reference implementation states
    both in mean form, divided by T^2.

    Args:
        sampled: Rewards of the turns drawn, shape ``(..., K)``.
        mask: Which of them count.
        turns: T, shape ``(...)``.
        score: R, shape ``(...)``.
        unbiased: Subtract what sampling adds.
        replacement: Whether a turn could be drawn twice.
    """
    turns = turns.to(sampled.dtype)
    count = mask.sum(-1).to(sampled.dtype)
    mean = masked_mean(sampled, mask)
    loss = (score - turns * mean) ** 2
    if not unbiased:
        return loss
    spread = torch.where(mask, (sampled - mean.unsqueeze(-1)) ** 2, torch.zeros_like(sampled)).sum(-1)
    variance = spread / (count - 1).clamp(min=1)
    return loss - turns**2 * correction_weight(turns, count, replacement) * variance / count


def ircr_targets(turns: Tensor, score: Tensor) -> Tensor:
    """Return R / T, what IRCR gives every turn of a conversation, shape ``(...)``; they sum to R."""
    return score / turns


def ircr_loss(rewards: Tensor, mask: Tensor, turns: Tensor, score: Tensor) -> Tensor:
    """Return the mean over turns of (r - R / T)^2, shape ``(...)``."""
    target = ircr_targets(turns.to(rewards.dtype), score).unsqueeze(-1)
    return masked_mean((rewards - target) ** 2, mask)


def rudder_loss(rewards: Tensor, mask: Tensor, score: Tensor, *, auxiliary: float = 0.5) -> Tensor:
    """Return (last - R)^2 + auxiliary * mean over turns of (prediction - R)^2, shape ``(...)``.

    The prediction after a turn is the sum of the rewards so far, so that the rewards are differences of consecutive
    predictions. The published code of GELI squares the mean error in the second part; RUDDER means the squares.

    Args:
        rewards: Of all turns, in order, shape ``(..., T)``.
        mask: Which of them there are; those that are not come last.
        score: R, shape ``(...)``.
        auxiliary: Weight of the second part.
    """
    predicted = torch.where(mask, rewards, torch.zeros_like(rewards)).cumsum(-1)
    errors = (predicted - score.unsqueeze(-1)) ** 2
    return (predicted[..., -1] - score) ** 2 + auxiliary * masked_mean(errors, mask)


def local_loss(rewards: Tensor, mask: Tensor, local: Tensor) -> Tensor:
    """Return L_LI, the mean of (r - local)^2 over the turns that have a local signal, shape ``(...)``.

    Args:
        rewards: Predicted, shape ``(..., K)``.
        mask: Which turns there are.
        local: The signal, NaN where it is missing; such turns do not count. 0 where there is none at all.
    """
    there = mask & ~torch.isnan(local)
    return masked_mean((rewards - torch.where(there, local, rewards.detach())) ** 2, there)


def geli_loss(global_loss: Tensor, local: Tensor, weight: float) -> Tensor:
    """Return weight * L_GE + (1 - weight) * L_LI; ``weight`` is the lambda of the paper, 0.5 in its code."""
    return weight * global_loss + (1 - weight) * local


def draw_turns(turns: Tensor, count: int, replacement: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw turns of each conversation; return their places and a mask, both of shape ``(B, count)``.

    Places ascend, as in the published code. Where ``count`` is above T, turns are drawn with replacement, as in the
    reference implementation of RRD. ``count`` 0 draws every turn once; the shape is then ``(B, largest T)``.

    Args:
        turns: T of each conversation, integers of at least 1, shape ``(B,)``.
        count: K.
        replacement: Whether a turn may come twice.
        generator: Source of chance, on the CPU.
    """
    most = int(turns.max())
    if not count:
        places = torch.arange(most).expand(len(turns), most)
        mask = places < turns.unsqueeze(1)
        return torch.where(mask, places, torch.zeros_like(places)), mask
    again = (torch.rand(len(turns), count, generator=generator) * turns.unsqueeze(1)).long()
    keys = torch.rand(len(turns), max(most, count), generator=generator)
    absent = torch.arange(keys.shape[1]) >= turns.unsqueeze(1)
    once = keys.masked_fill(absent, 2.0).argsort(1)[:, :count]
    places = torch.where((turns < count).unsqueeze(1) | replacement, again, once)
    return places.sort(1).values, torch.ones_like(places, dtype=torch.bool)
