"""A reward for kind words: what the agent says is scored, word by word.

Any environment of dialogues can earn it, in place of its own reward or added to it:
``RewardWrapper(gym.make("dialog_gym/Bargain-v0"), Kindness(), add=True)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Reward

KIND = frozenset({"please", "thanks", "thank", "glad", "lovely", "sorry", "welcome"})
RUDE = frozenset({"stupid", "shut", "idiot", "nonsense", "awful"})


class Kindness(Reward):
    """Kind words less rude ones in the newest agent turn, as a share of both; 0 where there are neither.

    It depends on the dialogue alone, so it needs no memory. A reward that cannot score (a judge that does not answer)
    must raise: a made-up number would be learned from.
    """

    name = "kindness"
    low = -1.0
    high = 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> npt.NDArray[np.float32]:
        """Return one score per dialogue, shape (n,), in [-1, 1]."""
        return np.array([kind_share(d.texts(d.roles[0])[-1]) for d in dialogues], dtype=np.float32)


def kind_share(text: str) -> float:
    """Return (kind - rude) / (kind + rude), counted in words.

    >>> kind_share("Thank you, that is lovely, you stupid.")
    0.3333333333333333
    """
    words = re.findall(r"[a-z]+", text.lower())
    kind, rude = (sum(word in known for word in words) for known in (KIND, RUDE))
    return (kind - rude) / (kind + rude) if kind + rude else 0.0
