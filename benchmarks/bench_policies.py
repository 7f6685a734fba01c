"""How the policies of a suite are made, and what they learn from.

Data, fitted language models and learned rewards lie in ``OUT/data``. They are made once, by the process that needs
them first; others do meanwhile what does not need them. Killed, it goes on where it was. Runs lie in ``OUT/runs``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dialog_gym import baselines, checkpoint, rollout
from dialog_gym.agent import agent_spec, load_agent
from dialog_gym.agents.lm_data import task_of
from dialog_gym.baselines import HELD_OUT, Trial
from dialog_gym.benchmarks import geli, offline, sacpo, stable_alignment
from dialog_gym.benchmarks.stable_alignment_data import make_speaker
from dialog_gym.benchmarks.suites import GREEDY, Row, Suite, World
from dialog_gym.data.rank import Options, collect_rankings
from dialog_gym.data.used import content_hash
from dialog_gym.lm.speaker_cache import COMMAND, speaker_folder
from dialog_gym.lm.spec import own_model, parse
from dialog_gym.rollout import Evaluation
from dialog_gym.runs import RunFolderError, lock_folder

TRAIN = {"split": "train"}
CURVE_SEED = 900_000  # of evaluations during training: below those of the results
LOG_SEED, RANK_SEED, SEARCHES = 100_000, 400_000, 10_000
PREPARING = 0.2  # seconds between two looks at a lock


@dataclass(frozen=True)
class Made:
    """What came of a cell.

    Attributes:
        evaluation: On the held-out dialogues.
        tokens: That language models read and wrote in training; None: nothing was trained, not in one go, or other
            cells share what was.
        run: Folder of the run, whose metrics have the curve.
    """

    evaluation: Evaluation
    tokens: int | None = None
    run: Path | None = None


class Place:
    """A suite in a folder.

    Attributes:
        suite: The suite.
        out: The folder.
        progress: Whether to show progress bars.
    """

    def __init__(self, suite: Suite, out: Path, *, progress: bool = False) -> None:
        """Make policies of ``suite`` in ``out``."""
        self.suite, self.out, self.progress = suite, out, progress

    # --- what is learned from ---------------------------------------------------------------------

    def folder(self, world: World) -> Path:
        """Return where the data of a world lie."""
        return self.out / "data" / world.name

    def lm(self, world: World) -> str:
        """Return the language model that everybody begins with, which is fitted now if there is none."""
        if world.lm or not fitted(world):
            return world.lm or own_model(task(world.name))
        folder = self.folder(world) / "speaker"
        data = self.suite.data
        with holding(folder):
            if not (folder / "report.json").exists():
                make_speaker(folder, world.env(), TRAIN, data.self_play, data.fit_epochs, self.progress)
        return f"hf:{folder / 'model'}"

    def log(self, world: World) -> tuple[Path, str]:
        """Return the recorded dialogues of a world, made now unless they are there, and the hash of their content."""
        folder, lm = self.folder(world), self.lm(world)
        settings = offline.Settings(
            folder / "log",
            world.env(),
            lm=lm,
            log=self.suite.data.log,
            data_seed=LOG_SEED,
            progress=self.progress,
        )
        with holding(folder / "log"):
            data = offline.logged(settings)
        return data, str(_read(folder / "log" / "data.json")["hash"])

    def rankings(self, world: World) -> tuple[Path, str]:
        """Return the rankings of a world, branched now unless they are there, and the hash of their content."""
        folder, data = self.folder(world) / "rankings", self.suite.data
        done = folder / "done.json"
        options = Options(
            world.env(),
            TRAIN,
            reach="lm-sampled",
            k=data.k,
            by="lm-sampled",
            plays=data.plays,
            lm=self.lm(world),
        )
        with holding(folder):
            if not done.exists():
                made = collect_rankings(
                    options, data.contexts, folder / "data", seed=RANK_SEED, progress=self.progress
                )
                checkpoint.write_json(done, {"hash": made.content_hash, "rows": len(made)})
        return folder / "data", str(_read(done)["hash"])

    def data_of(self, row: Row, world: World) -> dict[str, str]:
        """Make what ``row`` learns from in ``world``, unless it is there; return hashes of the content by name."""
        if row.kind == "agent" and row.learns == "log":
            return {"log": self.log(world)[1]}
        if row.kind == "agent" and row.learns == "rankings":
            return {"rankings": self.rankings(world)[1]}
        if row.kind == "stable_alignment":
            settings = self._aligned(row, 1)
            with holding(settings.out):
                stable_alignment.prepare(settings)
            return {"ratings": str(content_hash(settings.learned))}
        return {}

    def awaited(self, row: Row, world: World, seed: int) -> bool:
        """Return whether another process makes now what ``row`` needs in ``world``."""
        folder, learned = self.folder(world), self.out / "data"
        needed = [folder / "speaker"] if fitted(world) else []
        if row.kind == "agent" and row.learns in ("log", "rankings"):
            needed.append(folder / row.learns)
        if row.kind in ("geli", "stable_alignment"):
            needed.append(learned / row.kind)
        if row.kind == "sacpo":
            needed.append(learned / "sacpo" / f"seed-{seed}")
        return any(held(one) for one in needed)

    # --- who acts -----------------------------------------------------------------------------------

    def trial(self, row: Row, world: World) -> Trial:
        """Return where ``row`` is scored."""
        kwargs: dict[str, Any] = {"split": "heldout", **({"prefix": "steer"} if row.vectors else {})}
        env = world.env(vectors=row.vectors)
        return Trial(env, kwargs, self.suite.episodes, lm=self.lm(world), progress=self.progress)

    def made(self, row: Row, world: World, seed: int, name: str) -> Made:
        """Return what ``row`` earns, trained now in the run ``name`` unless it is there."""
        trial = self.trial(row, world)
        if row.kind == "baseline":
            return Made(self._baseline(row, trial, seed))
        run = self.out / "runs" / name
        if row.kind == "sacpo":
            return Made(trial.score(self._staged(row, seed), row.name))
        if row.kind == "stable_alignment":
            agent = stable_alignment.trained(row.made, seed, self._aligned(row, seed))
            return Made(trial.score(agent, row.name))
        whole = bool(row.learns) and not run.exists()
        args = self._geli(row, seed, name) if row.kind == "geli" else self._args(row, world, seed, name)
        with counting_tokens() as tokens:
            trained = agent_spec("ppo" if row.kind == "geli" else row.made).train(args)
        return Made(trial.score(trained, row.name), tokens[0] if whole else None, run)

    def _baseline(self, row: Row, trial: Trial, seed: int) -> Evaluation:
        if row.made != "constant":
            return baselines.evaluate(row.made, trial)
        rows = Trial(trial.env, {**trial.env_kwargs, **TRAIN}).venv
        best = baselines.best_constant(rows, seed=seed * SEARCHES, progress=self.progress, **row.args)
        return trial.score(rollout.constant_policy(trial.venv, best), row.name)

    def _args(self, row: Row, world: World, seed: int, name: str) -> Any:
        """Return the settings of an agent's training."""
        spec = agent_spec(row.made)
        known = {one.name for one in fields(spec.args)}
        own = row.settings(world.name)
        found = {
            "env": world.env(vectors=row.vectors),
            "env_kwargs": {**TRAIN, **({"prefix": "steer"} if row.vectors else {})},
            "out": str(self.out / "runs" / name),
            "seed": seed,
            "keep": 1,
            "track": "none",
            "progress": self.progress,
            **self._curve(int(own.get("steps", 0))),
        }
        if not row.learns:  # who only plays is scored as the others are, and not a second time before
            found |= {"eval_episodes": 1}
        if "lm" in known:
            found["lm"] = self.lm(world)
        if row.learns in ("log", "rankings"):
            found["data"] = (str(self.log(world)[0] if row.learns == "log" else self.rankings(world)[0]),)
            found["empty"] = "skip"  # now and then a sampled answer has no words
        return spec.args(**{**found, **own})

    def _curve(self, steps: int) -> dict[str, Any]:
        every = max(1, steps // self.suite.points) if steps else 0
        return {"eval_every": every, "eval_seed": CURVE_SEED, "eval_episodes": self.suite.point_episodes}

    def _geli(self, row: Row, seed: int, name: str) -> Any:
        data, folder = self.suite.data, self.out / "data" / "geli"
        settings = geli.Settings(
            "returns",
            folder,
            episodes=data.reward_episodes,
            fit_steps=data.reward_steps,
            steps=int(row.args["steps"]),
        )
        with holding(folder), redirect_stdout(sys.stderr):  # where the table of a reward's fit is not in the way
            args, _ = geli.prepared(geli.Cell(row.made, seed), settings)
        return replace(args, out=str(self.out / "runs" / name), keep=1, **GREEDY, **self._curve(args.steps))

    def _staged(self, row: Row, seed: int) -> Any:
        folder = self.out / "data" / "sacpo"
        settings = sacpo.Settings(folder, contexts=self.suite.data.questions, progress=self.progress)
        with holding(folder / f"seed-{seed}"):  # its stages are those of other rows too
            return load_agent(sacpo.made(row.made, seed, settings))

    def _aligned(self, row: Row, seed: int) -> stable_alignment.Settings:
        return stable_alignment.Settings(
            self.out / "data" / "stable_alignment",
            questions=self.suite.data.questions,
            seeds=seed,
            steps=int(row.args["steps"]),
            progress=self.progress,
        )


# --- what cannot be done ------------------------------------------------------------------------


@cache
def task(world: str) -> Any:
    """Return the task of a world."""
    return task_of(World(world).env(), {})


@cache
def fitted(world: World) -> bool:
    """Return whether no language model was made in ``world``, so that one is fitted on its self-play."""
    return not world.lm and own_model(task(world.name)) == "tiny"


def why_not(row: Row, world: World) -> str:
    """Return why ``row`` cannot act in or learn from ``world``; "" if it can."""
    spec = parse(world.lm) if world.lm else None
    if spec is not None and spec.backend == "speaker" and not (speaker_folder(spec.name) / "config.json").is_file():
        return f"who begins is a language model that was fitted on a corpus, and {world.lm} was not: {COMMAND}"
    if row.vectors and (spec is not None or fitted(world)):
        return "its language model has no prefix map that it was tuned with, so there are no vectors to act by"
    if row.made == "sacpo" and task(world.name).cost is None:
        return "nothing costs in this world, so there is no second stage"
    return ""


# --- tools --------------------------------------------------------------------------------------


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made if need be, against other processes; wait as long as another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    (place := folder / "held").mkdir(exist_ok=True)
    while True:
        try:
            lock = lock_folder(place)
            break
        except RunFolderError:
            time.sleep(PREPARING)
    with lock:
        yield


def held(folder: Path) -> bool:
    """Return whether another process holds ``folder``."""
    if not (place := folder / "held").exists():
        return False
    try:
        lock_folder(place).close()
    except RunFolderError:
        return True
    return False


@contextmanager
def counting_tokens() -> Iterator[list[int]]:
    """Yield a list of one number, to which the tokens are added that language models in this process read and write.

    What is counted is what goes through their input embeddings, filling included.
    """
    count = [0]

    def see(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
        if isinstance(module, torch.nn.Embedding):
            count[0] += given[0].numel()

    hook = torch.nn.modules.module.register_module_forward_pre_hook(see)
    try:
        yield count
    finally:
        hook.remove()


def _read(path: Path) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


assert CURVE_SEED < HELD_OUT
