"""What a turn of a long dialogue costs, with and without the memory of chats; one run, one thread.

Dialogues go on in step; a person's words of about 20 tokens and a reply of 24 tokens make a turn. Every turn is one
``generate`` on the whole transcripts. Replies have one length, so that turns differ in their history alone. The
model is a random Llama of half a million parameters; ``--lm`` names another one. Contestants alternate; medians
count.

What a new token costs grows with the history as far as it looks at it: on a narrow model with many dialogues in
step, to read keys and values of the past outweighs all else; ``--width 512 --layers 6`` is nearer to models in use.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from dialog_gym.agents.loop import torch_threads
from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.random_model import save_random_model
from dialog_gym.benchmarks.throughput import SAID
from dialog_gym.lm import load
from dialog_gym.lm.base import Generation, Sampling
from dialog_gym.lm.transformers_lm import MEMORY_BYTES, TransformersLM
from dialog_gym.runs import versions

SCENARIO = "You sell a bicycle for $60. You would rather not go below $45, and you are in no hurry."


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        dialogues: How many go on in step.
        turns: Replies in each.
        tokens: Tokens of a reply.
        repeats: How often the dialogues are played each way.
        width: Hidden size of the random model; see ``benchmarks/random_model.py``.
        layers: Its layers.
        lm: Spec of another transformers model.
        json: Print JSON.
    """

    dialogues: int = 16
    turns: int = 20
    tokens: int = 24
    repeats: int = 5
    width: int = 96
    layers: int = 3
    lm: str = ""
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if min(self.dialogues, self.tokens, self.repeats) < 1 or self.turns < 2:
            raise ValueError(f"dialogues, tokens and repeats must be at least 1 and turns at least 2, got {self}")


class Turns(NamedTuple):
    """Per turn: CPU seconds, wall seconds, tokens fed; and what was said."""

    cpu: list[float]
    wall: list[float]
    prefilled: list[int]
    said: list[list[Generation]]


def converse(lm: TransformersLM, settings: Settings, memory: int) -> Turns:
    """Play all dialogues with ``memory`` bytes of memory."""
    lm.memory.clear()
    lm.memory.limit = memory
    talks = [[{"role": "system", "content": f"{SCENARIO} {row}"}] for row in range(settings.dialogues)]
    found = Turns([], [], [], [])
    for turn in range(settings.turns):
        for row, talk in enumerate(talks):
            talk.append({"role": "user", "content": SAID[(row + turn) % len(SAID)]})
        lm.counts.reset()
        begun = time.process_time(), time.perf_counter()
        replies = lm.generate(talks, Sampling(settings.tokens))
        found.cpu.append(time.process_time() - begun[0])
        found.wall.append(time.perf_counter() - begun[1])
        found.prefilled.append(lm.counts.prefilled)
        found.said.append(replies)
        for talk, reply in zip(talks, replies, strict=True):
            talk.append({"role": "assistant", "content": reply.text})
    return found


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values.

    Raises:
        ValueError: ``settings.lm`` is no transformers model, or too short for the dialogues.
        RuntimeError: With the memory, something else was said.
    """
    with TemporaryDirectory() as folder, torch_threads(1):
        made = settings.lm or str(save_random_model(Path(folder), width=settings.width, layers=settings.layers))
        lm = load(made, device=None if settings.lm else "cpu")
        if not isinstance(lm, TransformersLM):
            raise ValueError(f"the memory of chats is that of transformers models, got {settings.lm!r}")
        lm.is_stop[:] = False
        ways = {"with": MEMORY_BYTES, "without": 0}
        runs: dict[str, list[Turns]] = {name: [] for name in ways}
        for repeat in range(settings.repeats + 1):
            for name, memory in ways.items():
                turns = converse(lm, settings, memory)
                if repeat:  # the first warms up
                    runs[name].append(turns)
    if _texts(runs["with"][0]) != _texts(runs["without"][0]):
        raise RuntimeError("with the memory of chats other replies were given than without")
    return {
        "settings": asdict(settings),
        "versions": versions(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "ways": {name: _summary(found) for name, found in runs.items()},
    }


def _texts(turns: Turns) -> list[list[str]]:
    return [[reply.text for reply in replies] for replies in turns.said]


def _summary(runs: Sequence[Turns]) -> dict[str, Any]:
    def medians(kind: str) -> list[float]:
        return [statistics.median(turn) for turn in zip(*(getattr(run, kind) for run in runs), strict=True)]

    cpu, wall = medians("cpu"), medians("wall")
    return {
        "cpu": cpu,
        "wall": wall,
        "prefilled": runs[0].prefilled,
        "last_over_second": {
            kind: statistics.median(getattr(run, kind)[-1] / getattr(run, kind)[1] for run in runs)
            for kind in ("cpu", "wall")
        },
        "whole": {kind: statistics.median(sum(getattr(run, kind)) for run in runs) for kind in ("cpu", "wall")},
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print ``report`` as a table."""
    ways, last = report["ways"], report["settings"]["turns"]
    table = Table("", "with memory", "without", box=box.SIMPLE)
    for name, turn in (("turn 2", 1), (f"turn {last}", last - 1)):
        for kind, unit, scale in (("cpu", "ms CPU", 1e3), ("wall", "ms", 1e3), ("prefilled", "tokens fed", 1)):
            table.add_row(f"{name}, {unit}", *(f"{scale * ways[way][kind][turn]:,.0f}" for way in ("with", "without")))
    for kind, unit in (("cpu", "by CPU time"), ("wall", "by wall time")):
        ratios = (f"{ways[way]['last_over_second'][kind]:.2f}" for way in ("with", "without"))
        table.add_row(f"turn {last} / turn 2, {unit}", *ratios)
    console.print(table)
    for kind, unit in (("cpu", "CPU"), ("wall", "wall")):
        times = ways["without"]["whole"][kind] / ways["with"]["whole"][kind]
        console.print(f"{last} turns, by {unit} time: {times:.2f} times as fast with the memory")
    console.print("Aim: turn 20 / turn 2 under 1.5 with the memory. Both ways said the same.")
    console.print(f"load average at the end: {report['load_average']}", highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("turn_cost", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
