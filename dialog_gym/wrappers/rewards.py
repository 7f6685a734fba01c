"""Another reward, or a cost, for the same dialogues, of one environment or of a vector of them.

Both are put into the engine, under all other wrappers: where one fails (a judge that cannot be reached), the step
raises and no dialogue has changed, so that the same step can be taken again.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv, VectorWrapper

from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.other import with_cost, with_reward


class RewardWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Earn ``reward`` in place of the task's own, or (``add``) both; ``info["reward_terms"]`` has the terms of both.

    The same with ``cost`` for ``info["cost"]`` and ``info["cost_terms"]``. Works for text and for prefix environments.
    The environment below earns it too from now on. ``env.spec`` does not hold it: Gymnasium copies what a spec holds,
    and a copied reward is another one (and a language model may not be copied). ``gym.make(ID, reward="module:name")``
    can be rebuilt from its spec.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        reward: Reward | None = None,
        *,
        add: bool = False,
        cost: Reward | None = None,
        budget: float | None = None,
    ) -> None:
        """Score the dialogues of ``env``.

        Args:
            env: An environment of dialogues, wrapped or not.
            reward: What is earned; None leaves it as it is.
            add: Add to what the task itself rewards and costs, instead of replacing it.
            cost: What is constrained, at least 0; None leaves it as it is.
            budget: Mean cost of an episode that is allowed; None leaves it as it is.

        Raises:
            TypeError: ``env`` is no environment of dialogues, or what should be earned or cost is no reward.
            ValueError: Two rewards have a term of the same name, a cost can be negative, or nothing is given.
        """
        super().__init__(env)
        _put_in(env, reward, add, cost, budget)


class VectorRewardWrapper(VectorWrapper[Any, Any, Any, Any, Any]):
    """``RewardWrapper`` for vector environments: the reward is called once per step, for all rows that go on."""

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        reward: Reward | None = None,
        *,
        add: bool = False,
        cost: Reward | None = None,
        budget: float | None = None,
    ) -> None:
        """Score the dialogues of ``env``; arguments and errors as in ``RewardWrapper``."""
        super().__init__(env)
        _put_in(env, reward, add, cost, budget)


def dialogue_env(env: Any) -> DialogueEnv | DialogueVectorEnv:
    """Return the environment of dialogues under all wrappers.

    Raises:
        TypeError: There is none.
    """
    below = env.unwrapped
    below = getattr(below, "env", below).unwrapped  # a prefix environment has the one of dialogues inside
    if not isinstance(below, (DialogueEnv, DialogueVectorEnv)):
        raise TypeError(f"a reward is a function of dialogues, which {type(below).__name__} does not have")
    return below


def _put_in(env: Any, reward: Reward | None, add: bool, cost: Reward | None, budget: float | None) -> None:
    below = dialogue_env(env)
    if reward is None and cost is None:
        raise ValueError("expected a reward or a cost, got neither: RewardWrapper(env, 0.5 * TaskReward(env) + ...)")
    if budget is not None and cost is None:
        raise ValueError(f"a budget of {budget:g} goes with a cost: RewardWrapper(env, cost=..., budget={budget:g})")
    task = below.task
    if reward is not None:
        task = with_reward(task, reward, add=add)
    if cost is not None:
        task = with_cost(task, cost, add=add, budget=budget)
    below.task = task
