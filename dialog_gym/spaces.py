"""A text space for real language: membership is a length limit, not an alphabet."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Text


class Utterance(Text):
    """Any string of at most ``max_length`` characters, the empty one included.

    ``gymnasium.spaces.Text`` checks an alphabet whose default has no space and no full stop; here
    every Unicode string is a member, and the check costs no time. Being a ``Text`` it batches,
    compares and serialises (Minari) like one; a dataset read back has a plain ``Text``.

    >>> "Würden Sie 5 € nehmen?" in Utterance(80)
    True
    """

    WORDS = ("yes", "no", "please", "why", "I", "offer", "take", "$120", "$80", "deal", "?", "thanks")

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        """Limit the length to ``max_length`` characters, at least 1."""
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1 character, got {max_length}")
        super().__init__(max_length, min_length=0, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Return one to eight words drawn uniformly from ``WORDS``; masks have no meaning here."""
        count = int(self.np_random.integers(1, 9))
        return " ".join(self.np_random.choice(self.WORDS, count))[: self.max_length]

    def contains(self, x: Any) -> bool:
        """Return whether ``x`` is a string within the limit."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"Utterance({self.max_length})"
