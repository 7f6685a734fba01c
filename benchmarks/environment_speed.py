"""Exchanges per second of environments alone: ours, TextArena and ``verifiers``, the same words, one run, one thread.

An exchange is an utterance of the agent and the partner's answer. The dialogue, its partner and the reward are those
of ``benchmarks/exchange.py``; each library plays them as its users do, and builds the observations that it builds: we
the transcript as the agent sees it and the ``info`` of a step, TextArena both players' observation strings,
``verifiers`` the chat and a trace. *bare* is no library: two rules and a transcript, the floor of any environment in
Python. No model takes part. All ways must say and earn the same; otherwise the benchmark fails.

Repeats alternate between the ways after one that warms up; medians count, by CPU time (of the process; none starts
another) and by wall time. What must be made, reset and closed per dialogue is included.

What it cannot show: where a language model answers, its milliseconds hide these microseconds; sandboxes, concurrency
of requests to a model server and isolation, which ``verifiers`` is made for, are not measured, and neither is what its
built-in harness costs, which starts a process per turn. The game on TextArena is as small as one can write it; the
games that it ships parse what is said and are slower, as are our worlds.

``verifiers`` 0.4 wants an older ``openai`` than our constraints, so this runs in an environment of its own:
``pip install dialog-gym[cli] textarena==0.7.4 verifiers==0.4.0``, then ``python -m
dialog_gym.benchmarks.environment_speed``. ``--against textarena`` leaves ``verifiers`` out, for our own environment.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.exchange import BareWay, OurWay, Played, TextArenaWay, Way, expected
from dialog_gym.runs import versions

OURS = "dialog_gym"


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        dialogues: How many are played at once.
        turns: Exchanges in a dialogue.
        repeats: How often each way is timed; medians count.
        seconds: Least CPU time of a timed run; what is faster plays more often in it.
        against: The libraries beside ours.
        json: Print JSON.
    """

    dialogues: tuple[int, ...] = (1, 64)
    turns: int = 8
    repeats: int = 7
    seconds: float = 0.5
    against: tuple[Literal["textarena", "verifiers"], ...] = ("textarena", "verifiers")
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if min(self.turns, self.repeats, *self.dialogues, len(self.dialogues)) < 1 or self.seconds < 0:
            raise ValueError(f"dialogues, turns and repeats must be at least 1 and seconds at least 0, got {self}")


class Rate(NamedTuple):
    """Exchanges per second."""

    cpu: float
    wall: float


def ways(settings: Settings) -> dict[str, Way]:
    """Return the contestants by name.

    Raises:
        ModuleNotFoundError: A library is not installed; the message says what to do.
    """
    found: dict[str, Way] = {OURS: OurWay(settings.turns), "bare": BareWay(settings.turns)}
    if "textarena" in settings.against:
        found["textarena"] = TextArenaWay(settings.turns)
    if "verifiers" in settings.against:
        try:
            from dialog_gym.benchmarks.exchange_verifiers import VerifiersWay
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"verifiers is not installed here ({error.name} is missing), and does not install beside our "
                "constraints: make an environment of its own, as the top of benchmarks/environment_speed.py tells, or "
                "leave it out with --against textarena",
                name=error.name,
            ) from error
        found["verifiers"] = VerifiersWay(settings.turns)
    return found


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values.

    Raises:
        RuntimeError: A way said or earned something else.
    """
    rows = []
    with ExitStack() as stack:
        contestants = ways(settings)
        for way in contestants.values():
            stack.callback(way.close)
        for count in settings.dialogues:
            rows += _rows(contestants, settings, count)
    return {
        "settings": asdict(settings),
        "versions": {**versions(), **_installed("textarena", "verifiers")},
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "rows": rows,
    }


def _installed(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _rows(contestants: dict[str, Way], settings: Settings, count: int) -> list[dict[str, Any]]:
    for name, way in contestants.items():  # warms up
        _check(name, way.play(count), settings.turns)
    times = {name: _times(way, count, settings.seconds) for name, way in contestants.items()}
    rates: dict[str, list[Rate]] = {name: [] for name in contestants}
    for _ in range(settings.repeats):
        for name, way in contestants.items():
            rates[name].append(_timed(way, count, times[name], settings.turns))
    medians = {
        name: Rate(*(statistics.median(kind) for kind in zip(*found, strict=True))) for name, found in rates.items()
    }
    return [
        {
            "dialogues": count,
            "way": name,
            "plays": times[name],
            "cpu": rate.cpu,
            "wall": rate.wall,
            "spread": [min(one.cpu for one in rates[name]), max(one.cpu for one in rates[name])],
            "ours_times_cpu": medians[OURS].cpu / rate.cpu,
            "ours_times_wall": medians[OURS].wall / rate.wall,
        }
        for name, rate in medians.items()
    ]


def _times(way: Way, count: int, seconds: float) -> int:
    """Return how often ``way`` plays in a run of about ``seconds``."""
    times = 1
    while True:
        begun = time.process_time()
        for _ in range(times):
            way.play(count)
        took = time.process_time() - begun
        if took >= seconds / 4:
            return max(1, round(times * seconds / took)) if took else times
        times *= 4


def _timed(way: Way, count: int, times: int, turns: int) -> Rate:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(times):
        way.play(count)
    exchanges = times * count * turns
    return Rate(exchanges / (time.process_time() - cpu), exchanges / (time.perf_counter() - wall))


def _check(name: str, found: Sequence[Played], turns: int) -> None:
    for row, played in enumerate(found):
        if played != (wanted := expected(row, turns)):
            raise RuntimeError(f"{name} played dialogue {row} otherwise: {played!r:.300} instead of {wanted!r:.300}")


def show(report: dict[str, Any], console: Console) -> None:
    """Print ``report`` as a table."""
    table = Table("dialogues", "", "exchanges/s", "us each", "we are", "by wall time", "range", box=box.SIMPLE)
    for row in report["rows"]:
        low, high = row["spread"]
        table.add_row(
            str(row["dialogues"]),
            f"{row['way']} {report['versions'].get(row['way'].replace('_', '-'), '')}",
            f"{row['cpu']:,.0f}",
            f"{1e6 / row['cpu']:,.1f}",
            f"{row['ours_times_cpu']:,.3g} times as fast",
            f"{row['ours_times_wall']:,.3g} times",
            f"{low:,.0f} to {high:,.0f}",
        )
    console.print(table)
    console.print("All ways said and earned the same. An exchange: an utterance and its answer. Medians, by CPU time.")
    console.print("Aim: at least 10 times either at 64 dialogues.")
    console.print(f"load average at the end: {report['load_average']}", highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("environment_speed", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
