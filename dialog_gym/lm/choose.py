"""The best policy within a budget: the automatic choice of q or lambda on validation dialogues."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Choice(NamedTuple):
    """What was chosen.

    Attributes:
        name: Of the candidate.
        reward: Its reward.
        cost: Its cost.
        within: Whether that is within the budget.
    """

    name: str
    reward: float
    cost: float
    within: bool


def choose(candidates: Sequence[str], reward: Sequence[float], cost: Sequence[float], budget: float) -> Choice:
    """Return the candidate with the highest reward of those whose cost is at most ``budget``.

    Where none is, the one with the lowest cost; of equals the one that costs less, then the first. The numbers must
    not be of the dialogues that are reported afterwards.

    >>> choose(["q-0", "q-0.5", "q-1"], [0.9, 0.7, 0.4], [0.3, 0.05, 0.01], budget=0.1)
    Choice(name='q-0.5', reward=0.7, cost=0.05, within=True)

    Raises:
        ValueError: There is no candidate, or not one finite number for each.
    """
    if not candidates or not len(candidates) == len(reward) == len(cost):
        raise ValueError(
            f"expected a reward and a cost for each of at least 1 candidate, got {len(candidates)} candidates, "
            f"{len(reward)} rewards and {len(cost)} costs"
        )
    if odd := [
        name for name, *numbers in zip(candidates, reward, cost, strict=True) if not all(map(math.isfinite, numbers))
    ]:
        raise ValueError(f"expected finite numbers, got others for {odd[0]!r}: it cannot be compared")
    every = range(len(candidates))
    allowed = [k for k in every if cost[k] <= budget]
    best = (
        max(allowed, key=lambda k: (reward[k], -cost[k]))
        if allowed
        else min(every, key=lambda k: (cost[k], -reward[k]))
    )
    return Choice(candidates[best], float(reward[best]), float(cost[best]), bool(allowed))
