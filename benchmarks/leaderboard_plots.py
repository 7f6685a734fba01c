"""Plots of a leaderboard for papers, each as SVG and PNG. They need matplotlib (``report``).

Colours are those of Okabe and Ito (2008, "Color universal design"), which colour-blind people can tell apart, without
the yellow that is too faint for lines; markers and dashes differ too, for prints without colour. The same results
give the same files, byte for byte, with one version of matplotlib.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.benchmarks.leaderboard import REFERENCES, Entry, Leaderboard, Total
from dialog_gym.benchmarks.leaderboard_curves import MEASURE, Learning, learning, profiles
from dialog_gym.benchmarks.leaderboard_notes import marks
from dialog_gym.benchmarks.results_folder import Results
from dialog_gym.benchmarks.statistics import RESAMPLES, Band, Estimate

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
DASHES = ("-", "--", ":", "-.")
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "dialog_gym",  # names inside an SVG are drawn from it
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
}
WIDTH = 7.0  # inches: a page with one column
FAINT = "#888888"
CROWD = 8  # with more lines than that, bands are fainter
BUDGET = "budget"
COMPUTE = (
    "CPU seconds of a run, training and evaluation\n"
    "(without shared models, recorded dialogues and rankings; of a resumed run the last start)"
)


class Look(NamedTuple):
    """How an agent is drawn in all plots."""

    colour: str
    marker: str
    dash: str


def looks(agents: Iterable[str]) -> dict[str, Look]:
    """Return how to draw each agent, by the order of names.

    >>> looks(["td3", "ilql"])["ilql"]
    Look(colour='#0072B2', marker='o', dash='-')
    """
    return {
        agent: Look(COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)], DASHES[k // len(COLOURS) % len(DASHES)])
        for k, agent in enumerate(sorted(set(agents) - set(REFERENCES)))
    } | {"lm": Look(FAINT, ".", ":"), "oracle": Look(FAINT, "*", "--")}


def write_plots(
    results: Results, board: Leaderboard, folder: Path, *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Path]:
    """Write all plots for which there is something to show.

    Args:
        results: What the leaderboard is made of.
        board: The leaderboard.
        folder: Where; made if it is not there.
        seed: Of the bootstrap of curves.
        resamples: Of the bootstrap of curves.

    Returns:
        The files: ``totals``, ``profiles``, ``learning``, ``costs`` and ``compute``, as SVG and PNG. Where versions
        are mixed or files were left out, each says so.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    shown = looks(board.agents)
    drawn: dict[str, Any] = {}
    with matplotlib.rc_context(SETTINGS):
        if board.totals:
            drawn["totals"] = totals_plot(board.totals, shown)
            taus = _taus(board)
            found = profiles(results, taus, seed=seed, resamples=resamples)
            drawn["profiles"] = profiles_plot(found, taus, board.totals, shown)
        curves = [curve for curve in learning(results, seed=seed, resamples=resamples) if len(curve.at) > 1]
        if curves:
            drawn["learning"] = learning_plot(curves, shown)
        entries = [entry for entry in board.entries if entry.status == "done"]
        if costly := _costly(entries):
            drawn["costs"] = costs_plot(costly, shown)
        drawn["compute"] = compute_plot(entries, shown)
        for figure in drawn.values():
            _mark(figure, marks(board))
        return [path for name, figure in drawn.items() for path in _write(figure, folder / name)]


def totals_plot(totals: Sequence[Total], shown: dict[str, Look]) -> Any:
    """Draw interquartile mean, mean and optimality gap of each agent with their intervals, the best on top."""
    figure, (axes,) = _panels(1, 3, height=0.7 + 0.19 * len(totals), sharey=True)
    places = range(len(totals))[::-1]
    for panel, (name, title) in zip(
        axes,
        (("iqm", "interquartile mean"), ("mean", "mean"), ("gap", "optimality gap (less is better)")),
        strict=True,
    ):
        for place, total in zip(places, totals, strict=True):
            look, number = shown[total.agent], getattr(total, name)
            if number.low is not None:
                panel.plot([number.low, number.high], [place, place], color=look.colour, linewidth=4, alpha=0.45)
            panel.plot([number.value], [place], marker=look.marker, color=look.colour, linestyle="none")
        panel.set_title(title)
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
        panel.tick_params(axis="y", length=0)
    every = max(len(total.worlds) for total in totals)
    names = [_counted(total, every) for total in totals]
    axes[0].set_yticks(list(places), names)
    figure.supxlabel("normalised score (0: lm, 1: oracle), 95% intervals over runs", fontsize=8)
    return figure


def profiles_plot(
    found: dict[str, Band], taus: Sequence[float], totals: Sequence[Total], shown: dict[str, Look]
) -> Any:
    """Draw which share of runs scores more than each score; the higher a line, the better."""
    learned = [total for total in totals if total.agent not in REFERENCES]
    figure, ((axes,),) = _panels(1, 1, height=3.0, labels=len(learned))
    every = max(len(total.worlds) for total in totals)
    for k, total in enumerate(learned):
        _band(axes, taus, found[total.agent], shown[total.agent], _counted(total, every), (k, len(learned)))
    for place, name in ((0.0, "lm"), (1.0, "oracle")):
        axes.axvline(place, color=FAINT, linewidth=0.8, linestyle=":")
        axes.text(place, 1.02, name, color=FAINT, ha="center", va="bottom", transform=axes.get_xaxis_transform())
    axes.set(xlabel="normalised score", ylabel="share of runs above it", ylim=(-0.02, 1.02), xlim=(taus[0], taus[-1]))
    _legend(figure, axes)
    return figure


def learning_plot(curves: Sequence[Learning], shown: dict[str, Look]) -> Any:
    """Draw how agents improved while they learned (``MEASURE``), a panel for each unit of what they spent."""
    units = list(dict.fromkeys(curve.unit for curve in curves))
    figure, (axes,) = _panels(1, len(units), height=2.8, labels=len(curves))
    every = max(len(curve.worlds) for curve in curves)
    told = textwrap.fill(f"{MEASURE} (IQM)", 42)
    for panel, unit in zip(axes, units, strict=True):
        mine = [curve for curve in curves if curve.unit == unit]
        for k, curve in enumerate(mine):
            _band(panel, curve.at, curve.score, shown[curve.agent], _counted(curve, every), (k, len(mine)))
        panel.set(xlabel=f"{unit} of training", ylabel=told if panel is axes[0] else "")
        panel.grid(color="#eeeeee", linewidth=0.6)
    _legend(figure, *axes)
    return figure


def costs_plot(entries: Sequence[Entry], shown: dict[str, Look]) -> Any:
    """Draw return against cost in each world that has one, with its budget."""
    figure, panels = _worlds_grid(entries)
    for world, panel in panels.items():
        mine = [entry for entry in entries if entry.world == world]
        for entry in mine:
            _cross(panel, entry.cost, entry.score, shown[entry.agent], entry.agent)
        if mine[0].budget is not None:
            panel.axvline(mine[0].budget, color=FAINT, linewidth=0.9, linestyle="--", label=BUDGET)
        panel.set_title(world)
    figure.supxlabel("mean cost of an episode", fontsize=8)
    figure.supylabel("mean return", fontsize=8)
    _legend(figure, *panels.values())
    return figure


def compute_plot(entries: Sequence[Entry], shown: dict[str, Look]) -> Any:
    """Draw return against the CPU seconds of a run (training and evaluation), in each world.

    What runs share (language models, recorded dialogues, rankings) is not counted, and of a resumed run only the last
    start is.
    """
    figure, panels = _worlds_grid(entries)
    for world, panel in panels.items():
        for entry in entries:
            if entry.world == world:
                spent = Estimate(max(entry.cpu_seconds or 0.0, 0.01))
                _cross(panel, spent, entry.score, shown[entry.agent], entry.agent)
        _log_axis(panel)
        panel.set_title(world)
    figure.supxlabel(COMPUTE, fontsize=8)
    figure.supylabel("mean return", fontsize=8)
    _legend(figure, *panels.values())
    return figure


# --- parts ----------------------------------------------------------------------------------------


def _panels(rows: int, columns: int, height: float, labels: int = 0, sharey: bool = False) -> tuple[Any, Any]:
    """Return a figure that is high enough for a legend of so many labels, and its panels."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(WIDTH, max(height, 0.3 + 0.18 * labels)), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def _worlds_grid(entries: Sequence[Entry]) -> tuple[Any, dict[str, Any]]:
    worlds = list(dict.fromkeys(entry.world for entry in entries))
    columns = min(3, len(worlds))
    rows = math.ceil(len(worlds) / columns)
    labels = 1 + len({entry.agent for entry in entries})
    figure, axes = _panels(rows, columns, height=max(2.6, 0.5 + 1.7 * rows), labels=labels)
    for spare in axes.flat[len(worlds) :]:
        spare.set_axis_off()
    return figure, dict(zip(worlds, axes.flat, strict=False))


def _band(axes: Any, at: Any, band: Band, look: Look, label: str, place: tuple[int, int]) -> None:
    """Draw a line with its intervals; ``place``: which of how many lines it is, so that markers do not meet."""
    number, of = place
    every = max(1, len(at) // 4)
    marks = (number * every // of, every)
    axes.plot(at, band.value, color=look.colour, linestyle=look.dash, marker=look.marker, markevery=marks, label=label)
    if band.low is not None and band.high is not None:
        faint = 0.15 if of <= CROWD else 0.07
        axes.fill_between(at, band.low, band.high, color=look.colour, alpha=faint, linewidth=0)


def _cross(axes: Any, x: Estimate | None, y: Estimate | None, look: Look, label: str) -> None:
    """Draw a point with its intervals."""
    if x is None or y is None:
        return
    axes.errorbar(
        [x.value],
        [y.value],
        xerr=_arms(x),
        yerr=_arms(y),
        marker=look.marker,
        color=look.colour,
        elinewidth=0.9,
        linestyle="none",
        label=label,
    )


def _arms(number: Estimate) -> Any:
    if number.low is None or number.high is None:
        return None
    return [[max(number.value - number.low, 0.0)], [max(number.high - number.value, 0.0)]]


def _legend(figure: Any, *panels: Any) -> None:
    """Put one legend for all panels beside them."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if BUDGET in found:
        found[BUDGET] = found.pop(BUDGET)  # last
    if found:
        figure.legend(found.values(), found.keys(), loc="outside right upper")


def _mark(figure: Any, told: Sequence[str]) -> None:
    """Put what has to be known of the results above a figure."""
    lines = textwrap.wrap(". ".join(told), 110, max_lines=3)
    if lines:
        figure.set_figheight(figure.get_figheight() + 0.15 * len(lines))
        figure.suptitle("\n".join(lines), fontsize=7, color=COLOURS[1])


def _log_axis(axes: Any) -> None:
    """Make the horizontal axis logarithmic, with a few plain numbers on it however short it is."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 3 * low:
        low, high = axes.set_xlim(low / 2, high * 2)
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    every = [factor * power for power in powers for factor in (1, 2, 5)]
    ticks = [[tick for tick in some if low <= tick <= high] for some in (every, powers)]
    chosen = ticks[0] if len(ticks[0]) <= 5 else ticks[1]
    axes.xaxis.set_major_locator(FixedLocator(chosen))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")


def _counted(one: Total | Learning, every: int) -> str:
    """Return the agent, with the number of its worlds if others have more."""
    count = len(one.worlds)
    return one.agent if count == every else f"{one.agent} ({count} world{'s' * (count != 1)})"


def _taus(board: Leaderboard) -> Any:
    scores = [number for total in board.totals for number in total.mean if number is not None]
    scores += [entry.normalised.value for entry in board.entries if entry.normalised is not None]
    return np.linspace(min(-0.1, min(scores) - 0.05), max(1.1, max(scores) + 0.05), 141)


def _costly(entries: Sequence[Entry]) -> list[Entry]:
    worlds = {entry.world for entry in entries if entry.budget is not None or (entry.cost and entry.cost.value > 0)}
    return [entry for entry in entries if entry.world in worlds]


def _write(figure: Any, stem: Path) -> list[Path]:
    paths = []
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it stands, and need not be found again for each file
    for suffix, more in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 200})):
        path = stem.with_suffix(suffix)
        partial = path.with_name(f".partial-{path.name}")
        figure.savefig(partial, **more)
        partial.replace(path)
        paths.append(path)
    return paths
