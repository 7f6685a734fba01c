"""Another reward for the same dialogues, of one environment or of a vector of them.

The reward is put into the engine, under all other wrappers: where it fails (a judge that cannot be reached), the step
raises and no dialogue has changed, so that the same step can be taken again.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv, VectorWrapper

from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.rewards.base import Reward
from dialog_gym.rewards.other import with_reward


class RewardWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Earn ``reward`` in place of the task's own, or (``add``) both; ``info["reward_terms"]`` has the terms of both.

    The environment below earns it too from now on.
    """

    def __init__(self, env: gym.Env[Any, Any], reward: Reward, *, add: bool = False) -> None:
        """Score the dialogues of ``env`` by ``reward``.

        Raises:
            TypeError: ``env`` is no environment of dialogues.
            ValueError: The two rewards have a term of the same name.
        """
        super().__init__(env)
        _put_in(env, reward, add)


class VectorRewardWrapper(VectorWrapper[Any, Any, Any, Any, Any]):
    """``RewardWrapper`` for vector environments: the reward is called once per step, for all rows that go on."""

    def __init__(self, env: VectorEnv[Any, Any, Any], reward: Reward, *, add: bool = False) -> None:
        """Score the dialogues of ``env`` by ``reward``; errors as in ``RewardWrapper``."""
        super().__init__(env)
        _put_in(env, reward, add)


def _put_in(env: Any, reward: Reward, add: bool) -> None:
    below = env.unwrapped
    below = getattr(below, "env", below).unwrapped  # a prefix environment has the one of dialogues inside
    if not isinstance(below, (DialogueEnv, DialogueVectorEnv)):
        raise TypeError(f"a reward is a function of dialogues, which {type(below).__name__} does not have")
    below.task = with_reward(below.task, reward, add=add)
