"""How fast dialogues are played, against plain ways of doing the same; all in one run, on one thread.

Environment steps per second of (a) one dialogue at a time, (b) Gymnasium's ``SyncVectorEnv``, (c) our vector
environment, for text and for prefix actions; tokens per second of (c) against (d), a bare loop over the same
language model; the engine alone; what it takes to begin. Repeats alternate between the contestants, medians
are shown, by CPU time (fair on a busy machine) and by wall time.

What (c) and (d) do with tokens, and what *raw generation* is, says ``benchmarks/raw_generation.py``:

* *generated*: tokens of replies per second. (c) counts all its time, feeding prompts, environment and all included;
  raw generation feeds and decodes the same prompts and lengths; (d) only decodes, its prompts were fed before the
  clock started.
* *processed*: tokens fed and generated per second. (d) feeds and generates as many per reply as (c).
* *unequal lengths*: processed, where (d) also waits for the longest reply of a batch, and what it generates
  behind the end of the others does not count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rich import box
from rich.console import Console
from rich.table import Table

from dialog_gym.agents.loop import torch_threads
from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.raw_generation import BareLoop, Job, Load, Replay, watch
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.lm import load
from dialog_gym.lm.decoding import Decoder
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rollout import make_rows
from dialog_gym.runs import versions
from dialog_gym.task import Reply, Task

TEXT, PREFIX = "dialog_gym/Bargain-v0", "dialog_gym/BargainPrefix-v0"
ENGINE_ROWS = 64
SAID = (  # 20 words each
    "I would offer $41 for it, please, because I have seen a few of these go for less around here lately.",
    "Could you do $45 if I come by with cash and pick it up tonight, so you need not wait any longer?",
    "That is still more than I can spend, but I like it, so let us say $49 and call it a deal.",
    "No, I cannot go that high, it has some wear on it, my best is $52 and that is really all.",
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        rows: Dialogues in parallel.
        lm: The language model.
        repeats: How often each contestant runs; the median counts.
        steps: Steps of all rows in one run with prefixes; cheaper contestants take more.
        json: Print JSON.
    """

    rows: int = 32
    lm: str = "tiny-bargain"
    repeats: int = 5
    steps: int = 16
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("rows", "repeats", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Rate(NamedTuple):
    """Units per second."""

    cpu: float
    wall: float


class Line(NamedTuple):
    """One measured figure; ``aim`` is text such as ``">= 8"``, or empty."""

    what: str
    unit: str
    cpu: float
    wall: float | None = None
    aim: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is met, by CPU time."""
        if not self.aim:
            return None
        sign, bound = self.aim.split()
        return self.cpu >= float(bound) if sign == ">=" else self.cpu <= float(bound)


def alternate(jobs: Mapping[str, Job], repeats: int) -> dict[str, Rate]:
    """Run all ``jobs`` in turn, once to warm up and ``repeats`` times by the clock; return the median rates."""
    rates: dict[str, list[Rate]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            units = job()
            rate = Rate(units / (time.process_time() - cpu), units / (time.perf_counter() - wall))
            if repeat:
                rates[name].append(rate)
    return {
        name: Rate(statistics.median(rate.cpu for rate in found), statistics.median(rate.wall for rate in found))
        for name, found in rates.items()
    }


def singly(env: gym.Env[Any, Any], actions: Sequence[Any]) -> int:
    """Take ``actions`` one by one, beginning anew where a dialogue ends; return the number of turns."""
    env.reset(seed=0)
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return len(actions)


def together(env: gym.vector.VectorEnv[Any, Any, Any], actions: Sequence[Any]) -> int:
    """Take ``actions`` in all rows; return the number of turns.

    Ended rows begin anew as trainers have it where the environment leaves that to us; else in a step of their
    own (Gymnasium's default), which does not count as a turn.
    """
    env.reset(seed=0)
    by_mask = env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    turns, idle = 0, 0
    for action in actions:
        turns += env.num_envs - idle
        _, _, terminated, truncated, _ = env.step(action)
        over = terminated | truncated
        if not by_mask:
            idle = int(over.sum())
        elif over.any():
            env.reset(options={"reset_mask": over})
    return turns


def phrases(rows: int, steps: int) -> list[list[str]]:
    """Return what each row says at each step."""
    return [[SAID[(step + row) % len(SAID)] for row in range(rows)] for step in range(steps)]


def contestants(env_id: str, rows: int, actions: Sequence[Any], alone: int, **env_kwargs: Any) -> dict[str, Job]:
    """Return the jobs a, b and c in ``env_id``; ``actions`` are per step and row, a takes ``alone`` of row 0."""
    one = gym.make(env_id, **env_kwargs)
    sync = SyncVectorEnv([partial(gym.make, env_id, **env_kwargs)] * rows)
    ours = make_rows(env_id, rows, env_kwargs)
    own = [actions[step % len(actions)][0] for step in range(alone)]
    return {
        "a": partial(singly, one, own),
        "b": partial(together, sync, actions),
        "c": partial(together, ours, actions),
    }


class Stopwatch:
    """CPU seconds by part; a part that calls another is not charged for it."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with its time charged to ``part``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            begun = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - begun
                self.seconds[part] = self.seconds.get(part, 0.0) + took - self._inner.pop()
                self._inner[-1] += took

        return call


def shares(lm: TransformersLM, env: gym.vector.VectorEnv[Any, Any, Any], job: Job) -> dict[str, float]:
    """Return the share of each part in the CPU time of ``job``, which plays ``env``."""
    watch = Stopwatch()
    parts = [
        (lm, "prefill", "network: prompts (state and prefill)"),
        (Decoder, "run", "drawing and keeping tokens"),
        (lm, "forward", "network: prefix and reply"),
        (lm, "encode", "tokens of prompts (template, tokenizer)"),
        (lm.chat, "decode", "texts of replies"),
        (env.unwrapped, "step", "engine, partner, reward"),
    ]
    forward, prefill = lm.forward, lm.prefill

    def with_its_passes(*args: Any, **kwargs: Any) -> Any:
        with mock.patch.object(lm, "forward", forward):
            return prefill(*args, **kwargs)

    with ExitStack() as stack:
        for owner, name, part in parts:
            function = with_its_passes if name == "prefill" else getattr(owner, name)
            stack.enter_context(mock.patch.object(owner, name, watch.timed(part, function)))
        watch.timed("bookkeeping of sessions, prefix map", job)()
    total = sum(watch.seconds.values())
    return {part: seconds / total for part, seconds in watch.seconds.items()}


class _Flat(Reward):
    name, low, high = "flat", 0.0, 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        return np.zeros(len(dialogues), np.float32)


class Echo(Task):
    """Ten turns with a partner who always says the same: what remains is the engine."""

    roles = ("agent", "partner")
    max_turns = 10
    reward = _Flat()

    def scenario(self, draws: Draws) -> Scenario:
        """Return an empty scenario."""
        return Scenario("Talk.")

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Say the same to all."""
        return [Reply(SAID[0])] * len(dialogues)


def beginning() -> dict[str, float]:
    """Return the seconds that the import and the first ``make`` and ``reset`` take in a fresh interpreter."""
    code = f"""
import time
begun = time.process_time(), time.perf_counter()
import dialog_gym
imported = time.process_time(), time.perf_counter()
import gymnasium, sys, json
gymnasium.make({TEXT!r}).reset(seed=0)
made = time.process_time(), time.perf_counter()
seconds = [[b - a for a, b in zip(*pair)] for pair in ((begun, imported), (imported, made))]
print(json.dumps([*seconds, "torch" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (cpu, wall), (make_cpu, make_wall), torch_loaded = json.loads(done.stdout)
    return {
        "import": cpu, "import wall": wall, "make": make_cpu, "make wall": make_wall, "torch": float(torch_loaded)
    }  # fmt: skip


def text_lines(settings: Settings) -> list[Line]:
    """Measure text actions."""
    steps = 8 * settings.steps
    jobs = contestants(TEXT, settings.rows, phrases(settings.rows, steps), steps * 8)
    return _ladder("text", settings.rows, alternate(jobs, settings.repeats))


def prefix_lines(settings: Settings) -> tuple[list[Line], Load, dict[str, float]]:
    """Measure prefix actions and tokens; return also what was asked of the language model, and where time goes."""
    lm = load(settings.lm)
    if not isinstance(lm, TransformersLM):
        raise ValueError(f"the bare loop needs a model that runs in this process (transformers), got {settings.lm!r}")
    rng = np.random.default_rng(0)
    ours = make_rows(PREFIX, settings.rows, {"lm": lm})
    size = (settings.steps, *(ours.action_space.shape or ()))
    actions = list(rng.uniform(-1, 1, size).astype(np.float32))
    jobs = contestants(PREFIX, settings.rows, actions, 4 * settings.steps, lm=lm)
    jobs["c"] = partial(together, ours, actions)
    asked = watch(lm, jobs["c"])
    bare = BareLoop(lm, settings.rows, asked, max(1, settings.steps // 2))
    replay = Replay(lm, asked.batches)
    jobs |= {"decode": bare.decode, "both": bare.feed_and_decode, "longest": bare.wait_for_longest}
    jobs |= {"raw": replay.generate, "raw loop": replay.loop}
    rates = alternate(jobs, settings.repeats)
    lines = _ladder("prefix", settings.rows, rates, aim=">= 8")
    return lines + _token_lines(asked, rates), asked, shares(lm, ours, jobs["c"])


def _ladder(kind: str, rows: int, rates: Mapping[str, Rate], aim: str = "") -> list[Line]:
    names = {"a": "one dialogue", "b": f"SyncVectorEnv, {rows} rows", "c": f"ours, {rows} rows"}
    lines = [Line(f"{kind}: ({key}) {name}", "steps/s", *rates[key]) for key, name in names.items()]
    return [
        *lines,
        *(_ratio(f"{kind}: (c)/({key})", rates["c"], rates[key], aim if key == "a" else "") for key in "ab"),
    ]


def _ratio(what: str, mine: Rate, other: Rate, aim: str = "") -> Line:
    return Line(what, "", mine.cpu / other.cpu, mine.wall / other.wall, aim)


def _token_lines(asked: Load, rates: Mapping[str, Rate]) -> list[Line]:
    def of(tokens: float) -> Rate:
        return Rate(*(tokens / asked.replies * rate for rate in rates["c"]))

    generated, processed = of(asked.generated * asked.replies), of(asked.total)
    return [
        Line("tokens generated: (c) ours, all its time", "tokens/s", *generated),
        Line("tokens generated: raw, transformers' generate", "tokens/s", *rates["raw"]),
        Line("tokens generated: raw, a bare loop", "tokens/s", *rates["raw loop"]),
        _ratio("tokens generated: (c)/raw, generate", generated, rates["raw"], ">= 0.85"),
        _ratio("tokens generated: (c)/raw, bare loop", generated, rates["raw loop"], ">= 0.85"),
        Line("tokens generated: (d) bare loop, decoding only", "tokens/s", *rates["decode"]),
        _ratio("tokens generated: (c)/(d)", generated, rates["decode"], ">= 0.8"),
        Line("tokens processed: (c) ours", "tokens/s", *processed),
        Line("tokens processed: (d) bare loop", "tokens/s", *rates["both"]),
        _ratio("tokens processed: (c)/(d)", processed, rates["both"], ">= 0.8"),
        _ratio("tokens processed, unequal lengths: (c)/(d)", processed, rates["longest"]),
    ]


def engine_lines(settings: Settings) -> list[Line]:
    """Measure the engine alone and ``Bargain-v0`` on 64 rows."""
    steps = 8 * settings.steps
    said = phrases(ENGINE_ROWS, steps)
    bargain = make_rows(TEXT, ENGINE_ROWS)
    jobs: dict[str, Job] = {
        "alone": partial(singly, DialogueEnv(Echo()), [SAID[0]] * (16 * steps)),
        "rows": partial(together, DialogueVectorEnv(Echo(), ENGINE_ROWS, autoreset_mode="disabled"), said),
        "bargain": partial(together, bargain, said),
    }
    rates = alternate(jobs, settings.repeats)
    alone = rates["alone"]
    return [
        Line("engine alone: one dialogue", "µs/turn", 1e6 / alone.cpu, 1e6 / alone.wall, "<= 8"),
        Line(f"engine alone: {ENGINE_ROWS} rows", "turns/s", *rates["rows"], ">= 200000"),
        Line(f"Bargain-v0: {ENGINE_ROWS} rows", "steps/s", *rates["bargain"], ">= 30000"),
    ]


def start_lines(settings: Settings) -> list[Line]:
    """Measure import, first ``make`` and memory."""
    runs = [beginning() for _ in range(settings.repeats)]
    took = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return [
        Line("import dialog_gym", "s", took["import"], took["import wall"]),
        Line("gym.make and reset, text", "s", took["make"], took["make wall"]),
        Line("both", "s", took["import"] + took["make"], took["import wall"] + took["make wall"], "<= 0.5"),
        Line("torch imported by them", "", took["torch"], aim="<= 0"),
    ]


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values."""
    with torch_threads(1):
        starting, text, engine = start_lines(settings), text_lines(settings), engine_lines(settings)
        prefix, asked, parts = prefix_lines(settings)
    lines = [*text, *prefix, *engine, *starting, _memory_line()]
    return {
        "settings": asdict(settings),
        "versions": versions(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "lines": [{**line._asdict(), "met": line.met} for line in lines],
        "per_reply": {name: value for name, value in asked._asdict().items() if name != "batches"},
        "shares": parts,
    }


def _memory_line() -> Line:
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return Line("peak memory of this run", "MB", peak)


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print ``report`` as tables."""
    table = Table("", "unit", "by CPU time", "by wall time", "aim", "met", box=box.SIMPLE, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for line in report["lines"]:
        wall = "" if line["wall"] is None else _number(line["wall"])
        met = {True: "yes", False: "NO", None: ""}[line["met"]]
        table.add_row(line["what"], line["unit"], _number(line["cpu"]), wall, line["aim"], met)
    console.print(table)
    console.print("Per reply on average: " + ", ".join(f"{name} {value:.1f}" for name, value in _means(report)))
    console.print("Where (c) spends its time with prefixes:")
    for part, share in sorted(report["shares"].items(), key=lambda item: -item[1]):
        console.print(f"  {share:4.0%}  {part}")
    console.print(f"load average at the end: {report['load_average']}", highlight=False)


def _means(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [(name, report["per_reply"][name]) for name in ("cached", "fed", "generated", "passes")]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("throughput", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
