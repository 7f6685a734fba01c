"""The command ``dialog-gym bench``: agents in worlds, by a suite, from nothing to a table."""

from __future__ import annotations

import json as json_module
import logging
import multiprocessing
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

if TYPE_CHECKING:
    from dialog_gym.benchmarks.suites import Suite
    from dialog_gym.distributed import Cluster

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
    ray: str | None = None,
    workers: int = 0,
    gpus: float = 0.0,
    scale: float = 1.0,
    table: bool = False,
    mixed: bool = False,
    json: bool = False,
    progress: bool = False,
) -> None:
    """Benchmark agents on worlds: every cell (agent, world, seed) of a suite, and their table.

    The suites are smoke (minutes), core (every agent in every embedded world: 6 CPU hours) and papers (per published
    system its comparison). Every cell is a JSON file with all that makes it again.
    The same command started again computes what is missing, and takes up runs that were killed; a cell that fails is
    told (its traceback lies in OUT/failed), and the rest goes on. Several commands may work in one folder at a time.

    Args:
        suite: smoke, core or papers.
        agents: Rows of the table; by default all. lm and oracle, the 0 and 1 of the leaderboard, come along: they
            take seconds.
        envs: Worlds, for instance Bargain or Bargain-v0; by default all.
        seeds: Seeds 1, 2, ...; by default as many as the suite has.
        out: Folder of everything, by default runs/bench/SUITE.
        jobs: Processes that share the work.
        ray: Workers share it: local (started on this machine, on loopback), or the address of a Ray cluster, whose
            machines must share the folder.
        workers: How many, with --ray; 0: one for each CPU of the cluster.
        gpus: GPUs of each worker, for instance 0.5.
        scale: Share of every budget, for a try; a folder belongs to one.
        table: Only show what is there.
        mixed: Compute beside results of other versions, and show them in one table that tells how they differ.
        json: Print JSON.
        progress: Show progress bars.
    """
    from dialog_gym.benchmarks import bench as runner
    from dialog_gym.benchmarks import bench_table
    from dialog_gym.benchmarks.results_folder import read_results
    from dialog_gym.benchmarks.suites import suite_of
    from dialog_gym.distributed import Cluster

    if jobs < 1:
        raise ValueError(f"jobs must be at least 1 process, got {jobs}")
    cluster = Cluster.of(ray, workers, gpus)
    if cluster is not None and jobs > 1:
        raise ValueError("--jobs are processes without Ray; with --ray give --workers")
    wanted = suite_of(suite).scaled(scale)
    what = runner.plan(wanted, agents, envs, seeds)
    folder = out or Path("runs/bench") / suite
    failed: list[str] = []
    if not table:
        runner.open_folder(wanted, folder, what, mixed=mixed)
        words = [suite, *([] if scale == 1 else ["--scale", f"{scale:g}"])]
        again = shlex.join([*PROG.split(), *words])
        work = Work(wanted, tuple(agents), tuple(envs), seeds, folder, again, time.time(), progress)
        if jobs > 1:
            _share(jobs, work)
        failed = work.run(cluster)  # with several processes: what one left that died
    results = read_results(folder, mixed=mixed)
    told = json_module.dumps(bench_table.table_json(results), indent=2) if json else bench_table.table(results, wanted)
    sys.stdout.write(told + "\n")
    if failed:
        log.error("failed: %s (see %s); start the same command again to retry", ", ".join(failed), folder / "failed")
        sys.exit(1)


class Work(NamedTuple):
    """What one process does, or a cluster: all cells that no other has taken.

    Attributes:
        suite: What is computed.
        agents: Rows; all if empty.
        envs: Worlds; all if empty.
        seeds: How many; 0: as the suite has them.
        folder: Of everything.
        command: That computes a cell again, without its filters.
        began: Seconds since 1970 when the command was started; a cell that has failed since is not tried again.
        progress: Show progress bars.
    """

    suite: Suite
    agents: tuple[str, ...]
    envs: tuple[str, ...]
    seeds: int
    folder: Path
    command: str
    began: float
    progress: bool

    def run(self, cluster: Cluster | None = None) -> list[str]:
        """Compute, in this process or on ``cluster``; return the names of the cells that failed."""
        from dialog_gym.agents.loop import torch_threads
        from dialog_gym.benchmarks import bench as runner
        from dialog_gym.benchmarks.bench_policies import Place

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        cells = runner.plan(self.suite, self.agents, self.envs, self.seeds).cells
        place = Place(self.suite, self.folder, progress=self.progress)
        if cluster is not None:
            from dialog_gym.benchmarks.bench_ray import run_on_cluster

            return run_on_cluster(cells, place, cluster, since=self.began, command=self.command)
        with torch_threads(1):
            return runner.run_cells(cells, place, since=self.began, command=self.command)


def _share(jobs: int, work: Work) -> None:
    """Let ``jobs`` processes compute the cells, and wait for them; they stop if this one does, by SIGTERM too."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    workers = [multiprocessing.get_context("spawn").Process(target=work.run) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
            if worker.exitcode:
                log.error("a process ended with %d; what it had begun is begun again", worker.exitcode)
    finally:
        signal.signal(signal.SIGTERM, before)
        for worker in workers:
            if worker.is_alive():
                worker.terminate()


def run(words: Sequence[str]) -> Any:
    """Run the benchmark that ``words`` ask for.

    Raises:
        KeyError: There is no such suite, agent or environment.
        ValueError: The folder belongs to other settings, or has results of other versions.
        SystemExit: A cell failed; the others are in the table.
    """
    return tyro.cli(bench, args=list(words), prog=PROG, config=(tyro.conf.FlagCreatePairsOff,))
