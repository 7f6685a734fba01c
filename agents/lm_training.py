"""Training a language-model policy on recorded dialogues: the part that ``tf``, ``dt`` and ``ilql`` share.

The contract for algorithms, each of which subclasses ``LMTraining`` and overrides what it does otherwise:

- ``rows(train, held_out)``: which dialogues are learned from, as ``TokenRow`` values (filters, marks, extra columns).
- ``loss(outputs, batch)``: the sum of the losses of a batch, and further sums to log. It is divided by ``weight`` of
  all rows of the update, so nothing depends on how the batch is parted (``micro``), packed or shared by GPUs.
- ``weight(rows)``: what that sum is divided by; the number of tokens said, unless overridden.
- ``after_step()``: what follows an update (target networks); ``modules()``: what of it a checkpoint must hold.
- ``held_out_sums(outputs, batch)``: sums over held-out dialogues; by default of the cross-entropy and hits.

The order of dialogues follows from seed and step, so a run goes on exactly where it was stopped. Every ``eval_every``
steps there are held-out ``eval/loss``, ``eval/accuracy`` (share of tokens the model would have said) and
``eval/perplexity``, the mean return in the environment if there is one, and a file of samples in ``samples/``. The
policy with the best of ``args.best`` so far lies in ``best/``, and is what the finished run holds in ``agent/``.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dialog_gym.agent import Evaluate
from dialog_gym.agents.lm_data import Told, data_files, read_data
from dialog_gym.agents.lm_network import Outputs
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.agents.lm_steps import StepArgs, Stepper, Sums, accelerator_of
from dialog_gym.agents.lm_tokens import Empty, TokenBatch, TokenRow, batch_of, token_rows
from dialog_gym.agents.loop import at_least, mean_return, run_training
from dialog_gym.agents.state import Arrays, join, split, to_numpy, to_torch
from dialog_gym.data.columns import DatasetError
from dialog_gym.lm.base import Sampling

PolicyT = TypeVar("PolicyT", bound=LMPolicy)


@dataclass(frozen=True)
class DataArgs(StepArgs):
    """What every agent that learns from recorded dialogues can be told."""

    data: tuple[str, ...] = ()
    """What to learn from: folders of episodes or rankings, files of JSON lines, corpus:NAME:PATH?OPTION=VALUE."""
    limit: int = 0
    """Most dialogues to read; 0: all."""
    empty: Empty = "refuse"
    """Dialogues of no environment in which the agent has a turn without words: an error, skip them, or keep them and
    learn silence. In an environment an empty utterance is a turn like others."""
    gamma: float = 1.0
    """Discount per turn of returns-to-go."""
    held_out: float = 0.05
    """Share of the dialogues (contexts of rankings) that is not learned from, and that eval/loss is about."""
    steps: int = 1000
    """Updates."""
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
    samples: int = 4
    """Replies to held-out dialogues that are written down at each evaluation."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 0, "limit", "epochs", "samples")
        for name in ("held_out", "gamma"):
            if not 0 <= getattr(self, name) <= (1 if name == "gamma" else 0.9):
                raise ValueError(f"{name} must be a share from 0, got {getattr(self, name)}")
        if self.best == "return" and not self.env:
            raise ValueError("best='return' needs an environment to play (env), or choose best='loss'")

    @property
    def data_used(self) -> tuple[str, ...]:
        """Data sets and files that the run learns from."""
        return data_files(self.data)


# --- losses ------------------------------------------------------------------------------------


def cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return -log softmax(logits)[token] of each token, (N,); logits are (N, vocabulary), tokens (N,)."""
    return F.cross_entropy(logits, tokens, reduction="none")


# --- data --------------------------------------------------------------------------------------


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


class LMTraining(ABC, Generic[PolicyT]):
    """A run in progress, on recorded dialogues.

    Attributes:
        agent: The policy that is trained.
        step: Updates made.
        train_rows: What is learned from.
        held_rows: What is not.
    """

    def __init__(self, policy: type[PolicyT], args: Any) -> None:
        """Read the data and make the policy; everything that can be refused is refused here."""
        self.args, self.step = args, 0
        accelerator = accelerator_of(args)
        self.agent: PolicyT = policy.build(args, device=str(accelerator.device))
        told = _some(read_data(args.data, self.agent.lm, self.agent.task if args.env else None), args)
        self.train_rows, self.held_rows = self.rows(*parted(told, args.held_out, args.seed))
        if not self.train_rows:
            raise DatasetError("no dialogue is left to learn from: all were filtered out or held out")
        updates = math.ceil(args.epochs * len(self.train_rows) / args.batch) if args.epochs else args.steps
        self.stepper = Stepper(self.agent.network, args, accelerator, updates)
        self._best: float | None = None
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

    def modules(self) -> dict[str, nn.Module]:
        """Return what has weights beside the policy and must be in a checkpoint, by name."""
        return {}

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

    @property
    def total(self) -> int:
        """Updates in all."""
        return self.stepper.total

    def begin(self) -> None:
        """Stand at step 0."""

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
        micro = self.args.micro or len(rows)
        if micro < len(rows):
            rows = sorted(rows, key=len)
        return [list(rows[start : start + micro]) for start in range(0, len(rows), micro)]

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
        found = self.score_held_out()
        if self.args.samples and self.held_rows:
            lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in self.samples()]
            place = folder / "samples" / f"step-{self.step:09d}.jsonl"
            place.parent.mkdir(exist_ok=True)
            place.write_text("".join(lines), encoding="utf-8")
        value = {**metrics, **found}.get(f"eval/{self.args.best}")
        if value is not None:
            value = -value if self.args.best == "return" else value
            if self._best is None or value < self._best:
                self._best = value
                self.agent.save(folder / "best")
        return found

    @torch.no_grad()
    def score_held_out(self) -> dict[str, float]:
        """Return the means of ``held_out_sums`` as ``eval/...``, and the perplexity; nothing without held-out rows."""
        self.agent.forget()
        network, device = self.agent.network.eval(), self.stepper.accelerator.device
        sums: dict[str, float] = {}
        for rows in _chunks(sorted(self.held_rows, key=len), self.args.micro or self.args.batch):
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

    def agree(self, stop: bool) -> bool:
        """Wait for all processes, and return whether the first said ``stop``."""
        return self.stepper.agree(stop)

    def finish(self, folder: Path) -> None:
        """Go back to the best policy."""
        if self._best is not None:
            self.agent = type(self.agent).load(folder / "best", device=str(self.stepper.accelerator.device))
        self.agent.forget()

    def close(self) -> None:
        """Let go of nothing: data and weights are in memory."""


def train_lm(policy: type[PolicyT], args: Any, make: Any, evaluate: Evaluate | None) -> PolicyT:
    """Train ``policy`` in the run folder ``args.out``, or go on where that stands.

    Args:
        policy: The agent's class.
        args: Its settings.
        make: Returns its ``LMTraining``, given ``args``.
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


def _some(told: Iterator[Told], args: DataArgs) -> list[Told]:
    found: list[Told] = []
    for one in told:
        if args.limit and one.group >= args.limit:
            break
        found.append(one)
    if not found:
        raise DatasetError(f"{', '.join(args.data)}: no dialogue has a turn of the agent")
    return found


def _chunks(rows: Sequence[TokenRow], size: int) -> Iterator[list[TokenRow]]:
    return (list(rows[start : start + size]) for start in range(0, len(rows), size))
