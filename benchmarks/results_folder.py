"""Folders of results of ``dialog-gym bench``: what statistics, leaderboards and reports read.

A folder has ``suite.json`` (what was asked for, and what cannot be done, with reasons), a file of each result,
``cells/WORLD--AGENT--SEED.json``, and its first held-out dialogues, ``episodes/WORLD--AGENT--SEED``. A cell's file is
that of ``dialog_gym.benchmarks.command.write_cell``: its settings in ``config``, in ``config["cell"]`` agent,
environment and seed, in ``result`` what ``Evaluation.to_json`` tells, and beside them what ``Result`` calls so.

Nothing here imports torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SUITE = "suite.json"
CELLS = "cells"
EPISODES = "episodes"


@dataclass(frozen=True, eq=False)
class Result:
    """One cell: an agent with a seed in an environment.

    Attributes:
        path: Its file.
        world: ``"Bargain"``: of ``dialog_gym/Bargain-v0`` and of ``dialog_gym/BargainPrefix-v0`` alike; the column of
            a table.
        env: The id it acted in.
        agent: The row of a table: ``"td3"``, ``"ilql"``, ``"lm"``, ``"oracle"``.
        seed: Of training, or of what the agent draws.
        seeds: Of the episodes; the same for all agents of a world (paired comparisons).
        returns: Return of each episode, shape ``(episodes,)``.
        costs: Cost of each, shape ``(episodes,)``.
        success: Share of episodes that reached the agent's goal, 0 to 1.
        budget: Most that an episode may cost in the mean, None where the world has none.
        curve: Pairs of ``curve_unit`` so far and mean return in evaluations during training; empty where there were
            none.
        curve_unit: ``"episodes"``, ``"updates"``, ``"steps"``; "" where there is no curve.
        learned_from: ``"episodes"`` (that it played itself), ``"log"`` (recorded), ``"rankings"``, "" (nothing).
        tokens: That language models processed in training, filling included; None where nobody counted, or training
            was stopped on the way.
        cpu_seconds: Of training and evaluation, of the last start.
        wall_seconds: The same.
        versions: Python, commit and packages by name; None is a commit that nobody knows.
        episodes: Folder of recorded Episodes (``dialog_gym.data``) of the first held-out dialogues; None: not there.
        settings: All that the cell depends on but its seed, as JSON.
    """

    path: Path
    world: str
    env: str
    agent: str
    seed: int
    seeds: tuple[int, ...]
    returns: Floats
    costs: Floats
    success: float
    budget: float | None
    curve: tuple[tuple[int, float], ...]
    curve_unit: str
    learned_from: str
    tokens: int | None
    cpu_seconds: float
    wall_seconds: float
    versions: Mapping[str, str | None]
    episodes: Path | None
    settings: str = ""


@dataclass(frozen=True, eq=False)
class Results:
    """What folders hold.

    Attributes:
        results: By world, agent and seed, in the order of their names.
        not_applicable: Why an agent cannot act in or learn from a world, by ``(agent, world)``.
        broken: Files left out, each with its reason.
        missing: Names of cells that were asked for and are not there.
        mixed: How versions differ, one line per package, and which runs of an agent have different settings; empty
            where nothing does.
    """

    results: tuple[Result, ...]
    not_applicable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()

    def references(self, world: str) -> Mapping[str, float]:
        """Return the mean returns of ``"lm"`` and ``"oracle"`` in ``world``, those that are there.

        They are 0 and 1 of the normalised score (``dialog_gym.rollout.normalise``).
        """
        found: dict[str, list[float]] = {}
        for result in self.results:
            if result.world == world and result.agent in ("lm", "oracle"):
                found.setdefault(result.agent, []).append(float(result.returns.mean()))
        return {agent: float(np.mean(means)) for agent, means in found.items()}


def world_of(env: str) -> str:
    """Return the world of an environment's id.

    >>> world_of("dialog_gym/Bargain-v0"), world_of("dialog_gym/BargainPrefix-v0")
    ('Bargain', 'Bargain')
    """
    return env.rpartition("/")[2].rpartition("-v")[0].removesuffix("Prefix")


def cell_name(world: str, agent: str, seed: int) -> str:
    """Return the name of a cell's file.

    >>> cell_name("Bargain", "td3", 2)
    'Bargain--td3--2'
    """
    return f"{world}--{agent}--{seed}"


def read_results(*folders: str | Path, mixed: bool = False) -> Results:
    """Read what ``folders`` hold.

    A file that is no cell is left out and named in ``broken``; so is a ``suite.json`` that is damaged or not there,
    and then nobody knows what else was asked for. Of a cell that several folders have, the first counts.

    Args:
        folders: Of ``dialog-gym bench``.
        mixed: Take results of different versions or settings too; ``Results.mixed`` then tells how they differ.

    Raises:
        ValueError: A folder has neither a ``suite.json`` nor a cell; or versions differ, or settings of an agent's
            runs in a world.
    """
    found: dict[str, Result] = {}
    broken: list[str] = []
    reasons: dict[tuple[str, str], str] = {}
    asked: list[str] = []
    for folder in map(Path, folders):
        cells = sorted((folder / CELLS).glob("*.json"))
        try:
            told = _suite(folder)
        except ValueError as error:
            if not cells and not (folder / SUITE).is_file():
                raise
            broken.append(str(error))
        else:
            reasons |= told.not_applicable
            asked += [name for name in told.asked if name not in asked]
        for path in cells:
            try:
                result = read_result(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                broken.append(f"{path}: {error if not isinstance(error, KeyError) else f'{error} is not there'}")
            else:
                found.setdefault(cell_name(result.world, result.agent, result.seed), result)
    results = tuple(sorted(found.values(), key=lambda one: (one.world, one.agent, one.seed)))
    if (differ := (*differences(one.versions for one in results), *other_settings(results))) and not mixed:
        raise ValueError(
            f"results of different versions or settings do not belong into one table: {'; '.join(differ)}. Run the "
            "older ones again in a folder of their own, or ask for mixed results, which are then marked"
        )
    missing = tuple(name for name in asked if name not in found)
    return Results(results, reasons, tuple(broken), missing, differ)


def read_result(path: Path) -> Result:
    """Read the file of one cell.

    Raises:
        ValueError: It is no JSON, or what it tells does not go together.
        KeyError: Something is not told.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    cell, result = data["config"]["cell"], data["result"]
    seeds, returns, costs = tuple(map(int, result["seeds"])), _row(result, "returns"), _row(result, "costs")
    if not len(seeds) == len(returns) == len(costs) or not seeds:
        raise ValueError(
            f"expected as many returns and costs as seeds, got {len(returns)}, {len(costs)}, {len(seeds)}"
        )
    episodes = path.parent.parent / data["episodes"] if data["episodes"] else None
    return Result(
        path=path,
        world=world_of(cell["env"]),
        env=str(cell["env"]),
        agent=str(cell["agent"]),
        seed=int(cell["seed"]),
        seeds=seeds,
        returns=returns,
        costs=costs,
        success=float(result["success_rate"]),
        budget=None if data["budget"] is None else float(data["budget"]),
        curve=tuple((int(at), float(value)) for at, value in data["curve"]),
        curve_unit=str(data["curve_unit"]),
        learned_from=str(data["learned_from"]),
        tokens=None if data["tokens"] is None else int(data["tokens"]),
        cpu_seconds=float(data["cpu_seconds"]),
        wall_seconds=float(data["wall_seconds"]),
        versions=dict(data["versions"]),
        episodes=episodes if episodes is not None and episodes.is_dir() else None,
        settings=json.dumps({**data["config"], "cell": {**cell, "seed": None}}, sort_keys=True),
    )


def differences(versions: Iterable[Mapping[str, str | None]]) -> tuple[str, ...]:
    """Return how ``versions`` differ, a line per package.

    >>> differences([{"torch": "2.1", "numpy": "2.0"}, {"torch": "2.2", "numpy": "2.0"}])
    ('torch 2.1 and 2.2',)
    """
    every = list(versions)
    names = sorted({name for one in every for name in one})
    values = {name: sorted({one.get(name) or "unknown" for one in every}) for name in names}
    return tuple(f"{name} {' and '.join(found)}" for name, found in values.items() if len(found) > 1)


def other_settings(results: Iterable[Result]) -> tuple[str, ...]:
    """Return which agents have runs of different settings in a world, as those of two suites, a line for each."""
    found: dict[tuple[str, str], set[str]] = {}
    for one in results:
        found.setdefault((one.agent, one.world), set()).add(one.settings)
    return tuple(f"settings of {agent} in {world}" for (agent, world), told in found.items() if len(told) > 1)


class _Suite(NamedTuple):
    asked: tuple[str, ...]
    not_applicable: dict[tuple[str, str], str]


def _suite(folder: Path) -> _Suite:
    path = folder / SUITE
    if not path.is_file():
        raise ValueError(f"{folder} is no folder of results: it has no {SUITE}; `dialog-gym bench SUITE` makes one")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        reasons = {(one["agent"], one["world"]): one["reason"] for one in told.get("not_applicable", ())}
        return _Suite(tuple(told.get("asked", ())), reasons)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not tell what was asked for ({type(error).__name__}: {why:.200}); remove it, and start "
            "`dialog-gym bench` again"
        ) from error


def _row(result: Mapping[str, Sequence[float]], name: str) -> Floats:
    values = np.array(result[name], np.float64)
    if values.ndim != 1 or not all(map(math.isfinite, values)):
        raise ValueError(f"expected finite numbers in one row as {name}")
    return values
