"""Training a language-model policy on recorded dialogues: the part that ``tf``, ``dt`` and ``ilql`` share.

The contract for algorithms, each of which subclasses ``LMTraining`` and overrides what it does otherwise:

- ``rows(train, held_out)``: which dialogues are learned from, as ``TokenRow`` values (filters, marks, extra columns).
- ``loss(outputs, batch)``: the sum of the losses of a batch, and further sums to log. It is divided by ``weight`` of
  all rows of the update, so nothing depends on how the batch is parted (``micro``), packed or shared by GPUs.
- ``weight(rows)``: what that sum is divided by; the number of tokens said, unless overridden.
- ``after_step()``: what follows an update (target networks); ``modules()``: what of it a checkpoint must hold.
- ``held_out_sums(outputs, batch)``: sums over held-out dialogues; by default of the cross-entropy and hits.

Every ``eval_every`` steps there are held-out ``eval/loss``, ``eval/accuracy`` (share of tokens the model would have
said) and ``eval/perplexity``, the mean return in the environment if there is one, and samples in ``samples/``.
"""

from __future__ import annotations

import json
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dialog_gym.agents.lm_data import Told, read_data
from dialog_gym.agents.lm_network import Outputs
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.agents.lm_processes import together
from dialog_gym.agents.lm_recorded import RecordedArgs, RecordedTraining, batch_rows, chunks, parted
from dialog_gym.agents.lm_steps import Sums
from dialog_gym.agents.lm_tokens import TokenBatch, TokenRow, batch_of, token_rows
from dialog_gym.agents.loop import at_least
from dialog_gym.data.columns import DatasetError
from dialog_gym.lm.base import Sampling

PolicyT = TypeVar("PolicyT", bound=LMPolicy)


@dataclass(frozen=True)
class DataArgs(RecordedArgs):
    """What every agent that learns from recorded dialogues can be told."""

    gamma: float = 1.0
    """Discount per turn of returns-to-go."""
    samples: int = 4
    """Replies to held-out dialogues that are written down at each evaluation."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 0, "samples")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be a share from 0, got {self.gamma}")


# --- losses ------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return -log softmax(logits)[token] of each token, (N,); logits are (N, vocabulary), tokens (N,)."""
    return F.cross_entropy(logits, tokens, reduction="none")


class LMTraining(RecordedTraining[PolicyT, TokenRow]):
    """A run in progress, on recorded dialogues."""

    def __init__(self, policy: type[PolicyT], args: Any) -> None:
        """Read the data and make the policy; everything that can be refused is refused here."""
        super().__init__(policy, args)
        with together(self.accelerator):
            told = _some(read_data(args.data, self.agent.lm, self.agent.task if args.env else None), args)
            self.train_rows, self.held_rows = self.rows(*parted(told, args.held_out, args.seed))
            if not self.train_rows:
                raise DatasetError("no dialogue is left to learn from: all were filtered out or held out")
        self.stepper = self.stepper_of(self.agent.network)
        self._logged: dict[str, list[Tensor]] = {}
        self._since, self._tokens = time.perf_counter(), 0

    # --- what an algorithm may override -----------------------------------------------------------

    def rows(self, train: list[Told], held_out: list[Told]) -> tuple[list[TokenRow], list[TokenRow]]:
        """Return what is learned from and what is held out, as tokens; by default every dialogue."""
        return self.tokens(train), self.tokens(held_out)

    @abstractmethod
    def loss(self, outputs: Outputs, batch: TokenBatch) -> tuple[Tensor, Sums]:
        """Return the sum of the losses of a batch, and further sums to log; every algorithm has its own."""

    def weight(self, rows: Sequence[TokenRow]) -> float:
        """Return what the sum over ``rows`` is divided by: the number of tokens said."""
        return float(sum(len(row.said) for row in rows))

    def after_step(self) -> None:
        """Do what follows an update; by default nothing."""

    def held_out_sums(self, outputs: Outputs, batch: TokenBatch) -> Sums:
        """Return sums over held-out tokens, which are divided by their number; ``loss`` may decide which is best."""
        hits = outputs.logits.argmax(-1) == batch.actions
        return {"loss": cross_entropy(outputs.logits, batch.actions).sum(), "accuracy": hits.sum()}

    def tokens(self, told: Sequence[Told], **more: Any) -> list[TokenRow]:
        """Return dialogues as rows of the policy's tokens; ``more`` as in ``token_rows``."""
        args = self.args
        return list(
            token_rows(told, self.agent.lm, max_tokens=args.max_tokens, gamma=args.gamma, empty=args.empty, **more)
        )

    # --- the training loop's side (see dialog_gym.agents.loop) ------------------------------------

    def advance(self) -> None:
        """Make one update."""
        args, count = self.args, len(self.train_rows)
        rows = [self.train_rows[place] for place in batch_rows(count, args.batch, self.step, args.seed)]
        told = self.stepper.step(self.in_parts(rows), self._loss_of, self.weight(rows))
        self.after_step()
        self.step += 1
        self._tokens += sum(map(len, rows))
        for name, value in told.items():
            self._logged.setdefault(f"train/{name}", []).append(value)

    def in_parts(self, rows: Sequence[TokenRow]) -> list[list[TokenRow]]:
        """Return the parts of a batch that are in memory at once; rows of like length share one."""
        if self.micro < len(rows):
            rows = sorted(rows, key=len)
        return list(chunks(rows, self.micro))

    def _loss_of(self, rows: list[TokenRow]) -> tuple[Tensor, Sums]:
        batch = batch_of(rows, packed=self.args.packed).to(self.stepper.accelerator.device)
        return self.loss(self.stepper.network(batch.tokens, batch.positions, batch.where), batch)

    def pop_metrics(self) -> dict[str, float]:
        """Return and forget what happened since the last call."""
        metrics = {name: torch.stack(values).mean().item() for name, values in self._logged.items()}
        now = time.perf_counter()
        metrics["train/epoch"] = self.step * self.args.batch / len(self.train_rows)
        metrics["time/tokens_per_second"] = self._tokens / max(now - self._since, 1e-9)
        self._logged, self._since, self._tokens = {}, now, 0
        return metrics

    def evaluated(self, metrics: dict[str, float], folder: Path) -> dict[str, float]:
        """Score held-out dialogues, write samples, and keep the policy if it is the best so far."""
        if self.args.samples and self.held_rows:
            lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in self.samples()]
            place = folder / "samples" / f"step-{self.step:09d}.jsonl"
            place.parent.mkdir(exist_ok=True)
            place.write_text("".join(lines), encoding="utf-8")
        return super().evaluated(metrics, folder)

    @torch.no_grad()
    def score_held_out(self) -> dict[str, float]:
        """Return the means of ``held_out_sums`` as ``eval/...``, and the perplexity; nothing without held-out rows."""
        self.agent.forget()
        network, device = self.agent.network.eval(), self.stepper.accelerator.device
        sums: dict[str, float] = {}
        for rows in chunks(sorted(self.held_rows, key=len), self.args.micro or self.args.batch):
            batch = batch_of(rows).to(device)
            found = self.held_out_sums(network(batch.tokens, batch.positions, batch.where), batch)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        count = sum(len(row.said) for row in self.held_rows)
        means = {f"eval/{name}": value / count for name, value in sums.items()}
        return {**means, "eval/perplexity": math.exp(min(means["eval/loss"], 50.0))} if means else {}

    def samples(self) -> list[dict[str, Any]]:
        """Return what the policy says (greedily) in the last turns of a few held-out dialogues."""
        policy, found = self.agent, []
        for row in self.held_rows[: self.args.samples]:
            first = int(row.said[row.turns == row.turns[-1]][0])
            prompt = row.tokens[:first].tolist()
            context = policy.lm.tokenizer.decode(prompt)
            session = policy.lm.session(1)
            with policy.acting():
                session.read_batch([0], [prompt])
                (said,) = session.write([0], Sampling(self.args.max_tokens))
            reference = policy.lm.chat.decode([row.tokens[first : int(row.said[-1]) + 1].tolist()])[0]
            found.append({"step": self.step, "context": context[-500:], "said": said.text, "reference": reference})
        return found


def _some(told: Iterator[Told], args: DataArgs) -> list[Told]:
    found: list[Told] = []
    for one in told:
        if args.limit and one.group >= args.limit:
            break
        found.append(one)
    if not found:
        raise DatasetError(f"{', '.join(args.data)}: no dialogue has a turn of the agent")
    return found
