"""Sotopia's episodes (Zhou et al. 2023, arXiv:2310.11667): two characters with goals, and seven scores of each.

JSON lines with ``episode_id``, ``environment_id``, ``raw_messages``, ``rewards``, ``scenario``, ``agents_background``,
``social_goals`` and ``reasoning``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dialog_gym.data.corpora.base import recorded
from dialog_gym.data.corpora.files import Source, key_of
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.rewards.rubric import SOTOPIA

RANGES = {one.name: (one.low, one.high) for one in SOTOPIA.dimensions}
"""Least and most of each of the seven dimensions."""
DIMENSIONS = tuple(RANGES)

ROLES = ("first", "second")
_VIEWED = re.compile(r"""<(\w+)\s+viewer=["']?(\w+)["']?\s*>(.*?)</\1>""", re.DOTALL)
_TAG = re.compile(r"</?\w+(?:\s[^<>]*)?>")
_VIEWERS = {"agent_1": "first", "agent_2": "second"}
_SAID = re.compile(r'said: "(.*)"', re.DOTALL)


class SotopiaEpisode(NamedTuple):
    """A published episode.

    Attributes:
        key: Its id.
        names: The first character and the second.
        dialogue: What was told and said, from the first one's side; non-verbal acts stand in brackets.
        scores: The judge's seven scores by role.
        overall: Their means by role.
        reasoning: The judge's explanation.
    """

    key: str
    names: tuple[str, str]
    dialogue: Dialogue
    scores: Mapping[str, Mapping[str, float]]
    overall: Mapping[str, float]
    reasoning: str


def read(source: Source, side: str = "first", dimension: str = "overall_score") -> Iterator[Recorded]:
    """Yield the episodes; acts without words stand in brackets, and doing nothing is no turn.

    ``score`` and the reward of the agent's last turn: what the judge gave the agent. ``scenario.private``: who each
    is, its goal, what it knows of the other. ``scenario.hidden``: ``episode``, ``environment``, ``names``, ``scores``
    and ``overall`` by role. ``stop_reason``: ``"left"``, ``"stale"`` or ``"max_turns"``.

    Args:
        source: The files.
        side: Who is the agent: ``"first"`` or ``"second"``.
        dimension: Which score counts: one of Sotopia's seven, or their mean ``"overall_score"``.
    """
    if side not in ROLES:
        raise ValueError(f"side must be 'first' or 'second', got {side!r}")
    if dimension not in (*DIMENSIONS, "overall_score"):
        raise ValueError(f"dimension must be overall_score or one of {', '.join(DIMENSIONS)}, got {dimension!r}")
    roles = (side, ROLES[side == "first"])
    for number, data in source.rows("*episodes*.jsonl"):
        with source.record(number, key_of(data, "episode_id")):
            one = episode(data)
            told = one.dialogue
            score = {**one.scores[side], "overall_score": one.overall[side]}[dimension]
            own = len(told.texts(side))
            yield recorded(
                roles,
                told.turns,
                number,
                public=told.scenario.public,
                private=told.scenario.private,
                hidden={**told.scenario.hidden, "scores": one.scores, "overall": one.overall},
                stop_reason=told.stop_reason,
                rewards=[0.0] * (own - 1) + [score] if own else [],
                score=score,
            )


def shown_to(text: str, role: str) -> str:
    """Return ``text`` as ``role`` sees it: without what is marked for other viewers, and without tags.

    >>> shown_to('At a party. <p viewer="environment">They know Rafael.</p> <info>Be nice.</info>', "first")
    'At a party. Be nice.'
    """
    text = _VIEWED.sub(lambda span: span[3] if _VIEWERS.get(span[2]) == role else "", text)
    return re.sub(r"[ \t]+", " ", _TAG.sub("", text)).strip()


def episode(record: Any) -> SotopiaEpisode:
    """Read a record.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another kind.
        ValueError: A score is out of range, or the overall one is not their mean.
    """
    first, second = record["agents_background"]
    names = (first, second)
    role_of = dict(zip(names, ROLES, strict=True))
    turns = tuple(Turn(role_of[name], text) for name, text in _utterances(record["raw_messages"], names))
    stale = "stales" in str(record["reasoning"]).partition("Agent 1 comments")[0]
    stop = "left" if turns and turns[-1].text == _LEFT else "stale" if stale else "max_turns"
    rewards = [_scores(one) for one in record["rewards"]]
    scores = dict(zip(ROLES, (one[0] for one in rewards), strict=True))
    private = {
        role_of[name]: f"You are {name}. {shown_to(record['agents_background'][name], role_of[name])} "
        f"Your goal: {shown_to(record['social_goals'][name], role_of[name])} {_seen_by(record, name, names)}"
        for name in names
    }
    hidden = {"episode": record["episode_id"], "environment": record["environment_id"], "names": list(names)}
    scenario = Scenario(shown_to(record["scenario"], ""), private, hidden)
    dialogue = Dialogue(scenario, ("first", "second"), 0, turns, {}, stop)
    overall = dict(zip(ROLES, (one[1] for one in rewards), strict=True))
    return SotopiaEpisode(str(record["episode_id"]), names, dialogue, scores, overall, str(record["reasoning"]))


def _seen_by(record: Any, name: str, names: tuple[str, str]) -> str:
    """Return what ``name`` was told of the other when the episode began."""
    (other,) = {*names} - {name}
    brief = next(
        text for sender, reader, text in record["raw_messages"][0] if (sender, reader) == ("Environment", name)
    )
    lines = brief.splitlines()
    known = next((x.partition(": ")[2].strip() for x in lines if x.startswith(f"{other}'s background:")), "")
    return f"The other: {known}" if known else "You know nothing of the other."


_LEFT = "[left the conversation]"


def _utterances(steps: Any, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Yield who did what, step by step; doing nothing is no turn."""
    for step in steps:
        for sender, _, message in step:
            if sender in names and message != "did nothing":
                said = _SAID.fullmatch(message.strip())
                yield sender, said[1] if said else f"[{message.strip().replace('[', '').replace(']', ':')}]"


def _scores(given: Any) -> tuple[dict[str, float], float]:
    """Return the seven scores and the overall one; refuse what is out of range."""
    scores = {name: given[name] for name in DIMENSIONS}
    for name, score in scores.items():
        low, high = RANGES[name]
        if isinstance(score, bool) or not isinstance(score, int | float) or not low <= score <= high:
            raise ValueError(f"{name} must be a number from {low} to {high}, got {score!r:.40}")
    mean = sum(scores.values()) / len(scores)
    if not math.isclose(given["overall_score"], mean, abs_tol=1e-6):
        raise ValueError(f"overall_score must be the mean {mean:.4f} of the seven, got {given['overall_score']!r:.40}")
    return {name: float(score) for name, score in scores.items()}, mean
