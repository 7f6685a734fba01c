"""Collect rankings in any environment: reach states by a policy, branch them, write what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from dialog_gym import baselines
from dialog_gym.data.branch import Scoring, State, branch, reached, talker
from dialog_gym.data.collect import actor
from dialog_gym.data.rankings import Rankings
from dialog_gym.data.store import SHARD_ROWS
from dialog_gym.rewards.base import Reward
from dialog_gym.tracking import progress_bar

STATES = 32  # that are branched together
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
        lm: Who ``lm`` is.
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
    lm: str = "tiny"
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
    reward: Reward | None = None,
    shard_rows: int = SHARD_ROWS,
    progress: bool = False,
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
        reward: Rewards each turn instead of the environment.
        shard_rows: Rows per shard.
        progress: Whether to show a progress bar.

    Raises:
        KeyError, ValueError: Nobody is called that, or the folder cannot be written.
        LanguageModelError: A model failed. What was written stays; call again to go on.
    """
    baselines.Trial(options.env, {}, episodes, seed, rows)  # refuses what cannot be played
    how: dict[str, Any] = json.loads(
        json.dumps({**asdict(options), "reward": None if reward is None else reward.name})
    )
    who = actor(options.reach, options.env, how["env_kwargs"], min(rows, episodes), lm=options.lm)
    task = baselines.text_rows(who.rows).task
    talkers = [talker(task, name, lm=options.lm, temperature=options.temperature) for name in options.candidates]
    by = None if options.by == NEXT else talker(task, options.by, lm=options.lm, temperature=options.temperature)
    scoring = Scoring(options.plays, by, reward)
    with Rankings.writing(out, shard_rows=shard_rows) as writer:
        done = _done(out, how, range(seed, seed + episodes)) if writer.rows else set()
        first = max((one for one, _ in done), default=seed)
        left = reached(who, seed + episodes - first, seed=first, per_episode=options.per_episode)
        with progress_bar("branch", episodes, done=first - seed, show=progress) as update:
            for number, found in enumerate(iter(lambda: list(islice(left, STATES)), [])):
                states = [s for one in found for s in one if (s.seed, s.dialogue.turn) not in done]
                rankings = branch(task, [s.dialogue for s in states], talkers, options.k, scoring) if states else []
                for state, ranking in zip(states, rankings, strict=True):
                    if ranking is not None:
                        writer.add(replace(ranking, meta=_meta(state, how)))
                update(min(first - seed + (number + 1) * STATES, episodes), {})
    return Rankings.load(out)


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
