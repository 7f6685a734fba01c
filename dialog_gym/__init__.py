"""Goal-directed dialogues as Gymnasium environments, and agents that learn to win them.

The names below are imported when they are first used, so that ``import dialog_gym`` loads NumPy and
Gymnasium and nothing heavier. Importing registers the environments: ``gym.make("dialog_gym/Bargain-v0")``.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dialog_gym.registration import register_envs

if TYPE_CHECKING:
    from dialog_gym.dialogue import Dialogue, Draws, Scenario, Turn
    from dialog_gym.env import DialogueEnv, DialogueVectorEnv
    from dialog_gym.errors import DialogueOverError, LanguageModelError
    from dialog_gym.rewards.base import Reward
    from dialog_gym.task import Reply, Task

__version__ = "0.1.0"

_HOMES = {
    "Dialogue": "dialog_gym.dialogue",
    "DialogueEnv": "dialog_gym.env",
    "DialogueOverError": "dialog_gym.errors",
    "DialogueVectorEnv": "dialog_gym.env",
    "Draws": "dialog_gym.dialogue",
    "LanguageModelError": "dialog_gym.errors",
    "Reply": "dialog_gym.task",
    "Reward": "dialog_gym.rewards.base",
    "Scenario": "dialog_gym.dialogue",
    "Task": "dialog_gym.task",
    "Turn": "dialog_gym.dialogue",
}

__all__ = [
    "Dialogue",
    "DialogueEnv",
    "DialogueOverError",
    "DialogueVectorEnv",
    "Draws",
    "LanguageModelError",
    "Reply",
    "Reward",
    "Scenario",
    "Task",
    "Turn",
    "register_envs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        near = difflib.get_close_matches(name, _HOMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_envs()
