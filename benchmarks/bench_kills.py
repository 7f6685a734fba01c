"""A benchmark that is killed at random moments and started again: is anything lost, or done twice?

``dialog-gym bench`` runs a small suite to its end once. Then the same command is started in another folder, and
SIGKILL ends it with all its processes after a random time, again and again, and at last it may finish. Counted are:
cells whose file changed or went away after it was there, cells that one start began twice, cells that are missing at
the end, and files of cells that differ from those of the uninterrupted run in anything but times, versions and tokens
(which are not counted of training that was stopped).

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
    began = time.perf_counter()
    _start(settings, whole).wait()
    seconds = time.perf_counter() - began
    chance = random.Random(settings.seed)
    found: Counter[str] = Counter()
    there: dict[str, bytes] = {}
    for kill in range(settings.kills):
        moment = chance.uniform(0.0, seconds)
        finished = _kill(settings, killed, moment, found)
        there = _compare(there, _cells(killed), found)
        left = any(killed.glob("claims/*/lock"))
        log.info("kill %d after %.1f s: %d cells are there", kill + 1, moment, len(there))
        found["kills"] += not finished
        found["finished_before_the_kill"] += finished
        found["kills_with_nothing_begun"] += not finished and not left
    if _begun(settings, killed, found).wait():
        raise RuntimeError(f"the last start failed; see {killed / 'failed'}")
    there = _compare(there, _cells(killed), found)
    wanted = _cells(whole)
    found["cells"] = len(wanted)
    found["lost"] += len(wanted.keys() - there.keys())
    found["unalike"] += sum(_plain(wanted[name]) != _plain(there[name]) for name in wanted.keys() & there.keys())
    names = ("kills", "finished_before_the_kill", "kills_with_nothing_begun", "cells", "lost", "begun_twice")
    counts = {name: found[name] for name in (*names, "changed", "unalike")}
    return {**counts, "seconds_without_kills": round(seconds, 1)}


def _start(settings: Settings, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        settings.words(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE if folder.name == "killed" else subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _begun(settings: Settings, folder: Path, found: Counter[str]) -> subprocess.Popen[str]:
    """Start, read to the end what the process tells, and count cells that it began twice."""
    process = _start(settings, folder)
    assert process.stderr is not None
    _count_twice(process.stderr.read(), found)
    return process


def _kill(settings: Settings, folder: Path, seconds: float, found: Counter[str]) -> bool:
    """Let the command work for a while and kill it with all its processes; return whether it had finished."""
    process = _start(settings, folder)
    try:
        told = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _count_twice(process.communicate()[1], found)
        return False
    _count_twice(told, found)
    return True


def _count_twice(told: str, found: Counter[str]) -> None:
    begun = Counter(line for line in told.splitlines() if line.count("--") == 2 and " " not in line)
    found["begun_twice"] += sum(times - 1 for times in begun.values())


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
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command.run("bench_kills", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
