"""Another reward or cost for a task: in place of its own, or added to it. Both are reported."""

from __future__ import annotations

from copy import copy

from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.compose import Linear
from dialog_gym.task import Task


class OtherReward(Linear):
    """``other`` in place of ``own``, which is still reported, or the sum of both."""

    def __init__(self, own: Reward, other: Reward, *, add: bool = False) -> None:
        """Earn ``other``; with ``add``, ``own`` as well.

        Raises:
            ValueError: The two have a term of the same name.
        """
        super().__init__([(own, float(add)), (other, 1.0)])


def with_reward(task: Task, reward: Reward, *, add: bool = False) -> Task:
    """Return a copy of ``task`` that is rewarded by ``reward``; with ``add``, by its own reward as well.

    Raises:
        ValueError: The two have a term of the same name.
    """
    changed = copy(task)
    changed.reward = OtherReward(task.reward, reward, add=add)
    return changed


def with_cost(task: Task, cost: Reward, *, add: bool = False, budget: float | None = None) -> Task:
    """Return a copy of ``task`` that costs ``cost``; with ``add``, its own cost as well.

    Args:
        task: What is played.
        cost: What is constrained, reported in ``info["cost"]``; may not be negative.
        add: Count the task's own cost too.
        budget: Mean cost of an episode that is allowed; None keeps that of the task.

    Raises:
        ValueError: The two have a term of the same name, or ``cost`` can be negative.
    """
    if cost.low < 0:
        raise ValueError(
            f"a cost is at least 0 (a gain must not pay for a violation), {cost.name!r} has the range "
            f"[{cost.low:g}, {cost.high:g}]; clip or normalise it"
        )
    changed = copy(task)
    changed.cost = cost if task.cost is None else OtherReward(task.cost, cost, add=add)
    if budget is not None:
        changed.budget = budget
    return changed
