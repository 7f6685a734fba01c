"""Which method finds the true reward of every utterance: a map of affect bias, affect noise and score noise.

Conversations are self-play of embedded worlds, which know what every turn was worth. The final score is the true one
with noise; affect is a turn's value, plus bias * what a face shows anyway, plus noise (``decomposition_data``). Every
method learns from the same ``conversations`` of these (a fifth of them chooses the best weights), by heads on the same
encodings, and is scored on ``test`` other conversations: correlation of the learned reward with the truth, pooled
over turns and within dialogues, and the share of the noisy score's variance that the sum does not explain
(``global``).

Rows beside the methods of ``fit reward``: ``geli-0.2`` has lambda .2 instead of .5; ``geli-fitted`` learns shift and
gain of the affect; ``geli-raw`` takes affect as it comes, as the published code does; ``truth`` learns from the true
values: what the encoding allows. Methods that see no affect are computed once for all affect settings, and shown in
each. A cell (world, number of conversations, method) is one JSON file with all settings and seeds, trained in stacks;
cells that are there are not computed again. Intervals are Student's t over seeds, which differ in conversations, noise
and first weights (at 2,000 conversations of a pool of 4,000, seeds share half of them).

``python -m dialog_gym.benchmarks.decomposition --out runs/decomposition``; ``--speed`` measures figure 3 instead.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dialog_gym import checkpoint
from dialog_gym.agent import parse
from dialog_gym.benchmarks.command import each_cell
from dialog_gym.benchmarks.decomposition_data import Setting, World, affect, played, scores
from dialog_gym.benchmarks.decomposition_table import markdown, rows_of, write_csv
from dialog_gym.errors import unknown
from dialog_gym.rewards.decomposition.encoders import load_encoder
from dialog_gym.rewards.decomposition.learner import Link
from dialog_gym.rewards.decomposition.metrics import correlations
from dialog_gym.rewards.decomposition.stacked import Lessons, Pool, Recipe, fit_stacked, predict_stacked

log = logging.getLogger("dialog_gym")

METHODS = (
    "li",
    "regression",
    "rrd",
    "rrd-unbiased",
    "ircr",
    "rudder",
    "geli",
    "geli-0.2",
    "geli-fitted",
    "geli-raw",
    "truth",
)
WITH_AFFECT = ("li", "geli", "geli-0.2", "geli-fitted", "geli-raw")
MAPPED = ("geli", "geli-0.2")
"""Rows that see both, and are computed for the whole map."""
MAIN = Setting()
_STACK = 40  # models that are trained at once


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        out: Folder of the cells.
        worlds: Environments that are embedded worlds.
        conversations: How many are learned from; the whole map is drawn at ``map_at``, else its main point alone.
        map_at: See above.
        methods: What learns.
        seeds: Seeds 1, 2, ...
        biases: Affect bias of the map.
        affect_noises: Affect noise of the map.
        score_noises: Score noise of the map.
        test: Conversations that are scored.
        pool: Conversations that the others are drawn from.
        encoder: Who reads turns; facts, or any other of ``fit reward``.
        steps: Updates.
        k: Turns that RRD draws of a conversation.
        table: Only show what is there, as Markdown.
        json: Print JSON.
        speed: Measure passes and time of an epoch with and without cached encodings instead.
    """

    out: Path
    worlds: tuple[str, ...] = ("dialog_gym/Chat-v0", "dialog_gym/Bargain-v0")
    conversations: tuple[int, ...] = (500, 100, 2000)
    map_at: int = 500
    methods: tuple[str, ...] = METHODS
    seeds: int = 5
    biases: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    affect_noises: tuple[float, ...] = (0.3, 1.0, 3.0)
    score_noises: tuple[float, ...] = (1.0, 2.0)
    test: int = 400
    pool: int = 4000
    encoder: str = "facts"
    steps: int = 300
    k: int = 4
    table: bool = False
    json: bool = False
    speed: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in self.methods:
            if name not in METHODS:
                raise unknown("method", name, METHODS)
        if max(self.conversations) > self.pool or min(self.conversations) < 10:
            raise ValueError(f"conversations must be from 10 to pool={self.pool}, got {self.conversations}")
        for name in ("seeds", "test", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Cell(NamedTuple):
    """One method in one world, from one number of conversations."""

    world: str
    conversations: int
    method: str

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.world.rpartition('/')[2]}-{self.conversations}-{self.method}"


def cells(settings: Settings) -> list[Cell]:
    """Return all cells, those of the map first."""
    return [
        Cell(world, count, method)
        for count in settings.conversations
        for world in settings.worlds
        for method in settings.methods
    ]


def settings_of(cell: Cell, settings: Settings) -> list[Setting]:
    """Return the settings in which a cell differs: a method that sees no affect needs one for each score noise."""
    kinds = [MAIN, MAIN._replace(kind="scaled"), MAIN._replace(kind="smile")]
    if cell.method == "truth":
        return [MAIN]
    if cell.conversations == settings.map_at:
        kinds += [
            Setting(bias, noise, score)
            for bias in settings.biases
            for noise in settings.affect_noises
            for score in settings.score_noises
        ]
    if cell.method == "li":
        kinds = [one._replace(score_noise=MAIN.score_noise) for one in kinds]
    elif cell.method not in WITH_AFFECT:
        kinds = [MAIN._replace(score_noise=one.score_noise) for one in kinds]
    elif cell.method not in MAPPED:
        kinds = [one for one in kinds if one.kind != "plain" or one == MAIN]
    return list(dict.fromkeys(kinds))


def run(cell: Cell, settings: Settings) -> None:
    """Compute ``cell`` and write its file, unless it is there.

    Raises:
        ValueError: The file is there and was made with other settings.
    """
    path = settings.out / f"{cell.name}.json"
    wanted = settings_of(cell, settings)
    config = {"cell": cell._asdict(), "settings": [one._asdict() for one in wanted]}
    config |= {name: getattr(settings, name) for name in ("seeds", "test", "pool", "encoder", "steps", "k")}
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8"))["config"] != json.loads(json.dumps(config)):
            raise ValueError(f"{path} was made with other settings; choose another folder")
        return
    world = _world(cell.world, settings)
    begun = time.process_time()
    models = [(one, seed) for one in wanted for seed in range(1, settings.seeds + 1)]
    results: list[dict[str, Any]] = []
    for start in range(0, len(models), _STACK):
        results += _fitted(cell, settings, world, models[start : start + _STACK])
    took = time.process_time() - begun
    checkpoint.write_json(path, {"config": config, "results": results, "cpu_seconds": took, "models": len(models)})
    log.info("%s: %d models, %.2f CPU s each", cell.name, len(models), took / len(models))


def _world(env: str, settings: Settings) -> World:
    encoder = load_encoder(settings.encoder, pool="both", notation=env)
    count = settings.pool + settings.test
    return played(env, count, encoder, settings.out / f"world-{env.rpartition('/')[2]}")


def _fitted(cell: Cell, settings: Settings, world: World, models: list[tuple[Setting, int]]) -> list[dict[str, Any]]:
    """Train one stack and return what each model is worth on the test conversations, which come last."""
    n = settings.pool
    pool = Pool(torch.from_numpy(world.encodings[:n]), torch.from_numpy(world.turns[:n]))
    test = Pool(torch.from_numpy(world.encodings[n:]), torch.from_numpy(world.turns[n:]))
    recipe = recipe_of(cell.method, settings)
    seen = [_seen(cell, world, n, *model) for model in models]
    lessons = Lessons(*(torch.stack([one[part] for one in seen]) for part in range(4)))
    weights = fit_stacked(recipe, pool, lessons, seed=models[0][1])
    rewards = predict_stacked(recipe, weights, test).numpy()
    found = []
    for (setting, seed), given, (*_, (offset, unit)) in zip(models, rewards, seen, strict=True):
        learned = [row[:turns] for row, turns in zip(given, world.turns[n:], strict=True)]
        truth = [row[:turns] for row, turns in zip(world.truth[n:], world.turns[n:], strict=True)]
        metrics = correlations(learned, truth)
        noisy = scores(world, setting, seed)[n:]
        if cell.method not in ("li", "truth"):
            sums = np.array([row.sum() for row in learned])
            metrics["global"] = float(np.mean((noisy - offset - unit * sums) ** 2) / np.var(noisy))
        found.append({"setting": setting._asdict(), "seed": seed, **metrics})
    return found


def recipe_of(method: str, settings: Settings) -> Recipe:
    """Return how a row of the table is trained."""
    if method.startswith("geli"):
        link: Link = "fitted" if method == "geli-fitted" else "same"
        weight = 0.2 if method == "geli-0.2" else 0.5
        return Recipe("geli", weight, link, steps=settings.steps, per_turn=method != "geli-raw")
    if method == "truth":
        return Recipe("li", steps=settings.steps)
    return Recipe(method, k=settings.k if method.startswith("rrd") else 0, steps=settings.steps)  # type: ignore[arg-type]


def _seen(cell: Cell, world: World, pool: int, setting: Setting, seed: int) -> tuple[Any, ...]:
    """Return what one model learns from, in the order of ``Lessons``, and the units of its scores."""
    order = np.random.default_rng([seed, 3]).permutation(pool)[: cell.conversations]
    held, train = order[: cell.conversations // 5], order[cell.conversations // 5 :]
    given = scores(world, setting, seed)[:pool]
    local = (world.truth if cell.method == "truth" else affect(world, setting, seed))[:pool]
    offset, unit = float(given[train].mean()), float(given[train].std()) / float(world.turns[train].mean()) ** 0.5
    shift, spread = float(np.nanmean(local[train])), float(np.nanstd(local[train]))
    if cell.method == "geli-raw":
        unit, shift, spread = 1.0, 0.0, 1.0
    arrays = (train, held, (given - offset) / unit, (local - shift) / spread)
    return (*(torch.from_numpy(np.asarray(array)) for array in arrays), (offset, unit))


def main(argv: Sequence[str] | None = None) -> int:
    """Compute and show the tables; return the exit status, 1 if a cell failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = parse(Settings, argv, prog="python -m dialog_gym.benchmarks.decomposition")
    torch.set_num_threads(1)
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.speed:
        from dialog_gym.benchmarks.decomposition_speed import measure

        sys.stdout.write(json.dumps(measure(settings.out), indent=2) + "\n")
        return 0
    failed = [] if settings.table else each_cell(cells(settings), lambda cell: run(cell, settings))
    rows = rows_of(settings.out)
    write_csv(settings.out / "decomposition.csv", rows)
    whole = json.dumps([row._asdict() for row in rows], indent=2)
    checkpoint.write_text(settings.out / "decomposition-rows.json", whole + "\n")
    sys.stdout.write((whole if settings.json else markdown(rows)) + "\n")
    if failed:
        log.error("failed: %s; start the same command again to retry", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
