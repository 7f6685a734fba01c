"""Offline learning from one logged data set per environment: what each method makes of the same dialogues.

First dialogues are logged on the training items (``split="train"``): ``log`` of them, of which ``shares`` tells who
spoke for the agent, by default the language model itself (sampled) in nine of ten and the world's random policy in
the rest; nobody who plays well. They are the folder ``data``. Then every method learns from all of them, once per
seed, beginning with the same language model. No method sees a held-out item, and none is chosen by its returns.

Every cell (a policy, a seed) is one JSON file in the folder: what it earned on the same held-out episodes (seeds
``HELD_OUT`` and following, ``split="heldout"``), its settings, the hash of the data, versions, and the
time it took. A cell that is there is not computed again, one that fails is reported and the rest goes on: the same
command started again finishes the table, and training goes on from its last checkpoint. Processes with other methods
may share the folder once the data are there.

Every trained policy is scored greedy (``tf``) and sampled at temperature 1 (``tf~1``): what is learned is a
distribution, of which the most probable words are one reading. ``ilql@B`` is the agent ``ilql`` of that seed,
speaking with beta B. Intervals are Student's t over the means of the seeds; rows with one seed show a bootstrap over
episodes. The normalised score has 0 at the language model (greedy), 1 at the oracle. The second table has differences
from ``tf`` and from ``ilql@0`` at the same temperature, paired by seed. CPU seconds are those of one cell, with
training (of a run taken up again: of its last start; of a policy that another cell has trained: none).

``python -m dialog_gym.benchmarks.offline --env dialog_gym/Bargain-v0 --seeds 5 --out runs/offline``
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dialog_gym import baselines, checkpoint
from dialog_gym.agent import agent_spec, parse
from dialog_gym.agents.lm_data import task_of
from dialog_gym.agents.loop import torch_threads
from dialog_gym.baselines import Trial
from dialog_gym.benchmarks.command import each_cell, made_with, write_cell
from dialog_gym.benchmarks.offline_table import METHODS, differences_of, markdown, method_of, rows_of, write_csv
from dialog_gym.data.collect import collect
from dialog_gym.data.episodes import Episodes
from dialog_gym.errors import unknown
from dialog_gym.lm.spec import own_model
from dialog_gym.rollout import Evaluation

log = logging.getLogger("dialog_gym")

FIXED = ("lm", "lm-sampled", "random", "oracle")  # one seed: what they draw follows from the seeds of the episodes


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        out: Folder of data, cells and training runs.
        env: A text environment.
        env_kwargs: Its arguments, but for ``split``.
        lm: Language model that the data are sampled from, and that every method begins with; "": the world's own.
        log: Dialogues in the data set.
        shares: Who spoke in which share of them, as JSON: names as in ``dialog-gym collect``.
        data_seed: Seed of the first logged dialogue.
        seeds: Seeds 1, 2, ... of every method.
        steps: Updates of training.
        episodes: Held-out dialogues per cell.
        methods: What learns.
        betas: Further values of beta that ILQL speaks with.
        temperatures: What trained policies speak with, 0 being greedy.
        agent_args: Further settings by method, for instance ``{"ilql": {"tau": 0.8}}``.
        plot: Write ``returns.png`` too (needs matplotlib).
        table: Only show what is there, as Markdown.
        json: Print JSON.
        progress: Show progress bars.
    """

    out: Path = Path("runs/offline")
    env: str = "dialog_gym/Bargain-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    lm: str = ""
    log: int = 8000
    shares: dict[str, Any] = field(default_factory=lambda: {"lm-sampled": 0.9, "random": 0.1})
    data_seed: int = 100_000
    seeds: int = 5
    steps: int = 1000
    episodes: int = 512
    methods: tuple[str, ...] = METHODS
    betas: tuple[float, ...] = (0.0,)
    temperatures: tuple[float, ...] = (0.0, 1.0)
    agent_args: dict[str, Any] = field(default_factory=dict)
    plot: bool = True
    table: bool = False
    json: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in self.methods:
            if name not in METHODS:
                raise unknown("method", name, METHODS)
        if strange := sorted(set(self.agent_args) - set(self.methods)):
            raise unknown("method in agent_args", strange[0], self.methods)
        for name in ("seeds", "steps", "episodes", "log"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if abs(sum(self.shares.values()) - 1) > 1e-6 or min(self.shares.values()) < 0:
            raise ValueError(f"shares must be shares that add up to 1, got {self.shares}")
        if self.data_seed + self.log > baselines.HELD_OUT:
            raise ValueError(f"logged dialogues must have seeds below {baselines.HELD_OUT:,}, which evaluations use")
        if "split" in self.env_kwargs:
            raise ValueError("leave split out of env_kwargs: methods learn from 'train' and are scored on 'heldout'")

    @property
    def speaker(self) -> str:
        """The language model."""
        return self.lm or own_model_of(self.env)


@cache
def own_model_of(env: str) -> str:
    """Return the model of the package that was trained in the world of ``env``, or ``"tiny"``."""
    return own_model(task_of(env, {}))


class Cell(NamedTuple):
    """One entry of the table."""

    policy: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.policy}-{self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """Return all cells: the references, then seed by seed, so that a table can be shown early."""
    seeds = range(1, settings.seeds + 1)
    betas = [f"ilql@{beta:g}" for beta in settings.betas] if "ilql" in settings.methods else []
    spoken = [
        f"{name}~{warm:g}" if warm else name for name in (*settings.methods, *betas) for warm in settings.temperatures
    ]
    seeded = [Cell(name, seed) for seed in seeds for name in spoken]
    return [Cell(name, 1) for name in FIXED] + seeded


# --- the data ----------------------------------------------------------------------------------


def counts(settings: Settings) -> dict[str, int]:
    """Return how many dialogues each policy logs; the first one takes what rounding leaves.

    >>> counts(Settings(Path(), log=10, shares={"lm-sampled": 0.85, "random": 0.15}))
    {'lm-sampled': 8, 'random': 2}
    """
    first, *others = settings.shares
    found = {name: round(settings.log * settings.shares[name]) for name in others}
    return {first: settings.log - sum(found.values()), **found}


def logged(settings: Settings) -> Path:
    """Log the dialogues, or what is missing of them, and return their folder; ``data.json`` tells about them.

    Raises:
        ValueError: The folder has data that were logged otherwise.
    """
    folder, path = settings.out / "data", settings.out / "data.json"
    parts = counts(settings)
    config: dict[str, Any] = {
        "env": settings.env,
        "env_kwargs": {**settings.env_kwargs, "split": "train"},
        "lm": settings.speaker,
        "counts": parts,
        "seed": settings.data_seed,
    }
    if made_with(path, config):
        return folder
    begun = settings.out / "logging.json"  # a folder that was half filled is not filled up by other settings
    if not made_with(begun, config):
        checkpoint.write_json(begun, {"config": config})
    seed = settings.data_seed
    for name, count in parts.items():
        if count:
            collect(
                settings.env,
                name,
                count,
                folder,
                seed=seed,
                env_kwargs=config["env_kwargs"],
                lm=settings.speaker,
                progress=settings.progress,
            )
        seed += count
    data = Episodes.load(folder)
    returns = [sum(row["rewards"]) for row in data.select("rewards")]
    found = {"hash": data.content_hash, "returns": returns}
    checkpoint.write_json(path, {"config": config, **found})
    return folder


# --- the cells ---------------------------------------------------------------------------------


def config_of(cell: Cell, settings: Settings) -> dict[str, Any]:
    """Return what determines the cell, as JSON values; the data are there."""
    config: dict[str, Any] = {"cell": cell._asdict(), "env": settings.env, "env_kwargs": settings.env_kwargs}
    config |= {"episodes": settings.episodes, "lm": settings.speaker}
    if cell.policy not in FIXED:
        method = method_of(cell.policy)
        data = json.loads((settings.out / "data.json").read_text(encoding="utf-8"))["hash"]
        config |= {"steps": settings.steps, "args": settings.agent_args.get(method, {}), "data": data}
    read: dict[str, Any] = json.loads(json.dumps(config))
    return read


def run(cell: Cell, settings: Settings) -> None:
    """Compute ``cell`` and write its file, unless it is there.

    Raises:
        ValueError: The file is there and was made with other settings.
    """
    config = config_of(cell, settings)
    write_cell(settings.out / f"{cell.name}.json", config, lambda: {"result": _score(cell, settings).to_json()})


def _score(cell: Cell, settings: Settings) -> Evaluation:
    heldout = {**settings.env_kwargs, "split": "heldout"}
    trial = Trial(settings.env, heldout, settings.episodes, lm=settings.speaker, progress=settings.progress)
    if cell.policy in FIXED:
        return baselines.evaluate(cell.policy, trial)
    named, _, temperature = cell.policy.partition("~")
    method, _, beta = named.partition("@")
    agent: Any = trained(method, cell.seed, settings)
    agent.set(temperature=float(temperature or 0), **({"beta": float(beta)} if beta else {}))
    return trial.score(agent, cell.policy)


def trained(method: str, seed: int, settings: Settings) -> Any:
    """Return the agent of one run, trained now unless it is there; it learned from ``out/data``."""
    spec = agent_spec(method)
    made = spec.args(
        env=settings.env,
        env_kwargs={**settings.env_kwargs, "split": "train"},
        out=str(settings.out / "runs" / f"{method}-{seed}"),
        lm=settings.speaker,
        data=(str(settings.out / "data"),),
        seed=seed,
        progress=settings.progress,
        track="none",
        **{"steps": settings.steps, **settings.agent_args.get(method, {})},
    )
    return spec.train(made, evaluate=lambda agent: {})  # nothing is chosen by looking at returns


def run_all(settings: Settings, compute: Callable[[Cell, Settings], None] = run) -> list[str]:
    """Compute what is missing; return the names of the cells that failed."""
    settings.out.mkdir(parents=True, exist_ok=True)
    logged(settings)
    return each_cell(cells(settings), lambda cell: compute(cell, settings))


# --- the command -------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m dialog_gym.benchmarks.offline") -> int:
    """Compute and show the table; return the exit status, 1 if a cell failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = parse(Settings, argv, prog=prog)
    with torch_threads(1):
        failed = [] if settings.table else run_all(settings)
    rows, differences = rows_of(settings.out), differences_of(settings.out)
    if rows:
        write_csv(settings.out / "returns.csv", rows)
        if settings.plot:
            from dialog_gym.benchmarks.study_plots import bars

            told = [(row.policy, row.mean, row.low, row.high) for row in rows]
            bars(told, settings.out / "returns.png", f"return in {settings.env}")
    whole = {"rows": [row._asdict() for row in rows], "differences": [one._asdict() for one in differences]}
    sys.stdout.write((json.dumps(whole, indent=2) if settings.json else markdown(rows, differences)) + "\n")
    if failed:
        log.error("failed: %s; start the same command again to retry", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
