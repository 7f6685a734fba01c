"""The arithmetic of ``ppo``: advantages over the tokens of a dialogue, losses, the weight of the penalty for drifting.

All are pure functions. What belongs to one dialogue is in NumPy, A being the number of tokens that the agent said in
it, in their order, over all its turns; what takes gradients is in torch, N being the tokens said in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Discount = Literal["turn", "token"]
"""Where ``gamma`` and ``lam`` count: once per turn, from its last token to the next turn's first, or at each token."""


def turn_ends(turns: npt.NDArray[Any]) -> Bools:
    """Return whether each token is the last of its turn, (A,), given the turn that each is of.

    >>> turn_ends(np.array([0, 0, 1, 2, 2])).tolist()
    [False, True, True, False, True]
    """
    return np.append(turns[1:] != turns[:-1], True)


def gae(
    rewards: npt.ArrayLike,
    values: npt.ArrayLike,
    ends: npt.ArrayLike,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    per: Discount = "turn",
    after: float = 0.0,
) -> Floats:
    """Return the advantage of each token of a dialogue, (A,) (Schulman et al. 2016, arXiv:1506.02438).

    ``delta_t = r_t + g_t V_{t+1} - V_t`` and ``A_t = delta_t + g_t l_t A_{t+1}``. What follows the last token of a
    turn is the first of the agent's next turn: what the partner says in between is the environment. ``g_t, l_t`` are
    ``gamma, lam`` there; within a turn they are 1 (``per="turn"``), so that the length of an utterance does not
    discount it, or the same (``per="token"``).

    >>> gae([0, 1], [0.5, 0.5], [False, True]).tolist()
    [0.5, 0.5]

    Args:
        rewards: Of each token, (A,).
        values: What the state before each token was thought to be worth, (A,).
        ends: Whether each token is the last of its turn, (A,).
        gamma: Discount.
        lam: Weight of what was observed against what was expected, in [0, 1].
        per: Where both count.
        after: Value of the state behind the last token; 0 where the dialogue is over.
    """
    reward, value = np.asarray(rewards, np.float64).tolist(), np.asarray(values, np.float64).tolist()
    crosses = (np.asarray(ends, np.bool_) | (per == "token")).tolist()
    found = np.zeros(len(reward))
    following, advantage = float(after), 0.0
    for t in reversed(range(len(reward))):
        g, carried = (gamma, gamma * lam) if crosses[t] else (1.0, 1.0)
        advantage = reward[t] + g * following - value[t] + carried * advantage
        found[t], following = advantage, value[t]
    return found


def discounted(rewards: npt.ArrayLike, ends: npt.ArrayLike, gamma: float, per: Discount = "turn") -> float:
    """Return what a dialogue earned, discounted per turn or per token.

    >>> discounted([1, 2, 4], [False, True, True], 0.5), discounted([1, 2, 4], [False, True, True], 0.5, "token")
    (5.0, 3.0)
    """
    reward = np.asarray(rewards, np.float64)
    before = np.append(0, np.cumsum(np.asarray(ends, np.bool_) | (per == "token"))[:-1])
    return float(reward @ gamma**before)


def leave_one_out(returns: npt.ArrayLike, group: int) -> Floats:
    """Return what each dialogue earned more than the mean of the others of its group (RLOO), (n,).

    Kool, van Hoof, Welling 2019; Ahmadian et al. 2024, arXiv:2402.14740.

    >>> leave_one_out([1.0, 0.0, 0.5], 3).tolist()
    [0.75, -0.75, 0.0]

    Args:
        returns: Of n dialogues, those of a group side by side.
        group: Dialogues in each, at least 2.
    """
    groups = _groups(returns, group)
    others = (groups.sum(1, keepdims=True) - groups) / (group - 1)
    return np.asarray((groups - others).ravel(), np.float64)


def group_normalised(returns: npt.ArrayLike, group: int) -> Floats:
    """Return by how many standard deviations of its group each dialogue earned more than its mean (GRPO), (n,).

    Shao et al. 2024, arXiv:2402.03300. A group in which all earned the same teaches nothing: 0.

    >>> group_normalised([1.0, 0.0, 2.0, 2.0], 2).round(3).tolist()
    [1.0, -1.0, 0.0, 0.0]
    """
    groups = _groups(returns, group)
    centred = groups - groups.mean(1, keepdims=True)
    spread = groups.std(1, keepdims=True)
    return np.asarray(np.where(spread > 1e-9, centred / np.maximum(spread, 1e-9), 0.0).ravel(), np.float64)


def whitened(advantages: Sequence[Floats]) -> list[Floats]:
    """Return advantages of several dialogues with mean 0 and standard deviation 1 over all their tokens."""
    every = np.concatenate(advantages)
    return [(one - every.mean()) / (every.std() + 1e-8) for one in advantages]


def explained_variance(targets: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Return the share of the variance of ``targets`` that ``values`` explain: 1 at best, 0 for a constant."""
    target = np.asarray(targets, np.float64)
    spread = float(target.var())
    return 1.0 - float((target - np.asarray(values, np.float64)).var()) / spread if spread > 1e-12 else 0.0


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return ``-min(ratio A, clamp(ratio, 1 - clip, 1 + clip) A)`` of each token, (N,).

    Schulman et al. 2017, arXiv:1707.06347, eq. 7.

    Args:
        new: Log-probabilities now, (N,).
        old: Those with which the tokens were said, (N,).
        advantages: (N,).
        clip: Farthest that a ratio is rewarded for moving from 1.
    """
    ratio = torch.exp(new - old)
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: Tensor, old: Tensor, targets: Tensor, clip: float = 0.0) -> Tensor:
    """Return ``(V - target)^2 / 2`` of each token, (N,).

    With ``clip`` above 0 the larger of that and the same for a V that is at most ``clip`` from the ``old`` one.
    """
    loss = 0.5 * (values - targets).square()
    if not clip:
        return loss
    near = old + (values - old).clamp(-clip, clip)
    return torch.maximum(loss, 0.5 * (near - targets).square())


def log_probabilities(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probability (N,) of each token, and the entropy (N,) of what it was drawn from, in nats."""
    every = torch.log_softmax(logits, -1)
    return every.gather(-1, tokens[:, None])[:, 0], -(every.exp() * every).sum(-1)


def moved(new: Tensor, old: Tensor) -> Tensor:
    """Return an estimate of KL(old, new) from each token that ``old`` drew, (N,): ``ratio - 1 - log ratio``.

    It is never negative and has little variance near 0 (Schulman, "Approximating KL divergence", 2020).
    """
    return torch.expm1(new - old) - (new - old)


def adapted(weight: float, kl: float, target: float, rate: float = 0.1) -> float:
    """Return the weight of the penalty after a roll-out with ``kl``, so that it comes to ``target``.

    ``weight * (1 + rate * clip(kl / target - 1, -0.2, 0.2))`` (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    >>> adapted(1.0, 12.0, 6.0), adapted(1.0, 5.4, 6.0)
    (1.02, 0.99)
    """
    return weight * (1 + rate * min(max(kl / target - 1, -0.2), 0.2))


def _groups(returns: npt.ArrayLike, group: int) -> Floats:
    found = np.asarray(returns, np.float64)
    if group < 2 or len(found) % group:
        raise ValueError(f"expected whole groups of at least 2, got {len(found)} dialogues in groups of {group}")
    return found.reshape(-1, group)
