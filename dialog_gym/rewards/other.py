"""Another reward or cost for a task: in place of its own, or added to it. Both are reported."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from typing import Any

from dialog_gym.authoring.modules import user_module
from dialog_gym.errors import unknown
from dialog_gym.rewards import shipped
from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.compose import Linear
from dialog_gym.rewards.spec import NAMES, reward_of_spec
from dialog_gym.task import Task

Given = Reward | type[Reward] | str | Callable[[Task], Reward]
"""A reward as it is given to an environment: itself, its class, its name, or a function that makes it of the task."""


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
        TypeError: ``reward`` is none.
        ValueError: The two have a term of the same name.
    """
    _need_reward("reward", reward)
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
        TypeError: ``cost`` is no reward.
        ValueError: The two have a term of the same name, or ``cost`` can be negative.
    """
    _need_reward("cost", cost)
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


def with_named(task: Task, reward: Given | None, cost: Given | None) -> Task:
    """Return a copy of ``task`` with another reward, another cost, or both, given as ``find_reward`` takes them.

    Raises:
        ValueError: There is no such reward, or it does not fit.
    """
    changed = task
    if reward is not None:
        changed = with_reward(changed, find_reward(reward, task))
    return changed if cost is None else with_cost(changed, find_reward(cost, task))


def find_reward(given: Given, task: Task) -> Reward:
    """Return the reward that ``given`` stands for.

    Args:
        given: A reward; the name of one that ships with the library (``"Success"``); what ``rewards.spec`` knows
            (``"true"``, ``"sentiment"``, the folder of a learned one); ``"module:name"`` of your own, also in the
            present folder; or a function that makes a reward of the task:
            ``def mixed(task): return 0.8 * task.reward + 0.2 * curious``. What is named may be a reward, a class that
            is called without arguments, or such a function.
        task: What the reward is for.

    Raises:
        ValueError: There is no such module or name, or it is no reward.
    """
    if isinstance(given, str) and (made := reward_of_spec(given, task)) is not None:
        return made
    found: Any = _named(given) if isinstance(given, str) else given
    if isinstance(found, type) and issubclass(found, Reward):
        return _without_arguments(found)
    if isinstance(found, Reward) or not callable(found):
        made = found
    else:
        try:
            made = found(task)
        except (AttributeError, TypeError) as error:
            raise ValueError(
                f"{_shown(given)} is called with the task and must return a reward, it raised {type(error).__name__}: "
                f"{error}; put @reward(low, high) before a function that scores a dialogue"
            ) from error
    if not isinstance(made, Reward):
        which = "" if made is given else f", which {'is' if made is found else 'returned'} {made!r:.80}"
        raise ValueError(
            "expected a reward, the name of one (Success), 'module:name', or a function that makes one of the task, "
            f"got {_shown(given)}{which}"
        )
    return made


def _named(name: str) -> Any:
    """Return what ``name`` names, whatever it is."""
    module, colon, inside = name.partition(":")
    if not colon:
        known = shipped()
        if name not in known:
            nearest = unknown("reward", name, {*known, *NAMES}).args[0]
            raise ValueError(f"{nearest}; one of your own is 'module:name', a learned one its folder")
        return known[name]
    try:
        return getattr(user_module(module), inside)
    except AttributeError:
        home = user_module(module)
        rewards = [n for n, value in vars(home).items() if isinstance(value, Reward) or _is_own_class(value, module)]
        raise ValueError(f"{unknown('reward', inside, rewards).args[0]} (in {module})") from None
    except ValueError as error:
        raise ValueError(f"cannot find the reward {name!r}: {error}") from error


def _is_own_class(value: object, module: str) -> bool:
    return isinstance(value, type) and issubclass(value, Reward) and value.__module__ == module


def _without_arguments(kind: type[Reward]) -> Reward:
    needed = [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"the reward {kind.__name__} needs arguments ({', '.join(needed)}), which a name cannot give; make it in "
            f"a module of yours, mine.py: `it = {kind.__name__}(...)`, and name that: mine:it"
        )
    return kind()


def _need_reward(what: str, given: object) -> None:
    if isinstance(given, type) and issubclass(given, Reward):
        raise TypeError(f"{what} must be a reward, got the class {given.__name__}; make one: {given.__name__}(...)")
    if not isinstance(given, Reward):
        raise TypeError(
            f"{what} must be a reward, got {_shown(given)}; make one of a function of a dialogue: "
            "Reward.of(lambda dialogue: dialogue.turn == 1, 'short', 0, 1), or by the decorator @reward(0, 1)"
        )


def _shown(given: object) -> str:
    """Return how messages name what was given."""
    return f"the function {given.__name__}" if inspect.isfunction(given) else f"{given!r:.80}"
