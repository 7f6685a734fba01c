"""What the benchmarks have in common as commands: settings from flags, then a table, or JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import tyro
from rich.console import Console

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
