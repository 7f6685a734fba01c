"""Training a language-model policy on preferences: the part that ``dpo`` and ``kto`` share.

The contract for algorithms, each of which subclasses ``PreferenceTraining``:

- ``rows(found, required)``: what is learned from, as ``preference_data.Pair`` or ``Labelled`` values.
- ``settings(rows)``: fields of TRL's configuration (loss, beta, weights); ``kind`` says which trainer it is.

The loss is TRL's own (``dialog_gym.agents.trl_trainers``), the mean over the rows of an update. The reference is the
model that training begins with, or the one that ``reference`` names; its log-probabilities of all rows that will be
learned from are computed once, before the first step, so it takes no memory afterwards.

The order of rows follows from seed and step, so a run goes on exactly where it was stopped. Every ``eval_every`` steps
there are TRL's numbers on held-out contexts as ``eval/...`` (``loss``, ``rewards/accuracies``, ``rewards/margins``,
``kl``), and the mean return in the environment if there is one.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor

from dialog_gym.agents.lm_data import Told, data_files
from dialog_gym.agents.lm_network import embeddings_of, load_model
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.agents.lm_steps import StepArgs, Stepper, Sums, accelerator_of
from dialog_gym.agents.lm_tokens import Empty
from dialog_gym.agents.lm_training import batch_rows, parted
from dialog_gym.agents.loop import at_least
from dialog_gym.agents.preference_data import Context, Labelled, Pair, contexts, read_rankings
from dialog_gym.agents.state import Arrays, join, split
from dialog_gym.data.columns import DatasetError

PolicyT = TypeVar("PolicyT", bound=LMPolicy)
RowT = TypeVar("RowT", Pair, Labelled)


@dataclass(frozen=True)
class StageArgs(StepArgs):
    """What training on preferences can be told, whatever is preferred."""

    data: tuple[str, ...] = ()
    """Rankings to learn from: folders (`dialog-gym branch`), files of JSON lines, corpus:NAME:PATH?OPTION=VALUE."""
    limit: int = 0
    """Most contexts to read; 0: all."""
    empty: Empty = "refuse"
    """Candidates of no environment without words: an error, skip them, or keep them and learn silence."""
    held_out: float = 0.05
    """Share of the contexts that is not learned from, and that eval/ is about."""
    steps: int = 1000
    """Updates, where epochs is 0."""
    epochs: float = 1.0
    """Passes over the data."""
    eval_every: int = 250
    """Updates between evaluations; 0: never."""
    log_every: int = 25
    """Updates between lines of metrics."""
    checkpoint_every: int = 250
    """Updates between checkpoints."""
    best: Literal["loss", "return", "none"] = "none"
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


@dataclass(frozen=True)
class PreferenceArgs(StageArgs):
    """What every agent that learns from preferences can be told."""

    metric: str = "score"
    """Number of each candidate that is learned from; with - before it, lower is better: -cost."""
    beta: float = 0.1
    """Weight of the distance from the reference. In a later stage of SACPO: beta / lambda."""
    reference: str = ""
    """Model that the policy is kept near, as in lm; empty: the one that training begins with."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta must be above 0, got {self.beta}")


class PreferenceTraining(ABC, Generic[PolicyT, RowT]):
    """A run in progress, on preferences; see ``dialog_gym.agents.loop.Training``.

    Attributes:
        agent: The policy that is trained.
        step: Updates made.
        train_rows: What is learned from.
        held_rows: What is not.
        trainer: TRL's.
    """

    kind: ClassVar[Literal["dpo", "kto"]]

    def __init__(self, policy: type[PolicyT], args: Any) -> None:
        """Read the data, make the policy, and ask the reference; everything that can be refused is refused here."""
        from dialog_gym.agents.trl_trainers import Called, make_trainer

        self.args, self.step = args, 0
        accelerator = accelerator_of(args)
        self.device = accelerator.device
        self.agent: PolicyT = policy.build(args, device=str(self.device))
        self.train_rows: list[RowT]
        self.held_rows: list[RowT]
        self.train_rows, self.held_rows = self._read()
        count = len(self.train_rows)
        updates = math.ceil(args.epochs * count / args.batch) if args.epochs else args.steps
        self.trainer = make_trainer(
            self.kind,
            self.agent.network,
            self.agent.lm.tokenizer,
            self.train_rows[0].example(),
            batch=args.micro or args.batch,
            settings={"beta": args.beta, "disable_dropout": not args.lora_dropout, **self.settings(self.train_rows)},
            bf16=args.precision == "bf16",
            seed=args.seed,
        )
        used = {place for step in range(updates) for place in batch_rows(count, args.batch, step, args.seed)}
        self._ask_reference(sorted(used))
        self.stepper = Stepper(Called(self.agent.network), args, accelerator, updates)  # type: ignore[arg-type]
        self._best: float | None = None
        self._losses: list[Tensor] = []
        self._since, self._rows = time.perf_counter(), 0

    # --- what an algorithm says -----------------------------------------------------------------------

    @abstractmethod
    def rows(self, found: Sequence[Context], required: bool) -> list[RowT]:
        """Return what is learned from in these contexts; where that is nothing and ``required``, refuse the data."""

    @abstractmethod
    def settings(self, rows: Sequence[RowT]) -> dict[str, Any]:
        """Return fields of TRL's configuration, given what is learned from."""

    # --- making -----------------------------------------------------------------------------------------

    def _read(self) -> tuple[list[RowT], list[RowT]]:
        args, lm = self.args, self.agent.lm
        task = self.agent.task if args.env else None
        told = read_rankings(args.data, lm, task, metric=args.metric, limit=args.limit)
        train, held_out = parted(told, args.held_out, args.seed)
        rows = self._rows_of(train, True)
        if not rows:
            raise DatasetError(f"{', '.join(args.data)}: there is nothing to learn from, got {len(told)} candidates")
        return rows, self._rows_of(held_out, False)

    def _rows_of(self, told: Sequence[Told], required: bool) -> list[RowT]:
        args = self.args
        return self.rows(contexts(told, self.agent.lm, max_tokens=args.max_tokens, empty=args.empty), required)

    def _ask_reference(self, used: Sequence[int]) -> None:
        """Note what the reference makes of the rows that will be learned from, and of those held out."""
        from dialog_gym.agents.trl_trainers import as_reference

        model = self.agent.network.model
        if self.args.reference:
            model, _ = load_model(self.args.reference, self.args.dtype, str(self.device))
            sizes = [len(embeddings_of(one)) for one in (model, self.agent.network.plain)]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"the reference {self.args.reference!r} has {sizes[0]} tokens and {self.args.lm!r} {sizes[1]}: "
                    "they are not of one kind"
                )
            model = as_reference(model)
        was = model.training
        model.eval()
        told = dict(zip(used, self._asked([self.train_rows[place] for place in used], model), strict=True))
        self.train_rows = [told.get(place, row) for place, row in enumerate(self.train_rows)]
        self.held_rows = self._asked(self.held_rows, model)
        model.train(was)

    def _asked(self, rows: Sequence[RowT], model: Any) -> list[RowT]:
        """Return ``rows`` with the log-probabilities of the reference; those of like length are read together."""
        found = list(rows)
        for places in _chunks(sorted(range(len(rows)), key=lambda place: len(rows[place])), self._together):
            batch = self._batch([rows[place] for place in places])
            columns = self.trainer.compute_ref_log_probs(model, batch)
            for place, *numbers in zip(places, *(column.tolist() for column in columns), strict=True):
                found[place] = replace(rows[place], reference=tuple(numbers))
        return found

    @property
    def _together(self) -> int:
        return int(self.args.micro or self.args.batch)

    def _batch(self, rows: Sequence[RowT]) -> dict[str, Tensor]:
        found = self.trainer.data_collator([row.example() for row in rows])
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    # --- the training loop's side (see dialog_gym.agents.loop) ------------------------------------------

    @property
    def total(self) -> int:
        """Updates in all."""
        return self.stepper.total

    def begin(self) -> None:
        """Stand at step 0."""

    def advance(self) -> None:
        """Make one update."""
        args = self.args
        places = batch_rows(len(self.train_rows), args.batch, self.step, args.seed)
        rows = [self.train_rows[place] for place in places]
        if self._together < len(rows):
            rows = sorted(rows, key=len)
        told = self.stepper.step(list(_chunks(rows, self._together)), self._loss_of, len(rows))
        self.step += 1
        self._rows += len(rows)
        self._losses.append(told["loss"])

    def _loss_of(self, rows: Sequence[RowT]) -> tuple[Tensor, Sums]:
        """Return TRL's loss, as a sum."""
        return self.trainer.compute_loss(self.stepper.network, self._batch(rows)) * len(rows), {}

    def pop_metrics(self) -> dict[str, float]:
        """Return and forget what happened since the last call: TRL's numbers, each a mean over batches."""
        metrics = {f"train/{name}": value for name, value in self._told("train").items()}
        if self._losses:
            metrics["train/loss"] = torch.stack(self._losses).mean().item()
        now = time.perf_counter()
        metrics["train/epoch"] = self.step * self.args.batch / len(self.train_rows)
        metrics["time/rows_per_second"] = self._rows / max(now - self._since, 1e-9)
        self._losses, self._since, self._rows = [], now, 0
        return metrics

    def _told(self, mode: str) -> dict[str, float]:
        """Return and forget what the trainer has noted of ``mode``."""
        noted = self.trainer._metrics[mode]
        means = {name: sum(values) / len(values) for name, values in noted.items() if name != "num_tokens"}
        noted.clear()
        return means

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

    @torch.no_grad()
    def score_held_out(self) -> dict[str, float]:
        """Return TRL's numbers on the held-out rows as ``eval/...``; nothing without such rows."""
        self.agent.forget()
        network = self.stepper.network.eval()
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for rows in _chunks(sorted(self.held_rows, key=len), self._together):
            loss = self.trainer.compute_loss(network, self._batch(rows))
            for name, value in {"loss": loss.item(), **self._told("eval")}.items():
                sums[name] = sums.get(name, 0.0) + value * len(rows)
                counts[name] = counts.get(name, 0) + len(rows)
        return {f"eval/{name}": value / counts[name] for name, value in sums.items()}

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that ``restore`` needs."""
        return join(steps=self.stepper.state()), {"best": self._best}

    def restore(self, step: int, arrays: Arrays, data: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned at ``step``."""
        self.stepper.restore(split(arrays)["steps"], step)
        self.step, self._best = step, data["best"]

    def state_bytes(self) -> int:
        """Return how large a checkpoint can become: the training's state, and the policy beside it."""
        return self.stepper.state_bytes() + sum(int(t.nbytes) for t in self.agent.network.state_dict().values())

    def agree(self, stop: bool) -> bool:
        """Wait for all processes, and return whether the first said ``stop``."""
        return self.stepper.agree(stop)

    def finish(self, folder: Path) -> None:
        """Go back to the best policy, and take off it what TRL has put on it."""
        from dialog_gym.agents.trl_trainers import release

        release(self.agent.network.plain)
        if self._best is not None:
            self.agent = type(self.agent).load(folder / "best", device=str(self.device))
        self.agent.forget()

    def close(self) -> None:
        """Let go of nothing: data and weights are in memory."""


def _chunks(rows: Sequence[Any], size: int) -> Iterator[list[Any]]:
    return (list(rows[start : start + size]) for start in range(0, len(rows), size))
