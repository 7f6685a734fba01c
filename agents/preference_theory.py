"""What preference optimisation converges to, exactly, on policies that are tables.

``T_f(ref) = ref exp(f / beta) / Z`` is the policy that maximises ``E f - beta KL(policy || ref)``. From
``exp(a + b) = exp(a) exp(b)`` follow the theorems behind SACPO (Wachi et al. 2024, arXiv:2404.11049): the optimum of
``r + lambda g`` is the optimum of g at distance weight beta / lambda around the optimum of r, in any order, for any
number of metrics. They hold for the reverse KL alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def kl_optimum(reference: npt.ArrayLike, reward: npt.ArrayLike, beta: float) -> Floats:
    """Return the policy that maximises the reward minus ``beta`` times its KL divergence from the reference.

    Args:
        reference: Probabilities, (..., answers).
        reward: Of each answer, of the same shape.
        beta: Above 0.

    Raises:
        ValueError: ``beta`` is not.

    >>> kl_optimum([0.5, 0.5], [1.0, 0.0], beta=1 / np.log(3)).round(6).tolist()
    [0.75, 0.25]
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}: without a distance weight there is no such policy")
    with np.errstate(divide="ignore"):  # what the reference never says stays unsaid
        logits = np.log(np.asarray(reference, float)) + np.asarray(reward, float) / beta
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    found: Floats = weights / weights.sum(-1, keepdims=True)
    return found


def kl_value(policy: npt.ArrayLike, reference: npt.ArrayLike, reward: npt.ArrayLike, beta: float) -> Floats:
    """Return what ``kl_optimum`` maximises, ``E reward - beta KL(policy || reference)``, (...)."""
    p, q = np.asarray(policy, float), np.asarray(reference, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.asarray(reward, float) - beta * np.log(p / q)), 0.0)
    found: Floats = terms.sum(-1)
    return found


def best_lambda(
    reference: npt.ArrayLike, reward: npt.ArrayLike, cost: npt.ArrayLike, beta: float, budget: float
) -> float:
    """Return the price of cost at which the optimum of ``reward - lambda cost`` costs ``budget`` on average.

    It is the multiplier of "highest reward with a mean cost of at most ``budget``": 0 if the optimum of the reward
    alone keeps to it. Contexts (rows of a table) count the same.

    Raises:
        ValueError: No policy near the reference costs so little.
    """
    r, c = np.asarray(reward, float), np.asarray(cost, float)

    def spent(price: float) -> float:
        return float((kl_optimum(reference, r - price * c, beta) * c).sum(-1).mean())

    if spent(0.0) <= budget:
        return 0.0
    high = 1.0
    while spent(high) > budget:
        high *= 2
        if high > 1e12:
            raise ValueError(f"no price of cost leads to a mean cost of {budget}: the cheapest answers cost more")
    low = 0.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > budget else (low, middle)
    return high
