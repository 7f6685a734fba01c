"""From one score per conversation to a trained policy: the whole road, and what each reward on it is good for.

``python -m dialog_gym.benchmarks.geli pipeline --out runs/geli`` runs one documented sequence of commands, from files
in CANDOR's layout (of our own making) to an evaluated policy, and tells what each took:

1. ``dialog-gym data make-candor``: conversations on disk, a face per second, a survey per speaker;
2. ``dialog-gym data read candor``: episodes;
3. ``dialog-gym fit reward``: GELI, from survey and faces;
4. ``dialog-gym score``: a picture of dialogues coloured by it;
5. ``dialog-gym train ppo``: a language model with LoRA learns in ``Chat-v0`` from it;
6. ``dialog-gym evaluate``: the environment's own final score on held-out situations, of the policy and of the model as
   it was.

``python -m dialog_gym.benchmarks.geli returns --out runs/geli-returns`` compares what PPO earns (the true final
score, held-out situations) after learning from each reward in ``Chat-v0``: ``li``, ``ge`` (RRD, unbiased) and
``geli``, learned from ``episodes`` dialogues of the model as it is; ``true``, the world's own value of each turn, the
upper line; ``score``, the final score itself; ``sentiment``, VADER of the partner's answers; ``none``. Every reward
has the weight at which its sum over a dialogue spreads over those episodes as the score does, so that the penalty for
leaving the model weighs the same. A cell (reward, seed) is one JSON file, and a cell that is there is not computed
again. A learned reward is learned anew for each seed, from the same episodes.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro

from dialog_gym.agents.loop import torch_threads
from dialog_gym.baselines import Trial
from dialog_gym.benchmarks.command import each_cell, write_cell
from dialog_gym.benchmarks.statistics import markdown_table, runs_or_episodes, with_interval
from dialog_gym.errors import unknown

log = logging.getLogger("dialog_gym")

ENV = "dialog_gym/Chat-v0"
LEARNED = {
    "li": ("--method", "li", "--local", "affect"),
    "ge": ("--method", "rrd-unbiased"),
    "geli": ("--method", "geli", "--local", "affect", "--link", "fitted"),
    "geli-weak": ("--method", "geli", "--local", "affect", "--link", "fitted", "--lambda", "0.2"),
}
READS = ("--utterances", "2", "--answer")
"""What the reward reads: the turn, the one before and the answer. Of 200 conversations of 40 turns, a bag of words of
these went with the truth at .38, of 20 utterances at .25, and without the answer at .17."""
REWARDS = (*LEARNED, "true", "score", "none", "sentiment")
UNTRAINED = "untrained"  # the row of the model as it is
_WEIGHED = 256  # episodes on which a reward is weighed


@dataclass(frozen=True)
class Settings:
    """What is run.

    Attributes:
        what: The whole road once, or the comparison of rewards.
        out: Folder of everything; the same command goes on there.
        conversations: Of the pipeline, on disk.
        turns: Of each, of both speakers together.
        episodes: Dialogues that rewards are learned from in the comparison.
        fit_steps: Updates of the reward.
        encoder: Who reads turns for it.
        steps: Dialogues that the policy plays to learn.
        lm: Language model that learns.
        rewards: What is compared.
        seeds: Seeds 1, 2, ...
        heldout: Dialogues of an evaluation.
        table: Only show what is there, as Markdown.
    """

    what: tyro.conf.Positional[Literal["pipeline", "returns"]]
    out: Path
    conversations: int = 200
    turns: int = 80
    episodes: int = 1000
    fit_steps: int = 400
    encoder: str = "bag"
    steps: int = 640
    lm: str = "tiny-chat"
    rewards: tuple[str, ...] = REWARDS
    seeds: int = 3
    heldout: int = 512
    table: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in self.rewards:
            if name not in REWARDS:
                raise unknown("reward", name, REWARDS)
        for name in ("conversations", "turns", "episodes", "fit_steps", "steps", "seeds", "heldout"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


# --- the whole road --------------------------------------------------------------------------------


class Step(NamedTuple):
    """One command of the pipeline.

    Attributes:
        name: What it does.
        words: Of the command ``dialog-gym``.
        made: What it makes; a step whose work is there is passed over, ``None`` runs always.
    """

    name: str
    words: tuple[str, ...]
    made: Path | None


def pipeline(settings: Settings) -> list[Step]:
    """Return the commands from files to a policy; each reads what the ones before it wrote."""
    out = settings.out
    talks, episodes, reward, policy = (str(out / name) for name in ("candor", "episodes", "reward", "policy"))
    learn = ("--method", "geli", "--local", "faces:mean", "--link", "fitted", *READS, "--encoder", settings.encoder)
    quiet = ("--no-progress", "--track", "none")
    scale = ("--conversations", str(settings.conversations), "--turns", str(settings.turns))
    told = ("--env", ENV, "--episodes", str(settings.heldout), "--set", "split=heldout", "--raw", "--json")
    return [
        Step("make conversations", ("data", "make-candor", talks, *scale), Path(talks)),
        Step("read them", ("data", "read", "candor", talks, "--out", episodes), Path(episodes)),
        Step(
            "learn a reward",
            (
                "fit",
                "reward",
                "--episodes",
                episodes,
                *learn,
                "--steps",
                str(settings.fit_steps),
                "--out",
                reward,
                *quiet,
            ),
            None,
        ),
        Step(
            "colour dialogues",
            ("score", reward, episodes, "--limit", "20", "--html", str(out / "dialogues.html")),
            out / "dialogues.html",
        ),
        Step("train a policy", ("train", *ppo_words(settings, reward, 1), "--out", policy), None),
        Step("evaluate it", ("evaluate", policy, *told), None),
        Step("evaluate the model as it was", ("evaluate", "lm-sampled", "--lm", settings.lm, *told), None),
    ]


def ppo_words(settings: Settings, reward: str, seed: int) -> tuple[str, ...]:
    """Return agent and settings of the training of a policy as words of a command, but for its folder."""
    told = ppo_settings(settings, reward, seed)
    words = [word for name, value in told.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return ("ppo", "--env", ENV, "--set", "split=train", *words, "--track", "none", "--no-progress")


def ppo_settings(settings: Settings, reward: str, seed: int) -> dict[str, Any]:
    """Return what of PPO's settings is not its default."""
    saved = max(settings.steps // 4, 1)
    own = {"steps": settings.steps, "seed": seed, "eval_every": 0, "checkpoint_every": saved}
    return {"lm": settings.lm, "lora": 8, "lr": 1e-3, "max_tokens": 24, "reward": reward, **own}


def run_pipeline(settings: Settings) -> str:
    """Run the commands, and return a table of what each took, as Markdown.

    Raises:
        RuntimeError: A command failed; the message has the end of what it said.
    """
    lines = ["| step | command | wall s | CPU s |", "|---|---|---:|---:|"]
    for step in pipeline(settings):
        shown = "dialog-gym " + " ".join(step.words)
        if step.made is not None and step.made.exists():
            lines.append(f"| {step.name} | `{shown}` | there | |")
            continue
        log.info("%s", shown)
        wall, cpu = time.perf_counter(), _cpu()
        said = subprocess.run(
            [sys.executable, "-m", "dialog_gym", *step.words], capture_output=True, text=True, check=False
        )
        if said.returncode:
            raise RuntimeError(f"`{shown}` failed: {said.stderr[-2000:]}")
        lines.append(f"| {step.name} | `{shown}` | {time.perf_counter() - wall:.1f} | {_cpu() - cpu:.1f} |")
        if step.words[0] == "evaluate":
            result = json.loads(said.stdout)
            low, high = result["interval"]
            lines.append(f"| | final score {result['mean']:.3f} [{low:.3f}, {high:.3f}] | | |")
    return "\n".join(lines)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- the comparison of rewards ----------------------------------------------------------------------


class Cell(NamedTuple):
    """One entry of the table."""

    reward: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.reward}-{self.seed}"


def cells(settings: Settings) -> list[Cell]:
    """Return all cells, seed by seed, so that a table can be shown early."""
    seeded = [Cell(reward, seed) for seed in range(1, settings.seeds + 1) for reward in settings.rewards]
    return [Cell(UNTRAINED, 1), *seeded]


def config_of(cell: Cell, settings: Settings) -> dict[str, Any]:
    """Return what determines the cell, as JSON values."""
    config: dict[str, Any] = {"cell": cell._asdict(), "env": ENV, "lm": settings.lm, "heldout": settings.heldout}
    if cell.reward == UNTRAINED:
        return config
    config |= {"steps": settings.steps, "episodes": settings.episodes}
    return config | ({"fit_steps": settings.fit_steps, "encoder": settings.encoder} if cell.reward in LEARNED else {})


def run(cell: Cell, settings: Settings) -> None:
    """Compute ``cell`` and write its file, unless it is there.

    Raises:
        ValueError: The file is there and was made with other settings.
    """
    write_cell(settings.out / f"{cell.name}.json", config_of(cell, settings), lambda: _score(cell, settings))


def _score(cell: Cell, settings: Settings) -> dict[str, Any]:
    trial = Trial(ENV, {"split": "heldout"}, settings.heldout, lm=settings.lm)
    if cell.reward == UNTRAINED:
        from dialog_gym import baselines

        return {"result": baselines.evaluate("lm-sampled", trial).to_json()}
    agent, more = _trained(cell, settings)
    return {"result": trial.score(agent.act, cell.reward).to_json(), **more}


def _trained(cell: Cell, settings: Settings) -> tuple[Any, dict[str, Any]]:
    """Return the policy of a cell, and what is to be told of its reward."""
    from dialog_gym.agent import agent_spec

    args, weight = prepared(cell, settings)
    return agent_spec("ppo").train(args), {"weight": weight}


def prepared(cell: Cell, settings: Settings) -> tuple[Any, float]:
    """Return the settings of a cell's PPO, whose reward is learned now unless it is there, and the reward's weight."""
    from dialog_gym.agent import agent_spec

    episodes = _episodes(settings)
    reward = _learned(cell, settings, episodes) if cell.reward in LEARNED else cell.reward
    weight = weight_of(cell.reward, reward, episodes)
    out = str(settings.out / "runs" / cell.name)
    own = ppo_settings(settings, f"{reward}?weight={weight:.6g}", cell.seed)
    args = agent_spec("ppo").args(env=ENV, env_kwargs={"split": "train"}, out=out, track="none", progress=False, **own)
    return args, weight


def _episodes(settings: Settings) -> Path:
    """Return the dialogues that rewards are learned from: of the model as it is, on training situations."""
    from dialog_gym.data.collect import collect

    folder = settings.out / "episodes"
    collect(ENV, "lm-sampled", settings.episodes, folder, env_kwargs={"split": "train"}, lm=settings.lm)
    return folder


def _learned(cell: Cell, settings: Settings, episodes: Path) -> str:
    from dialog_gym.rewards.decomposition.command import run as fit_reward

    folder = settings.out / "rewards" / cell.name
    words = (
        *LEARNED[cell.reward],
        *READS,
        "--episodes",
        str(episodes),
        "--score",
        "return",
        "--encoder",
        settings.encoder,
    )
    more = ("--steps", str(settings.fit_steps), "--seed", str(cell.seed), "--no-progress", "--track", "none")
    fit_reward([*words, *more, "--out", str(folder), "--no-plots"])
    return str(folder)


def weight_of(name: str, reward: str, episodes: Path) -> float:
    """Return the weight at which the sum of ``reward`` over a dialogue spreads as the score does; 1 for no reward."""
    from dialog_gym.data.episodes import Episodes
    from dialog_gym.scoring import scored

    if name in ("score", "none"):
        return 1.0
    rows = list(islice(Episodes.load(episodes), _WEIGHED))
    sums = [sum(value or 0.0 for value in one.rewards) for one in scored(reward, rows)]
    spread = float(np.std(sums))
    if spread < 1e-9:
        raise ValueError(
            f"the reward {reward} is the same for all of {len(rows)} dialogues: there is nothing to learn"
        )
    return float(np.std([row.total for row in rows])) / spread


def markdown(settings: Settings) -> str:
    """Return the table of the cells that are there: true final score by reward, the best first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(settings.out.glob("*-*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(data["config"]["cell"]["reward"], []).append(data)
    rows = []
    for name, made in sorted(found.items(), key=lambda item: -_mean(item[1])):
        low, high = runs_or_episodes([data["result"]["returns"] for data in made])
        weights = [data["weight"] for data in made if "weight" in data]
        weight = f"{np.mean(weights):.3g}" if weights else ""
        cpu = np.mean([data["cpu_seconds"] for data in made])
        rows.append((name, f"{len(made)}", with_interval(3, _mean(made), low, high), weight, f"{cpu:.0f}"))
    return markdown_table(("reward", "seeds", "final score", "weight", "CPU s per seed"), rows, "lrl")


def _mean(made: Sequence[dict[str, Any]]) -> float:
    return float(np.mean([data["result"]["mean"] for data in made]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and print its table; return the exit status, 1 if something failed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = tyro.cli(
        Settings, args=argv, prog="python -m dialog_gym.benchmarks.geli", config=(tyro.conf.FlagCreatePairsOff,)
    )
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.what == "pipeline":
        sys.stdout.write(run_pipeline(settings) + "\n")
        return 0
    with torch_threads(1):
        failed = [] if settings.table else each_cell(cells(settings), lambda cell: run(cell, settings))
    sys.stdout.write(markdown(settings) + "\n")
    if failed:
        log.error("failed: %s; start the same command again to retry", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
