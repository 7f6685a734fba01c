"""What people earned in Deal or No Deal and CaSiNo, recomputed from what they chose; how well we follow their talk.

- *rewards*: every agreed line of Deal or No Deal is scored from ``<output>`` and the values of both sides alone, and
  compared with the other line of its dialogue; every dialogue of CaSiNo is scored from the accepted deal, and compared
  with the published ``points_scored``.
- *people*: how often they agreed, what they had, and how often the deal was Pareto-optimal.
- *parser*: how often the last deal that ``division_language`` finds in the talk is the deal that was chosen. Its rules
  were written by looking at training dialogues; no validation dialogue was looked at.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.data.corpora import Source, read_corpus
from dialog_gym.data.corpora.casino import WALK_AWAY_POINTS
from dialog_gym.data.corpora.deal_or_no_deal import Side, parse
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue
from dialog_gym.envs.casino import CaSiNo
from dialog_gym.envs.casino_satisfaction import Satisfaction, told
from dialog_gym.envs.deal_or_no_deal import DealOrNoDeal
from dialog_gym.envs.division import Pot, largest_sum, rest, result
from dialog_gym.envs.division_language import Floor, followed
from dialog_gym.envs.division_task import Division, outcome, pot_of
from dialog_gym.rollout import wilson

DEALS = {"train": "deal_or_no_deal/train.txt.gz", "validation": "deal_or_no_deal/val.txt.gz"}
CAMPS = {"train": "casino/casino_train.json.gz", "validation": "casino/casino_valid.json.gz"}


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        data: Folder with ``deal_or_no_deal`` and ``casino``.
        json: Print JSON.
    """

    data: Path = Path("../shared/data")
    json: bool = False


def measure(settings: Settings) -> dict[str, Any]:
    """Return the tables by corpus and split."""
    start = time.perf_counter()
    report: dict[str, Any] = {}
    for split, name in DEALS.items():
        path = settings.data / name
        episodes = list(read_corpus("deal_or_no_deal", path))
        report[f"Deal or No Deal, {split}"] = {
            **lines_checked([parse(text) for _, text in Source(path).lines()]),
            **people([one.dialogue for one in episodes], 0),
            **parser(DealOrNoDeal(), [one.dialogue for one in episodes]),
        }
    for split, name in CAMPS.items():
        episodes = list(read_corpus("casino", settings.data / name, side="both"))
        first = [one.dialogue for one in episodes if one.dialogue.roles[0] == "first"]
        report[f"CaSiNo, {split}"] = {
            **points_checked(episodes),
            **people(first, WALK_AWAY_POINTS),
            **parser(CaSiNo(), first),
        }
    report["satisfaction"] = satisfaction(*(settings.data / name for name in CAMPS.values()))
    report["seconds"] = time.perf_counter() - start
    return report


# --- rewards -----------------------------------------------------------------------------------


def lines_checked(lines: Sequence[Side]) -> dict[str, Any]:
    """Score every line of Deal or No Deal by itself, and compare agreed ones with the other line of their dialogue.

    Returns:
        How many lines there are, how many agreed, for how many of these there is a line of the other side with the
        same talk and the same points of both, for how many there is none; mean points per agreed line and per line.
    """
    agreed = [line for line in lines if line.share is not None]
    known = Counter(_points(line) for line in agreed)
    paired = sum(min(count, known[swapped]) for (swapped, count) in ((_swapped(k), n) for k, n in known.items()))
    points = [own for (*_, own, _) in map(_points, agreed)]
    return {
        "lines": len(lines),
        "agreed lines": len(agreed),
        "agreed lines with an equal mirror": paired,
        "agreed lines that differ": len(agreed) - paired,
        "points per agreed line": float(np.mean(points)),
        "points per line": sum(points) / len(lines),
    }


Scored = tuple[tuple[tuple[bool, str], ...], tuple[int, ...], int, int]


def _points(line: Side) -> Scored:
    """Return the talk, the counts, and the points of this side and of the other, by its share and both values."""
    share = line.share or ()
    end = result(Pot(line.counts, line.own, line.other), share, rest(line.counts, share))
    return line.turns, line.counts, end.agent, end.partner


def _swapped(scored: Scored) -> Scored:
    turns, counts, own, other = scored
    return tuple((not mine, text) for mine, text in turns), counts, other, own


def points_checked(episodes: Sequence[Recorded]) -> dict[str, Any]:
    """Compare the points of every participant of CaSiNo with the published ``points_scored``."""
    same = 0
    for episode in episodes:
        published = episode.dialogue.scenario.hidden["outcomes"][episode.dialogue.roles[0]]["points_scored"]
        same += outcome(episode.dialogue, WALK_AWAY_POINTS).agent == published
    return {"participants": len(episodes), "points equal": same}


# --- people ------------------------------------------------------------------------------------


def people(dialogues: Sequence[Dialogue], fallback: int) -> dict[str, Any]:
    """Return how people ended: shares with 95% intervals, points, and the share of the largest sum they had."""
    ends = [outcome(dialogue, fallback) for dialogue in dialogues]
    agreed = [(end, dialogue) for end, dialogue in zip(ends, dialogues, strict=True) if end.agreed]
    return {
        "dialogues": len(dialogues),
        "ends": dict(Counter(dialogue.stop_reason for dialogue in dialogues)),
        "agreed": _share(len(agreed), len(ends)),
        "pareto of agreed": _share(sum(end.pareto for end, _ in agreed), len(agreed)),
        "points of a side": float(np.mean([end.joint / 2 for end in ends])),
        "points of a side, agreed": float(np.mean([end.joint / 2 for end, _ in agreed])),
        "of the largest sum, agreed": float(np.mean([end.joint / largest_sum(pot_of(one)) for end, one in agreed])),
    }


def _share(count: int, of: int) -> list[float]:
    """Return a share and its 95% interval."""
    return [count / of, *wilson(count, of)]


# --- the parser --------------------------------------------------------------------------------


def parser(task: Division, dialogues: Sequence[Dialogue]) -> dict[str, Any]:
    """Compare the last deal found in the talk before the first selection with the deal of the end.

    Only dialogues with a deal count. ``sides right``: the deal as a whole, which is the selection of both sides.
    ``items right``: the mean share of items of which it is known how many each side takes.
    """
    right, items, agreed = 0, 0.0, Counter[str]()
    deals = [(dialogue, deal) for dialogue in dialogues if (deal := _final(dialogue)) is not None]
    for dialogue, deal in deals:
        floor = _found(task, dialogue)
        right += floor.offer == deal
        if floor.offer is not None:
            items += float(np.mean([a == b for a, b in zip(floor.offer, deal, strict=True)]))
        agreed["heard" if floor.agreed else "not heard"] += 1
        agreed["right and heard"] += floor.agreed and floor.offer == deal
    return {
        "deals": len(deals),
        "sides right": _share(right, len(deals)),
        "items right": items / len(deals),
        "agreement heard": agreed["heard"] / len(deals),
        "right where heard": agreed["right and heard"] / max(agreed["heard"], 1),
    }


def _final(dialogue: Dialogue) -> tuple[int, ...] | None:
    """Return what the agent got, None without a deal."""
    chosen = dialogue.state["selections"][dialogue.roles[0]]
    return None if chosen is None else tuple(chosen)


def _found(task: Division, dialogue: Dialogue) -> Floor:
    counts, floor = pot_of(dialogue).counts, Floor()
    for role, text in _talk(dialogue):
        floor = followed(floor, task.act(dialogue, text), role == dialogue.roles[0], counts)
    return floor


def _talk(dialogue: Dialogue) -> Iterator[tuple[str, str]]:
    """Yield what was said before anybody selected or submitted anything."""
    for role, text in dialogue.turns:
        if text.startswith("<"):
            return
        yield role, text


def satisfaction(train: Path, validation: Path) -> dict[str, Any]:
    """Return how much of the answers the fitted model explains where it was fitted, and on the other split."""
    model, answers = Satisfaction.fit(train), told(validation)
    expected = np.array([model.of(end) for end, _ in answers])
    said = np.array([answer for _, answer in answers])
    return {
        "weights": list(model.weights),
        "people": model.people,
        "explained": model.explained,
        "people, validation": len(answers),
        "correlation, validation": float(np.corrcoef(expected, said)[0, 1]),
        "explained, validation": float(1 - np.mean((said - expected) ** 2) / np.var(said)),
    }


# --- the report --------------------------------------------------------------------------------


def show(report: dict[str, Any], console: Console) -> None:
    """Print a column per corpus and split."""
    columns = [name for name, values in report.items() if isinstance(values, dict) and name != "satisfaction"]
    table = Table("", *columns, box=box.SIMPLE)
    for row in dict.fromkeys(key for name in columns for key in report[name]):
        table.add_row(row, *(_cell(report[name].get(row)) for name in columns))
    console.print(table)
    fitted = ", ".join(f"{key} {_cell(value)}" for key, value in report["satisfaction"].items())
    console.print(f"satisfaction: {fitted}")
    console.print(f"{report['seconds']:.1f} s")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, list):
        return (
            f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]" if len(value) == 3 else str(np.round(value, 3).tolist())
        )
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the report."""
    command.run("negotiation", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
