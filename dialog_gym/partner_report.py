"""A report on a partner, scripted or a language model: how it behaves over many dialogues, with intervals.

A partner that leaves for no reason, repeats itself or speaks for the agent spoils what is learned from it, and nobody
sees it in a mean return. ``partner_report("dialog_gym/Bargain-v0", partner="tiny")`` counts such turns; the report
names environment, partner and version of the library, so that two of them can be compared.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import dialog_gym
from dialog_gym.baselines import HELD_OUT
from dialog_gym.checks.playing import anything
from dialog_gym.dialogue import Dialogue, Draws, Json
from dialog_gym.env import DialogueVectorEnv, env_task
from dialog_gym.errors import unknown
from dialog_gym.lm.spec import own_model
from dialog_gym.partner import PartnerTask
from dialog_gym.rollout import bootstrap, language_model_policy, spared, wilson
from dialog_gym.task import Task

ALIKE = 0.8  # share of words that two turns have in common to be called the same
SHORT = 3  # words; shorter turns ("deal!") may be said twice, or after the other
MIX = ("infers", "constant", "random")  # of a world's policies: who plays in the mix, as far as there is one

Agent = Callable[[Any, Mapping[str, Any]], list[str]]


class Rate(NamedTuple):
    """How often something happened.

    Attributes:
        times: How many times it did.
        of: How many times it could have.
    """

    times: int
    of: int

    @property
    def share(self) -> float:
        """The share, 0 where it could never have happened."""
        return self.times / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share (Wilson 1927); 0 to 1 where it could never have happened.

        Turns count as independent, although those of one dialogue are not quite.

        >>> [round(bound, 3) for bound in Rate(1, 10).interval]
        [0.018, 0.404]
        """
        return wilson(self.times, self.of) if self.of else (0.0, 1.0)

    def to_json(self) -> dict[str, Json]:
        """Return the rate as plain JSON values."""
        low, high = self.interval
        return {"count": self.times, "of": self.of, "share": self.share, "low": low, "high": high}


@dataclass(frozen=True)
class PartnerReport:
    """What was seen of a partner.

    Attributes:
        env: Id of the environment.
        version: Of the library.
        partner: ``"scripted"``, or the name of the language model.
        agent: Who talked to it.
        episodes: How many dialogues.
        rates: Share of agent turns it understood, and that it left without an answer; of dialogues that it ended
            before the last turn and without the agent's goal (what the agent ends, as ``Task.settled`` tells, does
            not count); of its own turns in which it repeated itself, echoed the
            agent, spoke for the other role, contradicted itself. None where nobody knows.
        replies: How many turns it spoke.
        distinct: How many different ones.
        words: Mean words of a turn, and its 95% interval.
    """

    env: str
    version: str
    partner: str
    agent: str
    episodes: int
    rates: Mapping[str, Rate | None]
    replies: int
    distinct: int
    words: tuple[float, float, float]

    def to_json(self) -> dict[str, Json]:
        """Return the report as plain JSON values."""
        mean, low, high = self.words
        return {
            "env": self.env,
            "version": self.version,
            "partner": self.partner,
            "agent": self.agent,
            "episodes": self.episodes,
            "rates": {name: None if rate is None else rate.to_json() for name, rate in self.rates.items()},
            "replies": self.replies,
            "distinct": self.distinct,
            "words": {"mean": mean, "low": low, "high": high},
        }

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of a table for people."""
        table = []
        for name, rate in self.rates.items():
            shown = ("not known", "", "") if rate is None else (f"{rate.share:.1%}", _percent(rate), str(rate.of))
            table.append(dict(zip(("partner", "share", "95% interval", "of"), (name, *shown), strict=True)))
        mean, low, high = self.words
        distinct = ("distinct turns", f"{Rate(self.distinct, self.replies).share:.1%}", "", str(self.replies))
        words = ("words a turn", f"{mean:.1f}", f"{low:.1f} .. {high:.1f}", str(self.replies))
        return [*table, *(dict(zip(table[0], row, strict=True)) for row in (distinct, words))]


class Heard(NamedTuple):
    """One turn of the agent.

    Attributes:
        after: The dialogue after the partner's answer.
        answer: That answer, ``""`` for none.
        settled: Whether the agent's words alone ended the dialogue.
    """

    after: Dialogue
    answer: str
    settled: bool

    @property
    def said(self) -> str:
        """What the agent had said."""
        return self.after.turns[-2 if self.answer else -1].text

    @property
    def earlier(self) -> list[str]:
        """What the partner had said before."""
        texts = self.after.texts(self.after.roles[1])
        return texts[:-1] if self.answer else texts


def partner_report(
    env: str | Task,
    *,
    partner: Any = None,
    agent: str = "mix",
    lm: Any = "",
    episodes: int = 128,
    seed: int = HELD_OUT,
    rows: int = 32,
    env_kwargs: Mapping[str, Any] | None = None,
) -> PartnerReport:
    """Let an agent talk to a partner, and count what the partner does.

    Args:
        env: Id of a text environment, or a task.
        partner: A language model or its spec in the partner's place; None for the environment's own. Not with a task.
        agent: Who talks to it: a policy of the world, ``"oracle"``, ``"lm"``, ``"anything"`` (odd and common words),
            or ``"mix"``: every dialogue has one of the world's policies that see nothing hidden, else ``"anything"``.
        lm: Who ``"lm"`` is; "": see ``dialog_gym.baselines.Trial``.
        episodes: How many dialogues, at least 1.
        seed: Episode ``k`` is seeded ``seed + k``.
        rows: Dialogues in parallel.
        env_kwargs: Arguments of the environment.

    Raises:
        KeyError: Nobody is called ``agent``; the message names the nearest.
        ValueError: ``episodes`` or ``rows`` is below 1, or ``env`` is no environment of dialogues.
    """
    for name, number in (("episodes", episodes), ("rows", rows)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    task = env if isinstance(env, Task) else _task(env, partner, env_kwargs or {})
    venv = DialogueVectorEnv(task, min(rows, episodes), autoreset_mode="disabled")
    turns = list(_talk(venv, _agent(venv, agent, lm), episodes, seed))
    answers = [turn.answer for turn in turns if turn.answer]
    counts = sorted(len(answer.split()) for answer in answers) or [0]  # an order that rows have no influence on
    return PartnerReport(
        env=type(env).__name__ if isinstance(env, Task) else env,
        version=dialog_gym.__version__,
        partner=task.lm.name if isinstance(task, PartnerTask) else "scripted",
        agent=agent,
        episodes=episodes,
        rates=_rates(task, turns),
        replies=len(answers),
        distinct=len(set(answers)),
        words=(float(np.mean(counts)), *bootstrap(counts)),
    )


def _rates(task: Task, turns: Sequence[Heard]) -> dict[str, Rate | None]:
    # Whether the world finds a meaning in a turn says nothing of a model's understanding.
    understood = None if isinstance(task, PartnerTask) else getattr(task, "understood", None)
    answered = [turn for turn in turns if turn.answer]
    ended = [turn for turn in turns if turn.after.stop_reason]
    broken = [verdict for turn in answered if (verdict := task.contradicts(turn.after)) is not None]
    return {
        "understood the agent": understood and _rate(understood(_before_answer(turn)) for turn in turns),
        # Who has just agreed needs no answer: the silence after a last word is not counted.
        "said nothing": _rate(not turn.answer for turn in turns if not turn.after.stop_reason or turn.answer),
        "left early": _rate(_left(turn, task.max_turns) for turn in ended),
        "repeated itself": _rate(any(alike(turn.answer, text) for text in turn.earlier) for turn in answered),
        "echoed the agent": _rate(alike(turn.answer, turn.said) for turn in answered),
        "spoke for the other role": _rate(speaks_for(turn.answer, turn.after.roles[0]) for turn in answered),
        "contradicted itself": _rate(broken) if broken else None,
    }


def alike(one: str, other: str) -> bool:
    """Return whether two turns are the same but for a few words; with other numbers they are not.

    >>> alike("I can do $80, that is my price.", "I can do $80. That is my price!")
    True
    >>> alike("I can do $80, that is my price.", "I can do $78, that is my price.")
    False
    """
    first, second = (re.findall(r"[^\W_]+", text.lower()) for text in (one, other))
    if min(len(first), len(second)) < SHORT:
        return False
    numbers = [[word for word in words if word.isdigit()] for words in (first, second)]
    return numbers[0] == numbers[1] and difflib.SequenceMatcher(None, first, second).ratio() >= ALIKE


def speaks_for(text: str, role: str) -> bool:
    r"""Return whether ``text`` has a line that begins with a tag of ``role`` (or of a chat), or says to be ``role``.

    >>> speaks_for("No.\nBuyer: what about $5?", "buyer"), speaks_for("You are the buyer.", "buyer")
    (True, False)
    """
    name = re.escape(role)
    tag = rf"^[\s\[(<*|#]*({name}|agent|user|human|assistant)[\s\])>*|]*:"
    chat = r"<\|?(im_start|user|assistant|system)\|?>"
    claim = rf"\A\s*(i am|i'm|as) (the|a|an) {name}\b"
    return any(re.search(pattern, text, re.IGNORECASE | re.MULTILINE) for pattern in (tag, chat, claim))


def _talk(venv: DialogueVectorEnv, agent: Agent, episodes: int, seed: int) -> Iterator[Heard]:
    """Yield every turn of the agent in ``episodes`` dialogues."""
    for start in range(0, episodes, venv.num_envs):
        playing = min(venv.num_envs, episodes - start)
        seeds = [seed + start + row for row in range(venv.num_envs)]
        observations, infos = venv.reset(seed=seeds, options=spared(venv, np.arange(venv.num_envs) < playing))
        while venv.live[:playing].any():
            before = list(venv.dialogues)
            observations, *_, infos = venv.step(agent(observations, infos))
            for was, now in zip(before[:playing], venv.dialogues[:playing], strict=True):
                if not was.stop_reason:
                    answered = len(now.turns) == len(was.turns) + 2
                    said = was.said(*now.turns[len(was.turns)])
                    settled = bool(now.stop_reason) and venv.task.settled(said) is not None
                    yield Heard(now, now.turns[-1].text if answered else "", settled)


def _left(turn: Heard, limit: int) -> bool:
    """Return whether the partner ended the dialogue before the last turn and without the agent's goal."""
    return turn.after.turn < limit and not turn.after.success and not turn.settled


def _agent(venv: DialogueVectorEnv, name: str, lm: Any) -> Agent:
    task = venv.task
    if name == "lm":
        policy = language_model_policy(venv, lm or own_model(task))
        return lambda observations, infos: list(policy(observations, infos))
    named: dict[str, Callable[[Dialogue], str]] = dict(getattr(task, "policies", dict)())
    named.setdefault("oracle", task.oracle)
    named["anything"] = lambda dialogue: anything(task, dialogue)
    mix = [named[own] for own in MIX if own in named] or [named["anything"]]
    if name != "mix" and name not in named:
        raise unknown("policy", name, ["mix", "lm", *named])

    def say(dialogue: Dialogue) -> str:
        if dialogue.stop_reason:
            return ""
        return (Draws(dialogue.seed, "mix").choice(mix) if name == "mix" else named[name])(dialogue)

    return lambda observations, infos: [say(dialogue) for dialogue in infos["dialogue"]]


def _task(env_id: str, partner: Any, env_kwargs: Mapping[str, Any]) -> Task:
    return env_task(env_id, {**env_kwargs, **({} if partner is None else {"partner": partner})})


def _before_answer(turn: Heard) -> Dialogue:
    after = turn.after
    turns = after.turns[:-1] if turn.answer else after.turns
    return Dialogue(after.scenario, after.roles, after.seed, turns, after.state)


def _rate(happened: Iterator[bool] | Sequence[bool]) -> Rate:
    verdicts = list(happened)
    return Rate(sum(verdicts), len(verdicts))


def _percent(rate: Rate) -> str:
    low, high = rate.interval
    return f"{low:.1%} .. {high:.1%}"
