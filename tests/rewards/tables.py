"""Rewards whose scores are a known function of what was said, and dialogues of every kind."""

from __future__ import annotations

import numpy as np

from dialog_gym.dialogue import Dialogue, Draws, Scenario, Turn
from dialog_gym.rewards.base import Reward

ROLES = ("agent", "partner")


def talk(*pairs: tuple[str, str], seed: int = 0, stop: str = "", success: bool = False) -> Dialogue:
    """Return a dialogue of ``(said, answered)`` pairs; an empty answer is none."""
    said = [Turn(role, text) for pair in pairs for role, text in zip(ROLES, pair, strict=True)]
    turns = tuple(turn for turn in said if turn.role == "agent" or turn.text)
    return Dialogue(Scenario("A talk."), ROLES, seed, turns, {"mood": 3}, stop, success)


class Table(Reward):
    """A number in [low, high] for every dialogue, drawn by its words; remembers what it was asked."""

    def __init__(self, name: str, low: float = 0.0, high: float = 1.0) -> None:
        self.name, self.low, self.high = name, low, high
        self.asked: list[list[Dialogue]] = []

    def at(self, dialogue: Dialogue) -> float:
        said = "|".join(f"{role}:{text}" for role, text in dialogue.turns) + dialogue.stop_reason
        return float(np.float32(Draws(self.name, said).uniform(self.low, self.high)))

    def __call__(self, dialogues):
        self.asked.append(list(dialogues))
        return np.array([self.at(dialogue) for dialogue in dialogues], np.float32)


DIALOGUES = [
    talk(("hello", "hi")),
    talk(("hello", "hi"), ("how much?", "ten")),
    talk(("hello", ""), stop="left"),
    talk(("hello", "hi"), ("deal", "done"), stop="deal", success=True),
    talk(("a", "b"), ("c", "d"), ("e", "f"), stop="max_turns"),
    talk(("a", "b"), ("c", "d"), ("e", "f")),
]
