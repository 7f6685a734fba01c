"""What the benchmarks have in common as commands: settings from flags, then a table, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import tyro
from rich.console import Console


class WithJson(Protocol):
    """Settings that say whether to print JSON."""

    @property
    def json(self) -> bool:
        """Whether to print JSON instead of a table."""
        ...


S = TypeVar("S", bound=WithJson)


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
