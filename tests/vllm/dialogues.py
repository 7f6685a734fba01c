"""Prompts as they come up in play, of different lengths, and actions to steer the replies by."""

import numpy as np

from dialog_gym.env import DialogueVectorEnv
from dialog_gym.envs.bargain import Bargain
from dialog_gym.lm.prefix import PrefixMap

ROWS = 24


def dialogues(rows=ROWS, turns=2):
    env = DialogueVectorEnv(Bargain(), rows, autoreset_mode="disabled")
    env.reset(seed=7)
    for turn in range(turns):
        env.step([f"Would you take ${20 + 3 * row + turn}?" for row in range(rows)])
    return env.task, env.dialogues


def prompts(rows=ROWS):
    """Half of them after two turns, half of them before the first word."""
    task, said = dialogues(rows)
    _, fresh = dialogues(rows, turns=0)
    return [task.messages(pair[i % 2], task.roles[0]) for i, pair in enumerate(zip(said, fresh, strict=True))]


def prefixes(lm, rows=ROWS):
    """Prefixes of random actions, by the map that comes with the model."""
    steer = PrefixMap.load(lm.folder / "steer", lm)
    actions = np.random.default_rng(3).uniform(-1, 1, (rows, steer.action_size)).astype(np.float32)
    return steer(actions, np.zeros((rows, 0), np.float32))
