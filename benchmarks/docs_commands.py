"""Every command of README and docs on a fresh clone, with times: does what is written down work for who begins?

The checkout is cloned into a new folder and the package used from there. Commands run in the shell, page by page, in
a folder for each page; what one makes the next may read. Those whose block says what they need (a GPU, a key, hours),
or that have a placeholder in place of a name, go through the real parser alone.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from rich.console import Console

from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.docs_blocks import Block, commands_of, globbed, read_blocks
from dialog_gym.benchmarks.docs_parse import check
from dialog_gym.benchmarks.docs_run import inside, is_ours, quick_flags
from dialog_gym.commands import show_rows

log = logging.getLogger("dialog_gym")

HERE = Path(__file__).resolve().parents[1]
PLACEHOLDERS = ("MODEL", "NAME", "URL", "HOST", "FOLDER", "PATH", "FILE", "REWARD")
"""Words of capitals that a reader replaces; a command with one is parsed and not run."""
ABSENT = ("abcd_v1.1.json.gz",)
"""Files of others that README names; likewise."""
BY_HAND = ("dialog-gym play", "tensorboard", "ray start", "pip install", "make", "accelerate launch", "eval ")
"""What is not run: it waits for a person, for other machines, or changes the virtual environment."""

Outcome = Literal["ok", "failed", "too long", "parsed", "not run"]


@dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        checkout: What is cloned; by default where this file lies.
        venv: Virtual environment to use; "new" makes one in the clone (``make setup``), which takes minutes.
        quick: Add flags that make commands short (``docs_run.QUICK``); without, they run as written.
        limit: Seconds that a command may take.
        pages: Pages to run, by the end of their names; all by default.
        out: File for the rows, as JSON lines.
        json: Print JSON.
    """

    checkout: Path = HERE
    venv: str = sys.prefix
    quick: bool = True
    limit: float = 900.0
    pages: tuple[str, ...] = ()
    out: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Row:
    """What became of a command, or of the Python blocks of a page.

    Attributes:
        where: Page and line.
        command: As it is written.
        outcome: How it went.
        seconds: Wall time.
        told: The last line that it printed to standard error, of one that failed.
    """

    where: str
    command: str
    outcome: Outcome
    seconds: float
    told: str = ""


@dataclass(frozen=True)
class Place:
    """Where commands run.

    Attributes:
        clone: The fresh clone.
        folder: Working folder of the page.
        environ: Environment variables.
        settings: What is run.
    """

    clone: Path
    folder: Path
    environ: dict[str, str]
    settings: Settings

    def shell(self, line: str, where: str, shown: str) -> Row:
        """Run one line of shell."""
        began = time.perf_counter()
        limit = self.settings.limit
        try:
            done = subprocess.run(
                ["bash", "-c", line], cwd=self.folder, env=self.environ, capture_output=True, text=True,
                timeout=limit, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Row(where, shown, "too long", limit)
        seconds = time.perf_counter() - began
        last = [text for text in (done.stderr + done.stdout).splitlines() if text.strip()][-1:]
        return Row(where, shown, "failed", seconds, *last) if done.returncode else Row(where, shown, "ok", seconds)


def run_all(settings: Settings) -> dict[str, Any]:
    """Clone, run everything, and return the rows and their sums."""
    with tempfile.TemporaryDirectory(prefix="dialog-gym-docs-") as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(settings.checkout), str(clone)], check=True)
        environ = _environment(settings, clone)
        rows: list[Row] = []
        for number, page in enumerate(_pages(settings, clone)):
            folder = Path(name) / f"page-{number}"
            shutil.copytree(clone / "examples", folder / "examples")
            for row in run_page(read_blocks(page, clone), Place(clone, folder, environ, settings)):
                log.info("%-8s %6.1f s  %s  %s %s", row.outcome, row.seconds, row.where, row.command, row.told)
                rows.append(row)
                _keep(settings.out, rows)
            shutil.rmtree(folder, ignore_errors=True)
    outcomes = {name: sum(row.outcome == name for row in rows) for name in sorted({row.outcome for row in rows})}
    return {"rows": [asdict(row) for row in rows], "outcomes": outcomes, "seconds": sum(row.seconds for row in rows)}


def run_page(blocks: Sequence[Block], place: Place) -> Iterator[Row]:
    """Yield what became of the commands of a page, and of its Python blocks, which are one program."""
    with Program(place) as program:
        for block in blocks:
            if block.language == "python" and block.title.endswith(".py"):
                (place.folder / block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "python" and not block.needs:
                yield program.run(block)
            elif block.is_shell:
                for one in commands_of(block):
                    yield _command(block, one.line, list(one.words), place)


class Program:
    """The Python blocks of a page, in one process that is started for the first of them."""

    def __init__(self, place: Place) -> None:
        """Run in ``place``."""
        self.place = place
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate("")

    def run(self, block: Block) -> Row:
        """Run one block; where it fails, those after it go on without it."""
        began = time.perf_counter()
        if self._process is None:
            self._process = subprocess.Popen(
                ["python", "-c", _SERVER], cwd=self.place.folder, env=self.place.environ, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                executable=str(self.place.clone / ".docs-bin/python"),
            )  # fmt: skip
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        asked.write(json.dumps(block.text) + "\n")
        asked.flush()
        answer = told.readline().strip() or '"the process ended"'
        error = str(json.loads(answer))
        outcome: Outcome = "failed" if error else "ok"
        return Row(block.where, "python", outcome, time.perf_counter() - began, error)


_SERVER = """
import contextlib, io, json, sys
names, out = {"__name__": "__main__"}, sys.stdout
for line in sys.stdin:
    error = ""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(compile(json.loads(line), "page", "exec"), names)
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
    print(json.dumps(error), file=out, flush=True)
"""


def _command(block: Block, line: str, words: list[str], place: Place) -> Row:
    if line.startswith(BY_HAND) or words[0].startswith(BY_HAND):
        return Row(block.where, line, "not run", 0.0)
    if block.needs or is_parsed_alone(line):
        return _parsed(block, line, words, place) if is_ours(words) else Row(block.where, line, "not run", 0.0)
    quick = quick_flags(words) if place.settings.quick else []
    return place.shell(shlex.join([*globbed(words, place.folder), *quick]), block.where, line)


def _parsed(block: Block, line: str, words: list[str], place: Place) -> Row:
    began = time.perf_counter()
    try:
        with inside(place.folder):
            check(words)
    except ValueError as error:
        if not is_parsed_alone(line):
            return Row(block.where, line, "failed", time.perf_counter() - began, str(error).splitlines()[-1])
    return Row(block.where, line, "parsed", time.perf_counter() - began)


def is_parsed_alone(line: str) -> bool:
    """Return whether a command has a placeholder, or names a file that a fresh clone does not have."""
    parts = line.replace("=", " ").replace("@", " ").replace(":", " ").replace("/", " ").replace("?", " ").split()
    return any(part in PLACEHOLDERS for part in parts) or any(name in line for name in ABSENT)


def _pages(settings: Settings, clone: Path) -> list[Path]:
    found = [clone / "README.md", *sorted((clone / "docs").rglob("*.md"))]
    return [page for page in found if not settings.pages or str(page).endswith(settings.pages)]


def _environment(settings: Settings, clone: Path) -> dict[str, str]:
    """Return variables by which commands find the clone's code, wherever ``venv`` has the package from."""
    venv = Path(settings.venv)
    if settings.venv == "new":
        subprocess.run(["make", "setup"], cwd=clone, check=True)
        venv = clone / ".venv"
    shims = clone / ".docs-bin"
    shims.mkdir()
    for name, called in (("dialog-gym", "-m dialog_gym"), ("python", ""), ("pytest", "-m pytest -q")):
        shim = shims / name
        shim.write_text(f'#!/bin/sh\nexec "{venv / "bin" / "python"}" {called} "$@"\n')
        shim.chmod(0o755)
    path = os.pathsep.join([str(shims), str(venv / "bin"), os.environ.get("PATH", "")])
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    return {**os.environ, **quiet, "PATH": path, "PYTHONPATH": str(clone)}


def _keep(out: Path | None, rows: Sequence[Row]) -> None:
    if out is not None:
        out.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


def _show(report: dict[str, Any], console: Console) -> None:
    rows = [{**row, "seconds": f"{row['seconds']:.1f}", "command": row["command"][:70]} for row in report["rows"]]
    show_rows(rows, False)
    console.print(f"{report['outcomes']} in {report['seconds']:.0f} s")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark with the settings in ``argv`` (None: of the command line)."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    command.run("docs_commands", Settings, run_all, _show, argv)


if __name__ == "__main__":
    main()
