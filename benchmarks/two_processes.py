"""Training in two processes against one: does every agent that can be shared out learn the same?

Each agent is trained for a few steps on the same data, in one process and in two with the same batch in all, on the
CPU (gloo). Told are, for each agent:

- *loss*: the largest difference of the losses of an update, as a share of the largest loss;
- *weights*: the largest difference of a trained weight at the end, and the same as a share of the longest way that a
  weight has gone from where it began;
- *seconds*: wall time of both. Two processes pay off where a step takes much longer than an exchange of gradients.

With ``--shard`` the two processes share weights and the optimiser's memory besides (FSDP2 through accelerate).
accelerate offers that on GPUs alone: on the CPU the benchmark tells it that there are some.

``OMP_NUM_THREADS=1 python -m dialog_gym.benchmarks.two_processes``
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from dialog_gym.agent import agent_spec, load_agent
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.benchmarks import command
from dialog_gym.data.collect import collect
from dialog_gym.data.rank import Options, collect_rankings

ENV, LM = "dialog_gym/Advice-v0", "tiny-advice"
EPISODES = ("tf", "tf_all", "tf_top", "dt", "ilql")
RANKINGS = ("stable_alignment", "dpo", "kto", "sacpo")
AGENTS = (*EPISODES, *RANKINGS, "ppo")
SHARDS = ("tf", "tf_all", "tf_top", "dt", "stable_alignment", "dpo", "kto", "sacpo")
"""Those that can learn with sharded weights."""


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        agents: Which; empty: all that can.
        steps: Updates of each; of ppo two rounds.
        batch: Rows per update, of all processes.
        lora: Rank of an adapter; 0: all weights are trained.
        shard: Whether the two processes share weights.
        data: Folder for data and runs; empty: one that is removed.
        worker: For the benchmark's own use: train in this process.
        json: Print JSON.
    """

    agents: tuple[str, ...] = ()
    steps: int = 6
    batch: int = 8
    lora: int = 0
    shard: bool = False
    data: str = ""
    worker: bool = False
    json: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The agents, in their order."""
        return self.agents or (SHARDS if self.shard else AGENTS)


# --- what is trained --------------------------------------------------------------------------------


def make_data(folder: Path) -> None:
    """Let the frozen model speak, and write its dialogues and ranked candidates."""
    collect(ENV, "lm-sampled", 40, folder / "episodes", lm=LM, rows=20)
    ranked = Options(ENV, reach="lm-sampled", candidates=("lm-sampled",), k=4, plays=1, lm=LM)
    collect_rankings(ranked, 24, folder / "rankings", rows=24)


def settings_of(name: str, folder: Path, out: Path, asked: Settings) -> Any:
    """Return the settings of the agent ``name`` for the run folder ``out``; evaluations are in them too."""
    common: dict[str, Any] = {
        "env": ENV,
        "lm": LM,
        "out": str(out / name),
        "batch": asked.batch,
        "lora": asked.lora,
        "log_every": 1,
        "max_tokens": 16,
        "eval_episodes": 4,
        "rows": 4,
        "track": "none",
        "progress": False,
        "device": "cpu",
    }
    if name == "ppo":
        round_of = {"episodes": 2 * asked.batch, "steps": 4 * asked.batch, "epochs": 1, "stop_kl": 0.0}
        return agent_spec(name).args(**{**common, **round_of, "log_every": asked.batch, "samples": 1})
    data = (str(folder / ("episodes" if name in EPISODES else "rankings")),)
    learning = {"data": data, "epochs": 0.0, "steps": asked.steps, "eval_every": 3, "checkpoint_every": 3}
    own: dict[str, dict[str, Any]] = {
        "sacpo": {"stages": ("dpo:score:0.1", "dpo:-cost:0.05")},
        "stable_alignment": {"samples": 1, "lone": "skip", "too_long": "skip"},
    }
    more = own.get(name, {"samples": 1} if name in EPISODES else {})
    return agent_spec(name).args(**{**common, **learning, **more})


def train(asked: Settings, out: Path) -> dict[str, float]:
    """Train every agent in this process (and those beside it), and return the seconds of each."""
    seconds = {}
    for name in asked.names:
        began = time.perf_counter()
        agent_spec(name).train(settings_of(name, Path(asked.data), out, asked))
        seconds[name] = time.perf_counter() - began
    return seconds


# --- processes --------------------------------------------------------------------------------------


def launch(module: str, words: Sequence[str], count: int = 2, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m module words`` in ``count`` processes on this machine, on the CPU; return the launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    how = ["--nproc_per_node", str(count), "--master_addr", "127.0.0.1", "--master_port", port]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *how, "-m", module, *words],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def shards_on_cpu() -> Iterator[None]:
    """Inside, accelerate shards weights (FSDP2) on the CPU too."""
    from accelerate.state import AcceleratorState, PartialState  # type: ignore[import-untyped]
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin  # type: ignore[import-untyped]

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    begin = AcceleratorState.__init__

    def begin_sharding(state: Any, *words: Any, **settings: Any) -> None:
        begin(state, *words, **settings)
        state.fsdp_plugin = plugin
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState._reset_state()
    AcceleratorState.__init__ = begin_sharding  # TRL makes the state anew, so it cannot simply be set
    try:
        yield
    finally:
        AcceleratorState.__init__ = begin
        AcceleratorState._reset_state(reset_partial_state=True)


def work(asked: Settings) -> None:
    """Be one of two processes."""
    logging.basicConfig(level=logging.WARNING)
    out = Path(asked.data) / "two"
    if asked.shard:
        with shards_on_cpu():
            seconds = train(asked, out)
    else:
        seconds = train(asked, out)
    (out / f"seconds-{os.environ['RANK']}.json").write_text(json.dumps(seconds), encoding="utf-8")


def flags(asked: Settings) -> list[str]:
    """Return the words that make a worker do what is ``asked``."""
    words = ["--worker", "--data", asked.data, "--steps", str(asked.steps), "--batch", str(asked.batch)]
    words += ["--lora", str(asked.lora), "--agents", *asked.names]
    return words + (["--shard"] if asked.shard else [])


# --- comparing --------------------------------------------------------------------------------------


def losses(run: Path) -> list[float]:
    """Return the losses of the updates of a run, in their order; of ppo the means of rounds."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line[name] for line in lines for name in ("train/loss", "update/loss") if name in line]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the trained weights that a run ended with."""
    policy = load_agent(run)
    assert isinstance(policy, LMPolicy)
    return {name: value.detach() for name, value in policy.network.named_parameters()}


def compared(one: Path, two: Path, start: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return how far two runs are apart, see above; ``start`` are the weights that both began with."""
    found, other = losses(one), losses(two)
    if len(found) != len(other):
        raise ValueError(f"{one} has {len(found)} losses and {two} {len(other)}")
    apart = max(abs(a - b) for a, b in zip(found, other, strict=True))
    mine, theirs = weights(one), weights(two)
    gone = max(float((value - start[name]).abs().max()) for name, value in mine.items() if name in start)
    off = max(float((value - theirs[name]).abs().max()) for name, value in mine.items())
    return {
        "updates": len(found),
        "loss": apart / max(abs(one) for one in found),
        "weights": off,
        "weights_share": off / gone,
    }


def stage(run: Path) -> Path:
    """Return the folder with the metrics of ``run``: of sacpo the last stage's."""
    return max((run / "stages").iterdir(), key=lambda place: len(place.name)) if (run / "stages").exists() else run


def measure(asked: Settings) -> dict[str, Any]:
    """Train everything in one process and in two, and compare."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(asked.data or place)
        asked = replace(asked, data=str(folder))
        if not (folder / "rankings").exists():
            make_data(folder)
        alone = train(asked, folder / "one")
        launcher = launch("dialog_gym.benchmarks.two_processes", flags(asked))
        told, _ = launcher.communicate()
        if launcher.returncode:
            raise RuntimeError(f"the two processes ended with {launcher.returncode}:\n{told[-4000:]}")
        beside = json.loads((folder / "two" / "seconds-0.json").read_text(encoding="utf-8"))
        return {"agents": {name: told_of(name, folder, asked, alone[name], beside[name]) for name in asked.names}}


def told_of(name: str, folder: Path, asked: Settings, one: float, two: float) -> dict[str, float]:
    """Return the row of the agent ``name``."""
    args = settings_of(name, folder, folder, asked)
    begun = agent_spec(name).cls.build(args, device="cpu")  # type: ignore[attr-defined]  # of every LMPolicy
    start = {key: value.detach() for key, value in begun.network.named_parameters()}
    found = compared(stage(folder / "one" / name), stage(folder / "two" / name), start)
    return {**found, "seconds_one": one, "seconds_two": two}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report."""
    table = Table(title="Two processes against one: largest differences")
    for name in ("agent", "updates", "loss (share)", "weights", "weights (share of the way)", "s, one", "s, two"):
        table.add_column(name)
    for name, row in report["agents"].items():
        table.add_row(
            name,
            str(row["updates"]),
            f"{row['loss']:.1e}",
            f"{row['weights']:.1e}",
            f"{row['weights_share']:.1e}",
            f"{row['seconds_one']:.1f}",
            f"{row['seconds_two']:.1f}",
        )
    console.print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure with the settings in ``argv`` and print."""
    if "--worker" in (argv or sys.argv):
        import tyro

        work(tyro.cli(Settings, args=argv, config=(tyro.conf.FlagCreatePairsOff,)))
        return
    command.run("two_processes", Settings, measure, show, argv)


if __name__ == "__main__":
    main()
