"""What the page is told, as plain JSON values: every text with its control characters made visible."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dialog_gym.dialogue import Json
from dialog_gym.picture import full_colour
from dialog_gym.render import visible
from dialog_gym.report.board import board
from dialog_gym.report.sources import Sources, Told
from dialog_gym.rollout import bootstrap, wilson

DIGITS = 6  # of a number in the page


def payload(sources: Sources, title: str) -> dict[str, Json]:
    """Return everything the page shows. Nothing in it depends on time or place, so the same input gives the same."""
    told = {
        "title": title,
        "notes": {
            "broken": sources.broken,
            "mixed": list(sources.mixed),
            "missing": list(sources.results.missing) if sources.results else [],
            "left_out": sources.found - len(sources.dialogues),
        },
        "board": board(sources.results, sources.curves),
        "summary": summary(sources.dialogues),
        "scales": scales(sources.dialogues),
        **_rows(sources.dialogues),
    }
    return {name: clean(value) for name, value in told.items()}


def summary(dialogues: Sequence[Told]) -> list[dict[str, Json]]:
    """Return what each agent earned in the dialogues that are shown: a row for each environment and agent."""
    groups: defaultdict[tuple[str, str], list[Told]] = defaultdict(list)
    for told in dialogues:
        groups[told.world, told.agent].append(told)
    return [
        {
            "world": world,
            "agent": agent,
            "dialogues": len(group),
            "return": _with_ends([told.episode.total for told in group]),
            "success": _share([told.episode.dialogue.success for told in group]),
            "cost": _with_ends([sum(told.episode.costs) for told in group]),
            "turns": _with_ends([told.episode.dialogue.turn for told in group]),
        }
        for (world, agent), group in groups.items()
    ]


def scales(dialogues: Iterable[Told]) -> dict[str, dict[str, float]]:
    """Return what is shown in full colour, by environment and by what is shown: rewards, costs, terms, signals."""
    seen: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for told in dialogues:
        for name, values in per_turn(told).items():
            seen[told.world][name] += values
    return {
        world: {name: full_colour(values) for name, values in found.items() if any(values)}
        for world, found in seen.items()
    }


def per_turn(told: Told) -> dict[str, list[float]]:
    """Return all numbers of the agent's turns by name; the reward alone where it is its only term."""
    episode = told.episode
    rows = {"reward": list(episode.rewards)}
    if any(episode.costs):
        rows["cost"] = list(episode.costs)
    for kind, named, whole in (
        ("term", episode.terms, "reward"),
        ("cost", episode.cost_terms, "cost"),
        ("signal", episode.signals, ""),
    ):
        for name, values in named.items():
            if whole not in rows or not _same(values, rows[whole]):
                rows[f"{kind}: {name}"] = list(values)
    return rows


def clean(value: Any) -> Json:
    r"""Return JSON values as they can be shown: texts without control characters, numbers that are finite and short.

    >>> clean({"a\x00": [float("nan"), 0.123456789, "one\ttwo"]})
    {'a�': [None, 0.123457, 'one two']}
    """
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, Mapping):
        return {_clean_text(str(name)): clean(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(one) for one in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else float(f"{value:.{DIGITS}g}")
    return value


def _clean_text(text: str) -> str:
    """Return ``text`` with what cannot be seen replaced; other spaces than the common one become it."""
    if text.isascii() and text.isprintable():
        return text
    spaced = text.replace("\r\n", "\n").replace("\t", " ")
    return visible("".join(" " if unicodedata.category(char) == "Zs" else char for char in spaced))


def _rows(dialogues: Sequence[Told]) -> dict[str, Json]:
    """Return the dialogues; scenarios that several have in common are there once."""
    numbers: dict[str, int] = {}
    rows = []
    for told in dialogues:
        talk = told.episode.dialogue
        scenario = json.dumps({**talk.scenario.to_json(), "roles": talk.roles}, sort_keys=True, default=str)
        rows.append(
            {
                "world": told.world,
                "agent": told.agent,
                "run": told.run,
                "seed": str(told.episode.seed),  # JavaScript's numbers are too short for some
                "scenario": numbers.setdefault(scenario, len(numbers)),
                "turns": [list(turn) for turn in talk.turns],
                "numbers": per_turn(told),
                "total": told.episode.total,
                "cost": sum(told.episode.costs),
                "state": dict(talk.state),
                "stop": talk.stop_reason,
                "success": talk.success,
                **({} if told.score is None else {"score": told.score}),
            }
        )
    return {"scenarios": [json.loads(scenario) for scenario in numbers], "dialogues": rows}


def _same(values: Sequence[float], others: Sequence[float]) -> bool:
    return len(values) == len(others) and all(
        math.isclose(one, other, abs_tol=1e-9) for one, other in zip(values, others, strict=True)
    )


def _with_ends(values: Sequence[float]) -> list[float | None]:
    """Return a mean and its 95% interval over dialogues; of one dialogue there is no interval."""
    mean = float(np.mean(values))
    low, high = bootstrap(values) if len(values) > 1 else (None, None)
    return [mean, low, high]


def _share(values: Sequence[bool]) -> list[float | None]:
    low, high = wilson(sum(values), len(values))
    return [sum(values) / len(values), low, high]
