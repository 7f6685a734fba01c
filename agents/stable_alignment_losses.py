"""The losses of Stable Alignment (Liu et al. 2023, arXiv:2305.16960) as pure functions, one row per question.

Tensors are (B, K): K candidates of each of B questions, from the left; ``present`` says which there are. ``losses``
are the mean cross-entropies of the candidates' tokens, ``ratings`` what the candidates were rated, higher is better.

For a question with the best rated candidate b (of equals the first)::

    m_i = (r_b - r_i) / scale * margin
    d_i = l_b - l_i + m_i                                 for every other candidate i
    L   = l_b + ratio * max(0, mean of d_i)               max_flow: the largest d_i instead of the mean

The gradient flows through l_b in d_i too, and the zero is a bound on the mean, not on each d_i; both as in the code
that was published with the paper.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MarginLoss(NamedTuple):
    """What the margin loss is made of, each (B,).

    Attributes:
        loss: ``best + ratio * penalty``.
        best: Cross-entropy of the best rated candidate, l_b.
        penalty: max(0, mean or largest of d_i); 0 where there is one candidate.
    """

    loss: Tensor
    best: Tensor
    penalty: Tensor


def best_rated(ratings: Tensor, present: Tensor) -> Tensor:
    """Return the place of the best rated candidate, of equals the first, (B,)."""
    return _sorted(ratings, present)[1][:, 0]


def margins(ratings: Tensor, present: Tensor, *, scale: float, margin: float, legacy: bool = False) -> Tensor:
    """Return the margin of every candidate, 0 for the best rated one and where there is none, (B, K).

    ``legacy`` repeats an error of the published code, for comparison only: there candidate i has the margin of the
    i-th best rating, whoever that belongs to.

    >>> ratings, present = torch.tensor([[3.0, 7.0, 5.0]]), torch.ones(1, 3, dtype=torch.bool)
    >>> [round(m, 2) for m in margins(ratings, present, scale=7, margin=10)[0].tolist()]
    [5.71, 0.0, 2.86]
    >>> [round(m, 2) for m in margins(ratings, present, scale=7, margin=10, legacy=True)[0].tolist()]
    [0.0, 0.0, 5.71]
    """
    ordered, places = _sorted(ratings, present)
    read = ordered if legacy else ratings
    others = _others(places[:, :1], present)
    return torch.where(others, (ordered[:, :1] - read) / scale * margin, torch.zeros_like(ratings))


def margin_loss(
    losses: Tensor,
    ratings: Tensor,
    present: Tensor,
    *,
    scale: float = 7.0,
    margin: float = 1.0,
    ratio: float = 0.2,
    max_flow: bool = False,
    legacy: bool = False,
) -> MarginLoss:
    """Return the margin loss of every question; see the module.

    Args:
        losses: Mean cross-entropy of each candidate's tokens, (B, K).
        ratings: Of each candidate, (B, K).
        present: Which candidates there are, at least the first, (B, K).
        scale: Highest rating, above 0.
        margin: Margin of a difference as large as ``scale``.
        ratio: Weight of the penalty.
        max_flow: Penalise by the candidate that is nearest, not by the mean.
        legacy: Take the published code's wrong margins, see ``margins``.
    """
    place = best_rated(ratings, present)[:, None]
    others = _others(place, present)
    best = losses.gather(1, place)
    apart = best - losses + margins(ratings, present, scale=scale, margin=margin, legacy=legacy)
    if max_flow:
        reached = apart.masked_fill(~others, -torch.inf).amax(1)
    else:
        reached = torch.where(others, apart, torch.zeros_like(apart)).sum(1) / others.sum(1).clamp(min=1)
    penalty = reached.clamp(min=0)
    return MarginLoss(best[:, 0] + ratio * penalty, best[:, 0], penalty)


def mean_loss(losses: Tensor, present: Tensor) -> Tensor:
    """Return the mean of the candidates' cross-entropies of every question, (B,)."""
    return torch.where(present, losses, torch.zeros_like(losses)).sum(1) / present.sum(1)


def _sorted(ratings: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return ratings from the highest, equals in their order, and their places."""
    ordered, places = ratings.masked_fill(~present, -torch.inf).sort(dim=1, descending=True, stable=True)
    return ordered, places


def _others(best: Tensor, present: Tensor) -> Tensor:
    return present & (torch.arange(present.shape[1], device=present.device) != best)
