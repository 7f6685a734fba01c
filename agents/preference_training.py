"""Training a language-model policy on preferences: the part that ``dpo`` and ``kto`` share.

The contract for algorithms, each of which subclasses ``PreferenceTraining``:

- ``rows(found, required)``: what is learned from, as ``preference_data.Pair`` or ``Labelled`` values.
- ``settings(rows)``: fields of TRL's configuration (loss, beta, weights); ``kind`` says which trainer it is.

The loss is TRL's own (``dialog_gym.agents.trl_trainers``), the mean over the rows of an update. The reference is the
model that training begins with, or the one that ``reference`` names; its log-probabilities of all rows that will be
learned from are computed once, before the first step, so it takes no memory afterwards.

Every ``eval_every`` steps there are TRL's numbers on held-out contexts as ``eval/...`` (``loss``,
``rewards/accuracies``, ``rewards/margins``, ``kl``), and the mean return in the environment if there is one.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_network import embeddings_of, load_model
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.agents.lm_processes import gathered, together
from dialog_gym.agents.lm_recorded import RecordedArgs, RecordedTraining, batch_rows, chunks, parted
from dialog_gym.agents.lm_steps import Sums
from dialog_gym.agents.preference_data import Context, Labelled, Pair, contexts, read_rankings
from dialog_gym.data.columns import DatasetError

PolicyT = TypeVar("PolicyT", bound=LMPolicy)
RowT = TypeVar("RowT", Pair, Labelled)


@dataclass(frozen=True)
class StageArgs(RecordedArgs):
    """What training on preferences can be told, whatever is preferred."""

    epochs: float = 1.0
    best: Literal["loss", "return", "none"] = "none"


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


class PreferenceTraining(RecordedTraining[PolicyT, RowT]):
    """A run in progress, on preferences; see ``dialog_gym.agents.loop.Training``.

    Attributes:
        trainer: TRL's.
    """

    kind: ClassVar[Literal["dpo", "kto"]]

    def __init__(self, policy: type[PolicyT], args: Any) -> None:
        """Read the data, make the policy, and ask the reference; everything that can be refused is refused here."""
        from dialog_gym.agents.trl_trainers import Called, make_trainer

        super().__init__(policy, args)
        with together(self.accelerator):
            self.train_rows, self.held_rows = self._read()
        self.trainer = make_trainer(
            self.kind,
            self.agent.network,
            self.agent.lm.tokenizer,
            self.train_rows[0].example(),
            batch=self.micro,
            settings={"beta": args.beta, "disable_dropout": not args.lora_dropout, **self.settings(self.train_rows)},
            bf16=args.precision == "bf16",
            seed=args.seed,
        )
        count = len(self.train_rows)
        used = {place for step in range(self.updates) for place in batch_rows(count, args.batch, step, args.seed)}
        self._ask_reference(sorted(used))
        self.stepper = self.stepper_of(Called(self.agent.network))  # type: ignore[arg-type]
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
        """Return ``rows`` with the log-probabilities of the reference; those of like length are read together.

        Each process reads its share.
        """
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        mine: list[tuple[int, tuple[float, ...]]] = []
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        for places in list(chunks(order, self.micro))[index::count]:
            batch = self._batch([rows[place] for place in places])
            columns = self.trainer.compute_ref_log_probs(model, batch)
            mine += zip(places, zip(*(column.tolist() for column in columns), strict=True), strict=True)
        found = list(rows)
        for place, numbers in gathered(self.accelerator, mine):
            found[place] = replace(rows[place], reference=numbers)
        return found

    def _batch(self, rows: Sequence[RowT]) -> dict[str, Tensor]:
        found = self.trainer.data_collator([row.example() for row in rows])
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    # --- the training loop's side (see dialog_gym.agents.loop) ------------------------------------------

    def advance(self) -> None:
        """Make one update."""
        args = self.args
        places = batch_rows(len(self.train_rows), args.batch, self.step, args.seed)
        rows = [self.train_rows[place] for place in places]
        if self.micro < len(rows):
            rows = sorted(rows, key=len)
        self.agent.network.train()  # by which the trainer knows what its numbers are about
        told = self.stepper.step(list(chunks(rows, self.micro)), self._loss_of, len(rows))
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

    @torch.no_grad()
    def score_held_out(self) -> dict[str, float]:
        """Return TRL's numbers on the held-out rows as ``eval/...``; nothing without such rows."""
        from dialog_gym.agents.trl_trainers import Called, alone

        self.agent.forget()
        network = Called(self.agent.network).eval()
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        with alone(self.trainer):
            for rows in chunks(sorted(self.held_rows, key=len), self.micro):
                loss = self.trainer.compute_loss(network, self._batch(rows))
                for name, value in {"loss": loss.item(), **self._told("eval")}.items():
                    sums[name] = sums.get(name, 0.0) + value * len(rows)
                    counts[name] = counts.get(name, 0) + len(rows)
        return {f"eval/{name}": value / counts[name] for name, value in sums.items()}

    def finish(self, folder: Path) -> None:
        """Go back to the best policy, and take off it what TRL has put on it."""
        from dialog_gym.agents.trl_trainers import release

        release(self.agent.network.plain)
        super().finish(folder)
