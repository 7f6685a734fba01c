"""The outcome of a tournament for people: Markdown, CSV and JSON tables, and the scatter plots."""

from __future__ import annotations

import csv
import importlib.util
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dialog_gym import checkpoint
from dialog_gym.tournament.groups import Look
from dialog_gym.tournament.hold import Line, Outcome

log = logging.getLogger("dialog_gym")

HEAD = ("player", "win rate", "sd", "95%", "ties", "LC win rate", "95%", "Elo", "sd", "BT", "95%", "length", "failed")
COLUMNS = (
    "criterion",
    "player",
    "label",
    "group",
    "win_rate",
    "win_rate_sd",
    "win_rate_low",
    "win_rate_high",
    "ties",
    "games",
    "controlled",
    "controlled_low",
    "controlled_high",
    "length_slope",
    "elo",
    "elo_sd",
    "strength",
    "strength_low",
    "strength_high",
    "length",
    "failed",
)


def markdown(outcome: Outcome, looks: Mapping[str, Look]) -> str:
    """Return a table per criterion, and what is to be known about them."""
    parts = [
        f"Judge: {outcome.judge}. {outcome.matches:,} judgements, {outcome.scorings} of each order of each pair "
        f"({'everybody against everybody' if outcome.full else f'against {outcome.base} alone'}); {outcome.failed:,} "
        f"failed and are left out. Win rates are against {outcome.base}, their sd is over scorings; LC: at equal "
        f"length. Elo (sd over trials) and Bradley-Terry (BT) give {outcome.base} 1000. 95% intervals: bootstrap over "
        "questions."
    ]
    for criterion, count in outcome.questions.items():
        parts += ["", f"**{criterion}**, {count} questions", ""]
        parts += ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 1)]
        mine = [line for line in outcome.lines if line.criterion == criterion]
        parts += ["| " + " | ".join([looks[line.player].label, *_cells(line)]) + " |" for line in mine]
    return "\n".join(parts)


def _cells(line: Line) -> list[str]:
    rate, lc = line.win_rate, line.controlled
    return [
        _number(rate.mean, 3),
        _number(rate.sd, 3),
        _range(rate.interval, 3),
        "" if not rate.games else f"{rate.ties:.0%}",
        _number(lc.mean, 3),
        _range(lc.interval, 3),
        _number(line.elo.mean, 0),
        _number(line.elo.sd, 0),
        _number(line.strength.mean, 0),
        _range(line.strength.interval, 0),
        _number(line.length, 0),
        str(line.failed),
    ]


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _range(ends: tuple[float, float], digits: int) -> str:
    return f"{ends[0]:.{digits}f} .. {ends[1]:.{digits}f}" if all(map(math.isfinite, ends)) else ""


def rows(outcome: Outcome, looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Return one flat row per criterion and player, by the names in ``COLUMNS``."""
    found = []
    for line in outcome.lines:
        rate, lc, look = line.win_rate, line.controlled, looks[line.player]
        values = (
            *(line.criterion, line.player, look.label, look.group),
            *(rate.mean, rate.sd, *rate.interval, rate.ties, rate.games),
            *(lc.mean, *lc.interval, lc.slope),
            *(*line.elo, line.strength.mean, *line.strength.interval, line.length, line.failed),
        )
        found.append(dict(zip(COLUMNS, values, strict=True)))
    return found


def write(outcome: Outcome, looks: Mapping[str, Look], folder: Path) -> list[Path]:
    """Write ``report.md``, ``ratings.csv`` and the scatter plots, and return what was written.

    Without matplotlib there are no plots.
    """
    table = folder / "ratings.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(outcome, looks))
    text = folder / "report.md"
    checkpoint.write_text(text, markdown(outcome, looks) + "\n")
    return [text, table, *plots(outcome, looks, folder)]


def plots(outcome: Outcome, looks: Mapping[str, Look], folder: Path) -> list[Path]:
    """Write the scatters of the first two criteria: win rates and Elo; nothing where there is one criterion."""
    criteria = list(outcome.questions)
    if len(criteria) < 2:
        return []
    if importlib.util.find_spec("matplotlib") is None:
        log.warning("no plots: matplotlib is missing (pip install 'dialog-gym[report]')")
        return []
    from dialog_gym.tournament.plots import Point, scatter

    names = list(looks)
    by = {(line.criterion, line.player): line for line in outcome.lines}
    across, up = criteria[:2]
    rates, elos = [], []
    for name in names:
        x, y = by[across, name], by[up, name]
        rates.append(Point(name, x.win_rate.mean, y.win_rate.mean, x.win_rate.interval, y.win_rate.interval))
        elos.append(Point(name, x.elo.mean, y.elo.mean))
    written = []
    for what, points, pivot in (("win_rate", rates, 0.5), ("elo", elos, 1000.0)):
        for ending in ("png", "pdf"):
            path = folder / f"scatter_{what}.{ending}"
            scatter(points, looks, path, axes=(across, up), pivot=pivot, what=what.replace("_", " "))
            written.append(path)
    return written
