"""What is in a folder of ``dialog-gym bench``: mean returns by agent and world, and what is not there."""

from __future__ import annotations

from typing import Any

import numpy as np

from dialog_gym.benchmarks.results_folder import Results
from dialog_gym.benchmarks.statistics import markdown_table
from dialog_gym.benchmarks.suites import Suite


def table(results: Results, suite: Suite) -> str:
    """Return mean returns by agent and world as Markdown, with the number of seeds; and what is missing or broken."""
    names = list(dict.fromkeys([*suite.rows, *(result.agent for result in results.results)]))
    there = {result.world for result in results.results} | {world for _, world in results.not_applicable}
    worlds = [world for world in suite.worlds if world in there]
    rows = [(name, *(_shown(results, name, world) for world in worlds)) for name in names]
    lines = [markdown_table(("agent", *worlds), [row for row in rows if any(row[1:])])]
    lines += ["", "n/a, not applicable:", *_by_reason(results)] if results.not_applicable else []
    for what, found in (
        ("mixed", results.mixed),
        ("missing", results.missing),
        ("broken", results.broken),
    ):
        if found:
            lines += ["", f"{what} ({len(found)}): {'; '.join(found)}"]
    return "\n".join(lines)


def _shown(results: Results, agent: str, world: str) -> str:
    means = [
        float(result.returns.mean()) for result in results.results if (result.agent, result.world) == (agent, world)
    ]
    if means:
        return f"{np.mean(means):.3f} ({len(means)})"
    return "n/a" if (agent, world) in results.not_applicable else ""


def _by_reason(results: Results) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for (agent, world), why in results.not_applicable.items():
        found.setdefault((world, why), []).append(agent)
    return [f"- {world}: {', '.join(agents)}: {why}" for (world, why), agents in found.items()]


def table_json(results: Results) -> dict[str, Any]:
    """Return what ``table`` tells as JSON values."""
    rows = [
        {
            "agent": one.agent,
            "world": one.world,
            "seed": one.seed,
            "return": float(one.returns.mean()),
            "cost": float(one.costs.mean()),
            "success": one.success,
            "cpu_seconds": one.cpu_seconds,
        }
        for one in results.results
    ]
    reasons = [
        {"agent": agent, "world": world, "reason": why} for (agent, world), why in results.not_applicable.items()
    ]
    told = {name: list(getattr(results, name)) for name in ("mixed", "missing", "broken")}
    return {"results": rows, "not_applicable": reasons, **told}
