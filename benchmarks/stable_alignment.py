"""Stable Alignment against imitation, DPO on the same answers, and its own published margins; plain and led astray.

Questions of the training split get answers from bad to good, which an observer rates: in ``Society-v0`` those of
simulated societies (``stable_alignment_data``). Or ``data`` names rankings that are there, for instance those that
``dialog-gym data society build`` made.
Every method learns from all of them, once per seed, beginning with the same language model; the rows of text that an
update reads are the same in number. No method sees a held-out question, and none is chosen by what it earns.

=====================  ====================================================================
``lm``                 the language model as it was
``tf_all``             imitates every answer
``tf_top``             imitates the best fifth of the answers, by rating
``dpo``                DPO on all pairs of answers to a question whose ratings differ
``stable_alignment``   the margin loss
``legacy``             the same with the margins of the published code
``oracle``             sees what is hidden; it does not read, so it is not led astray
=====================  ====================================================================

Each is played on the same held-out questions twice: ``plain``, and ``misaligned``, where the agent finds a misaligned
answer of its own before the question (``dialog_gym.wrappers.MisalignedContext``). Every cell (policy, context, seed)
is one JSON file with what it earned and cost, the alignment of its answers in truth, its settings, the hash of the
data, versions, and the time it took. A cell that is there is not computed again, one that fails is reported and the
rest goes on: the same command started again finishes the table.

Where no language model is named, ``Advice-v0`` has ``tiny-advice``; for any other world a small one is fitted on its
self-play, in the folder. Intervals are Student's t over the means of the seeds; rows with one seed show a bootstrap
over episodes. CPU seconds are those of one cell, with training in the plain one.

``python -m dialog_gym.benchmarks.stable_alignment --env dialog_gym/Society-v0 --seeds 5 --out runs/stable_society``
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym import checkpoint, rollout
from dialog_gym.agent import agent_spec, parse
from dialog_gym.agents.loop import torch_threads
from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks.command import each_cell, made_with, write_cell
from dialog_gym.benchmarks.stable_alignment_data import alignment, make_data, make_society, make_speaker, misaligned
from dialog_gym.benchmarks.stable_alignment_table import CONTEXTS, FIXED, METHODS, markdown, table_of
from dialog_gym.data.used import content_hash
from dialog_gym.errors import unknown
from dialog_gym.rollout import Episode
from dialog_gym.wrappers import VectorMisalignedContext

log = logging.getLogger("dialog_gym")

SOCIETY = "dialog_gym/Society-v0"
SPEAKERS = {"dialog_gym/Advice-v0": "tiny-advice"}
ROWS = 48  # of text that an update reads; three candidates of 16 questions, 24 pairs
LEARNS: dict[str, dict[str, Any]] = {
    "tf_all": {"batch": ROWS},
    "tf_top": {"batch": ROWS, "top": 20.0},
    "dpo": {"batch": ROWS // 2},
    "stable_alignment": {"batch": ROWS // 3, "num_comp": 3, "lone": "plain", "too_long": "cut"},
    "legacy": {"batch": ROWS // 3, "num_comp": 3, "lone": "plain", "too_long": "cut", "legacy": True},
}
"""Settings of each method, beside those that all share; the others cut what is too long too."""


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        out: Folder of data, cells and training runs.
        env: A text environment of an embedded world that has ``truth``: Advice-v0 or Society-v0.
        env_kwargs: Its arguments, but for ``split``.
        lm: Language model that every method begins with; "": see the module.
        data: Rankings to learn from; "": answers that are made and rated here.
        questions: Questions of these; of a society, those on its list.
        k: Most answers to each.
        data_seed: Seed of the first.
        worlds: Societies that are simulated.
        agents: Members of each, a square number.
        rounds: That each is played.
        self_play: Dialogues that a language model is fitted on, where none is named.
        fit_epochs: Passes over them.
        seeds: Seeds 1, 2, ... of every method.
        steps: Updates of training.
        lr: Learning rate; DPO takes half of it.
        episodes: Held-out dialogues per cell.
        methods: What learns.
        contexts: Plain, misaligned.
        agent_args: Further settings by method, for instance ``{"stable_alignment": {"margin": 10}}``.
        table: Only show what is there, as Markdown.
        json: Print JSON.
        progress: Show progress bars.
    """

    out: Path
    env: str = "dialog_gym/Advice-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    lm: str = ""
    data: str = ""
    questions: int = 500
    k: int = 6
    data_seed: int = 100_000
    worlds: int = 4
    agents: int = 100
    rounds: int = 4
    self_play: int = 8000
    fit_epochs: float = 4.0
    seeds: int = 5
    steps: int = 250
    lr: float = 1e-3
    episodes: int = 512
    methods: tuple[str, ...] = METHODS
    contexts: tuple[str, ...] = CONTEXTS
    agent_args: dict[str, Any] = field(default_factory=dict)
    table: bool = False
    json: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, known in (("methods", METHODS), ("contexts", CONTEXTS), ("agent_args", self.methods)):
            if strange := [one for one in getattr(self, name) if one not in known]:
                raise unknown(name, strange[0], known)
        for name in ("seeds", "steps", "episodes", "questions", "self_play"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.data_seed + self.questions > HELD_OUT:
            raise ValueError(f"questions must have seeds below {HELD_OUT:,}, which evaluations use")
        if "split" in self.env_kwargs:
            raise ValueError("leave split out of env_kwargs: methods learn from 'train' and are scored on 'heldout'")

    @property
    def train_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment that is learned from."""
        return {**self.env_kwargs, "split": "train"}

    @property
    def learned(self) -> str:
        """The rankings."""
        return self.data or str(self.out / "data")

    @property
    def speaker(self) -> str:
        """The language model."""
        return self.lm or SPEAKERS.get(self.env) or f"hf:{self.out / 'speaker' / 'model'}"


class Cell(NamedTuple):
    """One entry of the table."""

    policy: str
    context: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.policy}-{self.context}-{self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """Return all cells: the references, then seed by seed, so that a table can be shown early."""
    fixed = [Cell(name, context, 1) for name in FIXED for context in settings.contexts]
    return fixed + [
        Cell(name, context, seed)
        for seed in range(1, settings.seeds + 1)
        for name in settings.methods
        for context in settings.contexts
    ]


def prepare(settings: Settings) -> None:
    """Make the language model and the data, or what is missing of them; ``prepared.json`` tells of them.

    Raises:
        ValueError: The folder has those of other settings.
    """
    names = ["env", "env_kwargs", "lm", "data", "questions", "k", "data_seed", "self_play", "fit_epochs"]
    if settings.env == SOCIETY:
        names += ["worlds", "agents", "rounds"]
    config = json.loads(json.dumps({name: getattr(settings, name) for name in names}))
    path = settings.out / "prepared.json"
    if not made_with(path, config):
        checkpoint.write_json(path, {"config": config})
    shared = settings.env, settings.train_kwargs
    if not (settings.lm or settings.env in SPEAKERS):
        folder = settings.out / "speaker"
        make_speaker(folder, *shared, settings.self_play, settings.fit_epochs, settings.progress)
    if settings.data:
        return
    place = Path(settings.learned)
    if settings.env == SOCIETY:
        sizes = settings.worlds, settings.agents, settings.rounds, settings.questions
        make_society(place, *sizes, settings.data_seed)
    else:
        make_data(
            place, *shared, settings.speaker, settings.questions, settings.k, settings.data_seed, settings.progress
        )


# --- the cells ---------------------------------------------------------------------------------


def config_of(cell: Cell, settings: Settings) -> dict[str, Any]:
    """Return what determines the cell, as JSON values; the data are there."""
    names = ("env", "env_kwargs", "episodes", "speaker")
    config: dict[str, Any] = {"cell": cell._asdict(), **{name: getattr(settings, name) for name in names}}
    if cell.policy not in FIXED:
        config |= {"args": args_of(cell.policy, cell.seed, settings), "data": content_hash(settings.learned)}
    read: dict[str, Any] = json.loads(json.dumps(config))
    return read


def args_of(method: str, seed: int, settings: Settings) -> dict[str, Any]:
    """Return the settings of one training run, but for where it is."""
    rate = settings.lr / 2 if method == "dpo" else settings.lr
    shared = {"lr": rate, "steps": settings.steps, "seed": seed, "held_out": 0.0, "eval_every": 0}
    return {**shared, **LEARNS[method], **settings.agent_args.get(method, {})}


def run(cell: Cell, settings: Settings) -> None:
    """Compute ``cell`` and write its file, unless it is there.

    Raises:
        ValueError: The file is there and was made with other settings.
    """
    path, config = settings.out / "cells" / f"{cell.name}.json", config_of(cell, settings)
    write_cell(path, config, lambda: {"result": _score(cell, settings)})


def _score(cell: Cell, settings: Settings) -> dict[str, Any]:
    rows: Any = rollout.make_rows(
        settings.env, min(32, settings.episodes), {**settings.env_kwargs, "split": "heldout"}
    )
    task = rows.unwrapped.task
    if cell.context == "misaligned" and cell.policy != "oracle":
        rows = VectorMisalignedContext(rows, misaligned(task))
    policy: Any
    if cell.policy == "oracle":
        policy = rollout.oracle_policy(rows)
    elif cell.policy == "lm":
        policy = rollout.language_model_policy(rows, settings.speaker)
    else:
        policy = trained(cell.policy, cell.seed, settings)
    added = 0 if rows is rows.unwrapped else 2
    played = rollout.evaluate(policy, rows, episodes=settings.episodes, seed=HELD_OUT, progress=settings.progress)
    return {**played.to_json(), "aligned": [_aligned(task, episode, added) for episode in played.episodes]}


def _aligned(task: Any, episode: Episode, added: int) -> float:
    """Return the true alignment of the last answer; the first ``added`` turns are not the world's."""
    whole = episode.dialogue
    turns = whole.turns[added:]
    last = max(place for place, turn in enumerate(turns) if turn.role == whole.roles[0])
    before = replace(whole, turns=turns[:last], stop_reason="", success=False, turn=-1)
    return alignment(task, before, turns[last].text)


def trained(method: str, seed: int, settings: Settings) -> Any:
    """Return the agent of one run, trained now unless it is there."""
    spec = agent_spec("stable_alignment" if method == "legacy" else method)
    made = spec.args(
        env=settings.env,
        env_kwargs=settings.train_kwargs,
        out=str(settings.out / "runs" / f"{method}-{seed}"),
        lm=settings.speaker,
        data=(settings.learned,),
        device="cpu",
        progress=settings.progress,
        track="none",
        **args_of(method, seed, settings),
    )
    return spec.train(made, evaluate=lambda agent: {})  # nothing is chosen by looking at returns


def run_all(settings: Settings, compute: Callable[[Cell, Settings], None] = run) -> list[str]:
    """Compute what is missing; return the names of the cells that failed."""
    (settings.out / "cells").mkdir(parents=True, exist_ok=True)
    prepare(settings)
    return each_cell(cells(settings), lambda cell: compute(cell, settings))


def summary_of_data(settings: Settings) -> dict[str, float]:
    """Return how many questions and answers there are, and mean and spread of their ratings."""
    from dialog_gym.data.rankings import Rankings

    scores = [row["scores"] for row in Rankings.load(settings.learned).select("scores")]
    every = np.concatenate(scores)
    return {"questions": len(scores), "answers": len(every), "mean": float(every.mean()), "sd": float(every.std())}


def main(argv: Sequence[str] | None = None) -> int:
    """Compute and show the table; return the exit status, 1 if a cell failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = parse(Settings, argv, prog="python -m dialog_gym.benchmarks.stable_alignment")
    with torch_threads(1):
        failed = [] if settings.table else run_all(settings)
    table = table_of(settings.out / "cells")
    told = {"data": summary_of_data(settings), **table}
    sys.stdout.write((json.dumps(told, indent=2) if settings.json else markdown(table)) + "\n")
    if failed:
        log.error("failed: %s; start the same command again to retry", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
