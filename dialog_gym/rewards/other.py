"""Another reward or cost for a task: in place of its own, or added to it. Both are reported."""

from __future__ import annotations

import importlib
from copy import copy
from typing import Any

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


def with_named(task: Task, reward: Reward | str | None, cost: Reward | str | None) -> Task:
    """Return a copy of ``task`` with another reward, another cost, or both; either may be named ``"module:name"``.

    Raises:
        ValueError: There is no such reward, or it does not fit.
    """
    if reward is not None:
        task = with_reward(task, find_reward(reward))
    return task if cost is None else with_cost(task, find_reward(cost))


def find_reward(named: Reward | str) -> Reward:
    """Return ``named`` itself, or the reward that ``"module:name"`` names; a class is called without arguments.

    Raises:
        ValueError: There is no such module or name, or it is no reward.
    """
    if isinstance(named, Reward):
        return named
    module, _, name = named.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name) if module and name else None
        made = found() if isinstance(found, type) else found
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot make a reward of {named!r}: {type(error).__name__}: {error}") from error
    if not isinstance(made, Reward):
        raise ValueError(f"expected a reward or 'module:name' of one, got {named!r}, which is {made!r:.80}")
    return made
