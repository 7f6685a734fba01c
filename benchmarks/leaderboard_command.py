"""The command ``dialog-gym leaderboard``: tables and plots of results."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from dialog_gym import checkpoint
from dialog_gym.benchmarks.leaderboard import leaderboard
from dialog_gym.benchmarks.leaderboard_tables import (
    BEGIN,
    END,
    read_with_markers,
    summary,
    write_csv,
    write_into,
    write_markdown,
)
from dialog_gym.benchmarks.results_folder import read_results
from dialog_gym.benchmarks.statistics import RESAMPLES
from dialog_gym.commands import print_json

FEWEST = 100  # resamples: then two or three of them lie beyond each end of a 95% interval
Paths = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]


def show_leaderboard(
    paths: Paths,
    markdown: Path | None = None,
    csv: Path | None = None,
    plots: Path | None = None,
    into: Path | None = None,
    mixed: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
    json: bool = False,
) -> None:
    """Compare the agents of `dialog-gym bench` in each world and over all of them, with intervals over runs.

    Without a flag that writes a file, the summary is printed as Markdown.

    Args:
        paths: Folders of results.
        markdown: Write all tables to this file.
        csv: Write all numbers to this file, one per line, with their intervals.
        plots: Write plots for papers to this folder, as SVG and PNG (needs matplotlib).
        into: Put the summary into this file, between <!-- leaderboard --> and <!-- /leaderboard -->.
        mixed: Take results of different versions too; all that is written says so.
        seed: Of the bootstrap.
        resamples: Of the bootstrap, at least 100.
        json: Print everything as JSON.
    """
    if not paths:
        raise ValueError("expected at least one folder of results, got none; `dialog-gym bench SUITE` makes them")
    _check_least({"--resamples": (resamples, FEWEST), "--seed": (seed, 0)})
    figure = None if plots is None else plots / "totals.svg"
    _check_targets({"--markdown": markdown, "--csv": csv, "--into": into, "--plots": figure})
    results = read_results(*paths, mixed=mixed)
    board = leaderboard(results, seed=seed, resamples=resamples)
    written = [path for path in (markdown, csv) if path is not None]
    if markdown is not None:
        write_markdown(markdown, board)
    if csv is not None:
        write_csv(csv, board)
    if plots is not None:
        from dialog_gym.benchmarks.leaderboard_plots import write_plots

        written += write_plots(results, board, plots, seed=seed, resamples=resamples)
    if into is not None and write_into(into, summary(board)):
        written.append(into)
    if json:
        print_json(board.to_json())
    elif any((markdown, csv, plots, into)):
        sys.stdout.write(f"Written: {', '.join(map(str, written)) or 'nothing, all was there'}\n")
    else:
        sys.stdout.write(summary(board) + "\n")
    for what in board.mixed:
        sys.stderr.write(f"mixed versions or settings: {what}\n")
    for what in board.broken:
        sys.stderr.write(f"left out: {what}\n")


def _check_least(numbers: Mapping[str, tuple[int, int]]) -> None:
    """Raise a ValueError if a flag's number is less than its least."""
    for flag, (number, least) in numbers.items():
        if number < least:
            raise ValueError(f"{flag} must be at least {least}, got {number}")


def _check_targets(files: Mapping[str, Path | None]) -> None:
    """Raise a ValueError if something cannot be written where it shall be, by flag."""
    for flag, path in files.items():
        if path is None:
            continue
        if flag == "--into" and not path.exists():
            raise ValueError(f"--into: {path} is not there; give a file with {BEGIN} and {END} on lines of their own")
        checkpoint.need_target(flag, path)
        if flag == "--into":
            read_with_markers(path)


def run(words: Sequence[str]) -> None:
    """Run ``dialog-gym leaderboard`` with the flags in ``words``."""
    tyro.cli(show_leaderboard, args=list(words), prog="dialog-gym leaderboard", config=(tyro.conf.FlagCreatePairsOff,))
