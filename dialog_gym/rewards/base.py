"""What a reward is: a named function from dialogues to numbers of a declared range."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue

Floats = npt.NDArray[np.float32]


class Reward(ABC):
    """Score the newest agent turn of each dialogue; subclass and write ``__call__``.

    A reward that cannot score (a judge that fails) raises. It never returns a made-up number.

    Attributes:
        name: Key of this term in ``info["reward_terms"]``.
        low: Smallest possible score.
        high: Largest possible score.
    """

    name: str
    low: float
    high: float

    @abstractmethod
    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return one finite score per dialogue, shape ``(len(dialogues),)``, in [low, high]."""


def checked(reward: Reward, dialogues: Sequence[Dialogue]) -> list[float]:
    """Score ``dialogues`` and refuse what would poison training.

    Raises:
        ValueError: The scores have the wrong shape or one of them is not finite.
    """
    scores = reward(dialogues)
    numbers: list[float] = scores.tolist()
    # A sum is finite unless a member is not (or it overflows, which is as bad).
    if scores.shape != (len(dialogues),) or not math.isfinite(sum(numbers)):
        raise ValueError(
            f"reward {reward.name!r} must return {len(dialogues)} finite scores, one per dialogue, got shape "
            f"{scores.shape}: {scores}; raise an error where a dialogue cannot be scored"
        )
    return numbers
