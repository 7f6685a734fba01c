"""Policies played by workers: baselines and trained agents in a ``Trial``, and agents that still learn.

An agent travels as the files that it saves (never as a pickle), through Ray's object store: they are put there once
for all workers, and each takes them when it is given the next part of episodes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from dialog_gym import baselines, rollout
from dialog_gym.agent import Agent, Evaluate, agent_place, load_agent
from dialog_gym.authoring.modules import user_module
from dialog_gym.baselines import Trial
from dialog_gym.distributed.cluster import Cluster
from dialog_gym.distributed.parts import Part, in_order, parts_of
from dialog_gym.distributed.pool import Pool
from dialog_gym.errors import LanguageModelError
from dialog_gym.rollout import Episode, Evaluation, Policy

Files = Mapping[str, bytes]
"""A saved agent: content by path inside its folder."""


class RemoteTrial:
    """A ``Trial`` whose episodes are played by workers, in a ``with`` block.

    The episodes are those that ``dialog_gym.baselines.evaluate`` plays: in parts of ``trial.rows``, with the same
    seeds. A random policy that acts by vectors draws one stream over all of its episodes, so one worker plays them.
    """

    def __init__(
        self, trial: Trial, cluster: Cluster, agent: str | Path | None = None, speak: Mapping[str, Any] | None = None
    ) -> None:
        """Prepare to play.

        Args:
            trial: Environment and seeds.
            cluster: Where.
            agent: Folder of a run or of a saved agent, for ``score(None)``.
            speak: Its settings of speaking that are others than in the folder; see ``Agent.set``.
        """
        self.trial = replace(trial, progress=False)  # also leaves behind the environment it may have made
        self.progress = trial.progress
        self.agent = "" if agent is None else Path(agent).name
        files = {} if agent is None else pack(agent_place(agent))
        self._pool = Pool(partial(_trying, self.trial, files, dict(speak or {})), cluster)

    def __enter__(self) -> Self:
        """Start the workers; see ``Pool``."""
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them."""
        self._pool.__exit__(kind, error, trace)

    def score(self, policy: str | None) -> Evaluation:
        """Return what a baseline or a script of the world earns; None: what the agent does.

        Raises:
            KeyError, ValueError, NotImplementedError: See ``dialog_gym.baselines.evaluate``.
            LanguageModelError: A model failed; the message says how many episodes had been played.
        """
        trial = self.trial
        size = trial.episodes if policy == "random" else trial.rows
        parts = parts_of([(trial.seed, trial.episodes)], trial.seed, size)
        name = self.agent if policy is None else policy
        asked: Any = [Asked(*part, policy) for part in parts]
        episodes = _gathered(self._pool, asked, f"evaluate {name}", trial.episodes, self.progress)
        return Evaluation(trial.env, name, tuple(episodes))


class Asked(NamedTuple):
    """Episodes, and who is to play them; a ``Part`` with a name."""

    first: int
    size: int
    skip: frozenset[tuple[int, int]]
    policy: str | None


class RemotePlay:
    """Workers that play an agent while it learns, in a ``with`` block; new weights reach them without a restart.

    ::

        with RemotePlay("dialog_gym/BargainPrefix-v0", Cluster(workers=2)) as play:
            play.set_weights(agent)
            episodes = play.episodes(64, seed=0)

    Attributes:
        version: How often weights were set.
    """

    def __init__(
        self, env: str, cluster: Cluster, *, rows: int = 32, env_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """Prepare to play.

        Args:
            env: Id of the environment, which each worker makes for itself.
            cluster: Where.
            rows: Dialogues in parallel in each worker, and episodes in a part.
            env_kwargs: Arguments of the environment.
        """
        self.env, self.rows, self.version = env, rows, 0
        self._pool = Pool(partial(_learning, env, rows, dict(env_kwargs or {})), cluster)
        self._files: Any = None

    def __enter__(self) -> Self:
        """Start the workers; see ``Pool``."""
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop them, and forget the weights."""
        self._files = None
        self._pool.__exit__(kind, error, trace)

    def set_weights(self, agent: Agent) -> int:
        """Let all episodes from now on be played by ``agent`` as it is now; return the new version.

        A worker that is lost and started again takes these weights too.
        """
        import ray

        with tempfile.TemporaryDirectory() as folder:
            agent.save(Path(folder) / "agent")
            self._files = ray.put(pack(Path(folder) / "agent"))
        self.version += 1
        return self.version

    def episodes(self, count: int, *, seed: int = 0) -> list[Episode]:
        """Return ``count`` episodes, seeded ``seed`` and on, all played by the newest weights.

        Raises:
            ValueError: No weights were set.
        """
        if self._files is None:
            raise ValueError("there is nobody to play yet; call set_weights(agent) first")
        weights = Weights(self.version, [self._files])  # in a list: Ray then leaves it to the worker to fetch them
        parts = parts_of([(seed, count)], seed, self.rows)
        asked: Any = [(part, weights) for part in parts]
        return _gathered(self._pool, asked, "", count, False)


class Weights(NamedTuple):
    """A saved agent in Ray's object store."""

    version: int
    files: list[Any]


class Evaluated(Protocol):
    """Settings of an agent that say how it is evaluated; see ``dialog_gym.agents.loop.RunArgs``."""

    @property
    def env(self) -> str:
        """Environment id."""
        ...

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Its arguments."""
        ...

    @property
    def rows(self) -> int:
        """Dialogues in parallel."""
        ...

    @property
    def eval_episodes(self) -> int:
        """Dialogues per evaluation."""
        ...

    @property
    def eval_seed(self) -> int:
        """Seed of the first."""
        ...


@contextmanager
def remote_evaluation(args: Evaluated, cluster: Cluster) -> Iterator[Evaluate]:
    """Yield the default evaluation of an agent in training (``mean_return``), played by workers.

    The workers stay for the whole training; the agent is sent to them at each evaluation.
    """
    from dialog_gym.agents.loop import evaluation_metrics

    def evaluate(agent: Agent) -> Mapping[str, float]:
        play.set_weights(agent)
        episodes = play.episodes(args.eval_episodes, seed=args.eval_seed)
        return evaluation_metrics(Evaluation(args.env, agent.name, tuple(episodes)))

    rows = min(args.rows, args.eval_episodes)
    with RemotePlay(args.env, cluster, rows=rows, env_kwargs=args.env_kwargs) as play:
        yield evaluate


def pack(folder: Path) -> Files:
    """Return the files in ``folder``, by their paths inside it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def unpacked(files: Files) -> Agent:
    """Return the agent that was saved as ``files``."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return load_agent(folder)


def register(env: str) -> None:
    """Import the module in ``module:id``, in a worker that has not seen it, also from the present folder."""
    if module := env.rpartition(":")[0]:
        user_module(module)


def played(policy: Policy, rows: Any, part: Part | Asked) -> list[Episode]:
    """Return the episodes of ``part`` in the order of their seeds."""
    return [episode for _, episode in sorted(rollout.play(policy, rows, part.size, seed=part.first), key=_number)]


def _number(one: tuple[int, Episode]) -> int:
    return one[0]


def _trying(trial: Trial, files: Files, speak: Mapping[str, Any]) -> Callable[[Asked], list[Episode]]:
    """Return what a worker of a ``RemoteTrial`` does; it makes each policy once.

    ``files`` are those of an agent, which speaks as ``speak`` says.
    """
    register(trial.env)
    acting: dict[str | None, tuple[Policy, bool]] = {}

    def work(asked: Asked) -> list[Episode]:
        name = asked.policy
        if name not in acting:
            agent = unpacked(files).set(**speak) if name is None else None
            acting[name] = (agent.act, False) if agent else baselines.acting(str(name), trial)
        policy, in_words = acting[name]
        return played(policy, baselines.text_rows(trial.venv) if in_words else trial.venv, asked)

    return work


def _learning(env: str, rows: int, env_kwargs: dict[str, Any]) -> Callable[[tuple[Part, Weights]], list[Episode]]:
    """Return what a worker of a ``RemotePlay`` does; it loads the agent whenever there is a newer one."""
    register(env)
    venv = rollout.make_rows(env, rows, env_kwargs)
    held: dict[int, Agent] = {}

    def work(item: tuple[Part, Weights]) -> list[Episode]:
        import ray

        part, weights = item
        if weights.version not in held:
            held.clear()
            held[weights.version] = unpacked(ray.get(weights.files[0]))
        return played(held[weights.version].act, venv, part)

    return work


def _gathered(pool: Pool[list[Episode]], asked: Any, title: str, total: int, progress: bool) -> list[Episode]:
    """Return the episodes of all parts in their order; errors say how far it was."""
    from dialog_gym.tracking import progress_bar

    found: list[Episode] = []
    try:
        with progress_bar(title, total, show=progress) as update:
            for _, episodes in in_order(pool, asked):
                found += episodes
                update(len(found), {"eval/return": sum(episode.total for episode in found) / len(found)})
    except LanguageModelError as error:
        raise LanguageModelError(f"{error}. {len(found)} of {total} episodes had been played", error.prompt) from error
    return found
