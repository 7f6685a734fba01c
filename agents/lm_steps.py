"""Optimiser steps for language models: accumulation, clipping, learning rate, several GPUs.

A step takes the gradient of ``sum of losses / total`` over a batch that is worked through in parts. ``total`` is known
for the whole batch beforehand, so the gradient does not depend on how it is parted: one part of 8 rows, 2 of 4, or 2
processes with 4 each. ``accelerate`` is underneath: started by ``accelerate launch -m dialog_gym.agents.tf ...`` (on
CPUs by ``torchrun``), the parts are shared out among the processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list  # type: ignore[import-untyped]
from torch import Tensor

from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.agents.lm_policy import LMArgs
from dialog_gym.agents.loop import at_least
from dialog_gym.agents.state import Arrays, join, optimizer_state, restore_optimizer, split, to_numpy, to_torch

Part = TypeVar("Part")
Sums = Mapping[str, Tensor]
"""What to log, by name: sums over a part, which are divided by the ``total`` of the batch."""


@dataclass(frozen=True)
class StepArgs(LMArgs):
    """Settings of the optimiser."""

    batch: int = 32
    """Dialogues (rows) per update."""
    micro: int = 0
    """Rows that are in memory at once, a divisor of batch; 0: all of them. Does not change the result."""
    packed: bool = False
    """Put several rows into one line of tokens, which saves padding. Does not change the result."""
    lr: float = 1e-3
    """AdamW's learning rate; smaller for large models."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes on after the warm-up."""
    warmup: float = 0.02
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.0
    """Of AdamW."""
    clip: float = 1.0
    """Longest gradient; 0 does not clip."""
    precision: Literal["no", "bf16"] = "no"
    """Mixed precision: bf16 computes in bfloat16 and keeps the weights in float32."""
    recompute: bool = False
    """Compute activations twice instead of keeping them, which saves memory."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 1, "batch")
        at_least(self, 0, "micro", "lr", "warmup", "weight_decay", "clip")
        if self.micro and self.batch % self.micro:
            raise ValueError(f"micro must divide batch, got micro={self.micro} and batch={self.batch}")


class DivergedError(ValueError):
    """The loss or its gradient is no finite number; the last checkpoint is from before."""


def learning_rate(step: int, total: int, args: StepArgs) -> float:
    """Return the learning rate of update ``step`` (from 0) of ``total``.

    >>> args = StepArgs(lr=1.0, warmup=0.2, schedule="linear")
    >>> [round(learning_rate(step, 10, args), 3) for step in range(10)]
    [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    """
    warm = round(args.warmup * total)
    if step < warm:
        return args.lr * (step + 1) / warm
    done = (step - warm) / max(total - warm, 1)
    factor = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    return args.lr * factor[args.schedule]


def accelerator_of(args: StepArgs) -> Accelerator:
    """Return the processes and device that a training runs on.

    Raises:
        ValueError: The parts of a batch cannot be shared out evenly.
    """
    found = Accelerator(mixed_precision=args.precision, cpu=args.device == "cpu")
    parts = args.batch // (args.micro or args.batch)
    if parts % found.num_processes:
        raise ValueError(
            f"batch / micro must be a multiple of the {found.num_processes} processes, got {parts} parts of a batch: "
            f"set micro to {max(args.batch // found.num_processes, 1)} or less"
        )
    return found


class Stepper:
    """Takes optimiser steps on a network.

    Attributes:
        network: To be called in losses: the same network, ready for several processes and mixed precision.
        steps: Taken so far.
    """

    def __init__(
        self, network: LMNetwork, args: StepArgs, accelerator: Accelerator, total: int, *, heads: float = 1.0
    ) -> None:
        """Hold the optimiser; ``total`` steps are to be taken, in which heads learn at ``heads`` times the rate."""
        self.plain, self.args, self.accelerator, self.total, self.steps = network, args, accelerator, total, 0
        if args.recompute:
            network.plain.gradient_checkpointing_enable({"use_reentrant": False})
        trained = network.trainable()
        self.parameters = list(trained.values())
        first = sum(not name.startswith("heads.") for name in trained)  # heads come last
        groups: list[dict[str, Any]] = [{"params": self.parameters[:first], "factor": 1.0}]
        if first < len(trained):
            groups.append({"params": self.parameters[first:], "factor": heads})
        optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=args.weight_decay, fused=True)
        self.network, self.optimizer = accelerator.prepare(network, optimizer)

    def step(
        self, parts: Sequence[Part], loss: Callable[[Part], tuple[Tensor, Sums]], total: float
    ) -> dict[str, Tensor]:
        """Take one step on the sum of ``loss`` over ``parts``, divided by ``total``; return what to log.

        Args:
            parts: The batch in parts; of several processes each takes its share.
            loss: Returns the sum over a part, and further sums to log; it calls ``network``.
            total: What the sums are divided by, that of all parts: the number of tokens, or of rows.

        Raises:
            DivergedError: The gradient is not finite. The weights are as before.
        """
        share, world = parts[self.accelerator.process_index :: self.accelerator.num_processes], self._world
        sums: dict[str, Tensor] = {}
        self.network.train()
        with seeded((self.args.seed, self.steps, self.accelerator.process_index), self.accelerator.device):
            for number, part in enumerate(share):
                waits = self.accelerator.no_sync(self.network) if number + 1 < len(share) else nullcontext()
                with waits:
                    with self.accelerator.autocast():
                        value, told = loss(part)
                    self.accelerator.backward(value * (world / total))
                for name, one in {"loss": value, **told}.items():
                    sums[name] = sums.get(name, 0.0) + one.detach()
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.args.clip or math.inf)
        if not torch.isfinite(norm):
            self.optimizer.zero_grad()
            raise DivergedError(
                f"the gradient of step {self.steps + 1} is not finite: the last checkpoint is from before; take a "
                "smaller learning rate (lr), or look at the data"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(self.steps, self.total, self.args)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return {**{name: value * (world / total) for name, value in sums.items()}, "gradient": norm}

    def agree(self, stop: bool) -> bool:
        """Wait for all processes, and return whether the first said ``stop``."""
        if self._world == 1:
            return stop
        told = [stop]
        broadcast_object_list(told)
        return told[0]

    def state(self) -> Arrays:
        """Return trained weights and what the optimiser remembers."""
        return join(net=to_numpy(dict(self.plain.trainable())), adam=optimizer_state(self.optimizer.optimizer))

    def restore(self, arrays: Arrays, steps: int) -> None:
        """Go on from what ``state`` returned after ``steps`` steps.

        Raises:
            ValueError: The weights are those of another network.
        """
        parts, mine = split(arrays), self.plain.trainable()
        if set(parts["net"]) != set(mine):
            raise ValueError(f"the checkpoint has other weights: {sorted(set(parts['net']) ^ set(mine))[:3]}")
        for name, kept in parts["net"].items():
            if kept.shape != mine[name].shape:
                raise ValueError(
                    f"the checkpoint is of another model: its {name} is {kept.shape}, that of {self.args.lm!r} is "
                    f"{tuple(mine[name].shape)}; begin in another folder, or give the model that it began with"
                )
        with torch.no_grad():
            for name, value in to_torch(parts["net"]).items():
                mine[name].copy_(value)
        restore_optimizer(self.optimizer.optimizer, parts.get("adam", {}))
        self.steps = steps

    def state_bytes(self) -> int:
        """Return how large ``state`` can become: each weight with its two moments."""
        return 3 * sum(parameter.nbytes for parameter in self.parameters)

    @property
    def _world(self) -> int:
        return int(self.accelerator.num_processes)


@contextmanager
def seeded(key: Sequence[int], device: torch.device) -> Iterator[None]:
    """Seed torch's generators by ``key`` inside the block, and set back what was."""
    seed = np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(seed >> np.uint64(1)))
        yield
