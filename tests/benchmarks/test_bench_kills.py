"""Counting what kills do to a run, with a small program in place of ``dialog-gym bench``."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dialog_gym.benchmarks.bench_kills import Settings, measure, new_cells

PROGRAM = """
import json, os, sys, time
from pathlib import Path
folder, fault = Path(sys.argv[1]) / "cells", sys.argv[2]
folder.mkdir(parents=True, exist_ok=True)
killed = "killed" in sys.argv[1]
for number in range(8):
    path, name = folder / f"W--a--{number}.json", f"W--a--{number}"
    if path.exists() and not (killed and fault == "changed"):
        continue
    print(name, file=sys.stderr, flush=True)
    if killed and fault == "twice":
        print(name, file=sys.stderr, flush=True)
    time.sleep(0.02)
    value = os.getpid() if killed and fault == "unalike" else 7
    told = {"result": value, "wall_seconds": 0.02, "versions": os.getpid()}
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps(told))
    beside.replace(path)
    if killed and fault == "lost" and number:
        path.with_name(f"W--a--{number - 1}.json").unlink(missing_ok=True)
"""


@dataclass(frozen=True)
class Small(Settings):
    """Starts the small program."""

    fault: str = ""

    def words(self, folder: Path) -> list[str]:
        """Return the command that computes into ``folder``."""
        return [sys.executable, "-c", PROGRAM, str(folder), self.fault]


def test_a_run_that_keeps_what_is_done_is_found_faultless(tmp_path: Path) -> None:
    found = measure(Small(tmp_path / "out", kills=4))
    assert found["kills"] + found["finished_before_the_kill"] == 4
    assert found["cells"] == 8
    assert [found[name] for name in ("lost", "begun_twice", "changed", "unalike")] == [0, 0, 0, 0]
    assert found["there"] == sorted(found["there"])
    with pytest.raises(ValueError, match="choose another folder"):
        measure(Small(tmp_path / "out", kills=4))


@pytest.mark.parametrize(
    ("fault", "counted"), [("changed", "changed"), ("twice", "begun_twice"), ("unalike", "unalike"), ("lost", "lost")]
)
def test_faults_are_counted(tmp_path: Path, fault: str, counted: str) -> None:
    assert measure(Small(tmp_path / "out", kills=3, fault=fault))[counted] > 0


def test_kills_fall_all_over_the_run() -> None:
    chance, ends = random.Random(1), []
    for _ in range(200):
        there, seen = 0, []
        for kill in range(10):
            there += new_cells(chance, 60 - there, 10 - kill)
            seen.append(there)
        ends.append(seen)
    means = [sum(seen[kill] for seen in ends) / len(ends) for kill in range(10)]
    assert means == pytest.approx([60 * (kill + 1) / 11 for kill in range(10)], abs=4)
    assert max(seen[-1] for seen in ends) < 60, "something is left to be killed"
