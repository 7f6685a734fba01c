"""Modules of the person at the command line: imported from where they stand, missing ones told in a sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from dialog_gym.errors import unknown
from dialog_gym.rewards.base import Reward
from dialog_gym.task import Task


def user_module(name: str) -> ModuleType:
    """Import the module ``name``, from the present folder if it is not installed.

    Raises:
        ValueError: There is none.
    """
    if os.getcwd() not in sys.path:  # a console script begins without it
        sys.path.append(os.getcwd())  # last, so that no file here hides a library
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it exists, and needs another one
        raise ValueError(
            f"there is no module {name!r}, neither installed nor in this folder; run the command where "
            f"{name.partition('.')[0]}.py lies"
        ) from error


def user_object(path: str) -> Task | Reward | Callable[..., Any]:
    """Return the task or reward that ``"module:name"`` names, or the class or function that makes one.

    Raises:
        KeyError: The module has none of this name; the message names the nearest task or reward.
        ValueError: There is no such module.
    """
    module, _, name = path.partition(":")
    home = user_module(module)
    found = getattr(home, name, None)
    if isinstance(found, Task) or callable(found):
        return found
    raise unknown("task or reward", name, [n for n, value in vars(home).items() if _is_of(value, module)])


def _is_of(value: object, module: str) -> bool:
    """Return whether ``value`` is a task, a reward, or a class of either that ``module`` itself defines."""
    if isinstance(value, type):
        return issubclass(value, (Task, Reward)) and value.__module__ == module
    return isinstance(value, (Task, Reward))
