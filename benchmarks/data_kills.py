"""Writers of data sets that are killed at random moments, and whether anything is lost.

Writers start one after the other on the same folder, and SIGKILL ends each; with small shards that is often while one
is sealed. After each kill the folder must hold exactly the rows 0, 1, 2, ... up to the last that was acknowledged, or
one more.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dialog_gym.data import Episodes, Recorded
from dialog_gym.data.store import arrow_table
from dialog_gym.dialogue import Dialogue, Scenario


def numbered(number: int) -> Recorded:
    """Return an episode that its number determines."""
    talk = Dialogue(Scenario(f"Talk {number}.", {"agent": "Be kind. 请"}), ("agent", "partner"), number)
    turns = 1 + number % 7
    for turn in range(turns):
        talk = talk.said("agent", f"{turn}: " + "so " * (number * 31 % 200)).said("partner", "Ja.\nUnd? 🙂")
    return Recorded(number, talk, tuple(number / (1 + turn) for turn in range(turns)), (0.0,) * turns, policy="count")


def write_forever(path: str, shard_rows: int) -> None:
    """Append the episodes that follow, and print the number of rows after each; until the process is killed."""
    arrow_table(Episodes, [Episodes.encode(numbered(0))])  # the first takes long, and is of no interest
    with Episodes.writing(path, shard_rows=shard_rows) as writer:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            writer.add(numbered(writer.rows))
            sys.stdout.write(f"{writer.rows}\n")
            sys.stdout.flush()


def kill_writers(path: Path, kills: int, shard_rows: int, seed: int) -> dict[str, Any]:
    """Kill ``kills`` writers on one folder and return what was found after each, as counts."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    for _ in range(kills):
        acknowledged = _kill_one(path, shard_rows, chance.uniform(0.0, 0.6))
        found["while_sealing"] += _was_sealing(path, shard_rows)
        found["kills"] += 1
        _check(path, acknowledged, found)
    names = ("kills", "readable", "while_sealing", "acknowledged_rows_lost", "duplicates", "other_faults")
    return {**{name: found[name] for name in names}, "rows": len(Episodes.load(path))}


def _kill_one(path: Path, shard_rows: int, seconds: float) -> int:
    """Let a writer work for a while, kill it, and return how many rows it had acknowledged."""
    code = f"from dialog_gym.benchmarks.data_kills import write_forever as w; w({str(path)!r}, {shard_rows})"
    before = len(Episodes.load(path)) if (path / "manifest.json").exists() else 0
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        if first != "ready\n":
            raise RuntimeError(f"the writer did not begin, it said {first!r}; see its error above")
        time.sleep(seconds)
        writer.kill()
        told = writer.stdout.read().splitlines(keepends=True)
    whole = [int(line) for line in told if line.endswith("\n")]
    return max(whole, default=before)


def _was_sealing(path: Path, shard_rows: int) -> bool:
    """Return whether the kill left a journal that is full: its shard was being made, or it was to be removed."""
    return any(journal.read_bytes().count(b"\n") >= shard_rows for journal in path.glob("journal-*"))


def _check(path: Path, acknowledged: int, found: Counter[str]) -> None:
    try:
        data = Episodes.load(path)
        numbers = [row.seed for row in data]
        whole = all(row == numbered(row.seed) for row in data)
        data.verify()
    except ValueError:
        found["other_faults"] += 1
        return
    found["readable"] += 1
    found["acknowledged_rows_lost"] += len(set(range(acknowledged)) - set(numbers))
    found["duplicates"] += len(numbers) - len(set(numbers))
    found["other_faults"] += not (whole and numbers == sorted(numbers) and len(numbers) <= acknowledged + 1)
