"""What embedded worlds know of recorded dialogues: the true value of every agent turn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import gymnasium as gym

from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Json
from dialog_gym.env import advance, begin, env_task
from dialog_gym.errors import SettingError
from dialog_gym.task import Task
from dialog_gym.world import true_value


def task_of(env: str, env_kwargs: Mapping[str, Json]) -> Task:
    """Return what ``dialog_gym.env.env_task`` does, made once.

    Raises:
        ValueError: It is not one of dialogues.
    """
    return _made(env, json.dumps(dict(env_kwargs), sort_keys=True))


@lru_cache(maxsize=16)
def _made(env: str, env_kwargs: str) -> Task:
    return env_task(env, json.loads(env_kwargs))


def true_turns(recorded: Recorded) -> list[float] | None:
    """Return what each agent turn was truly worth, or None where nobody knows.

    Of a world that knows what a turn does to the partner (``Chat-v0``: ``true_moves``) that; of all others the reward
    of the turn and the change of the world's ``value``. The dialogue is played again for it, from its seed. Where it
    does not come out the same (a language model was the partner, the environment has changed) nobody knows.
    """
    if not recorded.env or recorded.env_kwargs.get("partner") is not None:
        return None
    known = {name: value for name, value in recorded.env_kwargs.items() if name not in _OTHER_REWARDS}
    try:
        task: Any = task_of(recorded.env, known)
    except (gym.error.Error, SettingError, ValueError):
        return None  # an environment of somebody else, who is not here, or one that has changed
    if not hasattr(task, "value"):
        return None
    if hasattr(task, "true_moves"):
        return [float(move) for move in task.true_moves(recorded.dialogue)]
    return _replayed(task, recorded)


_OTHER_REWARDS = ("judge", "rubric", "reward", "cost")
"""Arguments that do not move the truth, and may need models."""


def _replayed(task: Task, recorded: Recorded) -> list[float] | None:
    ended = recorded.dialogue
    state, values = begin(task, ended.seed), []
    for text in ended.texts(ended.roles[0]):
        if state.stop_reason:
            return None
        (after,), *_ = advance(task, [state], [text])
        values.append(true_value(task, state, after))
        state = after
    return values if state.turns == ended.turns else None
