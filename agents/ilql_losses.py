"""The losses of ILQL, as pure functions of what a network makes of a batch's actions.

Implicit Language Q-Learning (Snell et al. 2022, arXiv:2206.11871) sees a dialogue as a decision at every token that
the agent says. The state s of an action a is all that is read before it; the next state s' is that of the agent's
next token, which behind the end of a turn is the first of its next turn: what the partner says in between belongs to
the environment. There are N actions, K Q-heads and V tokens in the vocabulary. With r the reward (that of a turn is
paid at its last token) and d the discount, 0 < d <= 1:

    Qhat   = min_k target_k(s, a)                       no gradient
    y      = r + d V(s'), and r + d ``after`` at the end  no gradient; V(s') = 0 where the dialogue is over
    L_Q    = sum_k (Q_k(s, a) - y)^2
    L_V    = |tau - 1(Qhat < V(s))| (Qhat - V(s))^2
    L_CQL  = sum_k -log softmax(Q_k(s, .))(a)
    L_AWAC = -log softmax(lm logits)(a) * min(exp(beta (Qhat - V(s))), limit)   the weight without gradient

Each function returns one number per action; a loss is their mean over the actions, so there is nothing to mask. Where
this departs from trlx (single responses, one discount per token): the discount may be per *turn*, so that long turns
are not worth less than short ones, and ``limit`` keeps the weight finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Per = Literal["turn", "token"]
"""What a discount is counted in."""


def discounts(ends_turn: Tensor, gamma: float, per: Per, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return what the value behind each action is multiplied by, (N,): ``gamma`` behind every token, or every turn.

    >>> discounts(torch.tensor([False, True, True]), 0.5, "turn")
    tensor([1.0000, 0.5000, 0.5000])
    """
    per_token = torch.full(ends_turn.shape, gamma, dtype=dtype, device=ends_turn.device)
    return per_token if per == "token" else torch.where(ends_turn, per_token, 1.0)


def behind(values: Tensor, following: Tensor, after: Tensor) -> Tensor:
    """Return the value of the state behind each action, (N,).

    Args:
        values: V(s) of each action, (N,).
        following: The next action of the same dialogue, -1 if there is none, (N,).
        after: What is behind an action that has no next one, (N,): 0 if the dialogue is over.
    """
    return torch.where(following < 0, after, values[following.clamp(min=0)])


def returns(rewards: Tensor, discount: Tensor, following: Tensor, after: Tensor) -> Tensor:
    """Return the discounted sum of rewards from each action on, (N,); ``after`` as in ``behind``.

    By doubling: after k rounds it holds the rewards of 2^k actions.

    >>> returns(torch.tensor([1., 0., 4.]), torch.tensor([.5, 1., .5]), torch.tensor([1, 2, -1]), torch.zeros(3))
    tensor([3., 4., 4.])
    """
    total = rewards + torch.where(following < 0, discount * after, 0.0)
    weight, ahead = discount, following
    while bool((ahead >= 0).any()):
        there = ahead.clamp(min=0)
        total = total + torch.where(ahead < 0, 0.0, weight * total[there])
        weight = weight * weight[there]
        ahead = torch.where(ahead < 0, -1, ahead[there])
    return total


def taken(q: Sequence[Tensor], actions: Tensor) -> Tensor:
    """Return what each head gives each action taken, (K, N), from the values ``q`` of all tokens, K times (N, V)."""
    return torch.stack([one.gather(-1, actions[:, None])[:, 0] for one in q])


def q_loss(q_taken: Tensor, target: Tensor) -> Tensor:
    """Return L_Q of each action, (N,), for the heads' values (K, N) and the target y (N,).

    >>> q_loss(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([2.0, 1.0]))
    tensor([2., 2.])
    """
    return (q_taken - target.detach()).square().sum(0)


def v_loss(values: Tensor, q_hat: Tensor, tau: float) -> Tensor:
    """Return L_V of each action, (N,): tau .5 learns the mean of ``q_hat``, 1 its maximum.

    >>> v_loss(torch.tensor([1.0, 1.0]), torch.tensor([3.0, 0.0]), 0.75)
    tensor([3.0000, 0.2500])
    """
    error = q_hat.detach() - values
    return (tau - (error.detach() < 0).to(error.dtype)).abs() * error.square()


def cql_loss(q: Sequence[Tensor], actions: Tensor) -> Tensor:
    """Return L_CQL of each action, (N,): tokens that nobody said are not to be worth more than those said."""
    return torch.stack([F.cross_entropy(one, actions, reduction="none") for one in q]).sum(0)


def awac_loss(logits: Tensor, actions: Tensor, advantage: Tensor, beta: float, limit: float) -> Tensor:
    """Return L_AWAC of each action, (N,), for advantages Qhat - V (N,); ``beta`` 0 is plain cross-entropy."""
    loss = F.cross_entropy(logits, actions, reduction="none")
    return loss * (beta * advantage.detach()).exp().clamp(max=limit) if beta else loss


def steer(logits: Tensor, advantage: Tensor, *, beta: float, top_k: int = 0, floor: float = 0.0) -> Tensor:
    """Return the scores to draw tokens by, (n, V): log softmax(logits) + beta * advantage.

    Args:
        logits: Of the language model, (n, V).
        advantage: min_k target_k(s, .) - V(s), (n, V).
        beta: Weight of the advantage. With 0 these are scores of the language model alone, within ``top_k`` and
            ``floor``.
        top_k: Keep as many of the best scores; 0 keeps all.
        floor: Keep tokens which the language model gives at least this probability, and always its first choice.
    """
    spoken = torch.log_softmax(logits, -1, dtype=torch.float32)
    scores = spoken + beta * advantage if beta else spoken
    if floor > 0:
        best = spoken.amax(-1, keepdim=True)
        scores = scores.masked_fill(spoken < best.clamp(max=math.log(floor)), -torch.inf)
    if 0 < top_k < scores.shape[-1]:
        least = scores.topk(top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    return scores
