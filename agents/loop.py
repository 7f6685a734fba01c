"""The one training loop: run folder, evaluation, checkpoints, Ctrl-C. An agent's file has the algorithm.

Where several processes share a training (``Shared``), the first of them goes through it as if it were alone, and the
others follow: they take the same steps and write nothing. Ctrl-C then stops all of them after the step that is under
way, since launchers wait for half a minute only.
"""

from __future__ import annotations

import logging
import numbers
import os
import signal
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints, runtime_checkable

import torch

from dialog_gym import checkpoint
from dialog_gym.agent import Agent, Evaluate, config_of
from dialog_gym.agents.state import Arrays
from dialog_gym.rollout import Evaluation
from dialog_gym.runs import Interrupted, RunFolder
from dialog_gym.tracking import progress_bar

log = logging.getLogger("dialog_gym")

AgentT_co = TypeVar("AgentT_co", bound=Agent, covariant=True)
AgentT = TypeVar("AgentT", bound=Agent)

NO_EFFECT = ("out", "keep", "track", "progress", "patience")
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
    """Length in environment steps, rounded up to whole steps of all rows."""
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
        check_choices(self)
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


def above_0(args: object, *names: str) -> None:
    """Raise ValueError if one of the settings ``names`` is not above 0."""
    for name in names:
        if not getattr(args, name) > 0:
            raise ValueError(f"{name} must be above 0, got {getattr(args, name)}")


def from_0_to_1(args: object, *names: str) -> None:
    """Raise ValueError if one of the settings ``names`` is not from 0 to 1."""
    for name in names:
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {getattr(args, name)}")


def check_choices(args: object) -> None:
    """Raise ValueError if a setting is none of the choices that its type names (``Literal``, or a union with one)."""
    for name, hint in get_type_hints(type(args)).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        others = [kind for kind in kinds if get_origin(kind) is not Literal]
        value = getattr(args, name)
        if choices and value not in choices and not any(_is_a(value, kind) for kind in others):
            told = [*map(repr, choices), *("None" if kind is type(None) else kind.__name__ for kind in others)]
            raise ValueError(f"{name} must be one of {', '.join(told)}, got {value!r}")


def _is_a(value: object, kind: type) -> bool:
    return isinstance(value, numbers.Real if kind is float else kind)


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


@runtime_checkable
class Watched(Protocol):
    """What a training may have besides: a length of its own, and an eye on its evaluations."""

    @property
    def total(self) -> int:
        """Steps in all, which may follow from the data."""
        ...

    def evaluated(self, metrics: dict[str, float], folder: Path) -> dict[str, float]:
        """Return further metrics after an evaluation, which gave ``metrics``; files may be written to the run."""
        ...


@runtime_checkable
class Shared(Protocol):
    """What a training has that several processes share, started by ``accelerate launch``. All call these together."""

    def meet(self) -> None:
        """Wait for all processes, and refuse to go on where they do not stand alike."""
        ...

    def agree(self, stop: bool) -> bool:
        """Wait for all processes, and return whether the first of them said ``stop``."""
        ...

    def collect(self) -> None:
        """Bring the agent of the first process up to date, before it is asked or saved."""
        ...

    @property
    def sharded(self) -> bool:
        """Whether ``state`` must be called by all."""
        ...


def rank() -> int:
    """Return which of the processes that share a training this is; the first alone writes to the run folder."""
    return int(os.environ.get("RANK", 0))


def processes() -> int:
    """Return how many processes share a training."""
    return int(os.environ.get("WORLD_SIZE", 1))


def one_process(name: str) -> None:
    """Refuse to train the agent ``name`` in several processes.

    Raises:
        ValueError: There are several.
    """
    if processes() > 1:
        raise ValueError(
            f"{name} trains in one process, and {processes()} were started: start it without accelerate or torchrun "
            "(for several runs at a time, each with a seed and a folder of its own)"
        )


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
    if rank():
        return _follow(cls, args, make)
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
            _agree(training, False)
            return training.agent


def _begin(training: Training[Agent], run: RunFolder) -> None:
    last = run.last()
    if last is None:
        training.begin()
    else:
        step, (arrays, data) = last
        log.info("%s: going on from step %d", run.path, step)
        training.restore(step, arrays, data)
    if isinstance(training, Shared):
        training.meet()


def _loop(training: Training[Agent], run: RunFolder, args: RunArgs, evaluate: Evaluate) -> None:
    total = _total(training, args)
    with progress_bar(training.agent.name, total, done=training.step, show=args.progress) as show:
        while training.step < total:
            before = training.step
            training.advance()
            step = training.step
            metrics: dict[str, float] = {}
            over = step >= total
            stop = processes() > 1 and _agree(training, run.interrupted)
            saving, evaluating = _what_is_due(args, before, step, over=over, stop=stop)
            if saving or evaluating:
                _collect(training)
            if saving or due(args.log_every, before, step):
                metrics |= training.pop_metrics()
            if evaluating:
                metrics |= evaluate(training.agent)
                if isinstance(training, Watched):
                    with run.writing("samples, or the best policy,"):
                        metrics |= training.evaluated(metrics, run.path)
            if metrics:
                run.log(step, metrics)
            show(step, metrics)
            if saving:
                run.save(step, *training.state(), beside=lambda folder: training.agent.save(folder / "agent"))
                if stop or processes() == 1:
                    run.stop_if_interrupted(step)


def _follow(cls: type[AgentT], args: RunArgs, make: Callable[[Any], Training[AgentT]]) -> AgentT:
    """Train beside the first process: take the same steps from the same checkpoint, and write nothing."""
    folder = Path(args.out)
    if (folder / "result.json").exists():
        return cls.load(folder / "agent")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process says when to stop
    training: Training[AgentT]
    with torch_threads(args.threads), closing(make(args)) as training:
        assert isinstance(training, Shared), "agents that cannot be shared refuse several processes (one_process)"
        places = sorted((folder / "checkpoints").glob("step-*"))
        if places:
            training.restore(int(places[-1].name.removeprefix("step-")), *checkpoint.read(places[-1], cls.name))
        else:
            training.begin()
        training.meet()
        total = _total(training, args)
        while training.step < total:
            before = training.step
            training.advance()
            over = training.step >= total
            stop = training.agree(False)
            saving, evaluating = _what_is_due(args, before, training.step, over=over, stop=stop)
            if saving or evaluating:
                training.collect()
            if saving or due(args.log_every, before, training.step):
                training.pop_metrics()
            if saving and training.sharded:
                training.state()
            if stop:
                raise Interrupted(f"stopped at step {training.step} with the first process")
        training.agree(False)
    return cls.load(folder / "agent")


def _what_is_due(args: RunArgs, before: int, step: int, *, over: bool, stop: bool) -> tuple[bool, bool]:
    """Return whether there is to be a checkpoint, and an evaluation, after the work from ``before`` to ``step``."""
    saving = over or stop or due(args.checkpoint_every, before, step)
    evaluating = bool(args.eval_every) and (over or due(args.eval_every, before, step))
    return saving, evaluating


def _total(training: Training[Agent], args: RunArgs) -> int:
    return training.total if isinstance(training, Watched) else args.steps


def _collect(training: Training[Agent]) -> None:
    if isinstance(training, Shared):
        training.collect()


def _agree(training: Training[Agent], stop: bool) -> bool:
    return training.agree(stop) if isinstance(training, Shared) else stop


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
        return evaluation_metrics(found)

    return evaluate


def evaluation_metrics(found: Evaluation) -> dict[str, float]:
    """Return mean return, its 95% interval, and the mean cost where something costs, by the names of metrics."""
    low, high = found.interval
    told = {"eval/return": float(found.mean), "eval/low": float(low), "eval/high": float(high)}
    return {**told, "eval/cost": found.cost} if found.cost else told


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
