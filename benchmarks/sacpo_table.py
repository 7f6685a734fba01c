"""The tables and plots of ``dialog_gym.benchmarks.sacpo``, read from the files of its cells."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.benchmarks.statistics import markdown_table, runs_or_episodes
from dialog_gym.tournament.groups import looks

log = logging.getLogger("dialog_gym")

BASE = "base"
REFERENCES = ("oracle", "safe", "refuse")
MODES = {"greedy": 0.0, "sampled": 1.0}
"""How policies speak, and the temperature."""
NUMBERS = ("reward", "cost", "within", "lost", "helpful", "harmless")
HEAD = ("policy", "seeds", "reward", "cost", "within budget", "not understood", "wins H", "wins S", "words", "CPU s")


class Mean(NamedTuple):
    """A mean over seeds, with its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """A policy, speaking in one way.

    Attributes:
        mode: One of ``MODES``.
        policy: Its name.
        seeds: How many cells there are.
        reward: Mean return.
        cost: Mean cost.
        within: Share of the dialogues whose own cost is within the budget.
        lost: Share of the answers that say nothing to the asker.
        helpful: Win rate against the base by true helpfulness; a tie is half a win.
        harmless: The same by true harmlessness.
        words: Mean words of an answer.
        cpu_seconds: Of one cell: what it had to train (shared stages only once), and its evaluation.
    """

    mode: str
    policy: str
    seeds: int
    reward: Mean
    cost: Mean
    within: Mean
    lost: Mean
    helpful: Mean
    harmless: Mean
    words: float
    cpu_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON values."""
        told = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def win_share(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return what ``own`` earns on each question where more is better: 1, 0, or .5 for a tie.

    >>> win_share([1.0, 0.5, 0.0], [0.0, 0.5, 1.0])
    [1.0, 0.5, 0.0]
    """
    return [1.0 if a > b else 0.0 if a < b else 0.5 for a, b in zip(own, other, strict=True)]


def lines_of(folder: Path, order: Sequence[str]) -> list[Line]:
    """Return the table of all cells in ``folder``: the base, policies in their ``order``, then references."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "cells").glob("*.json"))]
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["config"]["cell"]["seed"]):
        found.setdefault(cell["config"]["cell"]["policy"], []).append(cell)
    if BASE not in found:
        return []
    names = [BASE, *(name for name in order if name in found)]
    names += sorted(set(found) - set(names))
    return [_line(mode, name, found[name], found[BASE][0]) for mode in MODES for name in names]


def _line(mode: str, policy: str, cells: Sequence[Mapping[str, Any]], base: Mapping[str, Any]) -> Line:
    by_seed = [_numbers(cell[mode], base[mode], cell["budget"]) for cell in cells]
    means = {name: _mean([numbers[name] for numbers in by_seed]) for name in NUMBERS}
    words = float(np.mean([np.mean(cell[mode]["words"]) for cell in cells]))
    return Line(mode, policy, len(cells), **means, words=words, cpu_seconds=_cpu(cells))


def _cpu(cells: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([cell["cpu_seconds"] for cell in cells]))


def _numbers(own: Mapping[str, Any], base: Mapping[str, Any], budget: float) -> dict[str, list[float]]:
    """Return the numbers of ``NUMBERS`` for each question."""
    return {
        "reward": own["rewards"],
        "cost": own["costs"],
        "within": [float(cost <= budget + 1e-9) for cost in own["costs"]],
        "lost": [float(not understood) for understood in own["understood"]],
        "helpful": win_share(own["rewards"], base["rewards"]),
        "harmless": win_share([-cost for cost in own["costs"]], [-cost for cost in base["costs"]]),
    }


def _mean(by_seed: Sequence[Sequence[float]]) -> Mean:
    means = [float(np.mean(values)) for values in by_seed]
    return Mean(float(np.mean(means)), *runs_or_episodes(by_seed))


def markdown(lines: Sequence[Line]) -> str:
    """Return a table for each way of speaking."""
    parts = []
    for mode in MODES:
        parts += [f"**{mode}**", markdown_table(HEAD, [_cells(line) for line in lines if line.mode == mode])]
    return "\n\n".join(parts)


def _cells(line: Line) -> list[str]:
    numbers = [_told(getattr(line, name), 1 if name in ("within", "lost") else 3) for name in NUMBERS]
    return [line.policy, str(line.seeds), *numbers, f"{line.words:.1f}", f"{line.cpu_seconds:.0f}"]


def _told(value: Mean, digits: int) -> str:
    scale, sign = (100, "%") if digits == 1 else (1, "")
    mean, low, high = (f"{scale * number:.{0 if sign else digits}f}" for number in value)
    return f"{mean}{sign} [{low}, {high}]"


def write_csv(path: Path, lines: Sequence[Line]) -> None:
    """Write the table as CSV."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "mode",
                "policy",
                "seeds",
                *(f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high")),
                "words",
            ]
        )
        for line in lines:
            numbers = [number for name in NUMBERS for number in getattr(line, name)]
            writer.writerow([line.mode, line.policy, line.seeds, *numbers, line.words])


def plots(lines: Sequence[Line], folder: Path) -> None:
    """Write for each way of speaking the scatter of win rates and the Pareto front, without the references.

    Without matplotlib there are no plots.
    """
    if importlib.util.find_spec("matplotlib") is None:
        log.warning("no plots: matplotlib is missing (pip install 'dialog-gym[report]')")
        return
    from dialog_gym.tournament.plots import Point, front, scatter

    for mode in MODES:
        mine = [line for line in lines if line.mode == mode and line.policy not in REFERENCES]
        shown = looks([line.policy for line in mine], BASE)
        wins = [Point(o.policy, o.helpful.mean, o.harmless.mean, o.helpful[1:], o.harmless[1:]) for o in mine]
        axes = ("helpfulness", "harmlessness")
        scatter(wins, shown, folder / f"scatter_{mode}.png", axes=axes, pivot=0.5, what="win rate")
        costs = [Point(o.policy, o.cost.mean, o.reward.mean, o.cost[1:], o.reward[1:]) for o in mine]
        front(costs, shown, folder / f"front_{mode}.png", budget=0.05)
