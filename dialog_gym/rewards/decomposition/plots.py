"""Plots of a run of ``dialog-gym fit reward``. They need matplotlib (the extra ``report``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dialog_gym import checkpoint

CURVES = ("loss/train", "eval/loss", "eval/global_loss", "eval/local_loss")


def draw(folder: str | Path) -> list[Path]:
    """Write ``losses.png``, and what can be drawn of ``truth.png`` and ``classes.png``; return their paths.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    folder = Path(folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    turns = json.loads((folder / "turns.json").read_text(encoding="utf-8"))
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    found = [losses(lines, folder / "losses.png")]
    if any(value is not None for value in turns["truth"]):
        found.append(scatter(turns, result, folder / "truth.png"))
    means = {k.partition("/")[2]: v for k, v in result.items() if k.startswith("reward_of/")}
    if means:
        found.append(bars(means, folder / "classes.png"))
    return found


def losses(lines: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write the losses over updates, those on held-out conversations included, each divided by its first value."""
    figure, axes = _figure()
    for name in CURVES:
        points = [(line["step"], line[name]) for line in lines if name in line]
        if points and points[0][1] > 0:
            axes.plot([step for step, _ in points], [value / points[0][1] for _, value in points], label=name)
    axes.set_xlabel("update")
    axes.set_ylabel("share of the first value")
    axes.legend()
    return _write(figure, path)


def scatter(turns: Mapping[str, Sequence[Any]], result: Mapping[str, Any], path: Path) -> Path:
    """Write learned rewards against the true values of the held-out turns."""
    pairs = np.array([(t, r) for t, r in zip(turns["truth"], turns["reward"], strict=True) if t is not None])
    figure, axes = _figure()
    axes.scatter(pairs[:, 0], pairs[:, 1], s=6, alpha=0.3, linewidths=0)
    axes.set_xlabel("true value of the turn")
    axes.set_ylabel("learned reward")
    axes.set_title(f"Pearson {result.get('truth/pearson', float('nan')):.2f}")
    return _write(figure, path)


def bars(means: Mapping[str, float], path: Path) -> Path:
    """Write the mean reward of each class of the local signal."""
    figure, axes = _figure()
    axes.bar(range(len(means)), list(means.values()), color="#7a9cc6")
    axes.set_xticks(range(len(means)), list(means))
    axes.set_xlabel("class of the local signal")
    axes.set_ylabel("mean learned reward")
    axes.axhline(0, color="black", linewidth=0.5)
    return _write(figure, path)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    return figure, figure.subplots()


def _write(figure: Any, path: Path) -> Path:
    with checkpoint.replacing(path) as partial:
        figure.savefig(partial, dpi=120)
    return path
