"""Collect rankings in any environment: reach states by a policy, branch them, write what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dialog_gym import baselines
from dialog_gym.data.branch import Scoring, State, branch, reached, talker
from dialog_gym.data.collect import actor, note_agent
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.data.store import SHARD_ROWS
from dialog_gym.distributed.parts import Ahead, Part, in_order, parts_of
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.spec import own_model
from dialog_gym.rewards.base import Reward
from dialog_gym.tracking import progress_bar

if TYPE_CHECKING:
    from dialog_gym.distributed.cluster import Cluster

PART = 32  # episodes whose states are branched together
NEXT = "next"


@dataclass(frozen=True)
class Options:
    """How states are reached and branched; all of it decides which rows come.

    Attributes:
        env: Id of the environment.
        env_kwargs: Its arguments, JSON values.
        reach: The policy that leads to the states, see ``dialog_gym.data.collect.actor``.
        per_episode: How many of its turns are branched in each dialogue; 0: all.
        candidates: Who proposes what could be said, by turns: ``oracle``, scripted policies, ``lm``, ``lm-sampled``.
        k: Candidates of a state.
        by: Who goes on after a candidate; ``"next"``: nobody, only the reward of the next step counts.
        plays: Copies of the state that each candidate is tried on.
        lm: Who ``lm`` is; "": see ``dialog_gym.baselines.Trial``.
        temperature: Of ``lm-sampled``.
    """

    env: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    reach: str = "oracle"
    per_episode: int = 1
    candidates: tuple[str, ...] = ("lm-sampled",)
    k: int = 8
    by: str = NEXT
    plays: int = 16
    lm: str = ""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be branched."""
        for name, least in (("per_episode", 0), ("k", 2), ("plays", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.candidates:
            raise ValueError("candidates must name at least one who proposes them, for instance lm-sampled")


def collect_rankings(
    options: Options,
    episodes: int,
    out: str | Path,
    *,
    seed: int = 0,
    rows: int = 32,
    reward: Reward | Callable[[], Reward] | None = None,
    shard_rows: int = SHARD_ROWS,
    progress: bool = False,
    cluster: Cluster | None = None,
) -> Rankings:
    """Branch the states of the episodes seeded ``seed`` to ``seed + episodes - 1``; write the rankings to ``out``.

    Started again, the same call goes on where it was killed. A state in which only one thing was ever said gives no
    row.

    Args:
        options: How.
        episodes: Dialogues that the policy plays to reach states.
        out: The folder.
        seed: Of the first.
        rows: Dialogues in parallel; no influence on what is written.
        reward: Rewards each turn instead of the environment: one, or a function that makes it, which workers need.
        shard_rows: Rows per shard.
        progress: Whether to show a progress bar.
        cluster: Whose workers do it, each with an environment and models of its own, in parts of 32 episodes; None:
            this process. The same rows are written.

    Raises:
        KeyError, ValueError: Nobody is called that; or the folder cannot be written, or holds states that another
            agent in the same place has reached.
        LanguageModelError: A model failed. What was written stays; call again to go on.
        ClusterError: The workers cannot be used, or were all lost. What was written stays.
    """
    baselines.Trial(options.env, {}, episodes, seed, rows)  # refuses what cannot be played
    if not options.lm:
        played = baselines.Trial(options.env, options.env_kwargs, rows=1)
        options = replace(options, lm=own_model(baselines.text_rows(played.venv).task))
    paid = reward if reward is None or isinstance(reward, Reward) else reward()
    how: dict[str, Any] = json.loads(json.dumps({**asdict(options), "reward": None if paid is None else paid.name}))
    make = partial(_working, replace(options, env_kwargs=how["env_kwargs"]), min(rows, episodes), how)
    with (
        _here(make(paid)) if cluster is None else _workers(partial(make, reward), cluster, out, how) as play,
        Rankings.writing(out, shard_rows=shard_rows) as writer,
    ):
        note_agent(out, options.reach)
        done = _done(out, how, range(seed, seed + episodes)) if writer.rows else set()
        first = max((one for one, _ in done), default=seed)
        parts = parts_of([(first, seed + episodes - first)], seed, PART)
        parts[0] = parts[0]._replace(skip=frozenset(one for one in done if one[0] == first))
        count = first - seed
        try:
            with progress_bar("branch", episodes, done=count, show=progress) as update:
                for part, rankings in play(parts):
                    writer.extend(rankings)
                    count += part.size
                    update(count, {})
        except LanguageModelError as error:
            raise LanguageModelError(
                f"{error}. The states of {count} of {episodes} episodes are in {out}; the same command goes on from "
                "there",
                error.prompt,
            ) from error
    return Rankings.load(out)


Play = Callable[[list[Part]], Iterator[tuple[Part, list[Ranking]]]]
"""Branches the states of parts, and yields each part with its rankings, in their order."""


@contextmanager
def _here(work: Callable[[Part], list[Ranking]]) -> Iterator[Play]:
    yield lambda parts: ((part, work(part)) for part in parts)


@contextmanager
def _workers(make: Any, cluster: Cluster, out: str | Path, how: Mapping[str, Any]) -> Iterator[Play]:
    from dialog_gym.distributed.pool import Pool

    pool: Pool[list[Ranking]]
    with Pool(make, cluster) as pool:
        yield lambda parts: in_order(pool, parts, Ahead(Rankings, out, how))


def _working(
    options: Options, rows: int, how: Mapping[str, Any], reward: Reward | Callable[[], Reward] | None
) -> Callable[[Part], list[Ranking]]:
    """Return what branches the states of a part, here or in a worker."""
    from dialog_gym.distributed.remote import register

    register(options.env)
    paid = reward if reward is None or isinstance(reward, Reward) else reward()
    who = actor(options.reach, options.env, options.env_kwargs, rows, lm=options.lm)
    task = baselines.text_rows(who.rows).task
    talkers = [talker(task, name, lm=options.lm, temperature=options.temperature) for name in options.candidates]
    by = None if options.by == NEXT else talker(task, options.by, lm=options.lm, temperature=options.temperature)
    scoring = Scoring(options.plays, by, paid)

    def work(part: Part) -> list[Ranking]:
        found = reached(who, part.size, seed=part.first, per_episode=options.per_episode)
        states = [s for one in found for s in one if (s.seed, s.dialogue.turn) not in part.skip]
        rankings = branch(task, [s.dialogue for s in states], talkers, options.k, scoring) if states else []
        return [
            replace(ranking, meta=_meta(state, how))
            for state, ranking in zip(states, rankings, strict=True)
            if ranking is not None
        ]

    return work


def _meta(state: State, how: Mapping[str, Any]) -> dict[str, Any]:
    return {"seed": state.seed, "turn": state.dialogue.turn, **how}


def _done(out: str | Path, how: Mapping[str, Any], seeds: range) -> set[tuple[int, int]]:
    """Return episode seed and turn of the states that are in the folder already."""
    metas = (row["meta"] for row in Rankings.load(out).select("meta"))
    return {
        (meta["seed"], meta["turn"])
        for meta in metas
        if meta.get("seed") in seeds and all(name in meta and meta[name] == value for name, value in how.items())
    }
