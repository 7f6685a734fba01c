"""Checks of a ``Reward``: a named function of the dialogue alone, finite and in its range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.checks.base import Check, Finding, copied, findings, need, raise_problems
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.rewards.base import Reward

TOLERANCE = 1e-5  # between scores of one dialogue: models round differently in another batch


def check_reward(reward: Reward, dialogues: Sequence[Dialogue] | None = None) -> None:
    """Check that ``reward`` keeps the contract of ``dialog_gym.rewards.base.Reward``.

    Args:
        reward: What is checked.
        dialogues: What to score, in each of which the agent has spoken; by default a few plain chats between
            "agent" and "partner". Give dialogues of its task if it reads their state.

    Raises:
        ContractError: It does not; the message tells every problem and what to do.
    """
    raise_problems(f"reward {getattr(reward, 'name', type(reward).__name__)!r}", reward_findings(reward, dialogues))


def reward_findings(reward: Reward, dialogues: Sequence[Dialogue] | None = None) -> list[Finding]:
    """Return what every check of a reward found; for the arguments see ``check_reward``."""
    chats = tuple(plain_chats() if dialogues is None else dialogues)
    return findings(_FIRST, _THEN, Scoring(reward, chats, tuple(map(copied, chats))))


class Scoring(NamedTuple):
    """What is checked: a reward, what it should score, and copies of that from before it did."""

    reward: Reward
    dialogues: tuple[Dialogue, ...]
    before: tuple[Dialogue, ...]


def plain_chats() -> list[Dialogue]:
    """Return a few chats that any reward of plain talk can score: short, long, empty and not English, some over."""
    scenario = Scenario("Two people talk.", {"agent": "Be kind.", "partner": "Be yourself."})
    said = [
        ("Hello!", "Hello. How are you?"),
        ("", "Are you there?"),
        ("Thank you, that is lovely!", "You are welcome."),
        ("That was a terrible, stupid idea.", "Well."),
        ("Würden Sie 5 € nehmen? 🙂\nBitte!", "Nein."),
        ("word " * 200, "What a long sentence."),
    ]
    chats, dialogue = [], Dialogue(scenario, ("agent", "partner"), seed=1)
    for agent, partner in said:
        dialogue = dialogue.said("agent", agent).said("partner", partner)
        chats += [dialogue, Dialogue(scenario, dialogue.roles, 2).said("agent", agent)]
    over = Dialogue(scenario, dialogue.roles, 3, dialogue.turns, {}, "left", True)
    return [*chats, over]


def _is_named(subject: Scoring) -> None:
    reward = subject.reward
    name = getattr(reward, "name", None)
    need(
        isinstance(name, str) and name,
        f"its name must be a text that is not empty, got {name!r}; set `name = ...` in the class",
    )
    low, high = getattr(reward, "low", None), getattr(reward, "high", None)
    need(
        isinstance(low, (int, float)) and isinstance(high, (int, float)) and low <= high,  # NaN is not
        f"low and high must be numbers with low <= high, got {low!r} and {high!r}; set them in the class",
    )


def _scores(subject: Scoring) -> None:
    reward, dialogues = subject.reward, subject.dialogues
    scores = reward(dialogues)
    need(
        isinstance(scores, np.ndarray) and scores.dtype == np.float32,
        f"it must return a float32 array, got {_kind(scores)}; end with `return np.array(scores, np.float32)`",
    )
    need(
        scores.shape == (len(dialogues),),
        f"it must return one score per dialogue, shape ({len(dialogues)},), got {scores.shape}",
    )


def _is_finite_and_in_range(subject: Scoring) -> None:
    reward, dialogues = subject.reward, subject.dialogues
    for dialogue, score in zip(dialogues, reward(dialogues).tolist(), strict=True):
        where = f"after {_newest(dialogue)}"
        need(
            math.isfinite(score),
            f"it returned {score} {where}; raise an error where a dialogue cannot be scored, never return a number",
        )
        need(
            reward.low - TOLERANCE <= score <= reward.high + TOLERANCE,
            f"it returned {score:g} {where}, outside its range {reward.low:g} .. {reward.high:g}; "
            "clip the score or state the true range",
        )


def _takes_an_empty_batch(subject: Scoring) -> None:
    scores = subject.reward([])
    need(
        isinstance(scores, np.ndarray) and scores.shape == (0,) and scores.dtype == np.float32,
        f"it must return a float32 array of shape (0,) for no dialogues, got {_kind(scores)}",
    )


def _batch_does_not_matter(subject: Scoring) -> None:
    reward, dialogues = subject.reward, subject.dialogues
    together = reward(dialogues)
    alone = np.concatenate([reward([dialogue]) for dialogue in dialogues])
    _same(together, alone, dialogues, "alone and in a batch", "score each dialogue by itself")
    backwards = reward(dialogues[::-1])[::-1]
    _same(together, backwards, dialogues, "in another order", "return the scores in the order of the dialogues")


def _is_a_function_of_the_value(subject: Scoring) -> None:
    reward, dialogues = subject.reward, subject.dialogues
    once = reward(dialogues)
    told = "keep nothing in self, and take chance from dialogue.draws(name)"
    _same(once, reward(dialogues), dialogues, "when it is asked again", told)
    _same(once, reward([copied(d) for d in dialogues]), dialogues, "when it has been written as JSON", told)


def _leaves_dialogues_alone(subject: Scoring) -> None:
    need(
        all(dialogue == before for dialogue, before in zip(subject.dialogues, subject.before, strict=True)),
        "it changed a dialogue that it scored; copy what you change, for instance dict(dialogue.state)",
    )


def _terms_are_those_it_names(subject: Scoring) -> None:
    reward, dialogues = subject.reward, subject.dialogues
    scores, terms = reward.scored(dialogues)
    need(
        tuple(terms) == tuple(reward.terms) and len(set(terms)) == len(terms),
        f"scored() must return the terms that `terms` names, {tuple(reward.terms)}, in this order, got {tuple(terms)}",
    )
    for name, values in terms.items():
        shape = np.shape(values)
        need(
            shape == (len(dialogues),) and (np.isfinite(values).all() or not np.isfinite(scores).all()),
            f"term {name!r} must be {len(dialogues)} finite numbers, one per dialogue, got shape {shape}",
        )
    _same(np.asarray(scores), reward(dialogues), dialogues, "by scored() and by calling it", "let one use the other")


def _same(one: Any, other: Any, dialogues: Sequence[Dialogue], how: str, remedy: str) -> None:
    differ = np.flatnonzero(
        ~np.isclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    )  # NaN is told elsewhere
    if len(differ):
        row = differ[0]
        need(
            False,
            f"a dialogue has another score {how}: {one[row]:g} and {other[row]:g} after "
            f"{_newest(dialogues[row])}; {remedy}",
        )


def _newest(dialogue: Dialogue) -> str:
    texts = dialogue.texts(dialogue.roles[0])
    return f"the agent's {texts[-1]!r:.60}" if texts else "nothing was said"


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else f"{type(value).__name__}"


_FIRST: list[Check[Scoring]] = [("name and range", _is_named), ("scores", _scores)]
_THEN: list[Check[Scoring]] = [
    ("finite, in range", _is_finite_and_in_range),
    ("empty batch", _takes_an_empty_batch),
    ("any batch, any order", _batch_does_not_matter),
    ("the dialogue alone", _is_a_function_of_the_value),
    ("dialogues unchanged", _leaves_dialogues_alone),
    ("terms", _terms_are_those_it_names),
]
