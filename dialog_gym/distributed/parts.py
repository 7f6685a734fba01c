"""Work on seeds, cut into parts: done by workers in any order, given back in the order of the seeds.

A part that finishes before one in front of it waits on the disk (``Ahead``), so that an error or a kill loses only
what was being worked at: the same command started again takes it from there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from dialog_gym import checkpoint
from dialog_gym.data.store import Table
from dialog_gym.distributed.pool import Pool

log = logging.getLogger("dialog_gym")

Row = TypeVar("Row")
FOLDER = ".ahead"


class Part(NamedTuple):
    """Episodes with consecutive seeds.

    Attributes:
        first: The first seed.
        size: How many.
        skip: What of them is there already, where a part was written in part: (seed, turn).
    """

    first: int
    size: int
    skip: frozenset[tuple[int, int]] = frozenset()


def parts_of(runs: Iterable[tuple[int, int]], start: int, size: int) -> list[Part]:
    """Cut runs of seeds (first, count) at multiples of ``size`` from ``start``, whatever of them is done already.

    >>> [tuple(part[:2]) for part in parts_of([(3, 2), (7, 6)], 0, 5)]
    [(3, 2), (7, 3), (10, 3)]
    """
    parts = []
    for first, count in runs:
        end = first + count
        while first < end:
            cut = min(end, first + size - (first - start) % size)
            parts.append(Part(first, cut - first))
            first = cut
    return parts


class Nowhere(Generic[Row]):
    """Keeps no rows: what finishes early is lost with this process."""

    def keep(self, part: Part, rows: list[Row]) -> None:
        """Do nothing."""

    def find(self, part: Part) -> list[Row] | None:
        """Return None."""
        return None

    def drop(self, part: Part) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""


class Ahead(Nowhere[Row]):
    """Rows of parts that finished early, in files beside the data set that they belong to."""

    def __init__(self, table: type[Table[Row]], out: str | Path, origin: Mapping[str, Any]) -> None:
        """Keep rows of ``table`` for the data set ``out``; ``origin`` is all that they depend on beside seeds."""
        self.table, self.folder = table, Path(out) / FOLDER
        self.name = blake2b(json.dumps(origin, sort_keys=True).encode(), digest_size=8).hexdigest()

    def keep(self, part: Part, rows: list[Row]) -> None:
        """Write the rows of ``part``."""
        self.folder.mkdir(exist_ok=True)
        checkpoint.write_json(self._path(part), [self.table.encode(row) for row in rows])

    def find(self, part: Part) -> list[Row] | None:
        """Return the rows of ``part`` if they are there; None for one of which some are in the data set already."""
        if part.skip:
            return None
        try:
            return [self.table.decode(row) for row in json.loads(self._path(part).read_text(encoding="utf-8"))]
        except FileNotFoundError:
            return None

    def drop(self, part: Part) -> None:
        """Remove the rows of ``part``, which are in the data set now."""
        self._path(part).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what is left of this origin, and the folder once it is empty."""
        for path in self.folder.glob(f"{self.name}-*"):
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, part: Part) -> Path:
        return self.folder / f"{self.name}-{part.first}-{part.size}.json"


def in_order(
    pool: Pool[list[Row]], parts: Sequence[Part], ahead: Nowhere[Row] | None = None
) -> Iterator[tuple[Part, list[Row]]]:
    """Yield what the workers of ``pool`` make of ``parts``, in the order of the parts, each as soon as it can be.

    Args:
        pool: The workers.
        parts: Their items.
        ahead: Where those wait that come early; None: in memory alone.

    Raises:
        Exception: Of the first part that failed, after those that were being worked at have come in.
    """
    ahead = ahead or Nowhere()
    waiting = {i: rows for i, part in enumerate(parts) if (rows := ahead.find(part)) is not None}
    if waiting:
        log.warning("%d parts that had finished before are there, and are not done again", len(waiting))
    following, failed = 0, None
    for index, rows, error in _arrivals(pool, parts, [i for i in range(len(parts)) if i not in waiting]):
        failed = failed or error
        if rows is not None:
            waiting[index] = rows
            if index != following:
                ahead.keep(parts[index], rows)
        while following in waiting:
            yield parts[following], waiting.pop(following)
            ahead.drop(parts[following])
            following += 1
    if failed is not None:
        raise failed
    ahead.clear()


def _arrivals(
    pool: Pool[list[Row]], parts: Sequence[Part], left: Sequence[int]
) -> Iterator[tuple[int, list[Row] | None, Exception | None]]:
    """Yield index, rows and error of the parts ``left``; first a turn without any, for what is there already."""
    yield -1, None, None
    for done in pool.run(parts[i] for i in left):
        yield left[done.item], done.value, done.error
