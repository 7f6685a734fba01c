"""The command ``dialog-gym bench``: agents in worlds, by a suite, from nothing to a table."""

from __future__ import annotations

import json as json_module
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

PROG = "dialog-gym bench"
SuiteName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SUITE")]
Names = tuple[str, ...]

log = logging.getLogger("dialog_gym")


def bench(
    suite: SuiteName,
    agents: Names = (),
    envs: Names = (),
    seeds: int = 0,
    out: Path | None = None,
    jobs: int = 1,
    scale: float = 1.0,
    table: bool = False,
    mixed: bool = False,
    json: bool = False,
    progress: bool = False,
    since: Annotated[float, tyro.conf.Suppress] = 0.0,
) -> None:
    """Benchmark agents on worlds: every cell (agent, world, seed) of a suite, and their table.

    The suites are smoke (minutes), core (every agent in every embedded world; about 8 CPU hours) and papers (per
    published system its comparison). Every cell is a JSON file with all that makes it again. The same command started
    again computes what is missing, and takes up runs that were killed; a cell that fails is told (its traceback lies
    in OUT/failed), and the rest goes on. Several commands may work in one folder at a time.

    Args:
        suite: smoke, core or papers.
        agents: Rows of the table; by default all.
        envs: Worlds, for instance Bargain or Bargain-v0; by default all.
        seeds: Seeds 1, 2, ...; by default as many as the suite has.
        out: Folder of everything, by default runs/bench/SUITE.
        jobs: Processes that share the work.
        scale: Share of every budget, for a try; a folder belongs to one.
        table: Only show what is there.
        mixed: Show results of different versions in one table, and tell how they differ.
        json: Print JSON.
        progress: Show progress bars.
        since: When the command was started that this process is a part of.
    """
    from dialog_gym.agents.loop import torch_threads
    from dialog_gym.benchmarks import bench as runner
    from dialog_gym.benchmarks.bench_policies import Place
    from dialog_gym.benchmarks.results_folder import read_results
    from dialog_gym.benchmarks.suites import suite_of

    if jobs < 1:
        raise ValueError(f"jobs must be at least 1 process, got {jobs}")
    wanted = suite_of(suite).scaled(scale)
    what = runner.plan(wanted, agents, envs, seeds)
    folder = out or Path("runs/bench") / suite
    words = [suite, *([] if scale == 1 else ["--scale", f"{scale:g}"])]
    failed: list[str] = []
    if not table:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        runner.open_folder(wanted, folder, what)
        began = since or time.time()
        if jobs > 1:
            _share(jobs, [*words, *_filters(agents, envs, seeds), "--out", str(folder)], began)
        with torch_threads(1):  # what a process left that died is computed here
            place = Place(wanted, folder, progress=progress)
            command = f"{PROG} {shlex.join(words)}"
            failed = runner.run_cells(what.cells, place, since=began, command=command)
    if not since:
        results = read_results(folder, mixed=mixed)
        told = json_module.dumps(runner.table_json(results), indent=2) if json else runner.table(results, wanted)
        sys.stdout.write(told + "\n")
    if failed:
        log.error("failed: %s (see %s); start the same command again to retry", ", ".join(failed), folder / "failed")
        sys.exit(1)


def _filters(agents: Names, envs: Names, seeds: int) -> list[str]:
    found = [*(["--agents", *agents] if agents else []), *(["--envs", *envs] if envs else [])]
    return [*found, *(["--seeds", str(seeds)] if seeds else [])]


def _share(jobs: int, words: Sequence[str], since: float) -> None:
    """Let ``jobs`` processes compute the cells, and wait for them; stop them if this one is stopped."""
    command = [sys.executable, "-m", "dialog_gym", "bench", *words, "--since", f"{since:.6f}"]
    workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.wait()
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()


def run(words: Sequence[str]) -> Any:
    """Run the benchmark that ``words`` ask for.

    Raises:
        KeyError: There is no such suite, agent or environment.
        ValueError: The folder belongs to other settings, or results are of different versions.
        SystemExit: A cell failed; the others are in the table.
    """
    return tyro.cli(bench, args=list(words), prog=PROG, config=(tyro.conf.FlagCreatePairsOff,))
