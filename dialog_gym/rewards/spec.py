"""Rewards by what one types: ``true``, ``score``, ``none``, ``sentiment``, or the folder of a learned reward.

``dialog_gym.rewards.other.find_reward`` asks here first, so that these work wherever a reward is named:
``gym.make("dialog_gym/Chat-v0", reward="sentiment")``, ``dialog-gym train ppo --reward runs/geli``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from dialog_gym.checkpoint import ARRAYS, INDEX
from dialog_gym.rewards.base import Reward
from dialog_gym.task import Task


def _true(task: Task) -> Reward:
    from dialog_gym.rewards.truth import TrueValue

    return TrueValue(task)


def _sentiment(task: Task) -> Reward:
    from dialog_gym.rewards.affect import Affect

    return Affect("partner", name="sentiment")


NAMES: Mapping[str, Callable[[Task], Reward]] = {
    "true": _true,  # the world's own value of every turn, the upper line
    "score": lambda task: task.reward,  # what the environment pays itself, mostly one number at the end
    "none": lambda task: Reward.of(lambda dialogue: 0.0, "none", 0.0, 0.0),
    "sentiment": _sentiment,  # VADER of the partner's answer
}
FORMS = "'true', 'score', 'none', 'sentiment' or the folder of a learned reward, each with '?weight=2' if wanted"


def reward_of_spec(spec: str, task: Task) -> Reward | None:
    """Return the reward that ``spec`` says, for ``task``; None if it is neither a name of these nor a folder.

    Behind a ``?`` stand options: ``weight``, a factor, and for a folder ``keep_sum``: ``end`` makes the rewards of an
    episode sum up to the environment's own score (``dialog_gym.rewards.redistributed``).

    Raises:
        ValueError: An option is wrong, or the world does not know the truth.
        CheckpointError: The folder holds no learned reward.
    """
    name, _, text = spec.partition("?")
    if name not in NAMES and not (name and Path(name).is_dir()):
        return None
    options = _options(spec, text)
    weight, keep = float(options.get("weight", 1.0)), options.get("keep_sum", "none")
    if name in NAMES:
        found = NAMES[name](task)
    else:
        from dialog_gym.rewards.decomposition import load_reward

        found = load_reward(name)
    if keep != "none":
        from dialog_gym.rewards.redistributed import Redistributed

        found = Redistributed(task.reward, found, keep)
    return found if weight == 1 else weight * found


def _options(spec: str, text: str) -> dict[str, str]:
    try:
        options = dict(parse_qsl(text, strict_parsing=True)) if text else {}
        if options.keys() <= {"weight", "keep_sum"} and math.isfinite(float(options.get("weight", 1.0))):
            return options
    except ValueError:
        pass
    raise ValueError(f"expected {FORMS}, or 'FOLDER?keep_sum=end', got {spec!r:.120}")


def learned_folder(folder: str | Path) -> Path:
    """Return where in ``folder`` a learned reward lies: a run of ``fit reward`` has it in ``reward/``."""
    inside = Path(folder) / "reward"
    return inside if (inside / INDEX).exists() else Path(folder)


def files_of(spec: str) -> tuple[str, ...]:
    """Return the files that the reward ``spec`` is read from, which a run notes as its data; of names none.

    A run that learns from a reward then does not go on with another one, learned into the same folder meanwhile.
    """
    name = spec.partition("?")[0]
    if not name or name in NAMES:
        return ()
    paths = (learned_folder(name) / file for file in (INDEX, ARRAYS))
    return tuple(str(path) for path in paths if path.is_file())


def paid_by(env_kwargs: Mapping[str, Any], reward: str) -> dict[str, Any]:
    """Return the arguments of an environment in which ``reward`` is earned, as they are if it is ``""``."""
    return {**env_kwargs, "reward": reward} if reward else dict(env_kwargs)
