"""Run folders: what a training run is, what came of it, and where to go on.

::

    config.json        agent, arguments, environment; compared when the same command is started again
    versions.json      Python, packages and commit of each start
    metrics.jsonl      one line per log call; TensorBoard events beside it where tensorboard is installed
    checkpoints/       step-000002016/, ... the last two; see dialog_gym.checkpoint
    agent/             the trained agent, once the run has finished
    result.json        there when the run has finished
    lock               held by the process that writes here

Killed at any moment and opened again with the same configuration, a run goes on from its last
checkpoint; metrics of later steps are cut off. Nothing is pickled.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Protocol, Self

from dialog_gym import checkpoint
from dialog_gym.checkpoint import Arrays, Checkpoint, CheckpointError
from dialog_gym.tracking import Tracker, make_tracker

log = logging.getLogger("dialog_gym")

_STEP = "step-{:09d}"
_MARGIN = 1 << 20  # bytes that config, metrics and events may take
_PACKAGES = (
    *("dialog-gym", "gymnasium", "numpy", "torch", "transformers", "peft", "accelerate", "trl"),
    "stable-baselines3",
)


class RunFolderError(RuntimeError):
    """A run folder cannot be written, or belongs to another run; the message says what is safe."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed, and the run has been stopped where it can go on."""


class Savable(Protocol):
    """What can write itself to a folder."""

    def save(self, folder: str | Path) -> None:
        """Write."""
        ...


class RunFolder:
    """One run on disk. Use ``RunFolder.open``, and as a context manager.

    Attributes:
        path: The folder.
        interrupted: Whether Ctrl-C was pressed (see ``catching_interrupts``); stop after the next ``save``.
    """

    def __init__(self, path: Path, kind: str, keep: int, lock: IO[str]) -> None:
        """Use ``RunFolder.open``."""
        self.path, self.kind, self.keep = path, kind, keep
        self.interrupted = False
        self._lock = lock
        self._metrics: IO[str] | None = None
        self._trackers: list[Tracker] = []

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        keep: int = 2,
        track: str = "tensorboard",
        data: Sequence[str | Path] = (),
    ) -> Self:
        """Begin the run ``config`` in ``path``, or take it up again.

        Args:
            path: The folder; it is made if need be.
            config: JSON values that determine the run, with the agent's name under ``"agent"``.
            keep: How many checkpoints to keep.
            track: ``"tensorboard"`` (skipped if it is not installed), ``"wandb"`` or ``"none"``.
            data: Data sets and files that the run learns from. Their content hashes become part of the configuration,
                so an unfinished run does not go on with other data.

        Raises:
            DatasetError: Data cannot be read.
            RunFolderError: The folder is of another run, in use, read-only or on a full disk, or it holds
                other files.
        """
        path = Path(path)
        plain: dict[str, Any] = json.loads(json.dumps(config))
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, got {keep}")
        if data and (noted := _hashes(path, data)):
            plain["data"] = noted
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = lock_folder(path)
            try:
                run = cls(path, str(plain["agent"]), keep, lock)
                run._begin(plain, track)
            except BaseException:
                lock.close()
                raise
        except OSError as error:
            raise RunFolderError(
                f"cannot write to the run folder {path}: {error}. Nothing was trained and nothing is lost; "
                "make room or choose another folder"
            ) from error
        return run

    @property
    def finished(self) -> bool:
        """Whether ``finish`` was called, now or in an earlier process."""
        return (self.path / "result.json").exists()

    @property
    def agent_folder(self) -> Path:
        """Where the trained agent lies once the run has finished."""
        return self.path / "agent"

    def check_space(self, size: int) -> None:
        """Refuse to begin if the disk has no room for ``keep`` checkpoints of ``size`` bytes and one in the making.

        Raises:
            RunFolderError: It has not.
        """
        need = max(self.keep + 1 - len(self.steps()), 1) * size + _MARGIN
        free = shutil.disk_usage(self.path).free
        if free < need:
            raise RunFolderError(
                f"the checkpoints of {self.path} need {need / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free. "
                "Nothing was trained in this start; make room, choose another folder, or keep fewer checkpoints"
            )

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, oldest first."""
        return sorted(int(folder.name.removeprefix("step-")) for folder in self._checkpoints.glob("step-*"))

    def last(self) -> tuple[int, Checkpoint] | None:
        """Return step and content of the last checkpoint, or None if there is none yet.

        Raises:
            CheckpointError: It is damaged; the message names the one before it.
        """
        steps = self.steps()
        if not steps:
            return None
        folder = self._checkpoints / _STEP.format(steps[-1])
        try:
            return steps[-1], checkpoint.read(folder, self.kind)
        except CheckpointError as error:
            back = f"go on from step {steps[-2]}" if len(steps) > 1 else "begin again"
            raise CheckpointError(f"{error}. Remove {folder} and start the same command to {back}") from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line to ``metrics.jsonl``, and tell the trackers."""
        assert self._metrics is not None, "the run folder is closed"
        try:
            self._metrics.write(json.dumps({"step": step, **metrics}) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise self._failed(f"the metrics of step {step}", error) from error
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def save(
        self,
        step: int,
        arrays: Arrays,
        data: Mapping[str, Any],
        *,
        beside: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the checkpoint of ``step``, then remove those that are no longer kept.

        Raises:
            RunFolderError: It could not be written; the one before it is whole.
        """
        assert self._metrics is not None, "the run folder is closed"
        try:
            os.fsync(self._metrics.fileno())
            checkpoint.write(self._checkpoints / _STEP.format(step), self.kind, arrays, data, beside=beside)
            for old in self.steps()[: -self.keep]:
                shutil.rmtree(self._checkpoints / _STEP.format(old))
        except OSError as error:
            raise self._failed(f"the checkpoint of step {step}", error) from error

    def save_agent(self, agent: Savable) -> None:
        """Write the trained agent to ``agent_folder``."""
        with self.writing("the agent"):
            agent.save(self.agent_folder)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``: from now on the run is finished."""
        with self.writing("the result"):
            checkpoint.write_json(self.path / "result.json", dict(result))

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Let an ``OSError`` in the block tell that ``what`` could not be written, and what is safe.

        Raises:
            RunFolderError: It could not.
        """
        try:
            yield
        except OSError as error:
            raise self._failed(what, error) from error

    def stop_if_interrupted(self, step: int) -> None:
        """Raise ``Interrupted`` if Ctrl-C was pressed; call it right after ``save``."""
        if self.interrupted:
            raise Interrupted(
                f"stopped at step {step}; everything is safe in {self.path}: start the same command again to go on"
            )

    def close(self) -> None:
        """Close all files and let go of the lock."""
        for tracker in self._trackers:
            tracker.close()
        self._trackers = []
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        self._lock.close()

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Inside, the first Ctrl-C only sets ``interrupted``, and the second stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def __enter__(self) -> Self:
        """Return the run, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the folder."""
        self.close()

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def _begin(self, config: dict[str, Any], track: str) -> None:
        self._check_config(config)
        self._checkpoints.mkdir(exist_ok=True)
        checkpoint.remove_partial(self._checkpoints)
        checkpoint.remove_partial(self.path)
        _note_versions(self.path / "versions.json")
        step = max(self.steps(), default=0)
        if not self.finished:
            _cut_metrics(self.path / "metrics.jsonl", step)
            self._trackers = make_tracker(track, self.path, config, step)
        self._metrics = open(self.path / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115, closed by close()

    def _check_config(self, config: dict[str, Any]) -> None:
        path = self.path / "config.json"
        if not path.exists():
            others = sorted(f.name for f in self.path.iterdir() if f.name != "lock" and not f.name.startswith("."))
            if others:
                raise RunFolderError(
                    f"{self.path} holds {others[0]!r} and no config.json, so it is no run folder; choose another"
                )
            checkpoint.write_json(path, config)
            return
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunFolderError(f"{path} is no JSON ({error}); choose another folder") from error
        if (differences := _differences(old, config)) and not self._has_anything():
            checkpoint.write_json(path, config)  # a run that failed before its first step must not stand in the way
        elif differences:
            raise RunFolderError(
                f"{self.path} holds another run, which differs in {'; '.join(differences)}. "
                "Give the same settings to go on with it, or another folder for a new run"
            )

    def _has_anything(self) -> bool:
        metrics = self.path / "metrics.jsonl"
        return self.finished or bool(self.steps()) or (metrics.exists() and metrics.stat().st_size > 0)

    def _failed(self, what: str, error: OSError) -> RunFolderError:
        steps = self.steps()
        safe = f"The checkpoint of step {steps[-1]} is safe" if steps else "There is no checkpoint yet"
        return RunFolderError(
            f"could not write {what} to {self.path}: {error}. {safe}; mend the disk and start the same command again"
        )

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt(
                f"stopped at once; {self.path} keeps what it had at step {max(self.steps() or [0])}"
            )
        self.interrupted = True
        log.warning("Ctrl-C: stopping at the next checkpoint. Press it again to stop at once, going back to the last.")


def _hashes(path: Path, data: Sequence[str | Path]) -> dict[str, str]:
    """Return the content hashes of ``data``; of a finished run those it has noted, since it needs no data any more."""
    from dialog_gym.data.used import hashes

    if (path / "result.json").exists():
        noted: dict[str, str] = json.loads((path / "config.json").read_text(encoding="utf-8")).get("data", {})
        return noted
    return hashes(data)


def lock_folder(path: Path, what: str = "run folder") -> IO[str]:
    """Return an open, locked file; the system unlocks it when the process dies, however it dies.

    Args:
        path: The folder that one process at a time may write to.
        what: What the message calls it.

    Raises:
        RunFolderError: Another process holds it.
    """
    file = open(path / "lock", "a+", encoding="utf-8")  # noqa: SIM115, held as long as the run is open
    try:
        _lock_file(file)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise RunFolderError(
            f"the {what} {path} is in use by process {owner}; wait for it, stop it, or choose another folder"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


if sys.platform == "win32":
    import msvcrt

    def _lock_file(file: IO[str]) -> None:
        file.seek(1 << 20)  # locked bytes cannot be read there, and the owner's number must be
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
else:
    import fcntl

    def _lock_file(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Return ``"name (there 1, now 2)"`` for each leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        gone = "(absent)"
        return [
            found
            for key in keys
            for found in _differences(old.get(key, gone), new.get(key, gone), f"{name}.{key}" if name else key)
        ]
    return [] if old == new else [f"{name} (there {old!r:.60}, now {new!r:.60})"]


def _cut_metrics(path: Path, step: int) -> None:
    """Keep the whole lines of steps up to ``step``."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if _step_of(line) <= step] if step else []
    if len(kept) < len(lines):
        checkpoint.write_text(path, "".join(kept))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")


def versions() -> dict[str, str | None]:
    """Return what this process runs: Python, packages that are there, commit of the checkout."""
    found: dict[str, str | None] = {"python": sys.version.split()[0], "commit": _commit()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _note_versions(path: Path) -> None:
    """Append what this start runs on, unless the start before it ran on the same."""
    now = versions()
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = []
    if before and before[-1] != now:
        log.warning("this run began with other versions (%s): numbers may differ in the last digits", path)
    if not before or before[-1] != now:
        checkpoint.write_json(path, [*before, now])


def _commit() -> str | None:
    """Return the commit of the checkout this file lies in, with ``+`` if it has changes; None if it is installed."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty=+",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
