"""Several processes that train one policy: how a batch is shared out, and how they begin, agree and fail together.

They are started by ``accelerate launch -m dialog_gym.agents.NAME ...``, or by ``torchrun`` in its place. Each has the
policy and reads all data; a batch is shared out, and gradients are added up. The first of them evaluates and writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any, TypeVar

from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import DistributedType, InitProcessGroupKwargs, gather_object  # type: ignore[import-untyped]

from dialog_gym.agents.loop import NO_EFFECT
from dialog_gym.runs import versions

T = TypeVar("T")

_OWN = (*NO_EFFECT, "out")
"""Settings that may differ from process to process."""


def accelerator_of(args: Any, *, shards: bool = True) -> Accelerator:
    """Return the processes and device that a training runs on.

    Args:
        args: Its settings, ``lm_steps.StepArgs``.
        shards: Whether the algorithm can learn with weights that no process holds as a whole (FSDP).

    Raises:
        ValueError: A batch cannot be shared out evenly, weights are to be sharded in a way that is not known here, or
            the processes run different versions or settings.
    """
    waits = InitProcessGroupKwargs(timeout=timedelta(minutes=args.patience))
    found = Accelerator(mixed_precision=args.precision, cpu=args.device == "cpu", kwargs_handlers=[waits])
    _check_sharding(found, shards)
    micro_of(args, found.num_processes)
    settings = {name: value for name, value in asdict(args).items() if name not in _OWN}
    check_alike(found, {**versions(), **settings})
    return found


def micro_of(args: Any, processes: int) -> int:
    """Return how many rows of a batch a process has in memory at once.

    Raises:
        ValueError: The batch cannot be shared out evenly.
    """
    if args.batch % (processes * (args.micro or 1)):
        raise ValueError(
            f"batch must be a multiple of processes * micro, got batch={args.batch}, {processes} processes and "
            f"micro={args.micro or 1}"
        )
    return int(args.micro or args.batch // processes)


def _check_sharding(accelerator: Accelerator, shards: bool) -> None:
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    if not shards:
        raise ValueError(
            "this agent cannot learn with sharded weights (FSDP): it speaks, or asks its heads, meanwhile; "
            "start it with accelerate launch --multi_gpu; of a large model train an adapter (lora)"
        )
    if not accelerator.is_fsdp2:
        raise ValueError("weights are sharded by FSDP2 only: set fsdp_version: 2 in the configuration of accelerate")


def gathered(accelerator: Any, mine: Sequence[T]) -> list[T]:
    """Return the values of all processes, those of the first one first."""
    return list(gather_object(list(mine))) if accelerator.num_processes > 1 else list(mine)


@contextmanager
def together(accelerator: Any) -> Iterator[None]:
    """Let an error in the block, in any process, stop all of them; nothing in it may wait for other processes.

    Raises:
        ValueError: Another process failed.
    """
    mine: Exception | None = None
    try:
        yield
    except Exception as error:
        mine = error
    told = "" if mine is None else f"{type(mine).__name__}: {mine}"
    every = gathered(accelerator, [told])
    if mine is not None:
        raise mine
    for number, other in enumerate(every):
        if other:
            raise ValueError(f"process {number} of {len(every)} failed: {other}")


def check_alike(accelerator: Accelerator, noted: Mapping[str, Any]) -> None:
    """Refuse to go on where processes differ in what they have ``noted``.

    Raises:
        ValueError: They do; in all processes.
    """
    for number, other in enumerate(gathered(accelerator, [dict(noted)])):
        for name, value in noted.items():
            if other.get(name) != value:
                raise ValueError(
                    f"processes that train together must agree in {name}: process {number} has "
                    f"{other.get(name)!r:.60} and process {accelerator.process_index} {value!r:.60}"
                )
