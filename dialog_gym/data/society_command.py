"""The commands ``dialog-gym data society build``, ``import`` and ``export``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from dialog_gym.commands import print_json
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.exchange import import_rows
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.data.society import Duplicates, Ratios, Requests, Round, build, rounds_of
from dialog_gym.data.society_published import read_published, write_published

Place = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
Worlds = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORLD")]
File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


def run(words: Sequence[str]) -> None:
    """Run the command that ``words`` are, ``build``, ``import`` or ``export`` first."""
    commands: dict[str, Callable[..., None]] = {"build": build_data, "import": import_data, "export": export_data}
    tyro.extras.subcommand_cli_from_dict(
        commands, prog="dialog-gym data society", args=list(words), config=(tyro.conf.FlagCreatePairsOff,)
    )


def build_data(
    worlds: Worlds,
    out: Path,
    self_critic: float = 0.1,
    realignment: float = 0.1,
    duplicates: Duplicates = "context",
    comment: str = Requests.comment,
    revise: str = Requests.revise,
    revised: str = Requests.revised,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Make training data of recorded societies: imitation, self-critic and realignment.

    Args:
        worlds: Folders of societies, or the data sets of rankings that they wrote.
        out: Data set to write; it must not be there yet.
        self_critic: Self-critic rankings for one imitation ranking.
        realignment: Realignment rankings for one imitation ranking.
        duplicates: Where a text counts once: in its context, or everywhere in all data of its type.
        comment: Words that ask for a comment.
        revise: Words that ask for a comment and a revision.
        revised: Words between comment and revision.
        seed: Which of them are drawn.
        json: Print JSON.
    """
    if not worlds:
        raise DatasetError("expected the folders of societies to read, got none; `dialog-gym society run` makes one")
    rounds = chain.from_iterable(_rounds(world) for world in worlds)
    requests = Requests(comment, revise, revised)
    rows, counts = build(rounds, Ratios(self_critic, realignment), requests=requests, duplicates=duplicates, seed=seed)
    table = import_rows(Rankings, rows, out)
    _tell({"out": str(out), "content_hash": table.content_hash, **counts.to_json()}, json)


def import_data(file: File, out: Path, skip_bad: bool = False, scale: float = 7.0, json: bool = False) -> None:
    """Read a file in the published layout (query, responses, scores, models) into a data set.

    Args:
        file: The file, plain, .gz or .zip.
        out: Data set to write; it must not be there yet.
        skip_bad: Count what is damaged and go on.
        scale: Highest rating.
        json: Print JSON.
    """
    reading = read_published(file, skip_bad=skip_bad, scale=scale)
    table = import_rows(Rankings, reading, out)
    told = {"out": str(out), "rankings": len(table), "content_hash": table.content_hash, "skipped": reading.skipped}
    _tell({**told, "bad": reading.bad} if json else told, json)
    for message in [] if json else reading.bad:
        sys.stderr.write(f"skipped: {message}\n")


def export_data(folder: Place, file: Path, json: bool = False) -> None:
    """Write a data set of rankings in the published layout.

    Args:
        folder: The data set.
        file: What is written.
        json: Print JSON.
    """
    table = Rankings.load(folder)
    _tell({"file": str(file), "records": write_published(file, table), "content_hash": table.content_hash}, json)


def _rounds(world: Path) -> Iterator[Round]:
    rankings = world / "rankings"  # where a society keeps them
    rows: Iterator[Ranking] = iter(Rankings.load(rankings if rankings.is_dir() else world))
    return rounds_of(rows, str(world))


def _tell(told: dict[str, Any], json: bool) -> None:
    if json:
        return print_json(told)
    Console(highlight=False, soft_wrap=True).print(*(f"{key}: {value}" for key, value in told.items()), sep="\n")
    return None
