"""Run the cells of a suite: agents with seeds in worlds, one JSON file each.

The command is ``dialog-gym bench SUITE``; ``dialog_gym.benchmarks.results_folder`` tells what the folder holds. A cell
that is there is not computed again. One that fails is told, its traceback stays in ``failed/``, and the rest goes on;
started again, the command tries it once more. Several processes may share a folder: a process claims a cell before it
computes it, and the system ends the claim of a process that dies, so that another one goes on with the cell's run.

Seed 1 of all cells comes first, then seed 2, so that a table can be shown early.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import pkgutil
import platform
import shutil
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import IO, Any, NamedTuple

import dialog_gym
from dialog_gym import checkpoint
from dialog_gym.agent import agent_spec
from dialog_gym.benchmarks.bench_policies import Made, Place, holding, why_not
from dialog_gym.benchmarks.command import made_with, write_cell
from dialog_gym.benchmarks.leaderboard import REFERENCES
from dialog_gym.benchmarks.results_folder import (
    CELLS,
    EPISODES,
    REMEDY,
    SUITE,
    SuiteFile,
    cell_name,
    read_results,
    read_suite,
)
from dialog_gym.benchmarks.suites import Row, Suite, World
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.exchange import import_rows
from dialog_gym.errors import unknown
from dialog_gym.runs import RunFolderError, lock_folder, versions

log = logging.getLogger("dialog_gym")

FAILED, CLAIMS = "failed", "claims"
WAIT = 0.5  # seconds between two looks at cells that others compute
PARTS = ("agents", "data", "distributed", "envs", "lm", "rewards", "wrappers")
"""Packages of which a cell may import a module as late as it needs it."""


class Cell(NamedTuple):
    """One entry of the table."""

    row: Row
    world: World
    seed: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return cell_name(self.world.name, self.row.name, self.seed)

    @property
    def env(self) -> str:
        """Where it acts."""
        return self.world.env(vectors=self.row.vectors)


class Plan(NamedTuple):
    """What is to be computed, and what cannot be, with reasons by agent and world."""

    cells: tuple[Cell, ...]
    not_applicable: dict[tuple[str, str], str]


def plan(suite: Suite, agents: Sequence[str] = (), worlds: Sequence[str] = (), seeds: int = 0) -> Plan:
    """Return the cells of ``suite`` in the order in which they are computed.

    Args:
        suite: The suite.
        agents: Rows of the table; none: all. ``REFERENCES`` of the leaderboard are added, as nothing has a score
            without them, and they take seconds.
        worlds: Worlds or ids of environments; none: all.
        seeds: Seeds 1, 2, ... of rows that need several; 0: as many as the suite has.

    Raises:
        KeyError: The suite has no such agent or environment; the message names the nearest.
        ValueError: ``seeds`` is negative.
    """
    if seeds < 0:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    wanted = {*(_named("agent", name, suite.rows) for name in agents), *REFERENCES} if agents else set(suite.rows)
    where = {_named("environment", _world_name(name), suite.worlds) for name in worlds} or set(suite.worlds)
    reasons: dict[tuple[str, str], str] = {}
    pairs: list[tuple[Row, World]] = []
    for row, world in _pairs(suite).values():
        if row.name not in wanted or world.name not in where:
            continue
        if reason := why_not(row, world):
            reasons[row.name, world.name] = reason
        else:
            pairs.append((row, world))
    cells = [
        Cell(row, world, seed)
        for seed in range(1, (seeds or suite.seeds) + 1)
        for row, world in pairs
        if seed == 1 or row.seeded
    ]
    return Plan(tuple(cells), reasons)


def _pairs(suite: Suite) -> dict[tuple[str, str], tuple[Row, World]]:
    """Return rows and worlds by their names; of those that several parts have, the first."""
    found: dict[tuple[str, str], tuple[Row, World]] = {}
    for part in suite.parts:
        for row, world in product(part.rows, part.worlds):
            found.setdefault((row.name, world.name), (row, world))
    return found


def _named(kind: str, name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise unknown(kind, name, known)
    return name


def _world_name(name: str) -> str:
    """Return the world of ``"Bargain"``, ``"Bargain-v0"`` or ``"dialog_gym/BargainPrefix-v0"``."""
    short = name.rpartition("/")[2]
    return (short.rpartition("-v")[0] or short).removesuffix("Prefix")


# --- the folder ---------------------------------------------------------------------------------


def open_folder(suite: Suite, out: Path, what: Plan, *, mixed: bool = False) -> None:
    """Note in ``out`` what is asked for, beside what was before.

    Where ``suite.json`` is lost, it is made anew if all cells are of ``suite``; they count as asked for.

    Args:
        suite: The suite.
        out: The folder.
        what: What is asked for.
        mixed: Let cells be computed beside those of other versions.

    Raises:
        ValueError: The folder was made with other settings, holds something else, or has cells of other versions
            and lacks some that would be of the present ones. It is left as it is.
    """
    path, config = out / SUITE, json.loads(json.dumps(asdict(suite)))
    told = SuiteFile({}, () if path.exists() else _cells_there(suite, out), {})
    with holding(out / CLAIMS):
        if path.exists():
            told = _suite_there(path, config)
        if (path.exists() or told.asked) and not mixed:
            _refuse_other_versions(out, what)
        names = [cell.name for cell in what.cells if cell.name not in told.asked]
        reasons = told.not_applicable | what.not_applicable
        for cell in what.cells:  # a speaker may have been built since
            reasons.pop((cell.row.name, cell.world.name), None)
        if (now := SuiteFile(config, (*told.asked, *names), reasons)) != told:
            checkpoint.write_json(path, now.to_json())


def _cells_there(suite: Suite, out: Path) -> tuple[str, ...]:
    """Return the names of the cells in a folder without ``suite.json``.

    Raises:
        ValueError: It holds something else, or cells that are not of ``suite``.
    """
    if not out.exists() or all(one.name == CLAIMS for one in out.iterdir()):
        return ()
    cells, place, pairs = sorted((out / CELLS).glob("*.json")), Place(suite, out), _pairs(suite)
    if not cells:
        raise ValueError(f"{out} holds other files and no {SUITE}; choose another folder")
    for path in cells:
        try:
            config = json.loads(path.read_text(encoding="utf-8"))["config"]
            cell = Cell(*pairs[config["cell"]["agent"], config["cell"]["world"]], config["cell"]["seed"])
            own = (config, path.stem) == (config_of(cell, place), cell.name)
        except (ValueError, KeyError, TypeError, RecursionError):
            own = False
        if not own:
            raise ValueError(
                f"{out} has no {SUITE}, and {path} is no cell of the suite {suite.name!r} with these settings, so it "
                "cannot be made anew; choose another folder with --out, or give the suite and --scale of the cells"
            )
    return tuple(path.stem for path in cells)


def _suite_there(path: Path, config: dict[str, Any]) -> SuiteFile:
    """Return what ``path`` tells, which must be of a suite with the settings ``config``."""
    told = read_suite(path)
    if not told.config:
        raise ValueError(f"{path} is broken ('config' is not there); {REMEDY}")
    if (old := told.config) != config:
        names = ", ".join(sorted(name for name in {*old, *config} if old.get(name) != config.get(name)))
        raise ValueError(
            f"{path.parent} was made by the suite {old.get('name')!r} with other settings ({names}); choose another "
            "folder with --out"
        )
    return told


def _refuse_other_versions(out: Path, what: Plan) -> None:
    """Raise a ValueError if a cell would be computed beside cells of other versions."""
    if all((out / CELLS / f"{cell.name}.json").exists() for cell in what.cells):
        return
    now, there = versions(), [result.versions for result in read_results(out, mixed=True).results]
    differ = []
    for name in sorted({*now, *(name for one in there for name in one)}):
        present, others = now.get(name), {one.get(name) for one in there}
        if others - {present}:
            differ.append(
                f"{name} {', '.join(sorted(one or 'unknown' for one in others))}; now {present or 'unknown'}"
            )
    if differ:
        raise ValueError(
            f"{out} has results of other versions than those that run now ({' | '.join(differ)}), and they do not "
            "belong into one table. Nothing was computed, and all that is there stays. Choose another folder with "
            "--out, go back to those versions, or take both with --mixed"
        )


@contextmanager
def claimed(out: Path, cell: Cell) -> Iterator[bool]:
    """Claim a cell for this process; yield False if another process has it."""
    folder = out / CLAIMS / cell.name
    folder.mkdir(parents=True, exist_ok=True)
    lock: IO[str] | None = None
    try:
        lock = lock_folder(folder)
    except RunFolderError:
        yield False
        return
    with lock:
        yield True


# --- the cells ----------------------------------------------------------------------------------


def config_of(cell: Cell, place: Place) -> dict[str, Any]:
    """Return what determines a cell, as JSON values."""
    suite, row = place.suite, cell.row
    told = {"world": cell.world.name, "env": cell.env, "agent": row.name, "seed": cell.seed}
    args = row.settings(cell.world.name)
    config = {"cell": told, "kind": row.kind, "made": row.made, "args": args, "episodes": suite.episodes}
    config |= {"lm": cell.world.lm, "recorded": suite.recorded}
    if row.learns:
        points = {"points": suite.points, "episodes": suite.point_episodes}
        config |= {"learns": row.learns, "data": asdict(suite.data), "curve": points}
    read: dict[str, Any] = json.loads(json.dumps(config))
    return read


def compute(cell: Cell, place: Place, running: dict[str, str | None], command: str) -> None:
    """Compute a cell and write its file; its data first, unless they are there."""
    path, config = place.out / CELLS / f"{cell.name}.json", config_of(cell, place)
    if made_with(path, config):
        return
    place.lm(cell.world)
    data = place.data_of(cell.row, cell.world)

    def found() -> dict[str, Any]:
        made = place.made(cell.row, cell.world, cell.seed, cell.name)
        return {
            "result": made.evaluation.to_json(),
            "budget": budget_of(place, cell),
            **_learned(cell, made),
            "episodes": _record(cell, place, made),
            "data": data,
            "lm": place.lm(cell.world).replace(f"hf:{place.out}{os.sep}", "hf:"),  # one of the folder's own
            "command": f"{command} --agents {cell.row.name} --envs {cell.world.name} --seeds {cell.seed}",
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": hardware(),
        }

    write_cell(path, config, found, running)
    for left in (place.out / "runs" / cell.name).rglob("checkpoints"):
        shutil.rmtree(left, ignore_errors=True)  # of use while the cell is unfinished; the agent stays


def budget_of(place: Place, cell: Cell) -> float | None:
    """Return what an episode may cost in the mean, None where nothing costs."""
    from dialog_gym.baselines import text_rows

    task: Any = text_rows(place.trial(cell.row, cell.world).venv).task
    return None if task.cost is None or task.budget is None else float(task.budget)


def _learned(cell: Cell, made: Made) -> dict[str, Any]:
    row = cell.row
    unit = "updates" if row.learns != "episodes" else "steps" if row.vectors else "episodes"
    curve = curve_of(made.run) if made.run is not None and row.learns else []
    return {
        "curve": curve,
        "curve_unit": unit if curve else "",
        "learned_from": row.learns,
        "seeded": row.seeded,
        "tokens": made.tokens,
    }


def curve_of(run: Path) -> list[tuple[int, float]]:
    """Return step and mean return of the evaluations of a run, [] where there were none."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    told = [json.loads(line) for line in lines]
    return [(int(one["step"]), float(one["eval/return"])) for one in told if "eval/return" in one]


def _record(cell: Cell, place: Place, made: Made) -> str:
    """Write the first held-out dialogues, whole or not at all, and return their folder within ``out``."""
    folder = place.out / EPISODES / cell.name
    trial = place.trial(cell.row, cell.world)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed before it wrote the cell
    first = made.evaluation.episodes[: place.suite.recorded]
    rows = (
        Recorded.of(replace(episode, actions=None, states=None), cell.env, dict(trial.env_kwargs), cell.row.name)
        for episode in first
    )
    import_rows(Episodes, rows, folder)
    return str(folder.relative_to(place.out))


def hardware() -> dict[str, Any]:
    """Return what this machine is."""
    import torch

    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system(), "gpu": gpu}


# --- running ------------------------------------------------------------------------------------


def run_cells(
    cells: Sequence[Cell], place: Place, *, since: float, command: str, running: dict[str, str | None] | None = None
) -> list[str]:
    """Compute what is missing of ``cells``; return the names of those that failed.

    Args:
        cells: In their order.
        place: Suite and folder.
        since: Seconds since 1970; cells of which a process has failed after that are not tried again.
        command: What makes them again, told in their files.
        running: What this process runs, of ``imported``; by default found now.
    """
    running = running or imported(cells)
    left = list(cells)
    while left:
        held = [cell for cell in left if not _done(cell, place, since) and not _tried(cell, place, running, command)]
        if len(held) == len(left):
            time.sleep(WAIT)
        left = held
    return [cell.name for cell in cells if _failure(cell, place).exists()]


def imported(cells: Iterable[Cell]) -> dict[str, str | None]:
    """Import all that ``cells`` may need, so that they run the code whose commit they tell; return the versions.

    Else much would be imported in the middle of a cell, hours later, from a checkout that may be another by then.
    """
    running = versions()
    for name in _modules():
        try:
            importlib.import_module(name)
        except ImportError as error:
            if (error.name or "").partition(".")[0] == "dialog_gym":
                raise
            log.debug("%s is not imported: %s", name, error)  # an optional package is not there
    for name in dict.fromkeys(cell.row.made for cell in cells if cell.row.kind == "agent"):
        _ = agent_spec(name).args
    return running


def _modules() -> Iterator[str]:
    """Yield the modules of the library that a cell may import."""
    for one in pkgutil.iter_modules(dialog_gym.__path__, "dialog_gym."):
        if not one.ispkg and one.name != "dialog_gym.__main__":
            yield one.name
    for part in PARTS:
        package = importlib.import_module(f"dialog_gym.{part}")
        yield from (one.name for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def _tried(cell: Cell, place: Place, running: dict[str, str | None], command: str) -> bool:
    """Compute a cell; return False if another process has it, or makes what it needs."""
    with claimed(place.out, cell) as mine:
        if not mine or place.awaited(cell.row, cell.world, cell.seed):
            return False
        failure = _failure(cell, place)
        log.info("%s", cell.name)
        try:
            compute(cell, place, running, command)
            failure.unlink(missing_ok=True)
        except Exception:
            log.exception("the cell %s failed; the others go on", cell.name)
            failure.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write_text(failure, traceback.format_exc())
    return True


def _done(cell: Cell, place: Place, since: float) -> bool:
    """Return whether a cell is there, or has failed after ``since``."""
    failure = _failure(cell, place)
    if failure.exists() and failure.stat().st_mtime > since:
        return True
    try:
        return made_with(place.out / CELLS / f"{cell.name}.json", config_of(cell, place))
    except (ValueError, KeyError, TypeError, RecursionError):
        return False  # computing it says what is wrong


def _failure(cell: Cell, place: Place) -> Path:
    return place.out / FAILED / f"{cell.name}.txt"
