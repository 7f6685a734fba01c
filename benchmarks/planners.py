"""Planners against their baselines: the table of returns over seeds, on held-out items.

Every cell (a map, a policy, a seed) is one JSON file in one folder: what it earned, its settings, versions,
commit and the time it took. A cell that is there is not computed again, one that fails is reported and the
rest goes on, so the same command started again finishes the table. Processes with different agents or maps
may share the folder.

Planners and constants learn from the training items (``split="train"``) with seeds below ``HELD_OUT``. No
model is chosen: the agent of the last step counts. Every policy is then scored on the same held-out items,
seeds ``HELD_OUT`` and following. ``steer`` is the world's own model with its map; ``pca`` and ``clone`` steer the
plain, strictly frozen model (``clone`` is fitted into the folder unless it comes with the model).

A seed is that of training, of the search for the best constant, or of the random actions. Intervals are
Student's t over the means of the seeds; rows with one seed (nothing in them is random besides the episodes)
show a bootstrap over episodes. The normalised score has 0 at the row ``lm`` of its map, 1 at the oracle, both
taken as exact. CPU seconds are those of one cell, with training (of a run taken up again: of its last start).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym import baselines
from dialog_gym.agent import agent_spec, parse
from dialog_gym.agents.loop import torch_threads
from dialog_gym.baselines import Trial
from dialog_gym.benchmarks.command import each_cell, made_with, write_cell
from dialog_gym.benchmarks.statistics import earned, markdown_table, runs_or_episodes, with_interval
from dialog_gym.errors import unknown
from dialog_gym.rollout import Evaluation, Policy, constant_policy, random_policy

log = logging.getLogger("dialog_gym")

AGENTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "td3": ("td3", {}),
    "td3-residual": ("td3", {"residual": True}),
    "sb3-sac": ("sb3", {"algo": "sac"}),
    "sb3-ppo": ("sb3", {"algo": "ppo"}),
    "sb3-td3": ("sb3", {"algo": "td3"}),
}
MAPS = {
    "steer": {"prefix": "steer"},
    "pca": {"lm": "tiny", "prefix": "pca"},
    "clone": {"lm": "tiny", "prefix": "clone"},
}
FIXED = ("lm", "lm-sampled", "oracle")  # one seed: nothing to draw, or drawn from the seeds of the episodes
SEARCHES = 10_000  # seeds kept apart for each search of a constant


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        out: Folder of the cells and the training runs.
        env: A prefix environment.
        env_kwargs: Its arguments; they override those of the maps.
        seeds: Seeds 1, 2, ... of every row that has any.
        steps: Environment steps of training.
        episodes: Held-out dialogues per cell.
        agents: Planners; on maps after the first, only TD3's.
        maps: Prefix maps, the first with all rows.
        agent_args: Further settings by planner, for instance ``{"td3": {"gamma": 0.95}}``.
        table: Only show what is there, as Markdown.
        json: Print JSON.
        progress: Show progress bars.
    """

    out: Path
    env: str = "dialog_gym/BargainPrefix-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    seeds: int = 5
    steps: int = 30_000
    episodes: int = 512
    agents: tuple[str, ...] = ("td3", "sb3-sac", "sb3-ppo")
    maps: tuple[str, ...] = ("steer", "pca", "clone")
    agent_args: dict[str, Any] = field(default_factory=dict)
    table: bool = False
    json: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for what, names, known in (("agent", self.agents, AGENTS), ("map", self.maps, MAPS)):
            for name in names:
                if name not in known:
                    raise unknown(what, name, known)
        if strange := sorted(set(self.agent_args) - set(self.agents)):
            raise unknown("agent in agent_args", strange[0], self.agents)
        for name in ("seeds", "steps", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Cell(NamedTuple):
    """One entry of the table."""

    map: str
    policy: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.map}-{self.policy}-{self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """Return all cells: cheap ones first, then seed by seed, so that a table can be shown early."""
    td3 = [agent for agent in settings.agents if agent.startswith("td3")]
    rows = {
        name: ("random", "constant", *(settings.agents if k == 0 else td3)) for k, name in enumerate(settings.maps)
    }
    fixed = [Cell(name, policy, 1) for name in rows for policy in FIXED]
    seeds = range(1, settings.seeds + 1)
    seeded = [Cell(name, policy, seed) for seed in seeds for name in rows for policy in rows[name]]
    return fixed + seeded


def config_of(cell: Cell, settings: Settings) -> dict[str, Any]:
    """Return what determines the cell, as JSON values."""
    config: dict[str, Any] = {"cell": cell._asdict(), "env": settings.env, "episodes": settings.episodes}
    config["env_kwargs"] = {**MAPS[cell.map], **settings.env_kwargs}
    if cell.policy in AGENTS:
        args = {**AGENTS[cell.policy][1], **settings.agent_args.get(cell.policy, {})}
        config |= {"steps": settings.steps, "args": args}
    read: dict[str, Any] = json.loads(json.dumps(config))
    return read


def run(cell: Cell, settings: Settings) -> None:
    """Compute ``cell`` and write its file, unless it is there.

    Raises:
        ValueError: The file is there and was made with other settings.
    """
    path, config = settings.out / f"{cell.name}.json", config_of(cell, settings)
    if made_with(path, config):
        return
    env_kwargs = _env_kwargs(cell, settings)  # may fit a map, which is no part of what the cell takes
    write_cell(path, config, lambda: {"result": _score(cell, settings, env_kwargs).to_json()})


def _env_kwargs(cell: Cell, settings: Settings) -> dict[str, Any]:
    env_kwargs = {**MAPS[cell.map], **settings.env_kwargs}
    if env_kwargs["prefix"] == "clone":
        env_kwargs["prefix"] = _clone(env_kwargs["lm"], settings)
    return env_kwargs


def _score(cell: Cell, settings: Settings, env_kwargs: Mapping[str, Any]) -> Evaluation:
    training, heldout = ({**env_kwargs, "split": split} for split in ("train", "heldout"))
    trial = Trial(settings.env, heldout, settings.episodes, progress=settings.progress)
    if cell.policy in FIXED:
        return baselines.evaluate(cell.policy, trial)
    return trial.score(_policy(cell, settings, trial, training), cell.policy)


def _policy(cell: Cell, settings: Settings, trial: Trial, training: dict[str, Any]) -> Policy:
    if cell.policy == "random":
        return random_policy(trial.venv, seed=cell.seed)
    if cell.policy == "constant":
        rows = Trial(settings.env, training).venv
        best = baselines.best_constant(rows, seed=cell.seed * SEARCHES, progress=settings.progress)
        return constant_policy(trial.venv, best)
    name, args = AGENTS[cell.policy]
    spec = agent_spec(name)
    made = spec.args(
        env=settings.env,
        env_kwargs=training,
        out=str(settings.out / "runs" / cell.name),
        steps=settings.steps,
        seed=cell.seed,
        eval_every=0,
        progress=settings.progress,
        track="none",
        **{**args, **settings.agent_args.get(cell.policy, {})},
    )
    return spec.train(made)


def _clone(lm: str, settings: Settings) -> str:
    """Return the clone map of ``lm``: its own, or one fitted into the folder."""
    from dialog_gym.fit import Options, fit
    from dialog_gym.lm import load, load_prefix

    try:
        load_prefix("clone", load(lm))
    except ValueError:
        folder = settings.out / "clone"
        if not (folder / "report.json").exists():
            fit(Options("clone", lm, folder, progress=settings.progress))
        return str(folder)
    return "clone"


class Row(NamedTuple):
    """One line of the table."""

    map: str
    policy: str
    seeds: int
    mean: float
    interval: tuple[float, float]
    normalised: float | None
    normalised_low: float | None
    normalised_high: float | None
    turns: float
    success_rate: float
    cost: tuple[float, float, float] | None
    cpu_seconds: float


def rows_of(folder: Path) -> list[Row]:
    """Return the table of all cells in ``folder``, in the order of maps and policies."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        cell = data["config"]["cell"]
        found.setdefault((cell["map"], cell["policy"]), []).append(data)
    order = [
        (name, policy) for name in MAPS for policy in ("lm", "lm-sampled", "random", "constant", *AGENTS, "oracle")
    ]
    return [_row(key, found[key], _references(found, key[0])) for key in order if key in found]


def _references(found: Mapping[tuple[str, str], Sequence[Any]], name: str) -> dict[str, float]:
    return {policy: found[name, policy][0]["result"]["mean"] for policy in ("lm", "oracle") if (name, policy) in found}


def _row(key: tuple[str, str], made: Sequence[Any], references: Mapping[str, float]) -> Row:
    one = earned(key[1], made, references)
    on_scale = (one.normalised, one.normalised_low, one.normalised_high)
    cost = _cost([data["result"]["costs"] for data in made if "costs" in data["result"]])
    ends = (one.low, one.high)
    return Row(*key, one.seeds, one.mean, ends, *on_scale, one.turns, one.success_rate, cost, one.cpu_seconds)


def _cost(costs: Sequence[Sequence[float]]) -> tuple[float, float, float] | None:
    """Return the mean cost of an episode and its interval; None where no cell has told."""
    if not costs:
        return None
    means = [float(np.mean(row)) for row in costs]
    return float(np.mean(means)), *runs_or_episodes(costs)


def markdown(rows: Iterable[Row]) -> str:
    """Return the table as Markdown."""
    rows = list(rows)
    costly = any(row.cost and row.cost[0] for row in rows)
    names = ("map", "policy", "seeds", "return", "normalised", "turns", "success", "CPU s")
    return markdown_table((*names, *(("cost",) if costly else ())), [_shown(row, costly) for row in rows], "ll")


def _shown(row: Row, costly: bool) -> tuple[str, ...]:
    score = with_interval(2, row.normalised, row.normalised_low, row.normalised_high)
    shown = (row.map, row.policy, f"{row.seeds}", with_interval(3, row.mean, *row.interval), score)
    rest = (f"{row.turns:.1f}", f"{row.success_rate:.0%}", f"{row.cpu_seconds:.0f}")
    cost = (with_interval(3, *row.cost) if row.cost else "",) if costly else ()
    return *shown, *rest, *cost


def run_all(settings: Settings, compute: Callable[[Cell, Settings], None] = run) -> list[str]:
    """Compute what is missing; return the names of the cells that failed."""
    settings.out.mkdir(parents=True, exist_ok=True)
    return each_cell(cells(settings), lambda cell: compute(cell, settings))


def main(argv: Sequence[str] | None = None) -> int:
    """Compute and show the table; return the exit status, 1 if a cell failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = parse(Settings, argv, prog="python -m dialog_gym.benchmarks.planners")
    with torch_threads(1):
        failed = [] if settings.table else run_all(settings)
    rows = rows_of(settings.out)
    shown = json.dumps([row._asdict() for row in rows], indent=2) if settings.json else markdown(rows)
    sys.stdout.write(shown + "\n")
    if failed:
        log.error("failed: %s; start the same command again to retry", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
