"""Scripted agents for the support world of ``Response-v0``, what an attentive one sees, and self-play."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs import response_rules as rules
from dialog_gym.envs.response_language import cues, say, understand
from dialog_gym.envs.response_rules import DAYS, MOODS, OFFERS, POLICIES, QUESTIONS, TONES, Act, Verdict
from dialog_gym.envs.response_support import AGENT, CUSTOMER, WRONG_MOOD, Support, act_for, due
from dialog_gym.rewards.base import Floats
from dialog_gym.rollout import bootstrap

Policy = Callable[[Dialogue], str]
SKILL = 0.35  # share of the choices that self-play makes rightly; the rest is free


# --- what an agent can see ---------------------------------------------------------------------


class Seen(NamedTuple):
    """What the customer's words and the record of the orders tell.

    Attributes:
        kind: What is due: ``"ask"``, ``"offer"``, ``"time"``; ``""`` where the words were not recognised.
        right: What is to be asked, offered or named.
        moods: How probable each mood is, in the order of ``MOODS``.
    """

    kind: str
    right: str
    moods: tuple[float, float, float]

    @property
    def tone(self) -> str:
        """The tone of the greatest expected fit."""
        fits = {t: sum(p * rules.FIT[m][t] for m, p in zip(MOODS, self.moods, strict=True)) for t in TONES}
        return max(TONES, key=lambda tone: fits[tone])


def seen(dialogue: Dialogue) -> Seen:
    """Return what an attentive agent makes of the turns and the record; it sees nothing hidden."""
    record = {case["item"]: case for case in dialogue.scenario.hidden["cases"]}  # of which the agent sees day, status
    item, problem, known, timed = "", "", "", False
    moods, tone = _PRIOR, ""
    for role, text in dialogue.turns:
        if role == AGENT:
            tone = understand(text).tone
            continue
        told = cues(text)
        groups = {group: (first, second) for group, first, second in told}
        if "case" in groups:
            problem, item = groups["case"]
            known, timed, moods = "", False, _stayed(_PRIOR) if tone else _PRIOR
        elif tone:
            failed = groups.get("reaction", ("done", ""))[0] != "done"
            moods = _moved(moods, tone, failed)
        known = groups["fact"][1] if "fact" in groups else known
        timed = timed or "when" in groups
        moods = _shown(moods, groups["mood"][0]) if "mood" in groups else moods
    if item not in record:
        return Seen("", "", moods)
    return Seen(*_due(problem, known, timed, record[item]), moods)


_PRIOR = (rules.PRIOR["angry"], rules.PRIOR["worried"], rules.PRIOR["calm"])


def _due(problem: str, known: str, timed: bool, order: Mapping[str, Any]) -> tuple[str, str]:
    if timed:
        return "time", order["day"]
    policy = POLICIES[problem]
    if not policy.question:
        known = "yes" if rules.Case(**order).status == "sent" else "no"
    if not known:
        return "ask", policy.question
    return "offer", policy.yes if known == "yes" else policy.no


@lru_cache(maxsize=1 << 14)
def _moved(moods: tuple[float, ...], tone: str, failed: bool) -> tuple[float, float, float]:
    """Return how probable the moods are after an answer in ``tone``, given that the customer has stayed."""
    after = dict.fromkeys(MOODS, 0.0)
    for mood, p in zip(MOODS, moods, strict=True):
        fit = rules.FIT[mood][tone]
        verdict = Verdict(not failed, 0, 0.0, fit, "")
        change = rules.ANNOYED if failed else rules.SOOTHED if fit == 1.0 else rules.HURT if fit == 0.0 else 0.0
        changed = rules.mood_after(verdict, mood, 0.0, begins=False)
        after[changed] += p * change
        after[mood] += p * (1 - change)
    return _stayed(tuple(after.values()))


def _stayed(moods: Sequence[float]) -> tuple[float, float, float]:
    """Return how probable the moods are given that the customer has not left."""
    return _normal([p * (1 - rules.LEAVES[mood]) for mood, p in zip(MOODS, moods, strict=True)])


@lru_cache(maxsize=1 << 14)
def _shown(moods: tuple[float, ...], mood: str) -> tuple[float, float, float]:
    return _normal([p * (1 - WRONG_MOOD if m == mood else WRONG_MOOD / 2) for m, p in zip(MOODS, moods, strict=True)])


def _normal(weights: Sequence[float]) -> tuple[float, float, float]:
    angry, worried, calm = (weight / sum(weights) for weight in weights)
    return angry, worried, calm


def facts(dialogue: Dialogue) -> Floats:
    """Return what is due, one-hot, and how probable each mood is, as ``response_support.FACTS`` names them."""
    known = seen(dialogue)
    due_now = [
        known.kind == kind and known.right == name
        for kind, names in (("ask", QUESTIONS), ("offer", OFFERS), ("time", DAYS))
        for name in names
    ]
    return np.array([*due_now, *known.moods], np.float32)


# --- policies ----------------------------------------------------------------------------------


def speak(act: Act, dialogue: Dialogue) -> str:
    """Put an act into words, chosen by the dialogue's own chance."""
    return say(act, dialogue.draws("agent"))


def inferring(dialogue: Dialogue) -> str:
    """Do what is due as far as it can be seen, in the tone that probably fits."""
    known = seen(dialogue)
    return speak(act_for(known.kind, known.right, known.tone), dialogue)


def in_tone(tone: str, dialogue: Dialogue) -> str:
    """Do what is due, always in one tone."""
    step = due(dialogue)
    return speak(act_for(step.kind, step.right, tone), dialogue)


def without_asking(dialogue: Dialogue) -> str:
    """Do as ``inferring`` does, but guess where a question is due."""
    known = seen(dialogue)
    if known.kind == "ask":
        options = [policy.yes for policy in POLICIES.values() if policy.question == known.right]
        return speak(act_for("offer", dialogue.draws("guess").choice(options), known.tone), dialogue)
    return inferring(dialogue)


def everything(dialogue: Dialogue) -> str:
    """Do what is due, and name a solution and the day as well."""
    step, case = due(dialogue), rules.Case(**dialogue.scenario.hidden["cases"][due(dialogue).case])
    asks = (step.right,) if step.kind == "ask" else ()
    return speak(Act(asks, (case.solution,), (case.day,), "sorry"), dialogue)


def echo(dialogue: Dialogue) -> str:
    """Repeat what the customer said."""
    return dialogue.texts(CUSTOMER)[-1]


def random_act(draws: Draws, right: Act | None = None) -> Act:
    """Return an act of free choices; each is that of ``right`` with probability ``SKILL``."""

    def drawn(names: Sequence[str], mine: tuple[str, ...], chance: float) -> tuple[str, ...]:
        if right is not None and draws.uniform() < SKILL:
            return mine
        return (draws.choice(names),) if draws.uniform() < chance else ()

    asks = drawn(QUESTIONS, right.asks if right else (), 0.3)
    offers = drawn(OFFERS, right.offers if right else (), 0.5)
    days = drawn(DAYS, right.days if right else (), 0.35)
    skilled = right is not None and draws.uniform() < SKILL
    return Act(asks, offers, days, right.tone if right and skilled else draws.choice(TONES))


@lru_cache(maxsize=4)
def best_constant(split: str, max_turns: int) -> Act:
    """Return the one act of the greatest mean return over 100 training dialogues (seeds from 500,000)."""
    task = Support(split, max_turns)
    acts = [
        Act(asks, offers, days, tone)
        for asks in _none_or_one(QUESTIONS)
        for offers in _none_or_one(OFFERS)
        for days in _none_or_one(DAYS)
        for tone in TONES
        if asks or offers or days
    ]

    def mean(act: Act, episodes: int) -> float:
        return sum(play(task, partial(speak, act), 500_000 + k)[1] for k in range(episodes)) / episodes

    promising = sorted(acts, key=lambda act: mean(act, 20), reverse=True)[:20]
    return max(promising, key=lambda act: mean(act, 100))


def _none_or_one(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [(), *((name,) for name in names)]


def policies(task: Support) -> dict[str, Policy]:
    """Return the scripted policies by name."""
    return {
        "oracle": task.oracle,
        "infers": inferring,
        "infers, guesses": without_asking,
        "oracle, sorry": partial(in_tone, "sorry"),
        "oracle, warm": partial(in_tone, "warm"),
        "oracle, plain": partial(in_tone, "plain"),
        "everything": everything,
        "constant": lambda dialogue: speak(best_constant(task.split, task.max_turns), dialogue),
        "random": lambda dialogue: speak(random_act(dialogue.draws("choice")), dialogue),
        "filler": lambda dialogue: speak(Act(), dialogue),
        "echo": echo,
    }


# --- playing -----------------------------------------------------------------------------------


def play(task: Support, policy: Policy, seed: int) -> tuple[Dialogue, float]:
    """Return the finished dialogue of ``policy`` under ``seed``, and its return."""
    dialogue, earned = begin(task, seed), 0.0
    while not dialogue.stop_reason:
        (dialogue,), (reward,), *_ = advance(task, [dialogue], [policy(dialogue)])
        earned += reward
    return dialogue, earned


def self_play(task: Support, draws: Draws) -> Dialogue:
    """Return a finished dialogue of an agent of mixed quality."""
    dialogue = begin(task, draws.bits() >> 11)
    while not dialogue.stop_reason:
        text = say(random_act(draws, task.right(dialogue)), draws)
        (dialogue,), *_ = advance(task, [dialogue], [text])
    return dialogue


def main(arguments: Sequence[str] | None = None) -> None:
    """Print return, success and turns of every scripted policy."""
    parser = argparse.ArgumentParser(prog="python -m dialog_gym.envs.response", description=main.__doc__)
    parser.add_argument("--split", default="heldout", choices=("all", "train", "heldout"))
    parser.add_argument("--metric", default="quality", help="quality, bleu, chrf, meteor, ...")
    parser.add_argument("--encoder", help="folder of the model of bertscore, click and bleurt")
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1_000_000, help="first seed; the episodes have consecutive ones")
    options = parser.parse_args(arguments)
    task = Support(options.split, metric=options.metric, encoder=options.encoder)
    print(  # noqa: T201
        f"Response-v0, {options.split}, {options.metric}, {options.episodes} episodes, seeds from {options.seed}"
    )
    print(f"{'policy':<16} {'return':>7} {'95% interval':>15} success  turns")  # noqa: T201
    for name, policy in task.policies().items():
        played = [play(task, policy, options.seed + k) for k in range(options.episodes)]
        returns = [earned for _, earned in played]
        low, high = bootstrap(returns)
        success = np.mean([dialogue.success for dialogue, _ in played])
        turns = np.mean([dialogue.turn for dialogue, _ in played])
        print(  # noqa: T201
            f"{name:<16} {np.mean(returns):7.3f} {f'{low:.3f} .. {high:.3f}':>15} {success:7.2f} {turns:6.2f}"
        )
