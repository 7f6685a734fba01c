"""The command ``dialog-gym leaderboard``: tables and plots of results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from dialog_gym.benchmarks.leaderboard import leaderboard
from dialog_gym.benchmarks.leaderboard_tables import summary, write_csv, write_into, write_markdown
from dialog_gym.benchmarks.results_folder import read_results
from dialog_gym.benchmarks.statistics import RESAMPLES
from dialog_gym.commands import print_json

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
        mixed: Take results of different versions too; the tables say so.
        seed: Of the bootstrap.
        resamples: Of the bootstrap, at least 1.
        json: Print everything as JSON.
    """
    if not paths:
        raise ValueError("expected at least one folder of results, got none; `dialog-gym bench SUITE` makes them")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
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
    for what in board.broken:
        sys.stderr.write(f"left out: {what}\n")


def run(words: Sequence[str]) -> None:
    """Run ``dialog-gym leaderboard`` with the flags in ``words``."""
    tyro.cli(show_leaderboard, args=list(words), prog="dialog-gym leaderboard", config=(tyro.conf.FlagCreatePairsOff,))
