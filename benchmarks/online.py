"""Online learning in words against a planner in vectors: PPO with LoRA, its group-relative forms, and TD3.

The same language model speaks in all rows: alone, as a policy whose adapter is trained (``gae``: PPO with a value
head; ``rloo``, ``grpo``: judged against other dialogues of the same start), or steered (``td3``, in the prefix
environment of the same world). All learn on the training items (``split="train"``) and are scored on the same
held-out episodes (seeds ``HELD_OUT`` and following): greedy (``rloo``) and, where words are drawn, sampled at
temperature 1 (``rloo~1``). No model is chosen: the agent of the last step counts.

Cells, intervals and the normalised score are those of ``dialog_gym.benchmarks.offline``. ``curve.csv`` tells for
every PPO run what its sampled dialogues earned in training, and how far they were from the reference (nats per
dialogue): the reward against KL; the second table reads it at given distances, as the mean of the dialogues within a
fifth of them.

``python -m dialog_gym.benchmarks.online --env dialog_gym/Bargain-v0 --seeds 3 --out runs/online``
"""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym import baselines
from dialog_gym.agent import agent_spec, parse
from dialog_gym.agents.loop import torch_threads
from dialog_gym.baselines import Trial
from dialog_gym.benchmarks.command import each_cell, write_cell
from dialog_gym.benchmarks.offline import FIXED, Cell, own_model_of
from dialog_gym.benchmarks.offline_table import ONLINE, markdown, method_of, rows_of, write_csv
from dialog_gym.benchmarks.statistics import markdown_table
from dialog_gym.errors import unknown
from dialog_gym.rollout import Evaluation

log = logging.getLogger("dialog_gym")

PPO: dict[str, Any] = {"lora": 8, "lr": 1e-3, "steps": 6400}
"""What suits the tiny models; the steps are dialogues."""
TD3: dict[str, Any] = {"steps": 30_000}


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        out: Folder of cells and training runs.
        env: A text environment of a world that also has a prefix environment.
        lm: Language model that every method begins with; "": the world's own.
        seeds: Seeds 1, 2, ... of every method.
        episodes: Held-out dialogues per cell.
        methods: What learns.
        agent_args: Further settings by method, for instance ``{"rloo": {"steps": 3200}}``.
        distances: Nats per dialogue at which the curve is read.
        table: Only show what is there, as Markdown.
        json: Print JSON.
        progress: Show progress bars.
    """

    out: Path
    env: str = "dialog_gym/Bargain-v0"
    lm: str = ""
    seeds: int = 3
    episodes: int = 512
    methods: tuple[str, ...] = ONLINE
    agent_args: dict[str, Any] = field(default_factory=dict)
    distances: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    table: bool = False
    json: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in self.methods:
            if name not in ONLINE:
                raise unknown("method", name, ONLINE)
        if strange := sorted(set(self.agent_args) - set(self.methods)):
            raise unknown("method in agent_args", strange[0], self.methods)
        for name in ("seeds", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def speaker(self) -> str:
        """The language model."""
        return self.lm or own_model_of(self.env)

    @property
    def prefix_env(self) -> str:
        """Where TD3 acts."""
        return self.env.replace("-v", "Prefix-v")


class Point(NamedTuple):
    """What the dialogues of a line of metrics earned, and how far they were from the reference."""

    method: str
    seed: int
    dialogues: int
    reward: float
    nats: float


def cells(settings: Settings) -> list[Cell]:
    """Return all cells: the references, then seed by seed."""
    spoken = [
        name for method in settings.methods for name in ([method] if method == "td3" else [method, f"{method}~1"])
    ]
    seeded = [Cell(name, seed) for seed in range(1, settings.seeds + 1) for name in spoken]
    return [Cell(name, 1) for name in FIXED] + seeded


def run(cell: Cell, settings: Settings) -> None:
    """Compute ``cell`` and write its file, unless it is there.

    Raises:
        ValueError: The file is there and was made with other settings.
    """
    config = {"cell": cell._asdict(), "env": settings.env, "episodes": settings.episodes, "lm": settings.speaker}
    if cell.policy not in FIXED:
        config["args"] = settings.agent_args.get(method_of(cell.policy), {})
    write_cell(settings.out / f"{cell.name}.json", config, lambda: {"result": _score(cell, settings).to_json()})


def _score(cell: Cell, settings: Settings) -> Evaluation:
    method, _, temperature = cell.policy.partition("~")
    env = settings.prefix_env if method == "td3" else settings.env
    kwargs = {"lm": settings.speaker} if method == "td3" else {}
    held_out = {"split": "heldout", **kwargs}
    trial = Trial(env, held_out, settings.episodes, lm=settings.speaker, progress=settings.progress)
    if method in FIXED:
        return baselines.evaluate(method, trial)
    agent: Any = trained(method, cell.seed, settings, env, {"split": "train", **kwargs})
    if method != "td3":
        agent.set(temperature=float(temperature or 0))
    return trial.score(agent, cell.policy)


def trained(method: str, seed: int, settings: Settings, env: str, env_kwargs: dict[str, Any]) -> Any:
    """Return the agent of one run, trained now unless it is there."""
    spec = agent_spec("td3" if method == "td3" else "ppo")
    usual = TD3 if method == "td3" else {**PPO, "lm": settings.speaker, "advantage": method}
    made = spec.args(
        env=env,
        env_kwargs=env_kwargs,
        out=str(settings.out / "runs" / f"{method}-{seed}"),
        seed=seed,
        eval_every=0,
        progress=settings.progress,
        track="none",
        **{**usual, **settings.agent_args.get(method, {})},
    )
    return spec.train(made)


# --- reward against KL -------------------------------------------------------------------------


def curve_of(folder: Path) -> list[Point]:
    """Return the points of all PPO runs in ``folder``, by method, seed and dialogues."""
    found = []
    for path in sorted(folder.glob("runs/*-*/metrics.jsonl")):
        method, _, seed = path.parent.name.rpartition("-")
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if "kl/dialogue" in row:
                found.append(Point(method, int(seed), row["step"], row["train/return"], row["kl/dialogue"]))
    return found


def at_distances(points: Iterable[Point], distances: Sequence[float]) -> dict[str, list[float | None]]:
    """Return by method the mean reward of the points within a fifth of each distance, None where there is none."""
    by_method: dict[str, list[Point]] = {}
    for point in points:
        by_method.setdefault(point.method, []).append(point)

    def near(rows: Sequence[Point], distance: float) -> float | None:
        close = [row.reward for row in rows if abs(row.nats - distance) <= distance / 5]
        return float(np.mean(close)) if close else None

    return {method: [near(rows, distance) for distance in distances] for method, rows in by_method.items()}


def curve_markdown(found: dict[str, list[float | None]], distances: Sequence[float]) -> str:
    """Return the second table as Markdown."""
    rows = [
        (method, *("" if value is None else f"{value:.3f}" for value in values)) for method, values in found.items()
    ]
    return markdown_table(("reward at nats per dialogue", *(f"{one:g}" for one in distances)), rows)


# --- the command -------------------------------------------------------------------------------


def run_all(settings: Settings, compute: Callable[[Cell, Settings], None] = run) -> list[str]:
    """Compute what is missing; return the names of the cells that failed."""
    settings.out.mkdir(parents=True, exist_ok=True)
    return each_cell(cells(settings), lambda cell: compute(cell, settings))


def main(argv: Sequence[str] | None = None) -> int:
    """Compute and show the tables; return the exit status, 1 if a cell failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = parse(Settings, argv, prog="python -m dialog_gym.benchmarks.online")
    with torch_threads(1):
        failed = [] if settings.table else run_all(settings)
    rows, points = rows_of(settings.out), curve_of(settings.out)
    if rows:
        write_csv(settings.out / "returns.csv", rows)
    with open(settings.out / "curve.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows(points)
    near = at_distances(points, settings.distances)
    whole = {"rows": [row._asdict() for row in rows], "distances": list(settings.distances), "reward": near}
    shown = f"{markdown(rows)}\n{curve_markdown(near, settings.distances)}"
    sys.stdout.write((json.dumps(whole, indent=2) if settings.json else shown) + "\n")
    if failed:
        log.error("failed: %s; start the same command again to retry", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
