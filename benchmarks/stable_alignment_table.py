"""The tables of ``dialog_gym.benchmarks.stable_alignment``, read from the files of its cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dialog_gym.benchmarks.statistics import markdown_table, runs_or_episodes, with_interval

METHODS = ("tf_all", "tf_top", "dpo", "stable_alignment", "legacy")
FIXED = ("lm", "oracle")  # one seed: they do not learn
CONTEXTS = ("plain", "misaligned")
OURS = "stable_alignment"
MEASURES = ("aligned", "returns", "costs")

Made = Mapping[tuple[str, str], Mapping[int, Any]]
"""Results by policy and context, by seed."""


def table_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all cells of ``folder`` as rows, and the differences that matter, paired by seed."""
    made = _read(folder)
    rows = [_row(policy, context, results) for (policy, context), results in made.items()]
    return {"rows": rows, "differences": _differences(made)}


def markdown(table: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return both tables as Markdown."""
    names = ("policy", "context", "seeds", "alignment", "return", "cost", "CPU s")
    rows = [
        (
            *(row["policy"], row["context"], f"{row['seeds']}"),
            *(with_interval(3, *row[name]) for name in MEASURES),
            f"{row['cpu_seconds']:.0f}",
        )
        for row in table["rows"]
    ]
    lines = [
        markdown_table(names, rows, "ll"),
        "",
        "| difference in alignment | context | seeds | |",
        "|---|---|---:|---:|",
    ]
    for one in table["differences"]:
        lines.append(f"| {one['what']} | {one['context']} | {one['seeds']} | {with_interval(3, *one['aligned'])} |")
    return "\n".join(lines)


def _read(folder: Path) -> dict[tuple[str, str], dict[int, Any]]:
    found: dict[tuple[str, str], dict[int, Any]] = {}
    for path in folder.glob("*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        cell = data["config"]["cell"]
        result = {**data["result"], "cpu_seconds": data["cpu_seconds"]}
        found.setdefault((cell["policy"], cell["context"]), {})[cell["seed"]] = result
    order = ("lm", *METHODS, "oracle")
    return {key: found[key] for key in sorted(found, key=lambda key: (CONTEXTS.index(key[1]), order.index(key[0])))}


def _row(policy: str, context: str, results: Mapping[int, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"policy": policy, "context": context, "seeds": len(results)}
    for name in MEASURES:
        told[name] = _mean([np.array(result[name]) for result in results.values()])
    told["cpu_seconds"] = float(np.mean([result["cpu_seconds"] for result in results.values()]))
    return told


def _differences(made: Made) -> list[dict[str, Any]]:
    """Return Stable Alignment less each other method, and each policy led astray less itself."""
    pairs = [
        (f"{OURS} - {other}", context, (OURS, context), (other, context))
        for context in CONTEXTS
        for other in METHODS
        if other != OURS
    ]
    pairs += [("misaligned - plain", policy, (policy, "misaligned"), (policy, "plain")) for policy in ("lm", *METHODS)]
    found = []
    for what, context, one, other in pairs:
        seeds = sorted({*made.get(one, ())} & {*made.get(other, ())})
        if seeds:
            gains = [np.subtract(made[one][seed]["aligned"], made[other][seed]["aligned"]) for seed in seeds]
            found.append({"what": what, "context": context, "seeds": len(seeds), "aligned": _mean(gains)})
    return found


def _mean(values: Sequence[npt.NDArray[np.float64]]) -> list[float]:
    """Return mean and interval of values by seed and episode."""
    means = [float(one.mean()) for one in values]
    return [float(np.mean(means)), *runs_or_episodes(values)]
