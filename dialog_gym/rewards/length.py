"""How long the agent speaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.utterance import newest


class Length(Reward):
    """1 where the newest agent turn has between ``least`` and ``most`` words, less the farther it misses them.

    Of n words, ``n / least`` below and ``most / n`` above; words are what white space parts. Range [0, 1].
    """

    low, high = 0.0, 1.0

    def __init__(self, least: int, most: int, *, name: str = "length") -> None:
        """Want ``least`` to ``most`` words.

        Raises:
            ValueError: It is not 0 <= least <= most with most at least 1.
        """
        if not 0 <= least <= most or most < 1:
            raise ValueError(f"expected 0 <= least <= most and most >= 1 words, got {least} and {most}")
        self.least, self.most, self.name = least, most, name

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return how well each length fits."""
        return np.array([self._fit(len((newest(d, "agent") or "").split())) for d in dialogues], np.float32)

    def _fit(self, words: int) -> float:
        if words < self.least:
            return words / self.least
        return self.most / words if words > self.most else 1.0
