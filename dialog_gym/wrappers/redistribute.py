"""An environment with a final score becomes one with a reward per turn.

Like other rewards it is put into the engine, under all other wrappers: nothing is remembered beside the dialogue, so
that forks, restored states and every kind of autoreset earn the same, and a step that fails can be taken again.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv, VectorWrapper

from dialog_gym.rewards.other import Given, find_reward
from dialog_gym.rewards.redistributed import Redistributed
from dialog_gym.wrappers.rewards import dialogue_env


class RedistributeReward(gym.Wrapper[Any, Any, Any, Any]):
    """Earn, turn by turn, what a reward per turn says of each, in place of the environment's final score.

    ``info["reward_terms"]`` has both: the raw score, 0 before the end, by its own name, and the reward per turn by its
    name. With ``keep_sum="end"`` the last turn also earns the score less the sum of all rewards per turn, so that the
    return stays the score. Nothing of that can be spread over the turns while they are played: it is not known before
    the end. For recorded episodes ``dialog_gym.rewards.redistributed.redistribute`` does that.
    """

    def __init__(self, env: gym.Env[Any, Any], reward: Given, *, keep_sum: str = "end") -> None:
        """Give the score of ``env`` to its turns.

        Args:
            env: An environment of dialogues, wrapped or not; for ``"end"``, one that pays nothing before the end.
            reward: A reward per turn, above all a learned one; the folder that it lies in, or another name of one.
            keep_sum: ``"end"`` or ``"none"``.

        Raises:
            TypeError: ``env`` is no environment of dialogues.
            ValueError: There is no such reward, it has a term of the score's name, or an unknown ``keep_sum``.
        """
        super().__init__(env)
        _put_in(env, reward, keep_sum)


class VectorRedistributeReward(VectorWrapper[Any, Any, Any, Any, Any]):
    """``RedistributeReward`` for vector environments: the reward is asked once per step, for all rows that go on."""

    def __init__(self, env: VectorEnv[Any, Any, Any], reward: Given, *, keep_sum: str = "end") -> None:
        """Give the scores of ``env`` to its turns; arguments and errors as in ``RedistributeReward``."""
        super().__init__(env)
        _put_in(env, reward, keep_sum)


def _put_in(env: Any, reward: Given, keep_sum: str) -> None:
    below = dialogue_env(env)
    task = copy(below.task)
    task.reward = Redistributed(task.reward, find_reward(reward, below.task), keep_sum)
    below.task = task
