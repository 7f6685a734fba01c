"""How satisfied a participant of CaSiNo would be with an outcome: a linear model of the points of both sides.

It is fitted by least squares to what the participants of the published dialogues said (1 to 5), on the file that the
user gives; nothing of it ships. On the 900 published training dialogues (1,800 participants) it explains 16% of the
variance, on the 60 participants of the validation split 7% (correlation .45): people were mostly satisfied, whatever
they had.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.corpora.casino import COUNTS, WORTH
from dialog_gym.dialogue import Dialogue
from dialog_gym.envs.division import Result
from dialog_gym.envs.division_task import outcome
from dialog_gym.rewards.base import Reward

LOWEST, HIGHEST = 1.0, 5.0
WHOLE = sum(WORTH.values()) * COUNTS[0]


class Satisfaction(NamedTuple):
    """A fitted model.

    Attributes:
        weights: Of 1, agreement, the own points and the other's (shares of all points).
        explained: Share of the variance that it explains where it was fitted (R squared).
        people: How many answers it was fitted to.
    """

    weights: tuple[float, ...]
    explained: float
    people: int

    @classmethod
    def fit(cls, path: str | Path) -> Satisfaction:
        """Fit the answers of the participants in a published file.

        Raises:
            FileNotFoundError: There is no such file.
            CorpusError: It is damaged or of another format.
            ValueError: Fewer than ten people answered.
        """
        answers = told(path)
        if len(answers) < 10:
            raise ValueError(f"{path}: expected the answers of at least 10 people, got {len(answers)}")
        table = np.array([features(end) for end, _ in answers])
        said = np.array([answer for _, answer in answers])
        weights, *_ = np.linalg.lstsq(table, said, rcond=None)
        left = said - table @ weights
        explained = 1 - float(left @ left) / float(((said - said.mean()) ** 2).sum() or 1.0)
        return cls(tuple(map(float, weights)), explained, len(answers))

    def of(self, end: Result) -> float:
        """Return the answer that is expected after ``end``, 1 to 5."""
        expected = sum(w * x for w, x in zip(self.weights, features(end), strict=True))
        return min(max(expected, LOWEST), HIGHEST)

    def reward(self, fallback: int) -> Reward:
        """Return the expected answer as a reward: 0 before the end."""
        return _Expected(self, fallback)


class _Expected(Reward):
    name = "satisfaction"
    low, high = 0.0, HIGHEST

    def __init__(self, model: Satisfaction, fallback: int) -> None:
        self.model, self.fallback = model, fallback

    def __call__(self, dialogues: Sequence[Dialogue]) -> npt.NDArray[np.float32]:
        """Return the expected answer of the agent in each dialogue that is over."""
        expected = [self.model.of(outcome(d, self.fallback)) if d.stop_reason else 0.0 for d in dialogues]
        return np.array(expected, np.float32)


def features(end: Result) -> list[float]:
    """Return 1, whether there is a deal, and the points of both sides as shares of all points."""
    return [1.0, float(end.agreed), end.agent / WHOLE, end.partner / WHOLE]


def told(path: str | Path) -> list[tuple[Result, float]]:
    """Return the outcome and the answer (1 to 5) of every participant in a published file."""
    from dialog_gym.data.corpora.casino import WALK_AWAY_POINTS

    return [
        (outcome(episode.dialogue, WALK_AWAY_POINTS), float(episode.score or 0.0))
        for episode in read_corpus("casino", path, side="both")
    ]
