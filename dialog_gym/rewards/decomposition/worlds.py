"""What embedded worlds know of recorded dialogues: the true value of every agent turn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import gymnasium as gym

from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Json
from dialog_gym.env import advance, begin, load_task
from dialog_gym.task import Task
from dialog_gym.world import true_value


def task_of(env: str, env_kwargs: Mapping[str, Json]) -> Task:
    """Return the task of an environment; of a prefix environment that of the text environment below.

    Raises:
        ValueError: It is not one of dialogues.
    """
    return _made(env.replace("Prefix-v", "-v"), json.dumps(dict(env_kwargs), sort_keys=True))


@lru_cache(maxsize=16)
def _made(env: str, env_kwargs: str) -> Task:
    settings = {**gym.spec(env).kwargs, **json.loads(env_kwargs)}
    if "task" not in settings:
        raise ValueError(f"{env} is not an environment of dialogues; `dialog-gym envs` lists them")
    return load_task(settings.pop("task"), settings)


def true_turns(recorded: Recorded) -> list[float] | None:
    """Return what each agent turn was truly worth, or None where nobody knows.

    Of a world that knows what a turn does to the partner (``Chat-v0``: ``true_moves``) that; of all others the reward
    of the turn and the change of the world's ``value``. The dialogue is played again for it, from its seed. Where it
    does not come out the same (a language model was the partner, the environment has changed) nobody knows.
    """
    if not recorded.env or "partner" in recorded.env_kwargs:
        return None
    known = {name: value for name, value in recorded.env_kwargs.items() if name not in _NOT_THE_TASKS}
    try:
        task: Any = task_of(recorded.env, known)
    except (gym.error.Error, ValueError):
        return None  # an environment of somebody else, who is not here
    if not hasattr(task, "value"):
        return None
    if hasattr(task, "true_moves"):
        return [float(move) for move in task.true_moves(recorded.dialogue)]
    return _replayed(task, recorded)


_NOT_THE_TASKS = ("lm", "prefix", "speaker", "judge", "rubric", "reward", "cost")
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
