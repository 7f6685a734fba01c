"""A benchmark that is killed at random moments and started again: is anything lost, or done twice?

``dialog-gym bench`` runs a small suite to its end once. Then the same command is started in another folder, and
SIGKILL ends it with all its processes a random time after it began its first cell, again and again; at last it may
finish. Counted are: cells that were under way at a kill (``taken_up``), cells whose file changed after it was there,
cells that one start began twice, cells that went away or are missing at the end (``lost``), and files of cells that
differ from those of the uninterrupted run in anything but times, versions and tokens (which nobody counts of training
that was stopped).

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
        share: Of the time that it takes without kills, within which a kill falls after the first cell was begun.
        seed: Of the moments.
        json: Print JSON.
    """

    out: Path = Path("runs/bench-kills")
    suite: str = "smoke"
    agents: tuple[str, ...] = ("lm", "oracle", "tf", "ilql", "dpo", "td3")
    envs: tuple[str, ...] = ("Advice",)
    jobs: int = 2
    kills: int = 10
    share: float = 0.15
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
    if _start(settings, whole, settings.out / "whole.log").wait():
        raise RuntimeError(f"the uninterrupted start failed; see {settings.out / 'whole.log'}")
    seconds = time.perf_counter() - began
    chance = random.Random(settings.seed)
    found: Counter[str] = Counter()
    there: dict[str, bytes] = {}
    for kill in range(settings.kills):
        moment = chance.uniform(0.0, seconds * settings.share)
        finished = _kill(settings, killed, kill, moment, found)
        there = _compare(there, _cells(killed), found)
        log.info("kill %d, %.1f s after the first cell was begun: %d cells are there", kill + 1, moment, len(there))
        found["kills"] += not finished
        found["finished_before_the_kill"] += finished
    told = settings.out / "last.log"
    if _start(settings, killed, told).wait():
        raise RuntimeError(f"the last start failed; see {told}")
    _count_twice(told, found)
    there = _compare(there, _cells(killed), found)
    wanted = _cells(whole)
    found["cells"] = len(wanted)
    found["lost"] += len(wanted.keys() - there.keys())
    found["unalike"] += sum(_plain(wanted[name]) != _plain(there[name]) for name in wanted.keys() & there.keys())
    names = ("kills", "finished_before_the_kill", "cells", "taken_up", "lost", "begun_twice", "changed", "unalike")
    return {**{name: found[name] for name in names}, "seconds_without_kills": round(seconds, 1)}


def _start(settings: Settings, folder: Path, told: Path) -> subprocess.Popen[bytes]:
    """Start the command with its processes as a group of their own, which write what they tell to ``told``."""
    told.parent.mkdir(parents=True, exist_ok=True)
    with open(told, "wb") as file:
        return subprocess.Popen(settings.words(folder), stdout=subprocess.DEVNULL, stderr=file, start_new_session=True)


def _kill(settings: Settings, folder: Path, number: int, seconds: float, found: Counter[str]) -> bool:
    """Kill the command ``seconds`` after it began its first cell; return whether it had finished before."""
    told = settings.out / f"kill-{number}.log"
    process = _start(settings, folder, told)
    try:
        while process.poll() is None and not _begun(told):
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
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command.run("bench_kills", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
