"""A benchmark that is killed at random moments and started again: is anything lost, or done twice?

``dialog-gym bench`` runs a small suite to its end once. Then the same command is started in another folder, and
SIGKILL ends it with all its processes at a random moment, again and again; at last it may finish. Kills fall all over
the run, however long a start takes: with k of them to come and n cells that are not there, one waits for 0 to
2 n / (k + 1) new cells (but one is left), and then a random time, up to what a cell took in the mean without kills.

Counted are: how many cells were there after each kill (``there``), cells that were under way at a kill
(``taken_up``), cells whose file changed after it was there, cells that one start began twice, cells that went away or
are missing at the end (``lost``), and files of cells that differ from those of the uninterrupted run in anything but
times, versions and tokens (which nobody counts of training that was stopped).

``python -m dialog_gym.benchmarks.bench_kills --out runs/bench-kills``
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.results_folder import CELLS

UNALIKE = ("cpu_seconds", "wall_seconds", "ended", "versions", "hardware", "tokens")
"""What two runs of a cell may differ in."""

log = logging.getLogger("dialog_gym")


@dataclass(frozen=True)
class Settings:
    """What is killed.

    Attributes:
        out: Folder of both runs.
        suite: The suite.
        agents: Its rows.
        envs: Its worlds.
        jobs: Processes that share the work.
        kills: How many.
        seed: Of the moments.
        json: Print JSON.
    """

    out: Path = Path("runs/bench-kills")
    suite: str = "smoke"
    agents: tuple[str, ...] = ("lm", "oracle", "tf", "ilql", "dpo", "td3")
    envs: tuple[str, ...] = ("Advice",)
    jobs: int = 2
    kills: int = 10
    seed: int = 1
    json: bool = False

    def words(self, folder: Path) -> list[str]:
        """Return the command that computes into ``folder``."""
        names = ["--agents", *self.agents, "--envs", *self.envs, "--jobs", str(self.jobs), "--out", str(folder)]
        return [sys.executable, "-m", "dialog_gym", "bench", self.suite, *names, "--mixed"]


def measure(settings: Settings) -> dict[str, Any]:
    """Return what was found, as counts."""
    whole, killed = settings.out / "whole", settings.out / "killed"
    if whole.exists() or killed.exists():
        raise ValueError(f"{settings.out} holds what was measured before; choose another folder with --out")
    if _start(settings, whole, settings.out / "whole.log").wait():
        raise RuntimeError(f"the uninterrupted start failed; see {settings.out / 'whole.log'}")
    wanted = _cells(whole)
    pause = sum(json.loads(text)["wall_seconds"] for text in wanted.values()) / len(wanted)
    chance = random.Random(settings.seed)
    found: Counter[str] = Counter()
    there: dict[str, bytes] = {}
    counts = []
    for kill in range(settings.kills):
        new = new_cells(chance, len(wanted) - len(there), settings.kills - kill)
        moment = chance.uniform(0.0, pause)
        finished = _kill(settings, killed, kill, len(there) + new, moment, found)
        there = _compare(there, _cells(killed), found)
        log.info("kill %d, after %d new cells and %.1f s: %d are there", kill + 1, new, moment, len(there))
        counts.append(len(there))
        found["kills"] += not finished
        found["finished_before_the_kill"] += finished
    told = settings.out / "last.log"
    if _start(settings, killed, told).wait():
        raise RuntimeError(f"the last start failed; see {told}")
    _count_twice(told, found)
    there = _compare(there, _cells(killed), found)
    found["cells"] = len(wanted)
    found["lost"] += len(wanted.keys() - there.keys())
    found["unalike"] += sum(_plain(wanted[name]) != _plain(there[name]) for name in wanted.keys() & there.keys())
    names = ("kills", "finished_before_the_kill", "cells", "taken_up", "lost", "begun_twice", "changed", "unalike")
    return {**{name: found[name] for name in names}, "there": counts, "seconds_of_a_cell": round(pause, 1)}


def new_cells(chance: random.Random, left: int, kills: int) -> int:
    """Return how many new cells the next of ``kills`` kills waits for, of ``left`` that are not there.

    >>> [new_cells(random.Random(1), 100, 10), new_cells(random.Random(1), 1, 1)]
    [2, 0]
    """
    return min(round(chance.uniform(0.0, 2.0 * left / (kills + 1))), max(left - 1, 0))


def _start(settings: Settings, folder: Path, told: Path) -> subprocess.Popen[bytes]:
    """Start the command with its processes as a group of their own, which write what they tell to ``told``."""
    told.parent.mkdir(parents=True, exist_ok=True)
    with open(told, "wb") as file:
        return subprocess.Popen(settings.words(folder), stdout=subprocess.DEVNULL, stderr=file, start_new_session=True)


def _kill(settings: Settings, folder: Path, number: int, cells: int, seconds: float, found: Counter[str]) -> bool:
    """Kill the command ``seconds`` after it began a cell and ``cells`` are there; return whether it had finished."""
    told = settings.out / f"kill-{number}.log"
    process = _start(settings, folder, told)
    try:
        while process.poll() is None and not (_begun(told) and len(_cells(folder)) >= cells):
            time.sleep(0.05)
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        pass
    finished = process.poll() is not None
    if not finished:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found["taken_up"] += sum(not (folder / CELLS / f"{name}.json").exists() for name in set(_begun(told)))
    _count_twice(told, found)
    return finished


def _begun(told: Path) -> list[str]:
    """Return the names of the cells that were begun."""
    lines = told.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.count("--") == 2 and " " not in line]


def _count_twice(told: Path, found: Counter[str]) -> None:
    found["begun_twice"] += sum(times - 1 for times in Counter(_begun(told)).values())


def _cells(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / CELLS).glob("*.json")}


def _compare(before: dict[str, bytes], now: dict[str, bytes], found: Counter[str]) -> dict[str, bytes]:
    found["lost"] += len(before.keys() - now.keys())
    found["changed"] += sum(before[name] != now[name] for name in before.keys() & now.keys())
    return now


def _plain(text: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(text).items() if name not in UNALIKE}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the counts."""
    table = Table("what", "count", box=None)
    for name, value in report.items():
        shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(name.replace("_", " "), shown)
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command.run("bench_kills", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
