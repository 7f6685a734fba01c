"""Where metrics are shown while they come in: TensorBoard, Weights & Biases, a progress bar."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

TRACKERS = ("tensorboard", "wandb", "none")
_SHOWN = {"train/return": "return", "eval/return": "evaluated", "time/steps_per_second": "steps/s"}


class Tracker(Protocol):
    """Somewhere to send metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show ``metrics`` at ``step``."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class TensorBoard:
    """Event files in the run folder; steps after ``step`` of an earlier start are hidden."""

    def __init__(self, path: Path, step: int) -> None:
        """Write to ``path``."""
        from torch.utils.tensorboard import SummaryWriter

        purge = step + 1 if step else None
        self._writer = SummaryWriter(str(path), purge_step=purge)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar per metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


class WeightsAndBiases:
    """A wandb run named after the folder, and taken up again with it."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        """Begin or resume the run."""
        import wandb

        saved = path / "wandb-id.txt"
        if not saved.exists():
            saved.write_text(secrets.token_hex(4), encoding="utf-8")
        self._run = wandb.init(
            project="dialog_gym", name=path.name, dir=path, config=dict(config), id=saved.read_text(), resume="allow"
        )
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one record; the step is a metric, since wandb refuses to go back in its own."""
        self._run.log({"step": step, **metrics})

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


def make_tracker(name: str, path: Path, config: Mapping[str, Any], step: int) -> list[Tracker]:
    """Return the tracker ``name`` for the run in ``path`` that goes on from ``step``, as a list of none or one.

    Raises:
        ValueError: The name is unknown, or wandb is asked for and not installed.
    """
    if name not in TRACKERS:
        raise ValueError(f"track must be one of {', '.join(TRACKERS)}, got {name!r}")
    if name == "wandb":
        if importlib.util.find_spec("wandb") is None:
            raise ValueError("track='wandb' needs the package wandb: pip install wandb, or track='tensorboard'")
        return [WeightsAndBiases(path, config)]
    here = all(importlib.util.find_spec(package) is not None for package in ("torch", "tensorboard"))
    return [TensorBoard(path, step)] if name == "tensorboard" and here else []


@contextmanager
def progress_bar(
    label: str, total: int, *, done: int = 0, show: bool = True
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Show a bar with time left and the last known returns on standard error; yields ``update(done, metrics)``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    known: dict[str, float] = {}

    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task(label, total=total, completed=done, note="")

        def update(at: int, metrics: Mapping[str, float]) -> None:
            known.update(metrics)
            shown = (f"{title} {known[name]:.3g}" for name, title in _SHOWN.items() if name in known)
            bar.update(task, completed=min(at, total), note=", ".join(shown))

        yield update
