"""How fast language-model policies learn, beside a bare loop; and how fast a study makes candidates.

*Training*: real tokens (padding does not count) per second of CPU and of wall time in the updates of ``tf``, ``dt``,
``ilql`` and ``ppo``, with all that an update takes: choosing rows, making tensors of them, losses, clipping, learning
rate, the optimiser, what is logged. ``ppo`` is measured from where a round of dialogues has been played and judged.
Beside each, on the same weights and the same rows, again and again forward, backward, step, nothing else, with tensors
that were made before the clock started:

* *the same network*: what the method trains, heads and all, with cross-entropy on the same tokens and the plainest
  loss on each head. The aims are about this one.
* *transformers*: its model alone as everybody trains it, ``model(tokens, labels=labels).loss``, with ``sdpa``
  attention and without heads.

*Candidates*: as ``study`` makes them for a context, of the same base model, beside transformers' ``generate`` on the
same prompts.

Contestants alternate, medians of ``repeats`` are shown. The peak memory of each is that of a process of its own, less
what it had before the first update.

``python -m dialog_gym.benchmarks.lm_training``
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dialog_gym.agent import agent_spec
from dialog_gym.agents import ppo
from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.agents.lm_recorded import batch_rows
from dialog_gym.agents.lm_tokens import TokenBatch, TokenRow, batch_of
from dialog_gym.agents.lm_training import LMTraining
from dialog_gym.agents.loop import torch_threads
from dialog_gym.agents.ppo_play import rows_of
from dialog_gym.benchmarks import command
from dialog_gym.benchmarks.study_speech import How, Voice, contest
from dialog_gym.benchmarks.throughput import Line, Rate, alternate
from dialog_gym.data.collect import collect
from dialog_gym.data.episodes import Episodes
from dialog_gym.dialogue import Dialogue
from dialog_gym.errors import unknown
from dialog_gym.lm import load
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.runs import versions

AIMS = {"tf": 0.85, "dt": 0.85, "ilql": 0.7, "ppo": 0.7}
CANDIDATES_AIM = 0.85
OURS, NETWORK, PLAIN = "ours", "the same network", "transformers"
SIDES = (OURS, NETWORK, PLAIN)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        env: Text environment whose dialogues are learned from.
        lm: The language model.
        methods: What learns.
        dialogues: Logged dialogues, or those of a round of ppo.
        batch: Dialogues per update.
        lora: Rank of an adapter; 0 trains every weight.
        updates: Updates in one run.
        contexts: Contexts that candidates are made for together.
        n: Candidates per context.
        repeats: How often each contestant runs.
        memory: Measure peak memory too, in processes of their own.
        json: Print JSON.
    """

    env: str = "dialog_gym/Bargain-v0"
    lm: str = "tiny"
    methods: tuple[str, ...] = tuple(AIMS)
    dialogues: int = 64
    batch: int = 32
    lora: int = 0
    updates: int = 2
    contexts: int = 32
    n: int = 5
    repeats: int = 3
    memory: bool = True
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in self.methods:
            if name not in AIMS:
                raise unknown("method", name, tuple(AIMS))
        for name in ("dialogues", "batch", "updates", "contexts", "n", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.dialogues % self.batch:
            raise ValueError(f"batch must divide dialogues, got batch={self.batch} and dialogues={self.dialogues}")


# --- what learns -------------------------------------------------------------------------------


def training_of(method: str, settings: Settings, data: Path) -> Any:
    """Return the training of ``method``, at its first update; ``data`` holds the logged dialogues."""
    spec, module = agent_spec(method), import_module(f"dialog_gym.agents.{method}")
    args: dict[str, Any] = {
        "env": settings.env,
        "lm": settings.lm,
        "lora": settings.lora,
        "batch": settings.batch,
        "device": "cpu",
        "out": str(data.with_name("run")),
    }
    if method == "ppo":
        return module.Training(spec.args(**args, episodes=settings.dialogues, steps=10**6, lr=1e-6, stop_kl=0.0))
    return module.Training(spec.cls, spec.args(**args, data=(str(data),), steps=settings.updates, held_out=0.0))


def of_data(training: LMTraining[Any], updates: int) -> tuple[Callable[[], int], list[list[TokenRow]]]:
    """Return a job that makes the first ``updates`` of a training, and the rows that it learns from in each."""
    args, count = training.args, len(training.train_rows)
    rows = [
        [training.train_rows[place] for place in batch_rows(count, args.batch, step, args.seed)]
        for step in range(updates)
    ]

    def job() -> int:
        training.step = training.stepper.steps = 0
        for _ in range(updates):
            training.advance()
        training.pop_metrics()
        return _tokens(rows)

    return job, rows


def of_play(training: ppo.Training) -> tuple[Callable[[], int], list[list[TokenRow]]]:
    """Return a job that makes the updates of a round of dialogues, which is played here, and their rows."""
    played = training.player.play(range(training.args.episodes))
    dialogues, _ = training.judge.judge(played, [rows_of(one, training.agent) for one in played], 0.0)
    rows = [[row for one in chosen for row in one] for chosen in training.chosen(dialogues)]

    def job() -> int:
        training.learn(dialogues)
        training.pop_metrics()
        return _tokens(rows)

    return job, rows


def _tokens(rows: Sequence[Sequence[TokenRow]]) -> int:
    return sum(len(row) for some in rows for row in some)


# --- bare loops --------------------------------------------------------------------------------


def network_loop(network: LMNetwork, rows: Sequence[Sequence[TokenRow]], *, packed: bool) -> Callable[[], int]:
    """Return a job that takes bare steps with a copy of ``network``, heads included."""
    network = copy.deepcopy(network)
    batches = [batch_of(some, packed=packed) for some in rows]
    learning = [name for name, head in network.heads.items() if any(p.requires_grad for p in head.parameters())]

    def loss(batch: TokenBatch) -> Tensor:
        found = network(batch.tokens, batch.positions, batch.where)
        heads = [found.heads[name].square().mean() for name in learning]
        return sum(heads, F.cross_entropy(found.logits, batch.actions))

    return _steps(list(network.trainable().values()), loss, batches, _tokens(rows))


def plain_loop(network: LMNetwork, rows: Sequence[Sequence[TokenRow]]) -> Callable[[], int]:
    """Return a job that takes bare steps with a copy of the model of transformers alone."""
    network = copy.deepcopy(network)
    network.plain.set_attn_implementation("sdpa")
    batches = [labelled(batch_of(some)) for some in rows]

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        found: Tensor = network.model(input_ids=batch[0], labels=batch[1], use_cache=False).loss
        return found

    trained = [parameter for parameter in network.model.parameters() if parameter.requires_grad]
    return _steps(trained, loss, batches, _tokens(rows))


def labelled(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return the tokens of a padded batch, and the labels of transformers: -100 where nothing is learned."""
    labels = torch.full_like(batch.tokens, -100)
    labels.view(-1)[batch.where + 1] = batch.actions
    return batch.tokens, labels


def _steps(
    trained: list[Tensor], loss: Callable[[Any], Tensor], batches: Sequence[Any], tokens: int
) -> Callable[[], int]:
    optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.0, fused=True)

    def job() -> int:
        for batch in batches:
            loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return tokens

    return job


def contestants(method: str, settings: Settings, data: Path) -> dict[str, Callable[[], int]]:
    """Return the jobs of one method by name; each does the same updates whenever it is called."""
    training = training_of(method, settings, data)
    network, packed = copy.deepcopy(training.agent.network), training.args.packed
    job, rows = of_play(training) if method == "ppo" else of_data(training, settings.updates)
    return {
        OURS: job,
        NETWORK: network_loop(network, rows, packed=packed),
        PLAIN: plain_loop(network, rows),
    }


# --- measuring ---------------------------------------------------------------------------------


def training_lines(method: str, settings: Settings, data: Path) -> Iterator[Line]:
    """Yield the rates of one method, and those beside it."""
    rates = alternate(contestants(method, settings, data), settings.repeats)
    for side in SIDES:
        yield Line(f"{method}: {side}", "tokens/s", *rates[side])
    for side, aim in ((NETWORK, f">= {AIMS[method]}"), (PLAIN, "")):
        yield Line(f"{method}: ours / {side}", "", *_ratio(rates[OURS], rates[side]), aim)
    if settings.memory:
        for side in SIDES:
            yield Line(f"{method}: peak memory, {side}", "MB", peak_of(method, side, settings) / 1e6)


def candidate_lines(settings: Settings, data: Path) -> Iterator[Line]:
    """Yield candidates per second, of beams and of samples."""
    lm = load(settings.lm)
    if not isinstance(lm, TransformersLM):
        raise ValueError(f"expected a language model of transformers, got {settings.lm!r}")
    for by in ("beam", "sample"):
        how = How(by, settings.n, 32)
        rates = alternate(contest(Voice(lm), contexts_of(data)[: settings.contexts], how), settings.repeats)
        yield Line(f"candidates by {by}: ours", "/s", *rates["ours"])
        yield Line(f"candidates by {by}: transformers' generate", "/s", *rates["raw"])
        yield Line(f"candidates by {by}: ratio", "", *_ratio(rates["ours"], rates["raw"]), f">= {CANDIDATES_AIM}")


def contexts_of(data: Path) -> list[Dialogue]:
    """Return logged dialogues up to before the agent's last turn."""
    found = []
    for row in Episodes.load(data):
        talk = row.dialogue
        places = [place for place, turn in enumerate(talk.turns) if turn.role == talk.roles[0]]
        found.append(Dialogue(talk.scenario, talk.roles, talk.seed, talk.turns[: places[-1]]))
    return found


def _ratio(mine: Rate, other: Rate) -> Rate:
    return Rate(mine.cpu / other.cpu, mine.wall / other.wall)


def peak_of(method: str, side: str, settings: Settings) -> float:
    """Return the memory that updates take at most, in bytes, measured in a process of its own."""
    told = json.dumps({"method": method, "side": side, "settings": asdict(settings)})
    code = "import sys; from dialog_gym.benchmarks import lm_training; lm_training.own_peak(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, told], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def own_peak(told: str) -> None:
    """Print the memory that the contestant named in the JSON text ``told`` takes at most, in bytes."""
    asked = json.loads(told)
    settings = Settings(**asked["settings"])
    with torch_threads(1), logged(settings) as data:
        job = contestants(asked["method"], settings, data)[asked["side"]]
        before = most_memory()
        job()
        sys.stdout.write(f"{most_memory() - before:.0f}\n")


def most_memory() -> float:
    """Return the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where the figure below is at least that of the process that started this one
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return 1024.0 * int(line.split()[1])
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


@contextmanager
def logged(settings: Settings) -> Iterator[Path]:
    """Yield a folder of dialogues that the world's random policy played, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        collect(settings.env, "random", settings.dialogues, data, seed=1)
        yield data


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything; return it as JSON values."""
    with torch_threads(1), logged(settings) as data:
        lines = [line for method in settings.methods for line in training_lines(method, settings, data)]
        lines += candidate_lines(settings, data)
    return {
        "settings": asdict(settings),
        "versions": versions(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "lines": [{**line._asdict(), "met": line.met} for line in lines],
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print ``report`` as a table."""
    table = Table("", "unit", "by CPU time", "by wall time", "aim", "met", box=box.SIMPLE, pad_edge=False)
    for line in (Line(*(one[name] for name in Line._fields)) for one in report["lines"]):
        numbers = ["" if one is None else f"{one:,.0f}" if one >= 100 else f"{one:.3g}" for one in line[2:4]]
        table.add_row(line.what, line.unit, *numbers, line.aim, {True: "yes", False: "NO", None: ""}[line.met])
    console.print(table)
    console.print(f"load average at the end: {report['load_average']}", highlight=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    command.run("lm_training", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
