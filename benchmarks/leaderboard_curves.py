"""Performance profiles and learning curves of agents over all worlds of a leaderboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dialog_gym.benchmarks import statistics
from dialog_gym.benchmarks.leaderboard import by_agent, generator, on_scale, total_scores
from dialog_gym.benchmarks.results_folder import Result, Results
from dialog_gym.benchmarks.statistics import RESAMPLES, Band

Floats = npt.NDArray[np.float64]

MEASURE = "return on training items, scaled by lm and oracle on held-out ones"
"""What a learning curve shows: evaluations during training see no held-out item, and references have only those."""


def profiles(results: Results, taus: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Band]:
    """Return for each agent the share of its runs with a normalised score above each of ``taus``.

    Over the same worlds as the totals of a leaderboard.
    """
    return {
        agent: statistics.run_profile(
            list(own.values()), taus, rng=generator(seed, "profile", agent), resamples=resamples
        )
        for agent, own in total_scores(results).items()
        if own
    }


@dataclass(frozen=True)
class Learning:
    """How an agent improved while it learned: interquartile mean of ``MEASURE`` over worlds and runs.

    Where held-out items are harder than those of training, or easier, it does not end at the score of the leaderboard.

    Attributes:
        agent: The agent.
        unit: Of ``at``: ``"episodes"``, ``"updates"``.
        worlds: With a curve, of those that the total of the agent counts.
        at: Where, shape ``(points,)``; the range that all its runs have.
        score: There.
    """

    agent: str
    unit: str
    worlds: tuple[str, ...]
    at: Floats
    score: Band


def learning(results: Results, *, seed: int = 0, resamples: int = RESAMPLES, points: int = 40) -> list[Learning]:
    """Return the learning curve of each agent by unit, where its runs have some range in common."""
    found, counted = [], total_scores(results)
    for agent, own in by_agent(results.results).items():
        for unit in sorted({run.curve_unit for runs in own.values() for run in runs if run.curve}):
            curves = {
                world: [_scaled_curve(run, results) for run in runs if run.curve and run.curve_unit == unit]
                for world, runs in own.items()
                if world in counted[agent]
            }
            curves = {world: runs for world, runs in curves.items() if runs}
            if not curves:
                continue
            try:
                grid = statistics.common_grid(list(curves.values()), points)
            except ValueError:  # no range that all have
                continue
            rng = generator(seed, "learning", agent, unit)
            band = statistics.efficiency(list(curves.values()), grid, rng=rng, resamples=resamples)
            found.append(Learning(agent, unit, tuple(curves), grid, band))
    return found


def _scaled_curve(run: Result, results: Results) -> list[tuple[float, float]]:
    references = results.references(run.world)
    return [(float(at), on_scale(value, references)) for at, value in run.curve]
