"""The commands ``dialog-gym society run`` and ``dialog-gym society plot``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from dialog_gym.commands import print_json
from dialog_gym.dialogue import Json
from dialog_gym.envs.society_settings import Settings
from dialog_gym.envs.society_simulation import simulate
from dialog_gym.tracking import progress_bar

Place = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Worlds = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORLD")]
Flag = tyro.conf.FlagCreatePairsOff[bool]
Own = Annotated[Settings, tyro.conf.arg(name="")]


def run(words: Sequence[str]) -> None:
    """Run the command that ``words`` are, ``run`` or ``plot`` first."""
    commands: dict[str, Callable[..., None]] = {"run": run_society, "plot": plot_societies}
    tyro.extras.subcommand_cli_from_dict(
        commands,
        prog="dialog-gym society",
        description="Societies of agents that teach each other.",
        args=list(words),
        config=(tyro.conf.FlagCreatePairsOff,) if words[:1] == ["plot"] else (),
    )


def run_society(out: Place, own: Own, rounds: int = 10, no_progress: Flag = False, json: Flag = False) -> None:
    """Play a society, or go on with it; its training data are in OUT/rankings.

    Args:
        out: Folder of the society.
        own: What determines it.
        rounds: How many rounds there are to be in all.
        no_progress: Show no progress bar.
        json: Print the metrics of all rounds as JSON.
    """
    with progress_bar("society", rounds, show=not no_progress) as update:
        found = simulate(out, own, rounds, told=lambda number, _: update(number + 1, {}))
    if json:
        print_json(found)
    else:
        Console(highlight=False).print(table(found))


def plot_societies(worlds: Worlds, out: Path) -> None:
    """Draw alignment against engagement, the distributions of ratings, and the grids over time.

    Args:
        worlds: Folders of societies.
        out: Folder of the pictures.
    """
    from dialog_gym.envs.society_plots import plot

    console = Console(highlight=False)
    for path in plot(worlds, out):
        console.print(str(path))


def table(found: Sequence[Mapping[str, Json]]) -> Table:
    """Return the metrics of all rounds as a table."""
    made = Table()
    for name in ("round", "alignment", "engagement", "peers", "revised", "remembered", "failed"):
        made.add_column(name, justify="right")
    for one in found:
        made.add_row(
            str(one["round"] + 1),
            *(f"{shown(one[axis]['before'])} > {shown(one[axis]['after'])}" for axis in ("alignment", "engagement")),
            shown(one["peers"]),
            f"{one['revised']} of {one['agents']}",
            str(one["remembered"]),
            ", ".join(f"{name} {count}" for name, count in failures(one).items()) or "-",
        )
    return made


def shown(summary: Mapping[str, Any]) -> str:
    """Return a mean in words."""
    return "-" if summary["mean"] is None else f"{summary['mean']:.2f}"


def failures(one: Mapping[str, Any]) -> dict[str, int]:
    """Return what failed in a round, and who was alone or unheard."""
    told = {**one["failed"], "alone": one["alone"], "unheard": one["unheard"]}
    return {name: count for name, count in told.items() if count}
