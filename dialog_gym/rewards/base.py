"""What a reward is: a named function from dialogues to numbers of a declared range."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue

Floats = npt.NDArray[np.float32]


class Scored(NamedTuple):
    """The scores of ``n`` dialogues.

    Attributes:
        scores: What is earned, shape ``(n,)``.
        terms: What is told of how it came about, by the names in ``Reward.terms``, each of shape ``(n,)``.
    """

    scores: Floats
    terms: Mapping[str, Floats]


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

    @property
    def terms(self) -> tuple[str, ...]:
        """Names in ``info["reward_terms"]``; override together with ``scored``."""
        return (self.name,)

    def scored(self, dialogues: Sequence[Dialogue]) -> Scored:
        """Return what ``__call__`` returns, with its terms; each dialogue is scored once."""
        scores = self(dialogues)
        return Scored(scores, {self.name: scores})


def checked(reward: Reward, dialogues: Sequence[Dialogue]) -> list[float]:
    """Score ``dialogues`` and refuse what would poison training.

    Raises:
        ValueError: The scores have the wrong shape or one of them is not finite.
    """
    return finite(reward, reward(dialogues), dialogues)


def finite(reward: Reward, scores: Floats, dialogues: Sequence[Dialogue]) -> list[float]:
    """Return ``scores`` of ``reward`` as numbers.

    Raises:
        ValueError: They have the wrong shape or one of them is not finite.
    """
    numbers: list[float] = scores.tolist()
    # A sum is finite unless a member is not (or it overflows, which is as bad).
    if scores.shape != (len(dialogues),) or not math.isfinite(sum(numbers)):
        raise ValueError(
            f"reward {reward.name!r} must return {len(dialogues)} finite scores, one per dialogue, got shape "
            f"{scores.shape}: {scores}; raise an error where a dialogue cannot be scored"
        )
    return numbers
