"""The win rate there would be if both answers were equally long.

In the manner of AlpacaEval's length-controlled win rate (Dubois et al. 2024, arXiv:2404.04475): for each player a
logistic regression of what it earns against the base,

    p(player beats base) = sigmoid(theta + phi * tanh(d / s)),

where d is how much longer its answer is and s the standard deviation of d over questions. The length-controlled win
rate is the prediction at d = 0: ``sigmoid(theta)``. For the base itself it is .5, and exchanging both sides gives one
less it.

Differences: no term for how hard a question is (there it is estimated from many models of a leaderboard); lengths are
in characters; earned points may be a half; a weak ridge on both coefficients (there cross-validated) keeps them finite
where somebody always wins.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dialog_gym.tournament.ratings import RESAMPLES, Floats, Games, Interval, draws, interval, sigmoid

RIDGE = 0.01


class Controlled(NamedTuple):
    """A length-controlled win rate.

    Attributes:
        mean: Win rate at equal length.
        interval: 95% interval over questions.
        slope: phi: what it does to the log-odds that an answer is one standard deviation of the differences longer,
            over tanh(1) = .76. Positive where longer answers win.
    """

    mean: float
    interval: Interval
    slope: float


def controlled(
    games: Games, player: str, base: str, longer: Floats, *, resamples: int = RESAMPLES, seed: int = 0
) -> Controlled:
    """Return how ``player`` would do against ``base`` with answers of equal length; nan where they never met.

    Args:
        games: The matches.
        player: Who.
        base: Against whom.
        longer: How many characters its answer is longer than the base's, shape ``(questions,)``.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    if player == base:
        return Controlled(0.5, Interval(0.5, 0.5), 0.0)
    question, _, points = games.against(player, base)
    if not len(points):
        return Controlled(math.nan, Interval(math.nan, math.nan), math.nan)
    count = len(games.questions)
    earned, met = np.bincount(question, points, count), np.bincount(question, minlength=count).astype(np.float64)
    weights = np.concatenate([np.ones((1, count)), draws(count, resamples, seed)])
    fitted = fit_logistic(bounded(longer), weights * earned, weights * met)
    rates = sigmoid(fitted[:, 0])
    return Controlled(float(rates[0]), interval(rates[1:]), float(fitted[0, 1]))


def bounded(longer: Floats) -> Floats:
    """Return ``tanh`` of differences over their standard deviation; 0 where all are alike, which explains nothing."""
    spread = float(longer.std())
    found: Floats = np.tanh(longer / spread) if spread > 0 else np.zeros_like(longer)
    return found


def fit_logistic(
    x: Floats, earned: Floats, met: Floats, *, ridge: float = RIDGE, rounds: int = 50, tolerance: float = 1e-10
) -> Floats:
    """Return intercept and slope of logistic regressions, shape ``(n, 2)``, by Newton's method on all at once.

    They maximise ``sum_q earned log p + (met - earned) log(1 - p) - ridge / 2 (theta^2 + phi^2)``.

    Args:
        x: What is regressed on, shape ``(questions,)``.
        earned: Points by question, shape ``(n, questions)``.
        met: Matches by question, likewise.
        ridge: Weight of the penalty.
        rounds: Most steps.
        tolerance: Largest step that counts as none.
    """
    features = np.stack([np.ones_like(x), x], axis=1)
    found = np.zeros((len(earned), 2))
    for _ in range(rounds):
        chance = sigmoid(found @ features.T)
        slope = (earned - met * chance) @ features - ridge * found
        bent = met * chance * (1 - chance)
        curve = np.einsum("nq,qi,qj->nij", bent, features, features) + ridge * np.eye(2)
        step = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        found += np.clip(step, -2, 2)
        if np.abs(step).max(initial=0) < tolerance:
            break
    return found
