"""What every reader of a corpus reads, against published counts; how fast, and in how much memory.

A fresh process per row. Memory is the peak while reading above what was there before the first record (imports), so
it tells what reading needs. A corpus with no path here has no files beside the checkout. "10 times" reads the records
of a file ten times over from one file: memory that grows with the file would show.
"""

from __future__ import annotations

import gzip
import json as json_module
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.data.corpora import corpus_names, read_corpus


class Case(NamedTuple):
    """A reading with known counts.

    Attributes:
        name: Format.
        path: Below the folder of the data.
        split: See ``read_corpus``.
        dialogues: How many the corpus has, as its documentation says.
        turns: Likewise; None where it says nothing.
        lines: Whether the count is of the lines that the dialogues were in (Deal or No Deal: one per side).
    """

    name: str
    path: str
    split: str
    dialogues: int
    turns: int | None
    lines: bool = False


CASES = (
    Case("abcd", "abcd/abcd_train_first50.json.gz", "train", 50, 1070),
    Case("multiwoz21", "multiwoz/2.1/val.json.zip", "", 999, 14730),
    Case("multiwoz21", "multiwoz/2.1/restaurants_single_domain.json.gz", "", 442, None),
    Case("multiwoz22", "multiwoz/2.2/original_examples_5.json.gz", "", 5, None),
    Case("multiwoz22", "multiwoz/2.2/dev_flat.csv.gz", "", 1000, 14748),
    Case("sgd", "sgd", "train", 3069, None),
    Case("sgd", "sgd", "dev", 512, None),
    Case("sgd", "sgd", "test", 640, None),
    Case("camrest", "camrest/data.zip", "", 676, 5488),
    Case("taskmaster", "taskmaster/TM-4", "", 3710, 13915),
    Case("taskmaster", "taskmaster/TM-3/original_examples_5.json.gz", "", 5, None),
    Case("taskmaster_rewards", "taskmaster/TM-3", "", 3667, None),
    Case("taskmaster_rewards", "taskmaster/TM-4", "", 3228, None),
    Case("taskmaster_contexts", "taskmaster/TM-3", "", 1517, None),
    Case("craigslist", "craigslist_bargain", "dev", 643, 5841),
    Case("deal_or_no_deal", "deal_or_no_deal/train.txt.gz", "", 10095, None, lines=True),
    Case("deal_or_no_deal", "deal_or_no_deal/val.txt.gz", "", 1087, None, lines=True),
    Case("casino", "casino/casino_train.json.gz", "", 900, None),
    Case("casino", "casino/casino_valid.json.gz", "", 30, None),
    Case("empathetic_dialogues", "empathetic_dialogues", "validation", 2770, None),
    Case("empathetic_dialogues", "empathetic_dialogues", "test", 2547, None),
    Case("hh_rlhf", "hh_rlhf/helpful-base.test.jsonl.gz", "", 2354, None),
    Case("hh_rlhf", "hh_rlhf/harmless-base.test.jsonl.gz", "", 2312, None),
    Case("sotopia", "sotopia", "", 20, None),
)
LONGER = (
    Case("sgd", "sgd/train/dialogues_001.json.gz", "", 0, None),
    Case("hh_rlhf", "hh_rlhf/helpful-base.test.jsonl.gz", "", 0, None),
)
TIMES = 10


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        data: Folder of the corpora.
        repeats: How often; the fastest counts.
        json: Print JSON.
    """

    data: Path = field(default=Path("../shared/data"))
    repeats: int = 3
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.repeats < 1 or not self.data.is_dir():
            raise ValueError(f"repeats must be at least 1 and data a folder, got {self.repeats}, {str(self.data)!r}")


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values."""
    from dialog_gym.runs import versions

    rows = [
        {**case._asdict(), **_best(settings, case.name, settings.data / case.path, case.split)}
        for case in CASES
        if (settings.data / case.path).exists()
    ]
    for row in rows:
        found = (row["found_lines"] if row["lines"] else row["found"], row["found_turns"])
        row["right"] = found[0] == row["dialogues"] and row["turns"] in (None, found[1])
    return {
        "settings": {**asdict(settings), "data": str(settings.data)},
        "versions": versions(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "rows": rows,
        "longer": _longer(settings),
        "not measured": sorted(set(corpus_names()) - {row["name"] for row in rows}),
    }


def _longer(settings: Settings) -> list[dict[str, Any]]:
    """Read a file, and the same with its records ``TIMES`` times."""
    rows = []
    with TemporaryDirectory() as folder:
        for case in LONGER:
            path = settings.data / case.path
            if path.exists():
                long = Path(folder) / path.name
                with gzip.open(path, "rt", encoding="utf-8") as file:
                    text = file.read().strip()
                records = [text[1:-1] if text[0] == "[" else text] * TIMES
                with gzip.open(long, "wt", encoding="utf-8", compresslevel=1) as file:
                    file.write(f"[{','.join(records)}]" if text[0] == "[" else "\n".join(records))
                once, often = (_best(settings, case.name, one, "") for one in (path, long))
                rows.append({"name": case.name, "path": case.path, "once": once, "often": often})
    return rows


def _best(settings: Settings, name: str, path: Path, split: str) -> dict[str, Any]:
    """Read in fresh processes; the shortest time counts."""
    runs = []
    for _ in range(settings.repeats):
        words = [sys.executable, "-m", "dialog_gym.benchmarks.readers", "--one", name, str(path), split]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"reading {path} as {name} failed: {done.stderr.strip()[-300:]}")
        runs.append(json_module.loads(done.stdout))
    return min(runs, key=lambda run: float(run["cpu"]))


def read_one(name: str, path: str, split: str) -> dict[str, Any]:
    """Read a corpus in this process and return counts, seconds and megabytes."""
    reading = read_corpus(name, path, split=split)  # imports the reader
    before = _peak()
    begun = time.process_time(), time.perf_counter()
    found = turns = lines = 0
    for row in reading:
        found += 1
        turns += len(row.dialogue.turns)
        lines += len(row.dialogue.scenario.hidden.get("lines", ()))
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    memory = {"memory": _peak() - before, "memory_before": before}
    return {"found": found, "found_turns": turns, "found_lines": lines, "cpu": cpu, "wall": wall, **memory}


def _peak() -> float:
    """Return the most memory that this process ever held, in megabytes.

    Linux's ``getrusage`` begins with what the parent held, so ``/proc`` is asked where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1e3
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def show(report: dict[str, Any], console: Console) -> None:
    """Print ``report`` as tables."""
    table = Table("", "dialogues", "turns", "as published", "a CPU second", "MB", box=box.SIMPLE)
    for row in report["rows"]:
        count = f"{row['found']:,}" + (f" of {row['found_lines']:,} lines" if row["lines"] else "")
        speed = f"{row['found'] / max(row['cpu'], 1e-9):,.0f}"
        where = f"{row['name']}: {row['path']}" + (f" ({row['split']})" if row["split"] else "")
        table.add_row(where, count, f"{row['found_turns']:,}", _published(row), speed, f"{row['memory']:.1f}")
    console.print(table)
    for row in report["longer"]:
        once, often = row["once"], row["often"]
        console.print(
            f"{row['path']}: {once['found']:,} dialogues in {once['memory']:.1f} MB; "
            f"{TIMES} times: {often['found']:,} in {often['memory']:.1f} MB"
        )
    console.print(f"no files of: {', '.join(report['not measured'])}; load average: {report['load_average']}")


def _published(row: dict[str, Any]) -> str:
    wanted = f"{row['dialogues']:,}" + (f" / {row['turns']:,}" if row["turns"] else "")
    return "yes" if row["right"] else f"no: {wanted}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["--one"]:
        sys.stdout.write(json_module.dumps(read_one(*words[1:4])))
        return
    command.run("readers", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
