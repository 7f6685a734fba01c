"""The cells of a suite by workers of a Ray cluster: ``dialog-gym bench SUITE --ray local --workers 4``.

Workers follow the rules of the processes of ``--jobs``: whoever computes a cell claims it in the folder of results,
and a cell that is there is not computed again. A worker that is lost in the middle of a cell (killed, out of memory)
is started again, and goes on with the cell's run. So results are those of any other way, and a folder that was begun
in one way can be finished in another. On several machines it lies on a disk that all of them share.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dialog_gym.agents.loop import torch_threads
from dialog_gym.benchmarks.bench import FAILED, Cell, imported, run_cells
from dialog_gym.benchmarks.bench_policies import Place
from dialog_gym.distributed import Cluster, Pool

log = logging.getLogger("dialog_gym")


def run_on_cluster(cells: Sequence[Cell], place: Place, cluster: Cluster, *, since: float, command: str) -> list[str]:
    """Compute what is missing of ``cells`` on a cluster; return the names of those that failed.

    Args:
        cells: In the order in which they are begun.
        place: Suite and folder.
        cluster: Where.
        since: See ``dialog_gym.benchmarks.bench.run_cells``.
        command: What makes the cells again, told in their files.

    Raises:
        ClusterError: There is no such cluster, or all its workers were lost for good.
    """
    failed: list[str] = []
    with Pool(partial(worker, tuple(cells), place, Path.cwd(), since, command), cluster) as pool:
        for done in pool.run(cells, keep_going=True):
            name, wrong = cells[done.item].name, bool(done.error or done.value)
            log.info("%s", name)
            if wrong:
                why = done.error or f"see {place.out / FAILED / name}.txt"
                log.error("the cell %s failed; the others go on: %s", name, why)
                failed.append(name)
    return failed


def worker(
    cells: Sequence[Cell], place: Place, start: Path, since: float, command: str
) -> Callable[[Cell], list[str]]:
    """Return what a worker does with one of ``cells``: it returns the names of those that failed.

    Args:
        cells: All of them; what they need is imported now.
        place: Suite and folder.
        start: Folder in which the command was started.
        since: See ``run_on_cluster``.
        command: See ``run_on_cluster``.
    """
    if not place.out.is_absolute():
        os.chdir(start)  # so that paths in the runs are those of any other way
    running = imported(cells)

    def compute(cell: Cell) -> list[str]:
        with torch_threads(1):
            return run_cells([cell], place, since=since, command=command, running=running)

    return compute
