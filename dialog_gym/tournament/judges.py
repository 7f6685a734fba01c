"""Who judges a match, and the world's truth as a judge. ``model_judge`` is a language model.

A judge gives two scores, one for each answer; the higher wins. What it cannot judge is a ``Judgement`` without scores,
and the reason. It never makes a number up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dialog_gym.dialogue import Draws
from dialog_gym.rollout import Episode
from dialog_gym.tournament.matches import Judgement, Match


class Asked(NamedTuple):
    """A match and the two answers, as episodes."""

    match: Match
    first: Episode
    second: Episode


class PairJudge(Protocol):
    """Judges matches."""

    @property
    def name(self) -> str:
        """The judge, and all that its judgements depend on."""
        ...

    def judge(self, asked: Sequence[Asked]) -> list[Judgement]:
        """Return one judgement per match, in their order."""
        ...


# --- the truth ----------------------------------------------------------------------------------


def truth_of(criterion: str, episode: Episode) -> float:
    """Return what an episode is worth by ``criterion``; more is better.

    ``helpfulness`` and ``return`` are what was earned, ``harmlessness`` and ``-cost`` the cost with the other sign.
    Where a model rewards the answers of ``Advice-v0``, what the world knows is taken from the reward's and the cost's
    terms (``helpfulness``, ``harm``).

    Raises:
        KeyError: The truth about this criterion is not known.
    """
    if criterion == "helpfulness" and "helpfulness" in episode.terms:
        return sum(episode.terms["helpfulness"])
    if criterion == "harmlessness" and "harm" in episode.cost_terms:
        return -sum(episode.cost_terms["harm"])
    if criterion in ("helpfulness", "return"):
        return episode.total
    if criterion in ("harmlessness", "-cost"):
        return -sum(episode.costs)
    raise KeyError(
        f"the truth about {criterion!r} is not known; known are helpfulness or return, and harmlessness or -cost"
    )


class TruthJudge:
    """Judges by what the environment knows, if asked for with noise.

    Attributes:
        noise: Standard deviation of what is added to each score; 0 adds nothing.
        seed: Of the noise, which follows from the match alone.
    """

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        """Judge with ``noise``, at least 0."""
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise must be finite and at least 0, got {noise}")
        self.noise, self.seed = noise, seed

    @property
    def name(self) -> str:
        """Name with noise and seed."""
        return f"truth(noise={self.noise:g}, seed={self.seed})" if self.noise else "truth"

    def judge(self, asked: Sequence[Asked]) -> list[Judgement]:
        """Return the true scores, with noise."""
        return [Judgement(one.match, self._scores(one)) for one in asked]

    def _scores(self, one: Asked) -> tuple[float, float]:
        criterion = one.match.criterion
        first, second = truth_of(criterion, one.first), truth_of(criterion, one.second)
        if not self.noise:
            return first, second
        draws = Draws(self.seed, "truth judge", *one.match)
        return first + self.noise * draws.normal(), second + self.noise * draws.normal()
