"""How fast data sets are made, written and read, and whether a killed writer loses anything; one process, one thread.

``collect`` and ``branch`` play Bargain-v0 with scripted policies and write what comes of it. ``write`` appends
finished episodes (journal, shards, content hash); ``read`` iterates over them as values. Medians count, by CPU and by
wall time: to write is also to wait for the disk. The kills are those of ``benchmarks/data_kills.py``.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.data_kills import kill_writers
from dialog_gym.data import Episodes, Rankings
from dialog_gym.data.collect import collect
from dialog_gym.data.exchange import lines, preferences, read_table, write_rows
from dialog_gym.data.minari import to_minari
from dialog_gym.data.rank import Options, collect_rankings
from dialog_gym.runs import versions

ENV = "dialog_gym/Bargain-v0"


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        episodes: Dialogues that are collected, written, exported and read.
        states: Contexts that are branched.
        k: Candidates of each.
        plays: Play-outs of each candidate.
        minari: Episodes that are exported to Minari, which makes a folder of each.
        repeats: How often.
        kills: Writers that are killed.
        kill_shard_rows: Rows per shard in that trial; few, so that many kills fall into sealing.
        seed: Of the moments of the kills.
        folder: Where to write; default: the system's folder for temporary files.
        json: Print JSON.
    """

    episodes: int = 4000
    states: int = 200
    k: int = 8
    plays: int = 16
    minari: int = 200
    repeats: int = 3
    kills: int = 20
    kill_shard_rows: int = 2
    seed: int = 0
    folder: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        least = min(self.episodes, self.states, self.plays, self.minari, self.repeats, self.kill_shard_rows)
        if least < 1 or self.k < 2 or self.kills < 0:
            raise ValueError(f"k must be at least 2, kills at least 0 and the rest at least 1, got {self}")


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values."""
    seconds: dict[str, list[tuple[float, float]]] = {}
    sizes: dict[str, int] = {}
    with TemporaryDirectory(dir=settings.folder) as folder:
        for repeat in range(settings.repeats):
            _once(settings, Path(folder) / str(repeat), seconds, sizes)
        kills = kill_writers(Path(folder) / "kills", settings.kills, settings.kill_shard_rows, settings.seed)
    counts = {
        "collect": settings.episodes,
        "branch": settings.states,
        "play-outs of branch": settings.states * settings.k * settings.plays,
        "minari": settings.minari,
    }
    seconds["play-outs of branch"] = seconds["branch"]
    rates = {name: _rate(counts.get(name, settings.episodes), found) for name, found in seconds.items()}
    return {
        "settings": asdict(settings),
        "versions": versions(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "rates": rates,
        "bytes_per_row": sizes,
        "kills": kills,
    }


def _rate(rows: int, seconds: Sequence[tuple[float, float]]) -> dict[str, float]:
    cpu, wall = (statistics.median(one) for one in zip(*seconds, strict=True))
    return {"rows": rows, "cpu": cpu, "wall": wall, "per_cpu_second": rows / cpu, "per_second": rows / wall}


def _once(
    settings: Settings, folder: Path, seconds: dict[str, list[tuple[float, float]]], sizes: dict[str, int]
) -> None:
    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = time.process_time(), time.perf_counter()
        found = work()
        seconds.setdefault(name, []).append((time.process_time() - begun[0], time.perf_counter() - begun[1]))
        return found

    data = timed("collect", lambda: collect(ENV, "oracle", settings.episodes, folder / "collected", rows=64))
    options = Options(
        ENV, reach="random", candidates=("oracle", "random"), k=settings.k, by="oracle", plays=settings.plays
    )
    ranked: Rankings = timed("branch", lambda: collect_rankings(options, settings.states, folder / "ranked", rows=64))
    rows = list(timed("read", lambda: list(data)))
    timed("write", lambda: _write(folder / "written", rows))
    timed("content hash", lambda: Episodes.load(folder / "written").content_hash)
    timed("verify", Episodes.load(folder / "written").verify)
    timed("export to JSON lines", lambda: write_rows(folder / "all.jsonl", lines(data)))
    timed("import from JSON lines", lambda: read_table(folder / "all.jsonl", folder / "imported"))
    timed("to a Hugging Face data set", data.to_dataset)
    write_rows(folder / "pairs.jsonl", preferences(ranked, pairs="all"))
    some = _write(folder / "some", rows[: settings.minari])
    timed("minari", lambda: to_minari(some, folder / "minari"))
    sizes["Parquet"] = sum(file.stat().st_size for file in (folder / "written").iterdir()) // len(rows)
    sizes["JSON lines"] = (folder / "all.jsonl").stat().st_size // len(rows)


def _write(path: Path, rows: Sequence[Any]) -> Episodes:
    with Episodes.writing(path) as writer:
        writer.extend(rows)
    return Episodes.load(path)


_RATES = ("per_cpu_second", "per_second")


def show(report: dict[str, Any], console: Console) -> None:
    """Print ``report`` as tables."""
    table = Table("", "rows", "CPU s", "wall s", "rows/CPU s", "rows/s", box=box.SIMPLE)
    for name, rate in report["rates"].items():
        times = (f"{rate[kind]:.2f}" for kind in ("cpu", "wall"))
        table.add_row(name, f"{rate['rows']:,}", *times, *(f"{rate[kind]:,.0f}" for kind in _RATES))
    console.print(table)
    console.print(", ".join(f"{name}: {size:,} bytes per episode" for name, size in report["bytes_per_row"].items()))
    kills = report["kills"]
    console.print(
        f"{kills['kills']} writers killed, {kills['while_sealing']} of them while a shard was sealed: "
        f"{kills['readable']} times readable, {kills['acknowledged_rows_lost']} acknowledged rows lost, "
        f"{kills['duplicates']} rows twice, {kills['other_faults']} other faults; {kills['rows']:,} rows at the end"
    )
    console.print(f"load average at the end: {report['load_average']}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("data", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
