"""Folders of results of ``dialog-gym bench``: what statistics, leaderboards and reports read.

A folder has ``suite.json`` (what was asked for, and what cannot be done, with reasons), a file of each result,
``cells/WORLD--AGENT--SEED.json``, and its first held-out dialogues, ``episodes/WORLD--AGENT--SEED``. A cell's file is
that of ``dialog_gym.benchmarks.command.write_cell``: its settings in ``config``, in ``config["cell"]`` agent,
environment and seed, in ``result`` what ``Evaluation.to_json`` tells, and beside them what ``Result`` calls so.

Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SUITE = "suite.json"
CELLS = "cells"
EPISODES = "episodes"
LARGEST = sys.float_info.max  # of the finite numbers
REMEDY = "remove it, and start `dialog-gym bench` again, which makes it anew"


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
        seeded: Whether another seed makes another run, as far as is known: the cell tells it, or several seeds were
            asked for.
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
    seeded: bool = False


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
        doubles: Cells that an earlier folder has too, left out, and not alike in both; ``broken`` names them, and
            ``mixed`` counts them.
    """

    results: tuple[Result, ...]
    not_applicable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()
    doubles: tuple[Result, ...] = ()

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


def pair_of(name: str) -> tuple[str, str]:
    """Return world and agent of a cell's name.

    >>> pair_of("Bargain--td3--2")
    ('Bargain', 'td3')
    """
    world, _, rest = name.partition("--")
    return world, rest.rpartition("--")[0]


def read_results(*folders: str | Path, mixed: bool = False) -> Results:
    """Read what ``folders`` hold.

    A file that is no cell is left out and named in ``broken``; so is a ``suite.json`` that is damaged or not there,
    and then nobody knows what else was asked for. Of a cell that several folders have, the first counts; another one
    is named in ``broken``, and must be of the same versions and settings, unless its file is the same byte by byte.

    Args:
        folders: Of ``dialog-gym bench``.
        mixed: Take results of different versions or settings too; ``Results.mixed`` then tells how they differ.

    Raises:
        ValueError: A folder has neither a ``suite.json`` nor a cell; or versions differ, or settings of an agent's
            runs in a world.
    """
    found: dict[str, Result] = {}
    doubles: list[Result] = []
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
                if (first := found.setdefault(path.stem, result)) is result or _alike(first.path, path):
                    continue
            except (OSError, ValueError, RecursionError) as error:
                broken.append(f"{path}: {error}")
            else:
                doubles.append(result)
                broken.append(f"{path}: {first.path} is the same cell with other content, and comes first")
    counts = Counter(map(pair_of, asked))
    every = (replace(one, seeded=one.seeded or counts[one.world, one.agent] > 1) for one in found.values())
    results = tuple(sorted(every, key=lambda one: (one.world, one.agent, one.seed)))
    read = (*results, *doubles)
    if (differ := (*differences(one.versions for one in read), *other_settings(read))) and not mixed:
        raise ValueError(
            f"results of different versions or settings do not belong into one table: {'; '.join(differ)}. Run the "
            "older ones again in a folder of their own, or ask for mixed results, which are then marked"
        )
    missing = tuple(name for name in asked if name not in found)
    return Results(results, reasons, tuple(broken), missing, differ, tuple(doubles))


def read_result(path: Path) -> Result:
    """Read the file of one cell.

    Raises:
        ValueError: It is no JSON, something is not told, or what it tells does not go together.
    """
    data = _object(json.loads(path.read_text(encoding="utf-8")), "the cell")
    config, result = _object(_told(data, "config"), "config"), _object(_told(data, "result"), "result")
    cell = _object(_told(config, "cell"), "cell")
    seeds = tuple(_whole(seed, "a seed of an episode") for seed in _list(_told(result, "seeds"), "seeds"))
    returns, costs = _row(result, "returns"), _row(result, "costs")
    if not len(seeds) == len(returns) == len(costs) or not seeds:
        raise ValueError(
            f"expected as many returns and costs as seeds, got {len(returns)}, {len(costs)}, {len(seeds)}"
        )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"expected every episode once, got {len(seeds)} of {len(set(seeds))} seeds")
    env, budget, tokens = _text(cell, "env"), _told(data, "budget"), _told(data, "tokens")
    if not world_of(env):
        raise ValueError(f"expected the id of an environment as dialog_gym/Bargain-v0, got {env!r:.60}")
    agent, seed = _text(cell, "agent"), _whole(_told(cell, "seed"), "seed")
    if (name := cell_name(world_of(env), agent, seed)) != path.stem:
        raise ValueError(f"expected the cell of that name, got {name!r:.90}; give the file its name back")
    recorded = _text(data, "episodes")
    episodes = path.parent.parent / recorded if recorded else None
    return Result(
        path=path,
        world=world_of(env),
        env=env,
        agent=agent,
        seed=seed,
        seeds=seeds,
        returns=returns,
        costs=costs,
        success=_number(_told(result, "success_rate"), "a share from 0 to 1 as success_rate", 0.0, 1.0),
        budget=None if budget is None else _number(budget, "a finite number as budget"),
        curve=tuple(_point(point) for point in _list(_told(data, "curve"), "curve")),
        curve_unit=_text(data, "curve_unit"),
        learned_from=_text(data, "learned_from"),
        tokens=None if tokens is None else _whole(tokens, "tokens"),
        cpu_seconds=_number(_told(data, "cpu_seconds"), "0 or more as cpu_seconds", 0.0),
        wall_seconds=_number(_told(data, "wall_seconds"), "0 or more as wall_seconds", 0.0),
        versions=_versions(_told(data, "versions")),
        episodes=episodes if episodes is not None and episodes.is_dir() else None,
        settings=json.dumps({**config, "cell": {**cell, "seed": None}}, sort_keys=True),
        seeded=data.get("seeded") is True,
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


def _alike(one: Path, other: Path) -> bool:
    return one.samefile(other) or one.read_bytes() == other.read_bytes()


class SuiteFile(NamedTuple):
    """What ``suite.json`` tells.

    Attributes:
        config: The settings of the suite; empty where they are not told.
        asked: Names of the cells that were asked for.
        not_applicable: Reasons by agent and world.
    """

    config: dict[str, Any]
    asked: tuple[str, ...]
    not_applicable: dict[tuple[str, str], str]

    def to_json(self) -> dict[str, Any]:
        """Return what ``suite.json`` tells."""
        reasons = [
            {"agent": agent, "world": world, "reason": why} for (agent, world), why in self.not_applicable.items()
        ]
        return {"config": self.config, "asked": list(self.asked), "not_applicable": reasons}


def read_suite(path: Path) -> SuiteFile:
    """Read a ``suite.json``.

    Raises:
        ValueError: It is damaged; the message says what to do.
    """
    try:
        told = _object(json.loads(path.read_text(encoding="utf-8")), "the suite")
        asked = tuple(_cell_named(name) for name in _list(told.get("asked", []), "asked"))
        reasons = [_object(one, "a reason") for one in _list(told.get("not_applicable", []), "not_applicable")]
        not_applicable = {(_text(one, "agent"), _text(one, "world")): _text(one, "reason") for one in reasons}
        return SuiteFile(_object(told.get("config", {}), "config"), asked, not_applicable)
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} is broken ({why:.200}); {REMEDY}") from error


def _suite(folder: Path) -> SuiteFile:
    path = folder / SUITE
    if not path.is_file():
        raise ValueError(f"{folder} is no folder of results: it has no {SUITE}; `dialog-gym bench SUITE` makes one")
    return read_suite(path)


# --- what a file tells ----------------------------------------------------------------------------


def _told(values: Mapping[str, Any], name: str) -> Any:
    if name not in values:
        raise ValueError(f"{name!r} is not there")
    return values[name]


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object as {name}, got {value!r:.60}")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list as {name}, got {value!r:.60}")
    return value


def _text(values: Mapping[str, Any], name: str) -> str:
    if not isinstance(value := _told(values, name), str):
        raise ValueError(f"expected a text as {name}, got {value!r:.60}")
    return value


def _number(value: Any, expected: str, least: float = -LARGEST, most: float = LARGEST) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"expected {expected}, got {value!r:.60}")
    return float(value)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise ValueError(f"expected a whole number of 0 or more as {name}, got {value!r:.60}")
    return value


def _row(values: Mapping[str, Any], name: str) -> Floats:
    row = _list(_told(values, name), name)
    return np.array([_number(value, f"finite numbers as {name}") for value in row], np.float64)


def _point(value: Any) -> tuple[int, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"expected pairs of a step and a mean return as curve, got {value!r:.60}")
    return _whole(value[0], "a step of curve"), _number(value[1], "a finite mean return in curve")


def _versions(value: Any) -> dict[str, str | None]:
    versions = _object(value, "versions")
    return {name: None if found is None else _text(versions, name) for name, found in versions.items()}


def _cell_named(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r".+--.+--\d+", value):
        raise ValueError(f"expected names like Bargain--td3--2 in asked, got {value!r:.60}")
    return value
