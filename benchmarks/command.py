"""What the benchmarks have in common: settings from flags, then a table or JSON; cells, each in a file of its own."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import tyro
from rich.console import Console

from dialog_gym import checkpoint
from dialog_gym.runs import versions

log = logging.getLogger("dialog_gym")


class WithJson(Protocol):
    """Settings that say whether to print JSON."""

    @property
    def json(self) -> bool:
        """Whether to print JSON instead of a table."""
        ...


class Named(Protocol):
    """A cell of a table."""

    @property
    def name(self) -> str:
        """Name of its file."""
        ...


S = TypeVar("S", bound=WithJson)
CellT = TypeVar("CellT", bound=Named)


def run(
    name: str,
    settings_type: type[S],
    measure: Callable[[S], dict[str, Any]],
    show: Callable[[dict[str, Any], Console], None],
    argv: Sequence[str] | None,
) -> None:
    """Measure with the settings in ``argv`` (None: of the command line) and print the report."""
    flags = (tyro.conf.FlagCreatePairsOff,)
    settings = tyro.cli(settings_type, args=argv, prog=f"python -m dialog_gym.benchmarks.{name}", config=flags)
    report = measure(settings)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if settings.json:
        console.print_json(data=report)
    else:
        show(report, console)


def each_cell(cells: Iterable[CellT], compute: Callable[[CellT], None]) -> list[str]:
    """Compute the cells of a table; return the names of those that failed, which do not stop the others."""
    failed = []
    for cell in cells:
        try:
            compute(cell)
        except Exception:
            log.exception("the cell %s failed; the others go on", cell.name)
            failed.append(cell.name)
    return failed


def made_with(path: Path, config: Mapping[str, Any]) -> bool:
    """Return whether ``path`` is there, made with ``config`` (its ``"config"``, as JSON).

    Raises:
        ValueError: It was made with another one.
    """
    if not path.exists():
        return False
    if (old := json.loads(path.read_text(encoding="utf-8"))["config"]) != json.loads(json.dumps(config)):
        raise ValueError(f"{path} was made with {old}, and now {config} is asked for; choose another folder")
    return True


def write_cell(
    path: Path,
    config: Mapping[str, Any],
    compute: Callable[[], Mapping[str, Any]],
    running: Mapping[str, str | None] | None = None,
) -> None:
    """Write what ``compute`` returns to ``path``, with ``config``, the seconds it took and versions; once only.

    Args:
        path: The file.
        config: All that the cell depends on.
        compute: Returns what is written.
        running: What this process runs, for one that outlives changes of the checkout; by default what is there now.

    Raises:
        ValueError: ``path`` is there and was made with another ``config``.
    """
    if made_with(path, config):
        return
    cpu, wall = time.process_time(), time.perf_counter()
    found = compute()
    took = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(path, {"config": dict(config), **found, **took, "versions": running or versions()})
