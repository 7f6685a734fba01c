"""Plots of the offline studies: bars with intervals, and best-of-k curves. They need matplotlib (``report``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Bar = tuple[str, float, float, float]
"""Label, value, and the ends of its interval."""


def bars(found: Sequence[Bar], path: Path, title: str) -> None:
    """Write a bar for each of ``found``, with its interval, as an image."""
    labels, values, lows, highs = zip(*found, strict=True)
    figure, axes = _figure(max(4.0, 0.75 * len(found)))
    below = [max(value - low, 0.0) for value, low in zip(values, lows, strict=True)]
    above = [max(high - value, 0.0) for value, high in zip(values, highs, strict=True)]
    axes.bar(range(len(found)), values, yerr=[below, above], capsize=3, color="#7a9cc6", ecolor="black")
    axes.set_xticks(range(len(found)), labels, rotation=30, ha="right")
    axes.set_title(title)
    _write(figure, path)


def curves(found: Mapping[str, Sequence[float]], path: Path, title: str) -> None:
    """Write one line per method: its value at k = 1, 2, ..., as an image."""
    figure, axes = _figure(5.0)
    for name, values in found.items():
        axes.plot(range(1, len(values) + 1), values, marker="o", label=name)
    axes.set_xlabel("best of k")
    axes.set_xticks(range(1, max(map(len, found.values())) + 1))
    axes.set_title(title)
    axes.legend()
    _write(figure, path)


def _figure(width: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(width, 3.5), layout="constrained")
    return figure, figure.subplots()


def _write(figure: Any, path: Path) -> None:
    partial = path.with_name(f".partial-{path.name}")
    figure.savefig(partial, dpi=120)
    partial.replace(path)
