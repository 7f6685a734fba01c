"""The one training loop: run folder, evaluation, checkpoints, Ctrl-C. An agent's file has the algorithm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch

from dialog_gym.agent import Agent, Evaluate, config_of
from dialog_gym.agents.state import Arrays
from dialog_gym.runs import RunFolder
from dialog_gym.tracking import progress_bar

log = logging.getLogger("dialog_gym")

AgentT_co = TypeVar("AgentT_co", bound=Agent, covariant=True)
AgentT = TypeVar("AgentT", bound=Agent)

NO_EFFECT = ("out", "keep", "track", "progress")
"""Settings that leave the numbers alone, and may change from start to start of one run."""


@dataclass(frozen=True)
class RunArgs:
    """What every agent that learns in an environment can be told."""

    env: str = "dialog_gym/BargainPrefix-v0"
    """Environment id; observations and actions are vectors, actions in [-1, 1]."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, on the command line as JSON text."""
    out: str = "runs/agent"
    """Run folder. The same command started again goes on there."""
    seed: int = 1
    """Source of all randomness."""
    steps: int = 30_000
    """Budget in environment steps, rounded up to whole steps of all rows."""
    rows: int = 32
    """Dialogues in parallel."""
    eval_every: int = 2500
    """Steps between evaluations; 0: never."""
    eval_episodes: int = 64
    """Dialogues per evaluation. Report other ones than you choose by."""
    eval_seed: int = 20_000_000
    """Seed of the evaluation dialogues."""
    log_every: int = 500
    """Steps between lines of metrics."""
    checkpoint_every: int = 2000
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints to keep."""
    track: Literal["tensorboard", "wandb", "none"] = "tensorboard"
    """Where metrics go besides metrics.jsonl."""
    progress: bool = True
    """Show a progress bar."""
    threads: int = 1
    """Torch threads (small networks are slower with more); 0: leave torch as it is set."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        at_least(self, 1, "steps", "rows", "log_every", "checkpoint_every", "keep", "eval_episodes")
        at_least(self, 0, "seed", "eval_seed", "eval_every", "threads")

    @property
    def data_used(self) -> tuple[str, ...]:
        """Data sets and files that the run learns from; their content is noted in its configuration."""
        return ()


def at_least(args: object, bound: int, *names: str) -> None:
    """Raise ValueError if one of the settings ``names`` is below ``bound``."""
    for name in names:
        if not getattr(args, name) >= bound:
            raise ValueError(f"{name} must be at least {bound}, got {getattr(args, name)}")


class Training(Protocol[AgentT_co]):
    """A run in progress. Between two calls of ``advance`` it can be saved and restored exactly."""

    @property
    def agent(self) -> AgentT_co:
        """What is trained."""
        ...

    @property
    def step(self) -> int:
        """How far it is, in the unit of ``RunArgs.steps``."""
        ...

    def begin(self) -> None:
        """Stand at step 0."""
        ...

    def advance(self) -> None:
        """Do the smallest piece of work that can be interrupted."""
        ...

    def pop_metrics(self) -> dict[str, float]:
        """Return and forget what happened since the last call; only ``time/`` may depend on the clock."""
        ...

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that ``restore`` needs, as arrays and JSON; called right after ``pop_metrics``."""
        ...

    def restore(self, step: int, arrays: Arrays, data: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned at ``step``."""
        ...

    def state_bytes(self) -> int:
        """Return how large a checkpoint can become."""
        ...

    def finish(self, folder: Path) -> None:
        """Write what is to be kept besides the agent."""
        ...

    def close(self) -> None:
        """Let go of the environment."""
        ...


def run_training(
    cls: type[AgentT], args: RunArgs, make: Callable[[Any], Training[AgentT]], evaluate: Evaluate | None
) -> AgentT:
    """Train ``make(args)`` to its end in the run folder ``args.out``, or go on where that stands.

    Args:
        cls: The agent's class.
        args: Its settings.
        make: Builds the ``Training``.
        evaluate: See ``dialog_gym.agents.td3.train``.
    """
    config = config_of(cls.name, args, apart_from=NO_EFFECT)
    opened = RunFolder.open(args.out, config, keep=args.keep, track=args.track, data=args.data_used)
    with torch_threads(args.threads), opened as run:
        if run.finished:
            log.info("%s has finished already; its agent is loaded", run.path)
            return cls.load(run.agent_folder)
        training: Training[AgentT]
        with closing(make(args)) as training:
            run.check_space(training.state_bytes())
            _begin(training, run)
            with run.catching_interrupts():
                _loop(training, run, args, evaluate or mean_return(args))
            training.finish(run.path)
            run.save_agent(training.agent)
            run.finish({"steps": training.step})
            return training.agent


def _begin(training: Training[Agent], run: RunFolder) -> None:
    last = run.last()
    if last is None:
        training.begin()
        return
    step, (arrays, data) = last
    log.info("%s: going on from step %d", run.path, step)
    training.restore(step, arrays, data)


def _loop(training: Training[Agent], run: RunFolder, args: RunArgs, evaluate: Evaluate) -> None:
    with progress_bar(training.agent.name, args.steps, done=training.step, show=args.progress) as show:
        while training.step < args.steps:
            before = training.step
            training.advance()
            step = training.step
            metrics: dict[str, float] = {}
            over = step >= args.steps
            saving = over or due(args.checkpoint_every, before, step)
            if saving or due(args.log_every, before, step):
                metrics |= training.pop_metrics()
            if args.eval_every and (over or due(args.eval_every, before, step)):
                metrics |= evaluate(training.agent)
            if metrics:
                run.log(step, metrics)
            show(step, metrics)
            if saving:
                run.save(step, *training.state(), beside=lambda folder: training.agent.save(folder / "agent"))
                run.stop_if_interrupted(step)


def due(every: int, before: int, step: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, step]."""
    return step // every > before // every


def mean_return(args: RunArgs) -> Evaluate:
    """Return the default evaluation: mean return and its 95% interval over ``args.eval_episodes`` dialogues."""

    def evaluate(agent: Agent) -> Mapping[str, float]:
        from dialog_gym.rollout import evaluate as play

        found = play(
            agent,
            args.env,
            episodes=args.eval_episodes,
            seed=args.eval_seed,
            rows=args.rows,
            env_kwargs=args.env_kwargs,
        )
        low, high = found.interval
        return {"eval/return": float(found.mean), "eval/low": float(low), "eval/high": float(high)}

    return evaluate


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads, 0 for as many as it does, and set back what was."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
