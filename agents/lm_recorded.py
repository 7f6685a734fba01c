"""Training a language-model policy on what was recorded: what learning from dialogues and from preferences share.

Two parts stand on it: ``lm_training`` (dialogues: ``tf``, ``dt``, ``ilql``, ``stable_alignment``) and
``preference_training`` (rankings: ``dpo``, ``kto``). The order of rows follows from seed and step, so a run goes on
exactly where it was stopped. The policy with the best of ``args.best`` so far lies in ``best/``, and is what the
finished run holds in ``agent/``.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from torch import nn

from dialog_gym.agent import Evaluate
from dialog_gym.agents.lm_data import Told, data_files
from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.agents.lm_processes import accelerator_of, micro_of
from dialog_gym.agents.lm_steps import StepArgs, Stepped, Stepper
from dialog_gym.agents.lm_tokens import Empty
from dialog_gym.agents.loop import at_least, mean_return, run_training
from dialog_gym.agents.state import Arrays, join, split, to_numpy, to_torch
from dialog_gym.data.columns import DatasetError

PolicyT = TypeVar("PolicyT", bound=LMPolicy)
RowT = TypeVar("RowT")
T = TypeVar("T")


@dataclass(frozen=True)
class RecordedArgs(StepArgs):
    """What every agent that learns from recorded dialogues or rankings can be told."""

    data: tuple[str, ...] = ()
    """What to learn from: folders of episodes or rankings, files of JSON lines, corpus:NAME:PATH?OPTION=VALUE."""
    limit: int = 0
    """Most dialogues (contexts of rankings) to read; 0: all."""
    empty: Empty = "refuse"
    """Dialogues of no environment in which the agent has a turn without words: an error, skip them, or keep them and
    learn silence. In an environment an empty utterance is a turn like others."""
    held_out: float = 0.05
    """Share of the dialogues (contexts of rankings) that is not learned from, and that eval/ is about."""
    steps: int = 1000
    """Updates, where epochs is 0."""
    epochs: float = 0.0
    """Passes over the data instead of steps, if above 0."""
    eval_every: int = 250
    """Updates between evaluations; 0: never."""
    log_every: int = 25
    """Updates between lines of metrics."""
    checkpoint_every: int = 250
    """Updates between checkpoints."""
    best: Literal["loss", "return", "none"] = "loss"
    """Keep the policy with the lowest eval/loss or the highest eval/return; none keeps the last."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 0, "limit", "epochs")
        if not 0 <= self.held_out <= 0.9:
            raise ValueError(f"held_out must be a share from 0 to 0.9, got {self.held_out}")
        if self.best == "return" and not self.env:
            raise ValueError("best='return' needs an environment to play (env), or choose another")

    @property
    def data_used(self) -> tuple[str, ...]:
        """Data sets and files that the run learns from."""
        return data_files(self.data)


# --- rows ----------------------------------------------------------------------------------------------


def parted(told: Sequence[Told], share: float, seed: int) -> tuple[list[Told], list[Told]]:
    """Return dialogues to learn from and those held out; what shares a context is on one side.

    Candidates share one where they are of one ranking, or of rankings with the same prompt. At least one context is
    held out if ``share`` is above 0 and there are two.
    """
    of = _contexts(told)
    groups = sorted(set(of.values()))
    count = min(max(round(share * len(groups)), 1), len(groups) - 1) if share and groups else 0
    out = set(np.random.default_rng([seed, 1]).permutation(groups)[:count].tolist())
    return [one for one in told if of[one.group] not in out], [one for one in told if of[one.group] in out]


def _contexts(told: Sequence[Told]) -> dict[int, int]:
    """Return for each group the first that has the same context; without rankings that is itself."""
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for one in told:
        if one.group not in found:
            found[one.group] = first.setdefault(json.dumps(one.prompts), one.group) if one.ranked else one.group
    return found


def batch_rows(count: int, batch: int, step: int, seed: int) -> list[int]:
    """Return which of ``count`` rows update ``step`` (from 0) learns from, ``batch`` of them.

    Rows come in random order, each once before any comes again; update k + 1 goes on where k ended.

    >>> sorted(batch_rows(6, 4, 0, seed=0) + batch_rows(6, 4, 1, seed=0)[:2])
    [0, 1, 2, 3, 4, 5]
    """
    places = range(step * batch, (step + 1) * batch)
    return [_order(count, place // count, seed)[place % count] for place in places]


@lru_cache(maxsize=4)
def _order(count: int, epoch: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, 2, epoch]).permutation(count).tolist()
    return order


def chunks(rows: Sequence[T], size: int) -> Iterator[list[T]]:
    """Yield ``rows`` in order, ``size`` at a time; the last are what is left.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    return (list(rows[start : start + size]) for start in range(0, len(rows), size))


# --- a run ---------------------------------------------------------------------------------------------


class RecordedTraining(ABC, Generic[PolicyT, RowT], Stepped):
    """A run in progress; see ``dialog_gym.agents.loop.Training``.

    A subclass reads ``train_rows`` and ``held_rows`` and makes ``stepper`` (by ``stepper_of``) when it is made.

    Attributes:
        args: Settings.
        agent: The policy that is trained.
        step: Updates made.
        train_rows: What is learned from.
        held_rows: What is not.
        stepper: Makes the updates.
        micro: Rows that this process has in memory at once.
    """

    train_rows: list[RowT]
    held_rows: list[RowT]
    shards: ClassVar[bool] = True
    """Whether it can learn with sharded weights."""

    def __init__(self, policy: type[PolicyT], args: Any) -> None:
        """Make the policy on the device of this process."""
        self.args, self.step = args, 0
        self.accelerator = accelerator_of(args, shards=self.shards)
        self.device = self.accelerator.device
        self.micro = micro_of(args, self.accelerator.num_processes)
        self.agent: PolicyT = policy.build(args, device=str(self.device))
        self._best: float | None = None

    @property
    def updates(self) -> int:
        """Updates that the settings ask for, given the rows."""
        args = self.args
        return math.ceil(args.epochs * len(self.train_rows) / args.batch) if args.epochs else int(args.steps)

    def stepper_of(self, network: LMNetwork) -> Stepper:
        """Return what makes the updates of ``network``."""
        return Stepper(network, self.args, self.accelerator, self.updates)

    @abstractmethod
    def advance(self) -> None:
        """Make one update."""

    @abstractmethod
    def pop_metrics(self) -> dict[str, float]:
        """Return and forget what happened since the last call."""

    @abstractmethod
    def score_held_out(self) -> dict[str, float]:
        """Return numbers about the held-out rows as ``eval/...``; nothing without such rows."""

    def modules(self) -> dict[str, nn.Module]:
        """Return what has weights beside the policy and must be in a checkpoint, by name."""
        return {}

    @property
    def total(self) -> int:
        """Updates in all."""
        return self.stepper.total

    def begin(self) -> None:
        """Stand at step 0."""

    def evaluated(self, metrics: dict[str, float], folder: Path) -> dict[str, float]:
        """Score held-out rows, and keep the policy if it is the best so far."""
        found = self.score_held_out()
        value = {**metrics, **found}.get(f"eval/{self.args.best}")
        if value is not None:
            value = -value if self.args.best == "return" else value
            if self._best is None or value < self._best:
                self._best = value
                self.agent.save(folder / "best")
        return found

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that ``restore`` needs."""
        extra = {name: to_numpy(module.state_dict()) for name, module in self.modules().items()}
        return join(steps=self.stepper.state(), more=join(**extra)), {"best": self._best}

    def restore(self, step: int, arrays: Arrays, data: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned at ``step``."""
        parts = split(arrays)
        self.stepper.restore(parts["steps"], step)
        extra = split(parts.get("more", {}))
        for name, module in self.modules().items():
            module.load_state_dict(to_torch(extra[name]))
        self.step, self._best = step, data["best"]

    def state_bytes(self) -> int:
        """Return how large a checkpoint can become: the training's state, and the policy beside it."""
        kept = [self.agent.network, *self.modules().values()]
        tensors = (tensor for module in kept for tensor in module.state_dict().values())
        return self.stepper.state_bytes() + sum(int(tensor.nbytes) for tensor in tensors)

    def standing(self) -> Mapping[str, Any]:
        """Return what must be alike in all processes: the step, and the data."""
        lengths = [len(row) for row in self.train_rows]  # type: ignore[arg-type]  # rows of all kinds have a length
        return {**super().standing(), "rows to learn from": len(lengths), "tokens of these": sum(lengths)}

    def finish(self, folder: Path) -> None:
        """Go back to the best policy."""
        if self._best is not None:
            self.agent = type(self.agent).load(folder / "best", device=str(self.device))
        self.agent.forget()

    def close(self) -> None:
        """Let go of nothing: data and weights are in memory."""


def train_lm(policy: type[PolicyT], args: Any, make: Any, evaluate: Evaluate | None) -> PolicyT:
    """Train ``policy`` in the run folder ``args.out``, or go on where that stands.

    Args:
        policy: The agent's class.
        args: Its settings.
        make: Returns its ``RecordedTraining``, given ``args``.
        evaluate: Scores the policy; by default the mean return in the environment, if there is one.

    Raises:
        DatasetError: The data are missing, empty, or cannot be learned from; nothing has been trained.
        ValueError: Model, environment and settings do not fit.
        DivergedError: The loss became infinite; the last checkpoint is from before.
        RunFolderError: The folder is of another run, in use, or cannot be written.
        Interrupted: Ctrl-C was pressed; a checkpoint has been written.
    """
    if not args.data:
        raise DatasetError("expected data to learn from (data), got none; `dialog-gym collect` records dialogues")
    playing = mean_return(args) if args.env else (lambda agent: {})
    return run_training(policy, args, make, evaluate or playing)
