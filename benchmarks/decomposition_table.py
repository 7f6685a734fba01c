"""The tables of ``dialog_gym.benchmarks.decomposition``, read from the files of its cells."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.benchmarks.statistics import markdown_table, t_interval

MEASURES = ("pearson", "spearman", "pearson_dialogue", "spearman_dialogue", "global")


class Row(NamedTuple):
    """One method in one setting.

    ``values``: by measure the mean and the ends of its 95% interval over seeds. ``pooled``: Pearson by seed; the same
    seed of two methods has the same conversations, scores and affect.
    """

    world: str
    conversations: int
    method: str
    bias: float
    affect_noise: float
    score_noise: float
    kind: str
    seeds: int
    values: dict[str, tuple[float, float, float]]
    pooled: dict[int, float]


def rows_of(folder: Path) -> list[Row]:
    """Return all rows of the cells in ``folder``."""
    found = []
    for path in sorted(folder.glob("*-v*-*-*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        cell = data["config"]["cell"]
        for setting in data["config"]["settings"]:
            made = [one for one in data["results"] if one["setting"] == setting]
            values = {name: _interval([one[name] for one in made if name in one]) for name in MEASURES}
            world = cell["world"].rpartition("/")[2]
            pooled = {one["seed"]: one["pearson"] for one in made}
            count = cell["conversations"]
            found.append(Row(world, count, cell["method"], **setting, seeds=len(made), values=values, pooled=pooled))
    return found


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    if not values:
        return math.nan, math.nan, math.nan
    low, high = t_interval(values) if len(values) > 1 else (math.nan, math.nan)
    return float(np.mean(values)), low, high


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write a line per row, with the intervals."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        ends = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
        writer.writerow([*Row._fields[:-2], *ends])
        for row in rows:
            writer.writerow([*row[:-2], *(number for name in MEASURES for number in row.values[name])])


def markdown(rows: Sequence[Row]) -> str:
    """Return the methods at the main point for every number of conversations, the maps, and the kinds of affect."""
    parts = []
    worlds = sorted({row.world for row in rows})
    for world in worlds:
        inside = [row for row in rows if row.world == world]
        for count in sorted({row.conversations for row in inside}):
            parts.append(_methods([row for row in inside if row.conversations == count], world, count))
        parts.append(_map(inside, world))
        parts.append(_kinds(inside, world))
    return "\n\n".join(part for part in parts if part)


def _methods(rows: Sequence[Row], world: str, count: int) -> str:
    main = [row for row in rows if row[3:7] == (0.5, 1.0, 2.0, "plain")]
    head = ("method", "Pearson", "Spearman", "Pearson in a dialogue", "Spearman in a dialogue", "global loss")
    lines = [f"**{world}, {count} conversations** (bias .5, affect noise 1, score noise 2; 95% over seeds)", ""]
    rows_shown = [[row.method, *(_shown(row.values[name]) for name in MEASURES)] for row in main]
    lines.append(markdown_table(head, rows_shown, "l" * len(head)))
    return "\n".join(lines)


def _map(rows: Sequence[Row], world: str) -> str:
    """Return Pearson (pooled) of GELI, of the local signal alone and of the best global method, over the map.

    Behind GELI stands ``+`` where it is above the better of the two, ``-`` where below, by a 95% interval of the
    differences by seed, and ``=`` else.
    """
    plain = [row for row in rows if row.kind == "plain"]
    geli = [row for row in plain if row.method == "geli"]
    mapped = {row.conversations for row in geli if row.bias != geli[0].bias}
    shown = []
    for row in sorted((one for one in geli if one.conversations in mapped), key=lambda one: one[3:6]):
        same = [one for one in plain if one.conversations == row.conversations]
        local = [one for one in same if one.method == "li" and one[3:5] == row[3:5]]
        scored = [one for one in same if one.method in _GLOBAL and one.score_noise == row.score_noise]
        both = [row, *(one for one in same if one.method == "geli-0.2" and one[3:6] == row[3:6])]
        if local and scored:
            shown.append(_map_line(both, local[0], max(scored, key=_pooled)))
    if not shown:
        return ""
    lines = [f"**{world}, the map** ({min(mapped)} conversations, pooled Pearson)", ""]
    head = ("bias", "affect noise", "score noise", "LI", "best GE", "GELI", "GELI, lambda .2")
    return "\n".join([*lines, markdown_table(head, shown, "l" * len(head))])


def _map_line(geli: Sequence[Row], local: Row, scored: Row) -> list[str]:
    rival = max(local, scored, key=_pooled)
    settings = [f"{number:g}" for number in geli[0][3:6]]
    others = [_shown(local.values["pearson"]), f"{_shown(scored.values['pearson'])} {scored.method}"]
    return [*settings, *others, *(f"{_shown(row.values['pearson'])} {_against(row, rival)}" for row in geli)]


def _against(row: Row, rival: Row) -> str:
    """Return ``+``, ``-`` or ``=``; see ``_map``."""
    gains = [row.pooled[seed] - rival.pooled[seed] for seed in row.pooled if seed in rival.pooled]
    if len(gains) < 2:
        return "="
    low, high = t_interval(gains)
    return "+" if low > 0 else "-" if high < 0 else "="


def _pooled(row: Row) -> float:
    return row.values["pearson"][0]


def _kinds(rows: Sequence[Row], world: str) -> str:
    found = [row for row in rows if row[3:6] == (0.5, 1.0, 2.0) and row.method in _WITH_AFFECT]
    by: dict[tuple[int, str], dict[str, Row]] = {}
    for row in found:
        by.setdefault((row.conversations, row.method), {})[row.kind] = row
    lines = [f"**{world}, what affect is like** (pooled Pearson)", ""]
    kinds = ("plain", "scaled", "smile")
    shown: list[list[Any]] = [
        [str(count), method, *(_shown(made[kind].values["pearson"]) if kind in made else "" for kind in kinds)]
        for (count, method), made in sorted(by.items())
    ]
    table = markdown_table(("conversations", "method", *kinds), shown, "lllll")
    return "\n".join([*lines, table]) if shown else ""


_GLOBAL = ("regression", "rrd", "rrd-unbiased", "ircr", "rudder")
_WITH_AFFECT = ("li", "geli", "geli-0.2", "geli-fitted", "geli-raw")


def _shown(value: tuple[float, float, float]) -> str:
    mean, low, high = value
    if math.isnan(mean):
        return ""
    return f"{mean:.3f}" if math.isnan(low) else f"{mean:.3f} ± {(high - low) / 2:.3f}"
