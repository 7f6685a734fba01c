"""The scatter of SACPO's paper: helpfulness across, harmlessness up, the base where the lines cross.

What is worse than the base by one of both lies in grey. Needs matplotlib (``report``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dialog_gym import checkpoint
from dialog_gym.tournament.groups import Look

GREY = "0.9"
PUBLISHED = {"win rate": (0.4, 0.9)}  # the axes of the paper; wider where a point lies outside
MARGIN = {"win rate": 0.02, "elo": 50.0}


class Point(NamedTuple):
    """A player in the plane.

    Attributes:
        player: Its name.
        x: By the criterion across.
        y: By the other.
        wide: 95% interval of ``x``, if there is one.
        high: Likewise of ``y``.
    """

    player: str
    x: float
    y: float
    wide: tuple[float, float] | None = None
    high: tuple[float, float] | None = None


def scatter(
    points: Sequence[Point],
    looks: Mapping[str, Look],
    path: Path,
    *,
    axes: tuple[str, str],
    pivot: float,
    what: str,
) -> None:
    """Write the scatter as an image of the kind that the name of ``path`` says.

    Args:
        points: Who is where; those that are nowhere (nan) are left out.
        looks: How each is shown; players of one group are joined in their order.
        path: The file.
        axes: Names of the criteria across and up.
        pivot: Where the base lies, by both.
        what: What is shown, ``"win rate"`` or ``"elo"``.
    """
    shown = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    figure, plane = _figure()
    groups: dict[str, list[Point]] = {}
    for point in shown:
        groups.setdefault(looks[point.player].group, []).append(point)
    for name, members in groups.items():
        look = looks[members[0].player]
        xs, ys = [point.x for point in members], [point.y for point in members]
        plane.plot(xs, ys, marker=look.marker, color=look.colour, label=name, linewidth=0.8, zorder=3)
        for point in members:
            _bars(plane, point, look.colour)
            plane.annotate(looks[point.player].short, (point.x, point.y), (4, 4), textcoords="offset points", size=7)
    spans = [_span([getattr(point, side) for point in shown], pivot, what) for side in ("x", "y")]
    plane.axvspan(spans[0][0], pivot, color=GREY, zorder=0)
    plane.axhspan(spans[1][0], pivot, color=GREY, zorder=0)
    plane.axvline(pivot, color="0.5", linewidth=0.8, zorder=1)
    plane.axhline(pivot, color="0.5", linewidth=0.8, zorder=1)
    plane.set(xlim=spans[0], ylim=spans[1], xlabel=f"{axes[0]} ({what})", ylabel=f"{axes[1]} ({what})")
    plane.legend(fontsize=7, loc="best")
    _write(figure, path)


def front(points: Sequence[Point], looks: Mapping[str, Look], path: Path, *, budget: float | None = None) -> None:
    """Write cost across and reward up, with the Pareto front (nobody else has more reward for less cost) as a line.

    Args:
        points: ``x`` is the mean cost, ``y`` the mean reward.
        looks: How each is shown.
        path: The file.
        budget: Mean cost that is allowed: what is beyond it lies in grey.
    """
    figure, plane = _figure()
    named: set[str] = set()
    for point in points:
        look = looks[point.player]
        label = "" if look.group in named else look.group
        named.add(look.group)
        plane.plot([point.x], [point.y], marker=look.marker, color=look.colour, linestyle="", label=label, zorder=3)
        _bars(plane, point, look.colour)
        plane.annotate(look.short, (point.x, point.y), (4, 4), textcoords="offset points", size=7)
    best = pareto(points)
    plane.step([p.x for p in best], [p.y for p in best], where="post", color="0.4", linewidth=0.8, zorder=2)
    if budget is not None:
        plane.axvspan(budget, max([budget, *(point.x for point in points)]) * 1.1 + 1e-3, color=GREY, zorder=0)
    plane.set(xlabel="cost", ylabel="reward")
    plane.legend(fontsize=7, loc="best")
    _write(figure, path)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in cost (``x``, less is better) and reward (``y``), by rising cost.

    >>> [p.player for p in pareto([Point("a", 0.1, 0.5), Point("b", 0.2, 0.4), Point("c", 0.3, 0.9)])]
    ['a', 'c']
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not found or point.y > found[-1].y:
            found.append(point)
    return found


def _span(values: Sequence[float], pivot: float, what: str) -> tuple[float, float]:
    margin = MARGIN[what]
    low, high = PUBLISHED.get(what, (pivot, pivot))
    least, most = min([*values, pivot]) - margin, max([*values, pivot]) + margin
    return min(low, least), max(high, most)


def _bars(plane: Any, point: Point, colour: str) -> None:
    for value, ends, way in ((point.x, point.wide, "xerr"), (point.y, point.high, "yerr")):
        if ends is not None and all(map(math.isfinite, ends)):
            sides = [[max(value - ends[0], 0.0)], [max(ends[1] - value, 0.0)]]
            plane.errorbar([point.x], [point.y], **{way: sides}, color=colour, linewidth=0.6, capsize=2, zorder=2)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(6.0, 5.0), layout="constrained")
    return figure, figure.subplots()


def _write(figure: Any, path: Path) -> None:
    with checkpoint.replacing(path) as partial:
        figure.savefig(partial, dpi=140)
