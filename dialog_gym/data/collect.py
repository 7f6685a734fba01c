"""Collect episodes of any policy in any environment, text or prefix.

Episode ``k`` is seeded ``seed + k`` and is written in that order, and what a policy does by chance follows from the
dialogue. So the same call writes the same rows for any number of rows played in parallel, and however often it was
killed and started again: the content hash says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv

from dialog_gym import baselines, checkpoint, rollout
from dialog_gym.agent import agent_identity, agent_place, load_agent
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.store import SHARD_ROWS
from dialog_gym.errors import LanguageModelError, unknown
from dialog_gym.lm.spec import own_model
from dialog_gym.rollout import Episode, Policy
from dialog_gym.tracking import progress_bar

if TYPE_CHECKING:
    from dialog_gym.distributed.cluster import Cluster
    from dialog_gym.distributed.parts import Part
    from dialog_gym.distributed.remote import Files

Rows = VectorEnv[Any, Any, Any]
Play = Callable[[list[int]], Iterator[Recorded]]
"""Plays episodes of these seeds, which ascend, and yields them in their order."""
AGENTS = "agents.json"
"""File in a data set: by the name of a policy that is an agent's folder, which agent lay there."""


class Actor(NamedTuple):
    """A policy and what it acts in.

    Attributes:
        name: What its episodes say who spoke.
        policy: Acts in all rows at once.
        rows: Where it acts: the environment that was asked for, or the text environment below it.
    """

    name: str
    policy: Policy
    rows: Rows


def actor(name: str, env: str, env_kwargs: Mapping[str, Any], rows: int, *, lm: str = "") -> Actor:
    """Return the policy ``name`` in ``rows`` rows of an environment.

    Args:
        name: A scripted policy of the world (``World.policies``), a name in ``dialog_gym.baselines.POLICIES``, or the
            folder of a run or an agent. In a prefix environment, ``random`` and ``constant`` are vectors; else what a
            world has a script for is scripted.
        env: Id of the environment.
        env_kwargs: Its arguments.
        rows: Dialogues in parallel.
        lm: Who ``lm`` is, where the environment has no language model in it; "": see ``baselines.Trial``.

    Raises:
        KeyError: Nobody is called that; the message names the nearest.
        ValueError: The policy cannot act there.
    """
    trial = baselines.Trial(env, dict(env_kwargs), rows, rows=rows)
    made, scripts = trial.venv, baselines.scripted_policies(trial)
    text = baselines.text_rows(made)
    if name in scripts:
        return Actor(name, scripted(scripts[name]), text)
    if name == "random":
        return Actor(name, random_by_dialogue(made), made)
    if name == "constant":
        return Actor(name, rollout.constant_policy(made, baselines.best_constant(made)), made)
    if name == "oracle":
        return Actor(name, rollout.oracle_policy(text), text)
    if name in ("lm", "lm-sampled"):
        speaker = getattr(made, "speaker", None)
        model = (lm or own_model(text.task)) if speaker is None else speaker.lm
        label = f"{name}({model})" if speaker is None else name  # the environment's own is in its arguments
        return Actor(label, rollout.language_model_policy(text, model, temperature=float(name == "lm-sampled")), text)
    if Path(name).is_dir():
        return Actor(name, load_agent(name).act, made)
    raise unknown("policy or run folder", name, {*baselines.POLICIES, *scripts})


def scripted(say: Any) -> Policy:
    """Return the policy of a function from a dialogue to an utterance."""

    def act(observations: Any, infos: Mapping[str, Any]) -> list[str]:
        return [say(dialogue) if not dialogue.stop_reason else "" for dialogue in infos["dialogue"]]

    return act


def random_by_dialogue(rows: Rows) -> Policy:
    """Return the policy that samples the action space, by a seed that dialogue and turn determine."""
    space = rows.single_action_space

    def act(observations: Any, infos: Mapping[str, Any]) -> Any:
        actions = []
        for dialogue in infos["dialogue"]:
            space.seed(dialogue.draws("random policy").bits() >> 1)
            actions.append(space.sample())
        return np.stack(actions) if isinstance(space, Box) else actions

    return act


def collect(
    env: str,
    policy: str,
    episodes: int,
    out: str | Path,
    *,
    seed: int = 0,
    rows: int = 32,
    env_kwargs: Mapping[str, Any] | None = None,
    lm: str = "",
    shard_rows: int = SHARD_ROWS,
    progress: bool = False,
    cluster: Cluster | None = None,
) -> Episodes:
    """Write the episodes seeded ``seed`` to ``seed + episodes - 1`` to ``out``, and return what is there now.

    Those that are there already (of this policy, environment and arguments) are not played again, so the same call
    goes on where it was killed. Episodes of other policies may lie in the same folder.

    Args:
        env: Id of the environment.
        policy: See ``actor``.
        episodes: How many there are to be, at least 1.
        out: The folder.
        seed: Of the first.
        rows: Dialogues in parallel; no influence on what is written.
        env_kwargs: Arguments of the environment, JSON values.
        lm: Who ``lm`` is, where the environment has no language model in it; "": see ``baselines.Trial``.
        shard_rows: Rows per shard.
        progress: Whether to show a progress bar.
        cluster: Whose workers play, each with an environment and a model of its own, in parts of ``rows`` episodes;
            None: this process. The same rows are written (vectors may differ in the last digits).

    Raises:
        KeyError, ValueError: See ``actor``; or the folder cannot be written, or holds episodes of another agent that
            lay in the same place.
        LanguageModelError: A model failed. What was written stays; call again to go on.
        ClusterError: The workers cannot be used, or were all lost. What was written stays.
    """
    baselines.Trial(env, {}, episodes, seed, rows)  # refuses what cannot be played
    kwargs: dict[str, Any] = json.loads(json.dumps(dict(env_kwargs or {})))
    setting = Setting(policy, env, kwargs, min(rows, episodes), lm)
    with (
        _here(setting) if cluster is None else _workers(setting, cluster, out, seed) as (name, play),
        Episodes.writing(out, shard_rows=shard_rows) as writer,
    ):
        note_agent(out, policy)
        origin = {"env": env, "env_kwargs": kwargs, "policy": name}
        there = Episodes.load(out).select("seed", *origin) if writer.rows else ()
        done = {one["seed"] for one in there if all(one[name] == value for name, value in origin.items())}
        left = [number for number in range(seed, seed + episodes) if number not in done]
        count = episodes - len(left)
        try:
            with progress_bar(f"collect {name}", episodes, done=count, show=progress) as update:
                for episode in play(left):
                    writer.add(episode)
                    count += 1
                    update(count, {})
        except LanguageModelError as error:
            raise LanguageModelError(
                f"{error}. {count} of {episodes} episodes are in {out}; the same command goes on from there",
                error.prompt,
            ) from error
    return Episodes.load(out)


def note_agent(out: str | Path, policy: str) -> None:
    """Note in the data set ``out`` which agent the folder ``policy`` holds; does nothing for other policies.

    Raises:
        DatasetError: It held another one when the rows in ``out`` were collected.
    """
    if not Path(policy).is_dir():
        return
    path, now = Path(out) / AGENTS, agent_identity(agent_place(policy))
    noted: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if policy not in noted:
        checkpoint.write_json(path, {**noted, policy: now})
    elif noted[policy] != now:
        raise DatasetError(f"the agent in {policy} has changed since it played for {out}; choose another out")


class Setting(NamedTuple):
    """Who plays, and where; the arguments of ``actor``."""

    policy: str
    env: str
    env_kwargs: dict[str, Any]
    rows: int
    lm: str

    def recorded(self, episode: Episode, name: str) -> Recorded:
        """Return ``episode``, which the policy ``name`` has played, with its origin."""
        return Recorded.of(episode, self.env, self.env_kwargs, name)


@contextmanager
def _here(setting: Setting) -> Iterator[tuple[str, Play]]:
    """Yield what the policy is called, and this process to play it."""
    who = actor(*setting[:4], lm=setting.lm)
    yield who.name, lambda left: (setting.recorded(episode, who.name) for episode in _played(who, left))


@contextmanager
def _workers(setting: Setting, cluster: Cluster, out: str | Path, seed: int) -> Iterator[tuple[str, Play]]:
    """Yield what the policy is called, and workers to play it."""
    from dialog_gym.distributed.parts import Ahead, in_order, parts_of
    from dialog_gym.distributed.pool import Pool
    from dialog_gym.distributed.remote import pack

    files = pack(agent_place(setting.policy)) if Path(setting.policy).is_dir() else None
    make: Any = partial(working, setting, files)
    with Pool(make, cluster) as pool:

        def play(left: list[int]) -> Iterator[Recorded]:
            ahead = Ahead(Episodes, out, {**setting._asdict(), "rows": 0})
            for _, episodes in in_order(pool, parts_of(_runs(left), seed, setting.rows), ahead):
                yield from episodes

        yield pool.ask(None), play


def working(setting: Setting, files: Files | None) -> Callable[[Part | None], str | list[Recorded]]:
    """Return what a worker does: play a part, or tell what the policy is called; ``files`` are those of an agent."""
    from dialog_gym.distributed.remote import register, unpacked

    register(setting.env)
    if files is None:
        who = actor(*setting[:4], lm=setting.lm)
    else:
        made = rollout.make_rows(setting.env, setting.rows, setting.env_kwargs)
        who = Actor(setting.policy, unpacked(files).act, made)

    def work(part: Part | None) -> str | list[Recorded]:
        if part is None:
            return who.name
        seeds = range(part.first, part.first + part.size)
        return [setting.recorded(episode, who.name) for episode in _played(who, seeds)]

    return work


def _played(who: Actor, seeds: Iterable[int]) -> Iterator[Episode]:
    """Yield the episodes of ``seeds``, which ascend, in their order."""
    for first, count in _runs(seeds):
        waiting: dict[int, Episode] = {}
        following = 0
        for k, episode in rollout.play(who.policy, who.rows, count, seed=first):
            waiting[k] = episode
            while following in waiting:
                yield waiting.pop(following)
                following += 1


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return first and length of each run of consecutive numbers.

    >>> _runs([3, 4, 5, 9])
    [(3, 3), (9, 1)]
    """
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((number, 1))
    return runs
