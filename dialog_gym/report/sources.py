"""What lies in the paths a report is made of. What is broken is left out and named, never guessed."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dialog_gym.benchmarks.results_folder import (
    CELLS,
    SUITE,
    Result,
    Results,
    differences,
    other_settings,
    read_results,
    world_of,
)
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.store import MANIFEST
from dialog_gym.rollout import PER_TURN, Episode

_READ = ("seed", "env", "env_kwargs", "policy", "rewards", "costs", *PER_TURN, "score", "dialogue")
FEW = 3  # complaints of one place that are told one by one
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Told:
    """A dialogue and whose it is.

    Attributes:
        world: ``"Bargain"``; ``""`` where nobody knows.
        agent: Who spoke for the agent.
        run: Seed of its run, ``""`` where it has none, or learned nothing and is the only one.
        episode: What was said and earned.
        score: What the dialogue as a whole was given, if it was.
    """

    world: str
    agent: str
    run: str
    episode: Episode
    score: float | None = None


@dataclass(frozen=True)
class Curve:
    """How a run improved: pairs of ``unit`` so far and mean return in evaluations during training."""

    world: str
    agent: str
    run: str
    unit: str
    points: tuple[tuple[int, float], ...]


@dataclass
class Sources:
    """What was found.

    Attributes:
        results: Of suites; None where no path is a folder of results.
        dialogues: Those that are shown, by the order of paths, environments, agents and seeds.
        curves: Of training runs (those of suites are in ``results``).
        broken: What was left out, each with its reason.
        mixed: How versions differ, one line per package, and which runs of an agent have different settings; empty
            where nothing does.
        found: How many dialogues there are, shown or not.
    """

    results: Results | None = None
    dialogues: list[Told] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    mixed: tuple[str, ...] = ()
    found: int = 0


def read_sources(paths: Sequence[str | Path], *, mixed: bool = False, limit: int = 5000) -> Sources:
    """Read folders of results, training runs, data sets of episodes, and files that ``evaluate --out`` wrote.

    Args:
        paths: Where to look. A folder that is none of these is searched for such folders.
        mixed: Take results of different versions too; ``Sources.mixed`` then tells how they differ.
        limit: How many dialogues to show: about as many of each run in each environment, the first ones, so that
            runs have seeds in common. 0: all.

    Raises:
        FileNotFoundError: A path is not there.
        ValueError: Versions differ, or there is nothing to show.
    """
    if limit < 0:
        raise ValueError(f"limit must be a number of dialogues, or 0 for all of them, got {limit}")
    if not paths:
        raise ValueError("expected at least one folder of results, run folder or data set of episodes, got none")
    places = _places(paths)
    shown, groups = Sources(), _Groups(limit)
    if suites := [place for place in places if _kind(place) == "suite"]:
        shown.results = read_results(*suites, mixed=True)
        shown.broken += shown.results.broken
    for place in places:
        _read(place, shown, groups)
    results = shown.results.results if shown.results else ()
    runs = Counter((result.world, result.agent) for result in results)
    for result in results:
        _read_recorded(result, runs[result.world, result.agent], shown, groups)
    read = (*results, *shown.results.doubles) if shown.results else ()
    shown.mixed = (*differences(_versions(places, read)), *other_settings(read))
    if shown.mixed and not mixed:
        raise ValueError(
            f"results of different versions or settings do not belong into one report: {'; '.join(shown.mixed)}. "
            "Make a report of each, or add --mixed, and the page says so"
        )
    shown.dialogues, shown.found = groups.chosen(), groups.found
    if not (shown.dialogues or shown.curves or (shown.results and shown.results.results)):
        rest = [f"{len(shown.broken) - FEW} more"] if len(shown.broken) > FEW else []
        left_out = f"; left out: {'; '.join([*shown.broken[:FEW], *rest])}" if shown.broken else ""
        raise ValueError(f"no results and no dialogues in {', '.join(map(str, paths))}{left_out}")
    return shown


class _Groups:
    """The first dialogues of each run of an agent in each environment."""

    def __init__(self, limit: int) -> None:
        self.limit, self.found = limit, 0
        self._groups: dict[tuple[str, str, str], list[Told]] = {}

    def add(self, dialogues: Iterable[Told]) -> None:
        """Keep those that could be shown."""
        for told in dialogues:
            group = self._groups.setdefault((told.world, told.agent, told.run), [])
            self.found += 1
            if not self.limit or len(group) < self.limit:
                group.append(told)

    def chosen(self) -> list[Told]:
        """Return as many of each group as the limit allows, small groups whole."""
        sizes = Counter(len(group) for group in self._groups.values())
        most, room, groups = max(sizes, default=0), self.limit, len(self._groups)
        for size in sorted(sizes) if self.limit else ():
            if size * groups > room:
                most = max(room // groups, 1)
                break
            room, groups = room - size * sizes[size], groups - sizes[size]
        return [told for group in self._groups.values() for told in group[:most]]


def _places(paths: Sequence[str | Path]) -> list[Path]:
    """Return folders and files that can be read, each once."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there; give folders of results, runs or episodes")
        for place in _inside(path):
            found.setdefault(place.resolve(), place)
    return list(found.values())


def _inside(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    kind = _kind(path)
    found = [path] if kind else []
    if not kind or (kind == "run" and not (path / "config.json").is_file()):  # quickstart's holds a run
        found += [place for child in sorted(path.iterdir()) if child.is_dir() for place in _inside(child)]
    return found


def _kind(folder: Path) -> str:
    if (folder / SUITE).is_file() or any((folder / CELLS).glob("*--*--*.json")):
        return "suite"
    if (folder / MANIFEST).is_file():
        return "episodes"
    run = (folder / "config.json").is_file() or any((folder / "episodes").glob("*.jsonl"))
    return "run" if run else ""


def _read(place: Path, shown: Sources, groups: _Groups) -> None:
    """Read one place that is no folder of results; what cannot be read is named in ``shown.broken``."""
    try:
        if place.is_file():
            _refuse_part_of_suite(place)
            groups.add(_lines(place, "", place.stem, "", shown.broken))
        elif (kind := _kind(place)) == "episodes":
            groups.add(_of_recorded(row) for row in _rows(place, shown.broken))
        elif kind == "run":
            _read_run(place, shown, groups)
    except _UNREADABLE as error:
        shown.broken.append(_named(place, error))


def _refuse_part_of_suite(path: Path) -> None:
    """Raise a ValueError if a file is one of those that make a folder of results."""
    folder = path.absolute().parent
    if folder.name == CELLS and path.match("*--*--*.json"):
        folder = folder.parent
    elif path.name != SUITE:
        return
    raise ValueError(f"expected dialogues, got one file of a folder of results; give that folder, {folder}")


def _read_run(folder: Path, shown: Sources, groups: _Groups) -> None:
    config = _json_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    args = config.get("args", {})
    world, agent, run = world_of(str(args.get("env", ""))), str(config.get("agent", "")), str(args.get("seed", ""))
    if (metrics := folder / "metrics.jsonl").is_file() and (points := tuple(_curve(metrics, shown.broken))):
        shown.curves.append(Curve(world, agent or folder.name, run, "steps", points))
    for path in sorted((folder / "episodes").glob("*.jsonl")):
        policy = path.stem
        label = agent if agent and policy in ("agent", "policy") else policy
        groups.add(_lines(path, world or _world_of_result(folder), label, run if label == agent else "", shown.broken))


def _world_of_result(folder: Path) -> str:
    """Return the world of a folder as quickstart writes it, which has no configuration."""
    path = folder / "result.json"
    settings = _json_object(path).get("settings", {}) if path.is_file() else {}
    return world_of(str(settings.get("env", "")))


def _read_recorded(result: Result, runs: int, shown: Sources, groups: _Groups) -> None:
    """Read the dialogues of a cell, one of so many ``runs`` of its agent in its world."""
    if result.episodes is None:
        return
    run = str(result.seed) if result.learned_from or runs > 1 else ""
    rows = _rows(result.episodes, shown.broken)
    groups.add(Told(result.world, result.agent, run, row, row.score) for row in rows)


def _rows(folder: Path, broken: list[str]) -> Iterator[Recorded]:
    """Yield the episodes of a data set as far as it can be read; what is damaged is named. Vectors are not read."""
    number = 0
    try:
        with _few(folder, broken) as bad:
            for number, row in enumerate(Episodes.load(folder).select(*_READ), 1):
                try:
                    episode = _checked(Episodes.decode({**row, "actions": None, "states": None}))
                except _UNREADABLE as error:
                    bad.append(_named(f"{folder}, episode {number}", error))
                else:
                    yield episode
    except _UNREADABLE as error:
        broken.append(_named(folder, error) + (f"; the {number} episodes before that are read" if number else ""))


def _of_recorded(row: Recorded) -> Told:
    policy = Path(row.policy).name or "unknown"
    return Told(world_of(row.env), policy, "", row, row.score)


def _lines(path: Path, world: str, agent: str, run: str, broken: list[str]) -> Iterator[Told]:
    """Yield the episodes of a file of JSON lines; a line that is none is named in ``broken``."""
    with open(path, encoding="utf-8") as file, _few(path, broken) as bad:
        for number, line in enumerate(file, 1):
            try:
                episode = _checked(Episode.from_json(json.loads(line)))
            except _UNREADABLE as error:
                bad.append(_named(f"{path}, line {number}", error))
            else:
                yield Told(world, agent, run, episode)


def _checked(episode: Any) -> Any:
    """Return an episode with one number per agent turn.

    Raises:
        ValueError: It has not.
    """
    turns = episode.dialogue.turn
    rows = {"rewards": episode.rewards, "costs": episode.costs}
    rows |= {f"{part}.{name}": row for part in PER_TURN for name, row in getattr(episode, part).items()}
    for name, row in rows.items():
        if len(row) != turns or not all(map(_is_number, row)):
            raise ValueError(f"expected a number for each of {turns} agent turns as {name}, got {row!r:.60}")
    return episode


def _is_number(value: Any) -> bool:
    """Return whether a value can be shown as a number; a whole one may be too large."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)


def _curve(path: Path, broken: list[str]) -> Iterator[tuple[int, float]]:
    with open(path, encoding="utf-8") as file, _few(path, broken) as bad:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                if "eval/return" not in row:
                    continue
                step, value = int(row["step"]), float(row["eval/return"])
                if not math.isfinite(value):
                    raise ValueError(f"expected a finite mean return at step {step}, got {value}")
                yield step, value
            except _UNREADABLE as error:
                bad.append(_named(f"{path}, line {number}", error))


def _versions(places: Iterable[Path], results: Iterable[Result]) -> Iterator[Mapping[str, str | None]]:
    """Yield what results and runs ran on, of a run its last start."""
    for result in results:
        yield result.versions
    for place in places:
        path = place / "versions.json"
        if not place.is_dir() or not path.is_file():
            continue
        try:
            start = dict(json.loads(path.read_text(encoding="utf-8"))[-1])
            if not all(value is None or isinstance(value, str) for value in start.values()):
                raise ValueError("expected texts as versions")
            yield start
        except (*_UNREADABLE, IndexError):
            yield {"versions": f"unreadable in {path}"}


@contextmanager
def _few(place: Path, broken: list[str]) -> Iterator[list[str]]:
    """Take complaints about ``place``: the first are told, the others counted."""
    bad: list[str] = []
    try:
        yield bad
    finally:
        broken += bad[:FEW]
        if len(bad) > FEW:
            broken.append(f"{place}: {len(bad) - FEW} more like these")


def _json_object(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object in {path.name}, got {type(value).__name__}")
    return value


def _named(place: object, error: BaseException) -> str:
    told = f"{error.args[0]!r} is not there" if isinstance(error, KeyError) and error.args else str(error)
    return f"{place}: {' '.join(told.split()):.300}"
