"""Optimiser steps for language models: accumulation, clipping, learning rate, several GPUs.

A step takes the gradient of ``sum of losses / total`` over a batch that is worked through in parts. ``total`` is known
for the whole batch beforehand, so the gradient does not depend on how it is parted: one part of 8 rows, 2 of 4, or 2
processes with 4 each. ``accelerate`` is underneath: started by ``accelerate launch -m dialog_gym.agents.tf ...`` (or
``torchrun``), the parts are shared out among the processes.

With a configuration of accelerate that shards weights (FSDP2), what is trained is a sharded copy of the network. The
network itself stays whole: ``collect`` brings its weights up to date in the first process, which speaks, evaluates and
saves with it. A checkpoint holds whole weights in any case, so a run goes on with any number of processes, either way.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import DistributedType, broadcast  # type: ignore[import-untyped]
from torch import Tensor

from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.agents.lm_policy import LMArgs
from dialog_gym.agents.lm_processes import check_alike
from dialog_gym.agents.loop import at_least
from dialog_gym.agents.state import (
    Arrays,
    join,
    optimizer_state,
    restore_optimizer,
    shared_like,
    split,
    to_numpy,
    to_torch,
    whole,
)

Part = TypeVar("Part")
Sums = Mapping[str, Tensor]
"""What to log, by name: sums over a part, which are divided by the ``total`` of the batch."""


@dataclass(frozen=True)
class StepArgs(LMArgs):
    """Settings of the optimiser."""

    batch: int = 32
    """Dialogues (rows) per update."""
    micro: int = 0
    """Rows that a process has in memory at once, a divisor of batch; 0: its share. Does not change the result."""
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
    patience: float = 120.0
    """Minutes that processes wait for each other: longer than an evaluation, which the first of them makes alone."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 1, "batch")
        at_least(self, 0, "micro", "lr", "warmup", "weight_decay", "clip")
        at_least(self, 1, "patience")
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


class Stepper:
    """Takes optimiser steps on a network.

    Attributes:
        plain: The network as a whole, see ``collect``.
        network: To be called in losses: the same network, ready for several processes and mixed precision.
        sharded: Whether that is in shards, of which each process has some.
        steps: Taken so far.
    """

    def __init__(
        self, network: LMNetwork, args: StepArgs, accelerator: Accelerator, total: int, *, heads: float = 1.0
    ) -> None:
        """Hold the optimiser; ``total`` steps are to be taken, in which heads learn at ``heads`` times the rate."""
        self.plain, self.args, self.accelerator, self.total, self.steps = network, args, accelerator, total, 0
        if args.recompute:
            network.plain.gradient_checkpointing_enable({"use_reentrant": False})
        self.sharded: bool = accelerator.distributed_type == DistributedType.FSDP
        self._trained = copy.deepcopy(network.to("cpu")) if self.sharded else network
        trained = self._trained.trainable()
        parameters = list(trained.values())
        first = sum(not name.startswith("heads.") for name in trained)  # heads come last
        groups: list[dict[str, Any]] = [{"params": parameters[:first], "factor": 1.0}]
        if first < len(trained):
            groups.append({"params": parameters[first:], "factor": heads})
        optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=args.weight_decay, fused=True)
        self.network, self.optimizer = accelerator.prepare(self._trained, optimizer)
        self.parameters = list(self._trained.trainable().values())  # shards have taken the place of weights
        if self.sharded and accelerator.is_main_process:
            network.to(accelerator.device)

    def step(
        self, parts: Sequence[Part], loss: Callable[[Part], tuple[Tensor, Sums]], total: float
    ) -> dict[str, Tensor]:
        """Take one step on the sum of ``loss`` over ``parts``, divided by ``total``; return what to log of all parts.

        Args:
            parts: The batch in parts; of several processes each takes its share.
            loss: Returns the sum over a part, and further sums to log; it calls ``network``.
            total: What the sums are divided by, that of all parts: the number of tokens, or of rows.

        Raises:
            DivergedError: The gradient is not finite. The weights are as before.
        """
        first, world = self.accelerator.process_index, self._world
        share = list(enumerate(parts))[first::world]
        sums: dict[str, Tensor] = {}
        self.network.train()
        for number, part in share:
            waits = self.accelerator.no_sync(self.network) if number + world < len(parts) else nullcontext()
            with waits, seeded((self.args.seed, self.steps, number), self.accelerator.device):
                with self.accelerator.autocast():
                    value, told = loss(part)
                self.accelerator.backward(value * (world / total))
            for name, one in {"loss": value, **told}.items():
                sums[name] = sums.get(name, 0.0) + one.detach()
        norm = whole(self.accelerator.clip_grad_norm_(self.parameters, self.args.clip or math.inf))
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
        return {**self._added(sums, total), "gradient": norm}

    def _added(self, sums: Sums, total: float) -> dict[str, Tensor]:
        """Return the sums of all processes, divided by ``total``."""
        if self._world > 1:
            every = self.accelerator.reduce(torch.stack([one.float() for one in sums.values()]), "sum")
            sums = dict(zip(sums, every.unbind(), strict=True))
        return {name: one / total for name, one in sums.items()}

    def agree(self, stop: bool) -> bool:
        """Wait for all processes, and return whether the first said ``stop``."""
        if self._world == 1:
            return stop
        return bool(broadcast(torch.tensor(stop, device=self.accelerator.device)))

    @torch.no_grad()
    def collect(self) -> None:
        """Bring ``plain`` up to date in the first process, if weights are sharded; all must call this."""
        if self.sharded:
            mine = self.plain.trainable()
            for name, parameter in self._trained.trainable().items():
                weights = whole(parameter)
                if self.accelerator.is_main_process:
                    mine[name].copy_(weights)

    def state(self) -> Arrays:
        """Return trained weights and what the optimiser remembers; if weights are sharded, all must call it."""
        return join(net=to_numpy(self._trained.trainable()), adam=optimizer_state(self.optimizer.optimizer))

    def restore(self, arrays: Arrays, steps: int) -> None:
        """Go on from what ``state`` returned after ``steps`` steps.

        Raises:
            ValueError: The weights are those of another network.
        """
        parts, mine = split(arrays), self._trained.trainable()
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
                mine[name].copy_(shared_like(value, mine[name]))
        restore_optimizer(self.optimizer.optimizer, parts.get("adam", {}))
        self.steps = steps
        self.collect()

    def state_bytes(self) -> int:
        """Return how large ``state`` can become: each weight with its two moments."""
        return 3 * sum(parameter.nbytes for parameter in self.plain.trainable().values())

    @property
    def _world(self) -> int:
        return int(self.accelerator.num_processes)


class Stepped:
    """What a training that steps with a ``Stepper`` tells the loop (``dialog_gym.agents.loop.Shared``).

    Attributes:
        stepper: Makes the updates.
        step: How far the training is.
    """

    stepper: Stepper
    step: int

    def standing(self) -> Mapping[str, Any]:
        """Return what must be alike in all processes before they go on."""
        return {"the step that they go on from (do they all see the run folder?)": self.step}

    def meet(self) -> None:
        """Wait for all processes, and refuse to go on where they do not stand alike."""
        check_alike(self.stepper.accelerator, self.standing())

    def agree(self, stop: bool) -> bool:
        """Wait for all processes, and return whether the first said ``stop``."""
        return self.stepper.agree(stop)

    def collect(self) -> None:
        """Bring the agent of the first process up to date; see ``Stepper.collect``."""
        self.stepper.collect()

    @property
    def sharded(self) -> bool:
        """Whether weights are sharded."""
        return self.stepper.sharded


@contextmanager
def seeded(key: Sequence[int], device: torch.device) -> Iterator[None]:
    """Seed torch's generators by ``key`` inside the block, and set back what was."""
    seed = np.random.SeedSequence(list(key)).generate_state(1, np.uint64)[0]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(seed >> np.uint64(1)))
        yield
