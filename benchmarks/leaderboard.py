"""A leaderboard: what results say of agents, world by world and over all of them.

In each world the mean return over runs (seeds) has Student's t interval; so have cost and success. The normalised
score is 0 for the row ``lm`` of the world and 1 for ``oracle``, both taken as exact. Over worlds there are
interquartile mean, mean, median and optimality gap of the normalised scores, with stratified bootstrap intervals
(``dialog_gym.benchmarks.statistics``).

Only scores over the same worlds can be compared. So agents are aggregated over ``common_worlds``, where all can act
that can act in most; who has runs in fewer of them stands below, with their number. Two agents are compared over the
worlds that both have. What is not there is told, never guessed. One run has no interval. A baseline that learns
nothing, does not depend on its seed and has one run stands beside every run of an agent that it is compared with.

Every interval has a generator of its own, made from the seed and the names of the agents: a leaderboard with one agent
more has the same numbers for the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dialog_gym.benchmarks import statistics
from dialog_gym.benchmarks.paired import Difference, paired_difference
from dialog_gym.benchmarks.results_folder import Result, Results, pair_of
from dialog_gym.benchmarks.statistics import RESAMPLES, Estimate, estimate, over_runs
from dialog_gym.rollout import normalise

Floats = npt.NDArray[np.float64]
Status = Literal["done", "not applicable", "missing", "not asked"]

REFERENCES = ("lm", "oracle")
"""What the normalised score is measured by; never named as the best of a world."""


@dataclass(frozen=True)
class Entry:
    """An agent in a world.

    Attributes:
        world: The world.
        agent: The agent.
        status: ``"done"`` if there is at least one run; ``"not applicable"``; ``"missing"`` if runs were asked for, as
            far as is known, and else ``"not asked"``.
        reason: Why it is not applicable.
        runs: How many runs there are; 0 unless done, and then everything below is None or empty.
        missing: How many runs were asked for and are not there.
        episodes: Least number of episodes of a run.
        score: Mean return.
        normalised: The same on the scale of the world; None where it has none.
        cost: Mean cost of an episode.
        budget: Most that it may be in the mean; None where the world has none.
        success: Share of episodes that reached the goal.
        behind: What it earns less (a negative mean) than ``best``, run by run; None for the best itself, for the
            references, and where the two have no runs or episodes in common.
        best: The agent with the highest mean return of the world, references left out. It is chosen by these runs, so
            that it looks a little better than it is.
        learned_from: ``"episodes"``, ``"log"``, ``"rankings"`` or "".
        cpu_seconds: Of a run, in the mean.
        tokens: Of a run, in the mean; None where a run did not count them.
    """

    world: str
    agent: str
    status: Status
    reason: str = ""
    runs: int = 0
    missing: int = 0
    episodes: int = 0
    score: Estimate | None = None
    normalised: Estimate | None = None
    cost: Estimate | None = None
    budget: float | None = None
    success: Estimate | None = None
    behind: Difference | None = None
    best: str = ""
    learned_from: str = ""
    cpu_seconds: float | None = None
    tokens: float | None = None

    @property
    def over_budget(self) -> bool:
        """Whether the mean cost is more than the world allows."""
        return self.cost is not None and self.budget is not None and self.cost.value > self.budget + 1e-9


@dataclass(frozen=True)
class Total:
    """An agent over the common worlds (``common_worlds``) where it has runs; if there are none, over its own.

    Attributes:
        agent: The agent.
        worlds: Their names.
        of: How many worlds of the leaderboard have a scale.
        runs: Least number of runs in one of them.
        iqm: Interquartile mean of the runs' normalised scores.
        mean: Mean over worlds.
        median: Median over worlds.
        gap: Optimality gap: how much runs miss the oracle's 1 in the mean.
        cpu_seconds: Of one run in each of the worlds, in all.
        over_budget: Worlds where its mean cost is more than they allow.
    """

    agent: str
    worlds: tuple[str, ...]
    of: int
    runs: int
    iqm: Estimate
    mean: Estimate
    median: Estimate
    gap: Estimate
    cpu_seconds: float
    over_budget: tuple[str, ...]


@dataclass(frozen=True)
class Duel:
    """How probable it is that a run of ``agent`` is better than one of ``other``, over the worlds that both have.

    There is no interval where one has a single run, nor where all resamples say the same: every run of one is better
    than every run of the other, and then the bootstrap does not know how far to trust that.
    """

    agent: str
    other: str
    worlds: tuple[str, ...]
    better: Estimate


@dataclass(frozen=True)
class Leaderboard:
    """What results say.

    Attributes:
        worlds: In the order of their names.
        agents: Those with all common worlds first, the highest interquartile mean on top; then those with fewer, and
            those without a score, by name.
        entries: By world, then agent: one for each pair.
        totals: In the order of agents; agents without a normalised score are not there.
        duels: Each pair of agents with worlds in common, the one that stands higher first.
        unscaled: Worlds where ``lm`` or ``oracle`` is not there, or they earn the same, which no total counts.
        missing: Names of runs that were asked for and are not there.
        broken: Files left out, each with its reason.
        mixed: How versions differ.
    """

    worlds: tuple[str, ...]
    agents: tuple[str, ...]
    entries: tuple[Entry, ...]
    totals: tuple[Total, ...]
    duels: tuple[Duel, ...]
    unscaled: tuple[str, ...]
    missing: tuple[str, ...]
    broken: tuple[str, ...]
    mixed: tuple[str, ...]

    def entry(self, world: str, agent: str) -> Entry:
        """Return the entry of an agent in a world."""
        return self.entries[self.worlds.index(world) * len(self.agents) + self.agents.index(agent)]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values; intervals are lists of value, low and high."""
        told: dict[str, Any] = asdict(self)
        for one, entry in zip(told["entries"], self.entries, strict=True):
            one["over_budget"] = entry.over_budget
        return told


ByAgent = Mapping[str, Mapping[str, Sequence[Result]]]
"""The runs of each agent in each world, by seed."""


def leaderboard(results: Results, *, seed: int = 0, resamples: int = RESAMPLES) -> Leaderboard:
    """Return the leaderboard of ``results``.

    Args:
        results: From ``read_results``.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        ValueError: There is no result.
    """
    if not results.results:
        left_out = f"; left out: {'; '.join(results.broken)}" if results.broken else ""
        raise ValueError(f"expected at least one result, got none{left_out}; `dialog-gym bench` makes them")
    made = by_agent(results.results)
    lost = [pair_of(name) for name in results.missing]
    worlds = sorted({one.world for one in results.results} | {world for world, _ in lost})
    worlds = sorted({*worlds, *(world for _, world in results.not_applicable)})
    names = {*made, *(agent for _, agent in lost), *(agent for agent, _ in results.not_applicable)}
    scores, counted = normalised_scores(results), total_scores(results)
    scaled = [world for world in worlds if has_scale(results, world)]
    totals = [_total(agent, own, made, len(scaled), seed, resamples) for agent, own in counted.items() if own]
    totals.sort(key=lambda total: (-len(total.worlds), -total.iqm.value, total.agent))
    ranked = [total.agent for total in totals]
    agents = (*ranked, *sorted(names - set(ranked)))
    entries = [
        _entry(world, agent, results, made, lost.count((world, agent)), seed, resamples)
        for world in worlds
        for agent in agents
    ]
    return Leaderboard(
        worlds=tuple(worlds),
        agents=agents,
        entries=tuple(entries),
        totals=tuple(totals),
        duels=tuple(_duels(ranked, scores, made, seed, resamples)),
        unscaled=tuple(world for world in worlds if world not in scaled),
        missing=results.missing,
        broken=results.broken,
        mixed=results.mixed,
    )


def normalised_scores(results: Results) -> dict[str, dict[str, Floats]]:
    """Return for each agent and world the normalised scores of its runs, shape ``(runs,)``, where there is a scale."""
    scales = {world: results.references(world) for world in {one.world for one in results.results}}
    return {
        agent: {world: _runs_on_scale(runs, scales[world]) for world, runs in own.items() if has_scale(results, world)}
        for agent, own in by_agent(results.results).items()
    }


def common_worlds(results: Results) -> set[str]:
    """Return the worlds with a scale in which all agents can act that can act in more than half of them.

    An agent can act where nobody says that it is not applicable, be there runs or not.
    """
    scaled = {world for world in {one.world for one in results.results} if has_scale(results, world)}
    able = [
        {world for world in scaled if (agent, world) not in results.not_applicable}
        for agent in by_agent(results.results)
    ]
    return scaled.intersection(*(worlds for worlds in able if 2 * len(worlds) > len(scaled)))


def total_scores(results: Results) -> dict[str, dict[str, Floats]]:
    """Return of ``normalised_scores`` what a total counts: that of the common worlds, else of an agent's own."""
    common = common_worlds(results)
    return {
        agent: {world: runs for world, runs in own.items() if world in common} or own
        for agent, own in normalised_scores(results).items()
    }


def difference(
    runs: Sequence[Result], others: Sequence[Result], *, seed: int = 0, resamples: int = RESAMPLES
) -> Difference | None:
    """Return what ``runs`` of an agent earn more than ``others`` of another in one world, paired by seeds.

    A baseline that learned nothing, does not depend on its seed and has one run is paired with every run of the other.

    Returns:
        None where they have no runs or no episodes in common.
    """
    pairs = _pairs(runs, others)
    shared = sorted(set.intersection(*(set(one.seeds) for pair in pairs for one in pair))) if pairs else []
    if not shared:
        return None
    gains = [_at(one, shared) - _at(other, shared) for one, other in pairs]
    rng = generator(seed, "difference", runs[0].world, runs[0].agent, others[0].agent)
    return paired_difference(np.stack(gains), rng=rng, resamples=resamples)


def by_agent(results: Iterable[Result]) -> dict[str, dict[str, list[Result]]]:
    """Return the runs of each agent in each world, by seed."""
    found: dict[str, dict[str, list[Result]]] = {}
    for one in sorted(results, key=lambda one: (one.agent, one.world, one.seed)):
        found.setdefault(one.agent, {}).setdefault(one.world, []).append(one)
    return found


def has_scale(results: Results, world: str) -> bool:
    """Return whether ``lm`` and ``oracle`` are there, and earn different returns."""
    return normalise(0.0, results.references(world)) is not None


def on_scale(value: float, references: Mapping[str, float]) -> float:
    """Return a return on the scale 0 = ``lm``, 1 = ``oracle``.

    Raises:
        ValueError: There is no such scale.
    """
    scaled = normalise(value, references)
    if scaled is None:
        raise ValueError(f"expected a world with different returns of lm and oracle, got {dict(references)}")
    return scaled


def _runs_on_scale(runs: Sequence[Result], references: Mapping[str, float]) -> Floats:
    return np.array([on_scale(float(run.returns.mean()), references) for run in runs])


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a generator that depends on the seed and the names alone."""
    return np.random.default_rng([seed, zlib.crc32("\n".join(names).encode())])


def _entry(world: str, agent: str, results: Results, made: ByAgent, lost: int, seed: int, resamples: int) -> Entry:
    runs = made.get(agent, {}).get(world, ())
    if not runs:
        reason = results.not_applicable.get((agent, world))
        without: Status = "missing" if lost else "not asked"
        return Entry(world, agent, without if reason is None else "not applicable", reason or "", missing=lost)
    score, references = over_runs([run.returns.mean() for run in runs]), results.references(world)
    best = _best(world, made)
    behind = None
    if best and agent not in (best, *REFERENCES):
        behind = difference(runs, made[best][world], seed=seed, resamples=resamples)
    tokens = [run.tokens for run in runs if run.tokens is not None]
    return Entry(
        world=world,
        agent=agent,
        status="done",
        runs=len(runs),
        missing=lost,
        episodes=min(len(run.seeds) for run in runs),
        score=score,
        normalised=_scaled(score, references) if has_scale(results, world) else None,
        cost=over_runs([run.costs.mean() for run in runs]),
        budget=runs[0].budget,
        success=_share([run.success for run in runs]),
        behind=behind,
        best=best,
        learned_from=runs[0].learned_from,
        cpu_seconds=float(np.mean([run.cpu_seconds for run in runs])),
        tokens=float(np.mean(tokens)) if len(tokens) == len(runs) else None,
    )


def _best(world: str, made: ByAgent) -> str:
    """Return the agent that earns most in ``world``, references left out; "" if there is none."""
    means = {
        agent: float(np.mean([run.returns.mean() for run in own[world]]))
        for agent, own in made.items()
        if world in own and agent not in REFERENCES
    }
    return max(means, key=means.__getitem__, default="")


def _scaled(score: Estimate, references: Mapping[str, float]) -> Estimate:
    value = on_scale(score.value, references)
    if score.low is None or score.high is None:
        return Estimate(value)
    low, high = sorted((on_scale(score.low, references), on_scale(score.high, references)))
    return Estimate(value, low, high)


def _share(shares: Sequence[float]) -> Estimate:
    """Return the mean of shares; the interval is cut where no share can be."""
    found = over_runs(shares)
    if found.low is None or found.high is None:
        return found
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))


def _total(agent: str, own: Mapping[str, Floats], made: ByAgent, of: int, seed: int, resamples: int) -> Total:
    runs = [own[world] for world in own]

    def told(aggregate: statistics.Aggregate) -> Estimate:
        return estimate(aggregate, runs, rng=generator(seed, "total", agent), resamples=resamples)

    cells = [made[agent][world] for world in own]
    return Total(
        agent=agent,
        worlds=tuple(own),
        of=of,
        runs=min(map(len, runs)),
        iqm=told(statistics.iqm),
        mean=told(statistics.mean),
        median=told(statistics.median),
        gap=told(statistics.optimality_gap),
        cpu_seconds=float(sum(np.mean([run.cpu_seconds for run in cell]) for cell in cells)),
        over_budget=tuple(cell[0].world for cell in cells if _over_budget(cell)),
    )


def _over_budget(runs: Sequence[Result]) -> bool:
    budget = runs[0].budget
    return budget is not None and float(np.mean([run.costs.mean() for run in runs])) > budget + 1e-9


def _duels(
    agents: Sequence[str], scores: Mapping[str, Mapping[str, Floats]], made: ByAgent, seed: int, resamples: int
) -> Iterable[Duel]:
    for agent, other in combinations(agents, 2):
        common = [world for world in scores[agent] if world in scores[other]]
        if common:
            runs, others = [], []
            for world in common:
                one, two = scores[agent][world], scores[other][world]
                if len(one) > 1 or len(two) > 1:  # then one that is always the same stands beside every run
                    one, two = _beside(one, made[agent][world]), _beside(two, made[other][world])
                runs.append(one)
                others.append(two)
            better = estimate(
                statistics.probability_of_improvement,
                runs,
                others,
                rng=generator(seed, "duel", agent, other),
                resamples=resamples,
            )
            known = better if better.low != better.high else Estimate(better.value)
            yield Duel(agent, other, tuple(common), known)


def _beside(scores: Floats, runs: Sequence[Result]) -> Floats:
    """Return the scores; that of a baseline of which another run would be the same, twice."""
    return np.repeat(scores, 2) if _fixed(runs) else scores


def _fixed(runs: Sequence[Result]) -> bool:
    """Return whether another run would be the same: nothing was learned, and nothing depends on the seed."""
    return len(runs) == 1 and not runs[0].learned_from and not runs[0].seeded


def _pairs(runs: Sequence[Result], others: Sequence[Result]) -> list[tuple[Result, Result]]:
    if _fixed(others):
        return [(run, others[0]) for run in runs]
    if _fixed(runs):
        return [(runs[0], other) for other in others]
    by_seed = {other.seed: other for other in others}
    return [(run, by_seed[run.seed]) for run in runs if run.seed in by_seed]


def _at(run: Result, seeds: Sequence[int]) -> Floats:
    """Return the returns of the episodes with ``seeds``."""
    place = {seed: k for k, seed in enumerate(run.seeds)}
    return np.asarray(run.returns[[place[seed] for seed in seeds]])
