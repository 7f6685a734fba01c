"""Differences between two agents that met the same seeds, and how small a difference the runs could show.

Pairing by seed of episode takes out that some episodes are easier for everybody. An interval over runs (seeds of
training) is what a claim about an algorithm needs; that over episodes is about the trained agents alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dialog_gym.benchmarks.statistics import LEVEL, RESAMPLES, Ends, ends, t_interval, t_quantile, tails


@dataclass(frozen=True)
class Difference:
    """What an agent earns more than another in a world, paired by seed of training and by seed of episode.

    Attributes:
        mean: Over all pairs.
        runs: Seeds of training that both have.
        episodes: Seeds of episodes that both have.
        over_runs: Interval for new runs on these episodes (Student's t over the runs' means); None with one run.
        over_both: Interval for new runs on new episodes: a bootstrap that draws runs and episodes independently
            (Owen 2007, "The pigeonhole bootstrap", doi:10.1214/07-AOAS122; errs on the wide side); None with one run.
        over_episodes: Interval for these runs on new episodes (bootstrap); None with one episode.
        resolvable: Least true difference that would be found four times in five (``smallest_difference``); None with
            one run.
    """

    mean: float
    runs: int
    episodes: int
    over_runs: Ends | None
    over_both: Ends | None
    over_episodes: Ends | None
    resolvable: float | None

    @property
    def told_apart(self) -> bool | None:
        """Whether the interval over runs is off zero; None where there is none."""
        return None if self.over_runs is None else not self.over_runs[0] <= 0 <= self.over_runs[1]


def paired_difference(
    gains: npt.ArrayLike, *, rng: np.random.Generator, resamples: int = RESAMPLES, level: float = LEVEL
) -> Difference:
    """Return what ``gains`` say.

    Args:
        gains: Return of one agent less that of the other, shape ``(runs, episodes)``.
        rng: Draws runs and episodes.
        resamples: How often.
        level: Of the intervals.
    """
    table = np.asarray(gains, np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError(f"expected finite gains of shape (runs, episodes), got shape {table.shape}")
    runs, episodes = table.shape
    weights = rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples) / episodes
    by_episodes = weights @ table.T  # (resamples, runs)
    drawn = rng.multinomial(runs, np.full(runs, 1 / runs), size=resamples) / runs
    several = runs > 1
    return Difference(
        mean=float(table.mean()),
        runs=runs,
        episodes=episodes,
        over_runs=t_interval(table.mean(axis=1), level) if several else None,
        over_both=ends(np.sum(by_episodes * drawn, axis=1), level) if several else None,
        over_episodes=ends(by_episodes.mean(axis=1), level) if episodes > 1 else None,
        resolvable=smallest_difference(table, level=level) if several else None,
    )


def smallest_difference(
    gains: npt.ArrayLike,
    *,
    runs: int | None = None,
    episodes: int | None = None,
    level: float = LEVEL,
    power: float = 0.8,
) -> float:
    """Return the least true difference that a paired t test over runs would find in a share ``power`` of tries.

    The variance of a run's mean gain is taken apart into that between runs and what chance in its episodes adds
    (two-way analysis of variance of ``gains``; that episodes are easier or harder for all runs alike adds nothing).
    The first stays however many episodes are played. The quantiles of t are added, which is not exact: from 3 runs on
    the power is right within 4 points.

    Args:
        gains: Differences, shape ``(runs, episodes)``, with at least two runs.
        runs: Of the comparison that is asked about, at least 2; by default as many as in ``gains``.
        episodes: The same.
        level: 1 less the rate of false alarms of the two-sided test.
        power: At least 0.5.
    """
    table = np.asarray(gains, np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or not table.shape[1]:
        raise ValueError(f"expected gains of at least two runs, shape (runs, episodes), got shape {table.shape}")
    count, played = table.shape
    runs, episodes = runs or count, episodes or played
    between = float(table.mean(axis=1).var(ddof=1))
    chance = 0.0
    if played > 1:
        rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
        chance = float(np.sum(rest**2)) / ((count - 1) * (played - 1))
    error = math.sqrt((max(between - chance / played, 0.0) + chance / episodes) / runs)
    return (t_quantile(tails(level)[1], runs - 1) + t_quantile(power, runs - 1)) * error
