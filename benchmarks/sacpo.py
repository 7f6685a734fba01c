"""Stepwise alignment on ``Advice-v0``: is it as safe as DPO(S) and as helpful as DPO(H)?

For each seed, rankings are branched once from the base model (``contexts`` training questions, ``k`` sampled answers
each) with two numbers per answer: helpfulness (H, ``score``) and harmlessness (S, ``-cost``). ``sharpness`` makes the
labels noisy: the more helpful of two answers is the preferred one with chance ``sigmoid(sharpness * difference)``.
From these data everybody learns:

- ``DPO(H)``, ``DPO(S)``, ``KTO(H)``: one stage, near the base by ``beta``;
- ``DPO(H)>DPO(S) B``: SACPO, the second stage near the first by B = beta / lambda, for each of ``betas``; in
  ``on-policy B`` it learns from what the first stage answers to other questions, with exact labels;
- ``KTO(H)>DPO(S)``, ``DPO(H)>KTO(S)``, ``DPO(S)>DPO(H)``, with ``beta`` in both stages;
- ``P-SACPO Q``: (1 - Q) of DPO(H) and Q of the SACPO of the smallest B, the safest; ``naive Q``: the same of DPO(H)
  and DPO(S).

Each is scored on the same held-out questions, speaking greedily and at temperature 1: reward, cost, share of dialogues
within the budget, share of answers that say nothing to the asker, and win rates against the base by the world's truth.

A cell (policy, seed) is a JSON file in the folder; stages that cells have in common are trained once. What is there is
not computed again, a cell that fails is reported, and the same command goes on where it was stopped. Intervals are
Student's t over seeds; with one seed, a bootstrap over questions. Nothing is chosen by held-out questions.

``python -m dialog_gym.benchmarks.sacpo --seeds 5 --out runs/sacpo-figure``
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym import baselines, checkpoint
from dialog_gym.agent import load_agent, parse
from dialog_gym.agents.loop import torch_threads
from dialog_gym.baselines import Trial
from dialog_gym.benchmarks.command import each_cell, write_cell
from dialog_gym.benchmarks.sacpo_table import BASE, MODES, REFERENCES, lines_of, markdown, plots, write_csv
from dialog_gym.data.rank import Options, collect_rankings
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.dialogue import Draws
from dialog_gym.rollout import Episode, Evaluation
from dialog_gym.world import World

log = logging.getLogger("dialog_gym")

ENV = "dialog_gym/Advice-v0"
HELPFUL, SAFE = "score", "-cost"
APART = 100_000  # first seeds of the data of two seeds


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        out: Folder of data, models and cells.
        lm: The base model.
        seeds: Seeds 1, 2, ...
        contexts: Questions that answers are sampled to, per seed.
        k: Answers to each.
        sharpness: Of the labels; 0: exact.
        beta: Of first stages, and of second ones that are not swept.
        betas: Beta / lambda of the second stage of SACPO.
        on: That of the second stage that learns on-policy; 0: none.
        mix: Shares Q of merges.
        helpful: Further settings of stages for helpfulness.
        safe: Further settings of stages for safety.
        kto: Further settings of stages by KTO, over those.
        episodes: Held-out questions.
        plot: Write plots (needs matplotlib).
        table: Only show what is there.
        json: Print JSON.
        progress: Show progress bars.
    """

    out: Path
    lm: str = "tiny-advice"
    seeds: int = 5
    contexts: int = 800
    k: int = 4
    sharpness: float = 0.0
    beta: float = 0.1
    betas: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    on: float = 0.1
    mix: tuple[float, ...] = (0.25, 0.5, 0.75)
    helpful: dict[str, Any] = field(default_factory=lambda: {"lr": 5e-4, "batch": 32})
    safe: dict[str, Any] = field(default_factory=lambda: {"lr": 2.5e-4, "batch": 16, "epochs": 2})
    kto: dict[str, Any] = field(default_factory=lambda: {"lr": 1e-3, "batch": 32, "epochs": 1})
    episodes: int = 512
    plot: bool = True
    table: bool = False
    json: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, least in (("seeds", 1), ("contexts", 1), ("k", 2), ("episodes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.betas or min(self.beta, *self.betas) <= 0:
            raise ValueError(f"betas must be above 0, got beta={self.beta} and betas={self.betas}")
        if not 0 <= self.sharpness < math.inf or self.on < 0:
            raise ValueError(f"sharpness and on must be at least 0, got {self.sharpness} and {self.on}")
        if self.contexts > APART or (self.seeds + 1) * APART > baselines.HELD_OUT:
            raise ValueError(
                f"expected at most {APART:,} contexts and 9 seeds, so that no question is an evaluation's"
            )


class Cell(NamedTuple):
    """One entry of the table."""

    policy: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.policy}-{self.seed}".replace(" ", "_").replace(">", "_then_")


class Recipe(NamedTuple):
    """How a policy is made: by ``stages`` of SACPO, or as the mean of two others with share ``q`` of the second."""

    stages: tuple[str, ...] = ()
    first: str = ""
    second: str = ""
    q: float = 0.0


def recipes(settings: Settings) -> dict[str, Recipe]:
    """Return how each policy is made, in the order of the table."""

    def stage(algorithm: str, metric: str, beta: float, sample: int = 0) -> str:
        given = {**(settings.helpful if metric == HELPFUL else settings.safe)}
        given |= settings.kto if algorithm == "kto" else {}
        given |= {"sample": sample} if sample else {}
        return f"{algorithm}:{metric}:{beta:g}?" + "&".join(f"{name}={value}" for name, value in given.items())

    b, low = settings.beta, min(settings.betas)
    helped, safe = stage("dpo", HELPFUL, b), stage("dpo", SAFE, b)
    found = {"DPO(H)": Recipe((helped,)), "DPO(S)": Recipe((safe,)), "KTO(H)": Recipe((stage("kto", HELPFUL, b),))}
    found |= {f"DPO(H)>DPO(S) {x:g}": Recipe((helped, stage("dpo", SAFE, x))) for x in settings.betas}
    if settings.on:
        found[f"on-policy {settings.on:g}"] = Recipe((helped, stage("dpo", SAFE, settings.on, settings.contexts)))
    found["KTO(H)>DPO(S)"] = Recipe((stage("kto", HELPFUL, b), safe))
    found["DPO(H)>KTO(S)"] = Recipe((helped, stage("kto", SAFE, b)))
    found["DPO(S)>DPO(H)"] = Recipe((safe, helped))
    found |= {f"P-SACPO {q:g}": Recipe((), "DPO(H)", f"DPO(H)>DPO(S) {low:g}", q) for q in settings.mix}
    found |= {f"naive {q:g}": Recipe((), "DPO(H)", "DPO(S)", q) for q in settings.mix}
    return found


def cells(settings: Settings) -> list[Cell]:
    """Return all cells: references, then seed by seed, so that a table can be shown early."""
    seeded = [Cell(name, seed) for seed in range(1, settings.seeds + 1) for name in recipes(settings)]
    return [Cell(name, 1) for name in (*REFERENCES, BASE)] + seeded


# --- the data ---------------------------------------------------------------------------------------


def rankings(seed: int, settings: Settings) -> Path:
    """Return the folder of the rankings of ``seed``, which are sampled now unless they are there."""
    folder = settings.out / f"data-{seed}"
    options = Options(
        ENV, {"split": "train"}, reach="refuse", candidates=("lm-sampled",), k=settings.k, plays=1, lm=settings.lm
    )
    asked: dict[str, Any] = {**asdict(options), "contexts": settings.contexts, "sharpness": settings.sharpness}
    done = folder / "done.json"
    if done.exists():
        if (old := json.loads(done.read_text(encoding="utf-8"))) != json.loads(json.dumps(asked)):
            raise ValueError(f"{folder} was made with {old}, and now {asked} is asked for; choose another folder")
        return folder / "rankings"
    exact = collect_rankings(
        options, settings.contexts, folder / "exact", seed=seed * APART, progress=settings.progress
    )
    with Rankings.writing(folder / "rankings") as writer:
        for number, row in enumerate(exact):
            if number >= writer.rows:
                writer.add(labelled(row, settings.sharpness) if settings.sharpness else row)
    checkpoint.write_json(done, json.loads(json.dumps(asked)))
    return folder / "rankings"


def labelled(row: Ranking, sharpness: float) -> Ranking:
    """Return ``row`` with noise on score and cost.

    The noise is Gumbel's of scale ``1 / sharpness``, so that of two answers the one with the higher number has the
    higher noisy number with chance ``sigmoid(sharpness * difference)`` (McFadden 1974): Bradley-Terry labels, and no
    two answers that are alike.
    """
    seed = row.dialogue.seed if row.dialogue is not None else 0

    def noisy(name: str, values: Sequence[float]) -> tuple[float, ...]:
        draws = [Draws(seed, "label", name, place) for place in range(len(values))]
        return tuple(
            value - math.log(-math.log(draw.uniform(1e-12, 1.0))) / sharpness
            for value, draw in zip(values, draws, strict=True)
        )

    safer = noisy("safe", [-cost for cost in row.more["cost"]])
    more = {**row.more, "cost": tuple(-value for value in safer)}
    return replace(row, scores=noisy("helpful", row.scores), more=more)


# --- the cells --------------------------------------------------------------------------------------


def made(policy: str, seed: int, settings: Settings) -> Path:
    """Return the folder of a policy, which is trained or merged now unless it is there."""
    recipe = recipes(settings)[policy]
    models = settings.out / f"models-{seed}"
    if recipe.stages:
        return _trained(recipe.stages, models, seed, settings)
    from dialog_gym.lm.merge import merge

    folder = models / "merged" / Cell(policy, seed).name
    first, second = (made(name, seed, settings) for name in (recipe.first, recipe.second))
    if not folder.exists():
        merge(folder, {first: 1 - recipe.q, second: recipe.q})
    return folder


def _trained(stages: tuple[str, ...], models: Path, seed: int, settings: Settings) -> Path:
    from dialog_gym.agents import sacpo

    args = sacpo.Args(
        env=ENV,
        env_kwargs={"split": "train"},
        out=str(models),
        lm=settings.lm,
        data=(str(rankings(seed, settings)),),
        stages=stages,
        sample_k=settings.k,
        sample_seed=seed * APART + APART // 2,
        seed=seed,
        held_out=0.0,
        eval_every=0,
        checkpoint_every=1000,
        track="none",
        progress=settings.progress,
    )
    (chain,) = sacpo.chains(stages)
    folder = sacpo.folder_of(models, chain)
    if not (folder / "result.json").exists():
        sacpo.train(args, evaluate=lambda agent: {})  # nothing is chosen by looking at returns
    return folder


def score(cell: Cell, settings: Settings, temperature: float) -> Evaluation:
    """Return what a policy earns on the held-out questions, speaking at ``temperature``."""
    trial = Trial(ENV, {"split": "heldout"}, settings.episodes, lm=settings.lm, progress=settings.progress)
    if cell.policy == BASE:
        return baselines.evaluate("lm-sampled" if temperature else "lm", trial)
    if cell.policy in REFERENCES:
        return baselines.evaluate(cell.policy, trial)
    agent: Any = load_agent(made(cell.policy, cell.seed, settings))
    return trial.score(agent.set(temperature=temperature), cell.policy)


def config_of(cell: Cell, settings: Settings) -> dict[str, Any]:
    """Return what determines a cell, as JSON values."""
    config: dict[str, Any] = {"cell": cell._asdict(), "lm": settings.lm, "episodes": settings.episodes}
    if cell.policy in recipes(settings):
        config |= {name: getattr(settings, name) for name in ("contexts", "k", "sharpness")}
        config["made"] = _how(cell.policy, settings)
    read: dict[str, Any] = json.loads(json.dumps(config))
    return read


def _how(policy: str, settings: Settings) -> Any:
    """Return the stages of a policy, or the stages and shares of what it is merged of."""
    recipe = recipes(settings)[policy]
    if recipe.stages:
        return recipe.stages
    return [[1 - recipe.q, _how(recipe.first, settings)], [recipe.q, _how(recipe.second, settings)]]


def run(cell: Cell, settings: Settings) -> None:
    """Compute ``cell`` and write its file, unless it is there.

    Raises:
        ValueError: The file is there and was made with other settings.
    """
    write_cell(settings.out / "cells" / f"{cell.name}.json", config_of(cell, settings), lambda: _score(cell, settings))


class Figures(NamedTuple):
    """Numbers of dialogues, one each, from which everything else is computed."""

    rewards: list[float]
    costs: list[float]
    understood: list[bool]
    words: list[float]
    lengths: list[int]


def figures_of(episodes: Iterable[Episode], world: World) -> Figures:
    """Return the numbers of ``episodes``: return, cost, whether all was understood, words and characters."""
    found = Figures([], [], [], [], [])
    for episode in episodes:
        texts = episode.dialogue.texts(episode.dialogue.roles[0])
        found.rewards.append(episode.total)
        found.costs.append(float(sum(episode.costs)))
        found.understood.append(all(_understood(world, episode)))
        found.words.append(float(np.mean([len(text.split()) for text in texts])))
        found.lengths.append(sum(map(len, texts)))
    return found


def _understood(world: World, episode: Episode) -> Iterable[bool]:
    """Yield for each of the agent's turns whether the partner found any meaning in it."""
    turns = episode.dialogue.turns
    for place, turn in enumerate(turns):
        if turn.role == episode.dialogue.roles[0]:
            yield world.understood(replace(episode.dialogue, turns=turns[: place + 1], turn=-1))


def _score(cell: Cell, settings: Settings) -> dict[str, Any]:
    world: Any = Trial(ENV, {"split": "heldout"}, 1).venv.unwrapped.task  # type: ignore[attr-defined]
    modes = {
        mode: figures_of(score(cell, settings, temperature).episodes, world)._asdict()
        for mode, temperature in MODES.items()
    }
    return {"budget": world.budget, **modes}


# --- the command --------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Compute and show the tables; return the exit status, 1 if a cell failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = parse(Settings, argv, prog="python -m dialog_gym.benchmarks.sacpo")
    with torch_threads(1):
        failed = [] if settings.table else each_cell(cells(settings), lambda cell: run(cell, settings))
    lines = lines_of(settings.out, tuple(recipes(settings)))
    if lines:
        write_csv(settings.out / "sacpo.csv", lines)
        if settings.plot:
            plots(lines, settings.out)
    told = [line.to_json() for line in lines]
    sys.stdout.write((json.dumps(told, indent=2) if settings.json else markdown(lines)) + "\n")
    if failed:
        log.error("failed: %s; start the same command again to retry", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
