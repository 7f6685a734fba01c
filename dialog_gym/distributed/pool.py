"""Workers that apply one function to many items; results come back as they finish.

A worker is a Ray actor: it prepares itself once (an environment, a model), and is then given item after item. One
that is lost (killed, out of memory, its machine gone) is started again by Ray, which also runs its item again; there
is one result for each item, whatever happened on the way.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

from dialog_gym.distributed.cluster import LOCAL, START_SECONDS, Cluster, check_versions, connected, worker_versions
from dialog_gym.errors import ClusterError

log = logging.getLogger("dialog_gym")

T = TypeVar("T")
RESTARTS = 3  # of a worker, before its loss is told as an error
_PATIENCE = 300.0  # seconds between two lines in the log where no result comes


class Done(NamedTuple, Generic[T]):
    """What came of an item.

    Attributes:
        item: Which of the items, by number from 0.
        value: What the function returned, None if it failed.
        error: Why it failed, None if it did not.
    """

    item: int
    value: T | None
    error: Exception | None


class _Worker:
    """What runs in a process of the cluster.

    What it is to make comes pickled, so that it starts soon: what that imports (torch) is loaded at the first item.
    """

    def __init__(self, make: bytes) -> None:
        self.make = make
        self.work: Callable[[Any], Any] | None = None

    def versions(self) -> tuple[str, dict[str, Any]]:
        return _this_process(), worker_versions()

    def run(self, item: Any) -> tuple[str, Any]:
        """Return who worked, and the result."""
        if self.work is None:
            from ray import cloudpickle

            self.work = cloudpickle.loads(self.make)()
        return _this_process(), self.work(item)


class Pool(Generic[T]):
    """Workers that are there for the length of a ``with`` block.

    Attributes:
        size: How many.
        lost: How often a worker was lost and started again so far.
    """

    def __init__(self, make: Callable[[], Callable[[Any], T]], cluster: Cluster) -> None:
        """Prepare to start workers.

        Args:
            make: Called in each worker before its first item; returns the function for the items. It is pickled:
                a function of a module, or ``functools.partial`` of one.
            cluster: Where.
        """
        self.make, self.cluster = make, cluster
        self.size, self.lost = 0, 0
        self._workers: list[Any] = []
        self._seen: dict[Any, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Connect and start the workers, which all must run the versions of this process.

        Raises:
            ClusterError: They do not start, or run others.
        """
        with ExitStack() as begun:
            self.size = begun.enter_context(connected(self.cluster))
            begun.callback(self._stop)
            self._start()
            self._open = begun.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers, and the cluster if it was started for them."""
        self._open.close()

    def run(self, items: Iterable[Any], *, keep_going: bool = False) -> Iterator[Done[T]]:
        """Yield what comes of each item as it finishes, in any order.

        Each worker has one item at a time, so no more are taken from ``items`` than are worked at.

        Args:
            items: What the function is applied to; pickled one by one.
            keep_going: Whether to go on with the rest after an error. Otherwise those that are worked at are still
                yielded, and no more are begun.

        Raises:
            ClusterError: All workers are lost for good, and items are left.
        """
        import ray

        numbered = enumerate(items)
        idle, running, stopped = list(self._workers), {}, False
        while True:
            while idle and not stopped and (following := next(numbered, None)) is not None:
                worker = idle.pop()
                running[worker.run.remote(following[1])] = following[0], worker
            if not running:
                break
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_PATIENCE)
            if not ready:
                log.warning("no result for %.0f s; %d items are worked at", _PATIENCE, len(running))
                continue
            index, worker = running.pop(ready[0])
            done, alive = self._received(ready[0], index, worker)
            idle += [worker] if alive else []
            stopped = not keep_going and (stopped or done.error is not None)
            yield done
        if not idle and not stopped and next(numbered, None) is not None:
            raise ClusterError(f"all {self.size} workers were lost more than {RESTARTS} times, and work is left")

    def ask(self, item: Any) -> T:
        """Return what comes of one item.

        Raises:
            Exception: What the function raised.
        """
        (done,) = self.run([item])
        if done.error is not None:
            raise done.error
        value: Any = done.value
        return value  # type: ignore[no-any-return]

    def _received(self, ref: Any, index: int, worker: Any) -> tuple[Done[T], bool]:
        """Return the result, and whether its worker lives."""
        import ray

        try:
            who, value = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            return Done(index, None, cause), True
        except ray.exceptions.RayError as error:
            why = " ".join(str(error).split())
            lost = ClusterError(f"a worker was lost more than {RESTARTS} times, last at item {index}: {why:.300}")
            return Done(index, None, lost), False
        if self._seen[worker] != who:
            self.lost += 1
            log.warning(
                "a worker was lost (%s); %s took its place, and item %d was run again", self._seen[worker], who, index
            )
        self._seen[worker] = who
        return Done(index, value, None), True

    def _start(self) -> None:
        import ray

        actor = ray.remote(num_cpus=1, num_gpus=self.cluster.gpus, max_restarts=RESTARTS, max_task_retries=RESTARTS)(
            _Worker
        )
        make = ray.cloudpickle.dumps(self.make)
        self._workers = [actor.remote(make) for _ in range(self.size)]
        try:
            found = ray.get([worker.versions.remote() for worker in self._workers], timeout=START_SECONDS)
        except ray.exceptions.GetTimeoutError as error:
            free = ray.available_resources()
            raise ClusterError(
                f"not all of {self.size} workers started within {START_SECONDS:.0f} s; the cluster has "
                f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free: others may use the rest"
            ) from error
        except ray.exceptions.RayError as error:
            why = " ".join(str(error).split())
            raise ClusterError(
                f"the workers could not start; is the same dialog_gym installed on every machine? {why[-300:]}"
            ) from error
        for worker, (who, runs) in zip(self._workers, found, strict=True):
            check_versions(runs)
            self._seen[worker] = who

    def _stop(self) -> None:
        import ray

        for worker in self._workers:
            ray.kill(worker)
        self._workers = []


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def map_tasks(
    fn: Callable[[Any], T], items: Iterable[Any], *, address: str = LOCAL, workers: int = 0, gpus: float = 0.0
) -> Iterator[Done[T]]:
    """Apply ``fn`` to each of ``items`` on the workers of a cluster; yield what came of each as it finishes.

    An item that fails does not stop the others. What ``fn`` writes it writes where the worker runs: on several
    machines, to a file system that they share.

    Args:
        fn: A function of one item; pickled, as are the items and what it returns.
        items: What it is applied to.
        address: See ``Cluster``.
        workers: How many; 0: one for each CPU of the cluster.
        gpus: GPUs of each.

    Raises:
        ClusterError: There is no such cluster, or it cannot be used.
    """
    with Pool(partial(_as_it_is, fn), Cluster(address, workers, gpus)) as pool:
        yield from pool.run(items, keep_going=True)


def _as_it_is(fn: Callable[[Any], T]) -> Callable[[Any], T]:
    return fn
