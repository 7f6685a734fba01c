"""The report of ``dialog_gym.benchmarks.study`` as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dialog_gym.benchmarks.study_plots import bars, curves
from dialog_gym.benchmarks.study_scores import Line, markdown


def shown(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown: notes, candidates, the first and the best responses, and gains over ``tf``."""
    found = [Line(**line) for line in report["lines"]]
    most = max(line.k for line in found)
    candidates, speed = report["candidates"], report["candidates"]["speed"]
    reward = candidates["reward_of_the_model"]
    text = [
        f"Candidates are scored by {report['scored_by']}: {report['contexts']['train']} contexts, "
        f"{candidates['mean_per_context']:.2f} candidates each ({candidates['with_all']:.1%} have all)"
        + ("" if reward is None else f", mean reward of the model's {reward:.3f}")
        + f"; {speed['ours']:.0f} candidates/s, raw generation {speed['raw']:.0f} ({speed['ratio']:.2f}). "
        f"{report['contexts']['heldout']} held-out contexts; 95% intervals over contexts (bootstrap), "
        "of several seeds over seeds and contexts.",
        *(f"Note: {note}." for note in report["notes"]),
        *(f"Failed: {name}." for name in report["failed"]),
        "",
        markdown([line for line in found if line.k in (1, most)]),
    ]
    if report["gains"]:
        text += ["", markdown([Line(**line) for line in report["gains"]])]
    return "\n".join(text)


def plot(report: Mapping[str, Any], folder: Path) -> None:
    """Write for each metric the curves of best-of-k and the bars of the first responses as images."""
    found = [Line(**line) for line in report["lines"]]
    for metric in dict.fromkeys(line.metric for line in found):
        mine = [line for line in found if line.metric == metric]
        by_method = {name: [line.mean for line in mine if line.method == name] for name in {m.method: 0 for m in mine}}
        curves(by_method, folder / f"best_of_{metric}.png", metric)
        first = [(line.method, line.mean, line.low, line.high) for line in mine if line.k == 1]
        bars(first, folder / f"first_{metric}.png", f"{metric}, first response")
