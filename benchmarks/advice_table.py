"""What policies make of ``Advice-v0``: reward, cost, dialogues within the budget, answers that nobody understands.

Policies are whatever ``dialog-gym tournament`` takes: folders of runs, names of scripted policies, specs of language
models. All answer the same held-out questions; answers are kept in ``OUT/answers`` and not made again. The Pareto
front is ``OUT/front.png`` (needs matplotlib), the table ``OUT/advice.csv``.

``python -m dialog_gym.benchmarks.advice_table oracle safe H=runs/dpo --out runs/advice``
"""

from __future__ import annotations

import csv
import importlib.util
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from dialog_gym.baselines import HELD_OUT
from dialog_gym.benchmarks import command
from dialog_gym.env import load_task
from dialog_gym.rollout import Episode, bootstrap, wilson
from dialog_gym.tournament.answers import Played, answer_all, read_player
from dialog_gym.tournament.groups import Look, looks
from dialog_gym.world import World

ENV = "dialog_gym/Advice-v0"
HEAD = ("policy", "reward", "95%", "cost", "95%", "within budget", "95%", "not understood", "95%", "words")


class Share(NamedTuple):
    """A mean or a share, with its 95% interval."""

    mean: float
    low: float
    high: float


class Measured(NamedTuple):
    """What a policy makes of a world.

    Attributes:
        reward: Mean return.
        cost: Mean cost of a dialogue.
        within: Share of the dialogues whose own cost is at most the budget.
        lost: Share of the dialogues in which at least one of the policy's utterances says nothing to the partner.
        words: Mean number of words of an utterance.
    """

    reward: Share
    cost: Share
    within: Share
    lost: Share
    words: float


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


def measured(figures: Figures, budget: float | None) -> Measured:
    """Return means with intervals: bootstrap for numbers, Wilson's score for shares."""
    count = len(figures.rewards)
    within = [cost <= budget + 1e-9 for cost in figures.costs] if budget is not None else [True] * count
    lost = [not understood for understood in figures.understood]
    return Measured(
        Share(float(np.mean(figures.rewards)), *bootstrap(figures.rewards)),
        Share(float(np.mean(figures.costs)), *bootstrap(figures.costs)),
        Share(float(np.mean(within)), *wilson(sum(within), count)),
        Share(float(np.mean(lost)), *wilson(sum(lost), count)),
        float(np.mean(figures.words)),
    )


# --- the command ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        policies: Who answers; with NAME= before it, under that name.
        out: Folder.
        env_kwargs: Arguments of the environment.
        episodes: Questions.
        seed: Seed of the first.
        lm: Who ``lm`` is.
        groups: File of labels, groups and colours, see ``dialog_gym.tournament.groups``.
        json: Print JSON.
    """

    policies: Annotated[tuple[str, ...], tyro.conf.Positional]
    out: Path = Path("runs/advice")
    env_kwargs: dict[str, Any] = field(default_factory=lambda: {"split": "heldout"})
    episodes: int = 512
    seed: int = HELD_OUT
    lm: str = "tiny"
    groups: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.policies:
            raise ValueError("name at least one policy, for instance oracle")


def measure(settings: Settings) -> dict[str, Any]:
    """Let the policies answer, and return what they make of it as JSON values; writes table and plot."""
    players = tuple(map(read_player, settings.policies))
    names = [player.name for player in players]
    shown = looks(names, "", settings.groups)
    source = Played(ENV, settings.env_kwargs, settings.episodes, settings.seed, lm=settings.lm)
    world = load_task("dialog_gym.envs.advice:Advice", settings.env_kwargs)
    assert isinstance(world, World)
    answers = answer_all(players, (source,), settings.out, progress=True)
    found = {}
    for name in names:
        mine = [episode for (player, _), episode in answers.items() if player == name]
        found[name] = measured(figures_of(mine, world), world.budget)
    write_csv(settings.out / "advice.csv", found)
    plot(found, shown, settings.out / "front.png", world.budget)
    lines = {name: {part: _plain(value) for part, value in one._asdict().items()} for name, one in found.items()}
    return {"budget": world.budget, "episodes": settings.episodes, "policies": lines}


def plot(found: Mapping[str, Measured], shown: Mapping[str, Look], path: Path, budget: float | None) -> None:
    """Write the Pareto front, if matplotlib is there."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    from dialog_gym.tournament.plots import Point, front

    points = [Point(name, one.cost.mean, one.reward.mean, one.cost[1:], one.reward[1:]) for name, one in found.items()]
    front(points, shown, path, budget=budget)


def write_csv(path: Path, found: Mapping[str, Measured]) -> None:
    """Write the table as CSV."""
    parts = ("reward", "cost", "within", "lost")
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["policy", *(f"{part}{end}" for part in parts for end in ("", "_low", "_high")), "words"])
        for name, one in found.items():
            writer.writerow([name, *(number for part in parts for number in getattr(one, part)), one.words])


def markdown(found: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str] | None = None) -> str:
    """Return the table of ``measure(...)["policies"]`` as Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 1)]
    for name, one in found.items():
        cells = [(labels or {}).get(name, name)]
        for part, form in (("reward", ".3f"), ("cost", ".3f"), ("within", ".0%"), ("lost", ".1%")):
            mean, low, high = (format(one[part][end], form) for end in ("mean", "low", "high"))
            cells += [mean, f"{low} .. {high}"]
        lines.append("| " + " | ".join([*cells, f"{one['words']:.1f}"]) + " |")
    return "\n".join(lines)


def show(report: dict[str, Any], console: Console) -> None:
    """Print the table."""
    console.print(f"{report['episodes']} questions, budget {report['budget']}", markup=False)
    console.print(markdown(report["policies"]), markup=False, soft_wrap=True)


def _plain(value: Any) -> Any:
    return value._asdict() if isinstance(value, Share) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command.run("advice_table", Settings, measure, show, argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
