"""What the results say, as plain JSON values; the numbers are those of ``benchmarks/leaderboard.py``.

An estimate is ``[value, low, high]``, the ends None where nothing is known of how far to trust it. ``notes`` are about
the numbers over worlds, ``reasons`` about what is not applicable; both as in ``benchmarks/leaderboard_notes.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dialog_gym.benchmarks.leaderboard import Entry, Leaderboard, Total, leaderboard
from dialog_gym.benchmarks.leaderboard_curves import MEASURE, Learning, learning, profiles
from dialog_gym.benchmarks.leaderboard_notes import notes, reasons
from dialog_gym.benchmarks.paired import Difference
from dialog_gym.benchmarks.results_folder import Results
from dialog_gym.benchmarks.statistics import Band, Estimate
from dialog_gym.dialogue import Json
from dialog_gym.report.sources import Curve

TAUS = 61  # points of a profile
SCORE, RETURN = "score", "return"


def board(results: Results | None, curves: Sequence[Curve]) -> dict[str, Json] | None:
    """Return tables and curves; None where there is neither a result nor a curve.

    Args:
        results: Of suites.
        curves: Of training runs.
    """
    if (results is None or not results.results) and not curves:
        return None
    of_runs = list(_run_curves(curves))
    told: dict[str, Any] = {
        "worlds": [],
        "agents": [],
        "overall": [],
        "cells": [],
        "profiles": None,
        "duels": [],
        "notes": [],
        "reasons": [],
        "curves": of_runs,
    }
    if results is not None and results.results:
        told |= _of_results(results, leaderboard(results))
        told["curves"] = [*_curves(results), *of_runs]
    told["agents"] += sorted({curve["agent"] for curve in of_runs} - set(told["agents"]))
    return told


def _of_results(results: Results, table: Leaderboard) -> dict[str, Json]:
    budgets = {one.world: one.budget for one in results.results}
    return {
        "worlds": [{"name": world, "budget": budgets.get(world)} for world in table.worlds],
        "agents": list(table.agents),
        "overall": [_total(total, table) for total in table.totals],
        "cells": [_cell(entry) for entry in table.entries],
        "profiles": _profiles(results, table),
        "duels": [
            {"agent": duel.agent, "other": duel.other, "better": list(duel.better), "worlds": len(duel.worlds)}
            for duel in table.duels
        ],
        "notes": notes(table),
        "reasons": reasons(table),
    }


def _total(total: Total, table: Leaderboard) -> dict[str, Json]:
    entries = [table.entry(world, total.agent) for world in total.worlds]
    tokens = [entry.tokens for entry in entries if entry.tokens is not None]
    return {
        "agent": total.agent,
        "iqm": list(total.iqm),
        "mean": list(total.mean),
        "gap": list(total.gap),
        "learned_from": ", ".join(sorted({entry.learned_from for entry in entries} - {""})),
        "cpu_seconds": total.cpu_seconds,
        "tokens": sum(tokens) if len(tokens) == len(entries) else None,
        "runs": total.runs,
        "worlds": len(total.worlds),
        "of": total.of,
        "over_budget": list(total.over_budget),
    }


def _cell(entry: Entry) -> dict[str, Json]:
    return {
        "world": entry.world,
        "agent": entry.agent,
        "status": entry.status,
        "runs": entry.runs,
        "missing": entry.missing,
        "over_budget": entry.over_budget,
        SCORE: _estimate(entry.normalised),
        RETURN: _estimate(entry.score),
        "behind": _behind(entry.behind),
        "success": _estimate(entry.success),
        "cost": _estimate(entry.cost),
        "cpu": None if entry.cpu_seconds is None else [entry.cpu_seconds, None, None],
    }


def _estimate(found: Estimate | None) -> list[float | None] | None:
    return None if found is None else list(found)


def _behind(found: Difference | None) -> list[float | None] | None:
    """Return a paired difference with the interval over runs and episodes, of one run over episodes alone."""
    if found is None:
        return None
    low, high = found.over_both or found.over_episodes or (None, None)
    return [found.mean, low, high]


def _profiles(results: Results, table: Leaderboard) -> dict[str, Json] | None:
    if not table.totals:
        return None
    values = [entry.normalised.value for entry in table.entries if entry.normalised is not None]
    taus = np.linspace(min(0.0, *values), max(1.0, *values), TAUS)
    found = profiles(results, taus)
    return {
        "taus": taus.tolist(),
        "agents": [{"agent": agent, **_band(found[agent])} for agent in table.agents if agent in found],
    }


def _band(band: Band) -> dict[str, list[float] | None]:
    low, high = (None if end is None else end.tolist() for end in (band.low, band.high))
    return {"value": band.value.tolist(), "low": low, "high": high}


def _curves(results: Results) -> Iterator[dict[str, Json]]:
    """Yield how agents improved while they learned: over all environments, then in each."""
    worlds = sorted({one.world for one in results.results if one.curve})
    if len(worlds) > 1:
        yield from (_learned("All environments", one) for one in learning(results))
    for world in worlds:
        alone = replace(results, results=tuple(one for one in results.results if one.world == world))
        yield from (_learned(world, one) for one in learning(alone))


def _learned(world: str, found: Learning) -> dict[str, Json]:
    told = {"world": world, "agent": found.agent, "unit": found.unit, "measure": SCORE, "note": MEASURE}
    return {**told, "at": found.at.tolist(), **_band(found.score)}


def _run_curves(curves: Sequence[Curve]) -> Iterator[dict[str, Json]]:
    """Yield the curves of training runs as they are, the seed in the name where an agent has several runs."""
    runs = Counter((curve.world, curve.agent) for curve in curves)
    for curve in curves:
        alone = runs[curve.world, curve.agent] == 1 or not curve.run
        at, value = zip(*curve.points, strict=True)
        yield {
            "world": curve.world,
            "agent": curve.agent if alone else f"{curve.agent}, run {curve.run}",
            "unit": curve.unit,
            "measure": RETURN,
            "note": "",
            "at": list(at),
            "value": list(value),
            "low": None,
            "high": None,
        }
