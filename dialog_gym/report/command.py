"""The command ``dialog-gym report``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from dialog_gym import checkpoint
from dialog_gym.commands import print_json
from dialog_gym.render import visible
from dialog_gym.report.page import check_target, write_page
from dialog_gym.report.payload import payload
from dialog_gym.report.sources import read_sources

Paths = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")]


def run(words: Sequence[str]) -> None:
    """Run the command on the words after ``report``."""
    tyro.cli(report, prog="dialog-gym report", args=list(words), config=(tyro.conf.FlagCreatePairsOff,))


def report(
    paths: Paths,
    out: Path = Path("report.html"),
    title: str = "dialog-gym report",
    mixed: bool = False,
    limit: int = 5000,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Write one HTML page of results and dialogues; it needs no network.

    Args:
        paths: Folders of `bench`, run folders, data sets of episodes, files of `evaluate --out`; or folders of these.
        out: The page.
        title: Its heading.
        mixed: Take results of different versions too; the page says so.
        limit: Show so many dialogues at most, about as many of each run in each environment; 0: all.
        overwrite: Replace a file that is no report.
        json: Print JSON.
    """
    check_target(out, overwrite=overwrite)
    checkpoint.need_target("--out", out)
    sources = read_sources(paths, mixed=mixed, limit=limit)
    size = write_page(out, payload(sources, title), overwrite=overwrite)
    told = {
        "page": str(out),
        "megabytes": round(size / 1e6, 2),
        "results": len(sources.results.results) if sources.results else 0,
        "dialogues": len(sources.dialogues),
        "dialogues_found": sources.found,
        "broken": sources.broken,
    }
    if json:
        return print_json(told)
    for name in sources.broken:
        sys.stderr.write(f"left out: {visible(name)}\n")
    dialogues = f"{told['dialogues']} of {sources.found} dialogues"
    sys.stdout.write(f"wrote {out} ({told['megabytes']} MB): {told['results']} results, {dialogues}\n")
    return None
