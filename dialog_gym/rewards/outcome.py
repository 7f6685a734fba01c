"""How a dialogue came out: success at its end, and the task's own reward as a part of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.compose import Batch, Composite
from dialog_gym.task import Task


class Success(Reward):
    """1 at the end of a dialogue in which the agent's goal was reached (``info["success"]``), else 0."""

    name, low, high = "success", 0.0, 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return 1 for each dialogue that is over and a success."""
        return np.array([bool(d.stop_reason) and d.success for d in dialogues], np.float32)


class TaskReward(Composite):
    """The task's own reward, to be composed: ``RewardWrapper(env, 0.5 * TaskReward(env) + 0.5 * Affect())``.

    It is the same object as the reward of the task, so that it is scored once and its terms keep their names.
    """

    def __init__(self, task: Task | Any) -> None:
        """Take the reward of ``task``, or that of the task which an environment plays.

        Raises:
            TypeError: There is no task.
        """
        found = task if isinstance(task, Task) else getattr(getattr(task, "unwrapped", task), "task", None)
        if not isinstance(found, Task):
            raise TypeError(f"expected a task or an environment of dialogues, got {type(task).__name__}")
        own = found.reward
        super().__init__(own.name, (own,), own.low, own.high)

    def combined(self, batch: Batch) -> Floats:
        """Return what the task rewards."""
        return batch.scores(self.parts[0])
