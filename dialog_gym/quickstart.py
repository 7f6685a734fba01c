"""The whole road in minutes: train a planner, compare it with its baselines, show what it changed.

Trains TD3 on ``dialog_gym/BargainPrefix-v0`` with the training items, then scores it and every baseline
on the same held-out items and seeds. Writes to one folder: the run (``planner/``), ``result.json``,
``table.txt``, ``curve.png``, ``before_after.txt`` and all evaluation dialogues (``episodes/``). Killed and
started again, training goes on from its last checkpoint.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dialog_gym import baselines, checkpoint
from dialog_gym.baselines import Trial
from dialog_gym.render import visible
from dialog_gym.rollout import Episode, Evaluation, Policy, constant_policy, normalise

ENV = "dialog_gym/BargainPrefix-v0"
PLANNER = "planner (TD3)"
WIDTH = 100  # columns of what is written to files
EVALUATIONS = 10  # points of the learning curve


@dataclass(frozen=True)
class Settings:
    """What the quickstart is run with.

    Attributes:
        out: Folder for everything.
        steps: Environment steps of training.
        episodes: Held-out dialogues per policy.
        seed: Of training.
        env_kwargs: Arguments of the environment.
    """

    out: Path = Path("runs/quickstart")
    steps: int = 30_000
    episodes: int = 512
    seed: int = 1
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)


def quickstart(settings: Settings, console: Console) -> dict[str, Any]:
    """Train, compare, show; return what ``result.json`` holds."""
    from dialog_gym.agents import td3

    begun = time.perf_counter()
    console.print(f"Training a planner for {settings.steps:,} turns; Ctrl-C stops, the same command goes on.")
    run = settings.out / "planner"
    held_in, held_out = ({**settings.env_kwargs, "split": split} for split in ("train", "heldout"))
    args = td3.Args(
        env=ENV,
        env_kwargs=held_in,
        out=str(run),
        steps=settings.steps,
        seed=settings.seed,
        eval_every=-(-settings.steps // EVALUATIONS),
    )
    planner = td3.train(args)
    console.print(f"Comparing it with its baselines, {settings.episodes} held-out dialogues each.")
    trial = Trial(ENV, held_out, settings.episodes, progress=True)
    try:
        results = _compare(trial, planner.act, Trial(ENV, held_in))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; the trained planner is safe in {run}, the same command goes on") from None
    report = {
        "settings": {"env": ENV, "env_kwargs": dict(settings.env_kwargs), "steps": settings.steps},
        "results": [result.to_json() for result in results],
        "seconds": round(time.perf_counter() - begun, 1),
        "peak_memory_mb": _peak_memory(),
    }
    _write(settings.out, report, results, run)
    _show(console, results, settings.out, report)
    return report


def _compare(trial: Trial, planner: Policy, training: Trial) -> list[Evaluation]:
    """Return the evaluation of ``planner`` between those of the baselines and that of the oracle."""
    found = [baselines.evaluate(name, trial) for name in ("lm", "lm-sampled", "random")]
    action = baselines.best_constant(training.venv, progress=trial.progress)
    found.append(trial.score(constant_policy(trial.venv, action), "constant"))
    found.append(trial.score(planner, PLANNER))
    found.append(baselines.evaluate("oracle", trial))
    return baselines.on_scale(found)


def table(results: Sequence[Evaluation]) -> Table:
    """Return the comparison as a person reads it."""
    names = ("policy", "return", "normalised", "success", "turns")
    shown = Table(*names, box=box.SIMPLE, pad_edge=False, title="Held-out dialogues")
    for result in results:
        low, high = result.interval
        low_n, high_n = (normalise(bound, result.references) for bound in (low, high))
        shown.add_row(
            result.policy,
            f"{result.mean:.3f} [{low:.3f}, {high:.3f}]",
            f"{result.normalised:.2f} [{low_n:.2f}, {high_n:.2f}]",
            f"{result.success_rate:.0%}",
            f"{result.turns:.1f}",
            style="bold" if result.policy == PLANNER else None,
        )
    return shown


def before_after(before: Evaluation, after: Evaluation) -> tuple[Episode, Episode]:
    """Return one scenario played by both: the one whose gain is the median gain, so neither best nor worst."""
    gains = after.returns - before.returns
    middle = int(np.argsort(gains, kind="stable")[len(gains) // 2])
    return before.episodes[middle], after.episodes[middle]


def side_by_side(pair: tuple[Episode, Episode], width: int) -> RenderableType:
    """Return two dialogues of one scenario next to each other, or below each other on a narrow screen."""
    titles = ("before: the language model alone", "after: steered by the planner")
    panels = [
        Panel(_told(episode), title=title, subtitle=f"return {episode.total:.3f}")
        for title, episode in zip(titles, pair, strict=True)
    ]
    before = pair[0].dialogue
    brief = Text(visible(before.brief(before.roles[0])))
    if width < 80:
        return Group(brief, *panels)
    columns = Table.grid(expand=True)
    columns.add_column(ratio=1)
    columns.add_column(ratio=1)
    columns.add_row(*panels)
    return Group(brief, columns)


def _told(episode: Episode) -> Table:
    told = Table.grid(padding=(0, 1))
    told.add_column(no_wrap=True)
    for role, text in episode.dialogue.turns:
        style = "cyan" if role == episode.dialogue.roles[0] else ""
        told.add_row(Text(role, style="bold"), Text(visible(text), style=style))
    told.add_row("", Text(f"({episode.dialogue.stop_reason})", style="dim"))
    return told


def learning_curve(metrics: Path, results: Sequence[Evaluation], path: Path) -> None:
    """Draw the return of the planner while it learned, and the baselines as lines."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    explored = [(line["step"], line["train/return"]) for line in lines if "train/return" in line]
    axes.plot(*zip(*explored, strict=True), color="C0", alpha=0.4, label="while exploring")
    points = [line for line in lines if "eval/return" in line]
    steps = [point["step"] for point in points]
    axes.plot(steps, [point["eval/return"] for point in points], "o-", color="C0", label="without exploring")
    low, high = ([point[f"eval/{side}"] for point in points] for side in ("low", "high"))
    axes.fill_between(steps, low, high, color="C0", alpha=0.15, linewidth=0, label="95% interval")
    others = sorted((result.mean, result.policy) for result in results if result.policy != PLANNER)
    for (height, name), place in zip(others, _apart([height for height, _ in others], 0.045), strict=True):
        axes.axhline(height, color="0.5", linewidth=0.8, linestyle="--")
        axes.annotate(name, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    axes.set(xlabel="environment steps", ylabel="mean return per dialogue", ylim=(0, 1), xlim=(0, None))
    axes.set_title("TD3 steering a frozen language model", fontsize=11)
    axes.legend(loc="upper left", frameon=False)
    FigureCanvasAgg(figure).print_png(str(path))


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return the ascending ``heights``, raised where need be so that labels there do not overlap."""
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + gap) if places else height)
    return places


def _write(out: Path, report: Mapping[str, Any], results: Sequence[Evaluation], run: Path) -> None:
    (out / "episodes").mkdir(parents=True, exist_ok=True)
    for result in results:
        name = result.policy.partition(" ")[0]
        lines = (json.dumps(episode.to_json(), ensure_ascii=False) + "\n" for episode in result.episodes)
        checkpoint.write_text(out / "episodes" / f"{name}.jsonl", "".join(lines))
    checkpoint.write_json(out / "result.json", dict(report))
    checkpoint.write_text(out / "table.txt", _plain(table(results)))
    checkpoint.write_text(out / "before_after.txt", _plain(side_by_side(_pair(results), WIDTH)))
    learning_curve(run / "metrics.jsonl", results, out / "curve.png")


def _show(console: Console, results: Sequence[Evaluation], out: Path, report: Mapping[str, Any]) -> None:
    console.print(table(results))
    console.print("normalised: 0 is the language model left alone, 1 the oracle, who sees what is hidden")
    console.print(side_by_side(_pair(results), console.width))
    memory = report["peak_memory_mb"]
    took = f"{report['seconds']:.0f} s" + (f", at most {memory / 1000:.1f} GB of memory" if memory else "")
    console.print(f"{took}. Everything is in {out}/: learning curve curve.png, table.txt, episodes/, planner/")


def _pair(results: Sequence[Evaluation]) -> tuple[Episode, Episode]:
    by_name = {result.policy.partition(" ")[0]: result for result in results}
    return before_after(by_name["lm"], by_name["planner"])


def _plain(what: RenderableType) -> str:
    console = Console(width=WIDTH, color_system=None, file=io.StringIO())
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def _peak_memory() -> int | None:
    """Return the most memory this process has used, in MB, where the system tells."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1_000_000 if sys.platform == "darwin" else 1000)
