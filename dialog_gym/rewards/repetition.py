"""How much the agent repeats itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


class Repetition(Reward):
    """Share of the n-grams of the newest agent turn that the agent has said before; a penalty: ``-Repetition()``.

    Before means in an earlier turn of its own, or earlier in this one. Words are compared without case and
    punctuation. A turn of fewer words than n counts as n-grams of its own length, one without words repeats nothing.
    Range [0, 1].
    """

    low, high = 0.0, 1.0

    def __init__(self, n: int = 3, *, name: str = "repetition") -> None:
        """Compare ``n`` words at a time.

        Raises:
            ValueError: ``n`` is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1 word, got {n}")
        self.n, self.name = n, name

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the share of each newest agent turn that is a repetition."""
        return np.array([self._share(dialogue.texts(dialogue.roles[0])) for dialogue in dialogues], np.float32)

    def _share(self, texts: Sequence[str]) -> float:
        *earlier, newest = [_WORD.findall(text.lower()) for text in texts] or [[]]
        size = min(self.n, len(newest))
        if not size:
            return 0.0
        said = {gram for words in earlier for gram in _grams(words, size)}
        grams, repeated = _grams(newest, size), 0
        for gram in grams:
            repeated += gram in said
            said.add(gram)
        return repeated / len(grams)


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
