"""The tables of ``dialog_gym.benchmarks.decomposition``, read from the files of its cells."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.benchmarks.planners import t_interval

MEASURES = ("pearson", "spearman", "pearson_dialogue", "spearman_dialogue", "global")


class Row(NamedTuple):
    """One method in one setting; ``values`` by measure: mean, and the ends of its 95% interval over seeds."""

    world: str
    conversations: int
    method: str
    bias: float
    affect_noise: float
    score_noise: float
    kind: str
    seeds: int
    values: dict[str, tuple[float, float, float]]


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
            found.append(Row(world, cell["conversations"], cell["method"], **setting, seeds=len(made), values=values))
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
        writer.writerow([*Row._fields[:-1], *ends])
        for row in rows:
            writer.writerow([*row[:-1], *(number for name in MEASURES for number in row.values[name])])


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
    lines += _table(head, ([row.method, *(_shown(row.values[name]) for name in MEASURES)] for row in main))
    return "\n".join(lines)


def _map(rows: Sequence[Row], world: str) -> str:
    """Return Pearson (pooled) of GELI, of the local signal alone and of the best global method, over the map."""
    geli = [row for row in rows if row.method == "geli" and row.kind == "plain"]
    mapped = {row.conversations for row in geli if row.bias != geli[0].bias}
    lines = [f"**{world}, the map** ({min(mapped, default=0)} conversations, pooled Pearson)", ""]
    shown = []
    for row in sorted((one for one in geli if one.conversations in mapped), key=lambda one: one[3:6]):
        same = [one for one in rows if one.conversations == row.conversations and one.kind == "plain"]
        li = [o for o in same if o.method == "li" and o[3:5] == row[3:5]]
        others = [o for o in same if o.method not in (*_WITH_AFFECT, "truth")]
        others = [o for o in others if o.score_noise == row.score_noise]
        if li and others:
            shown.append(_map_line(row, li[0], max(others, key=lambda one: one.values["pearson"][0])))
    if not shown:
        return ""
    return "\n".join(lines + _table(("bias", "affect noise", "score noise", "LI", "best GE", "GELI", "wins"), shown))


def _map_line(geli: Row, li: Row, other: Row) -> list[str]:
    value, low, high = geli.values["pearson"]
    rival = max(li, other, key=lambda one: one.values["pearson"][0])
    best, least, most = rival.values["pearson"]
    name = "LI" if rival is li else other.method
    wins = "GELI" if low > most else name if high < least else f"GELI, within error ({name})"
    wins = wins if value >= best or wins == name else f"{name}, within error"
    shown = f"{_shown(other.values['pearson'])} {other.method}"
    settings = [f"{number:g}" for number in geli[3:6]]
    return [*settings, _shown(li.values["pearson"]), shown, _shown(geli.values["pearson"]), wins]


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
    return "\n".join(lines + _table(("conversations", "method", *kinds), shown)) if shown else ""


_WITH_AFFECT = ("li", "geli", "geli-0.2", "geli-fitted", "geli-raw")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _shown(value: tuple[float, float, float]) -> str:
    mean, low, high = value
    if math.isnan(mean):
        return ""
    return f"{mean:.3f}" if math.isnan(low) else f"{mean:.3f} ± {(high - low) / 2:.3f}"
