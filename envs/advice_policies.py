"""Scripted advisers for ``Advice-v0``, what an attentive one knows, and self-play."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import NamedTuple

import numpy as np

from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs.advice import ADVISER, ASKER, WRONG_NEED, WRONG_SIGN, Advice
from dialog_gym.envs.advice_language import (
    NEEDS,
    SHORTCUTS,
    STEPS,
    Act,
    cues,
    say,
    to_notation,
    understand,
)
from dialog_gym.envs.advice_phrases import TOPICS
from dialog_gym.envs.advice_rules import Question, Standing, after, candidates, harm, helpfulness, pool, price_of_harm
from dialog_gym.rewards.base import Floats
from dialog_gym.rollout import bootstrap

Policy = Callable[[Dialogue], str]
SKILL = 0.35  # share of the choices that self-play makes rightly; the rest is free
REACTION = 0.98  # trust in what the asker says is missing


def speak(act: Act, dialogue: Dialogue) -> str:
    """Put an act into words, chosen by the dialogue's own chance."""
    return say(act, dialogue.draws("adviser"))


# --- what an adviser can see -------------------------------------------------------------------


class Belief(NamedTuple):
    """What the asker's words tell.

    Attributes:
        topic: What it is about; "" if no topic was recognised.
        kinds: How probable it is that each kind of step is right.
        needs: How probable each need is.
        tried: Whether the usual things were tried.
        near: Whether a child is near.
    """

    topic: str
    kinds: Mapping[str, float]
    needs: Mapping[str, float]
    tried: bool
    near: bool

    def question(self, need: str = "") -> Question:
        """Return the most probable question, with ``need`` if it is given."""
        likely = max(self.kinds, key=lambda kind: self.kinds[kind])
        return Question(
            self.topic, likely, self.tried, self.near, need or max(self.needs, key=lambda n: self.needs[n])
        )


def belief(dialogue: Dialogue) -> Belief:
    """Return what an attentive adviser makes of the question and the reactions."""
    kinds, needs = dict.fromkeys(STEPS, 1 / len(STEPS)), dict.fromkeys(NEEDS, 1 / len(NEEDS))
    seen = set()
    for number, text in enumerate(dialogue.texts(ASKER)):
        for group, shown in cues(text):
            seen.add(group)
            if group == "kind":
                kinds = _told(kinds, shown, 1 - WRONG_SIGN if number == 0 else REACTION)
            elif group == "need":
                needs = _told(needs, shown, 1 - WRONG_NEED if number == 0 else REACTION)
    return Belief(_topic(dialogue), kinds, needs, "tried" in seen, "near" in seen)


def _told(chances: Mapping[str, float], shown: str, trust: float) -> dict[str, float]:
    wrong = (1 - trust) / (len(chances) - 1)
    raw = {value: chance * (trust if value == shown else wrong) for value, chance in chances.items()}
    total = sum(raw.values())
    return {value: chance / total for value, chance in raw.items()}


def _topic(dialogue: Dialogue) -> str:
    words = to_notation(dialogue.texts(ASKER)[0]).split()
    return next((topic for topic in TOPICS if topic in words), "")


def facts(dialogue: Dialogue) -> Floats:
    """Return what is worth saying as far as the asker's words tell, as the numbers ``advice.FACTS`` names.

    How probable each need is, and each kind of step and shortcut to be right, 0 for those that were said already;
    whether the usual things were tried; the harm that the shortcut may do.
    """
    known = belief(dialogue)
    acts = [understand(text) for text in dialogue.texts(ADVISER)]
    steps = {kind for act in acts for kind in act.steps}
    shortcuts = {kind for act in acts for kind in act.shortcuts}
    asked = known.question() if known.topic else None
    numbers = [
        *known.needs.values(),
        *(0.0 if kind in steps else chance for kind, chance in known.kinds.items()),
        *(asked is not None and kind == asked.shortcut and kind not in shortcuts for kind in SHORTCUTS),
        known.tried,
        asked.severity if asked else 0.0,
    ]
    return np.array(numbers, np.float32)


# --- policies ----------------------------------------------------------------------------------


def inferring(task: Advice, dialogue: Dialogue) -> str:
    """Say what earns most under the belief, at the oracle's price of harm; sees nothing hidden."""
    known, price = belief(dialogue), task.price(dialogue)
    acts = task.parsed(dialogue)
    guesses = [known.question(need) for need in NEEDS]
    standings = [_standing(guess, acts) for guess in guesses]

    def worth(act: Act) -> float:
        then = [after(guess, now, act) for guess, now in zip(guesses, standings, strict=True)]
        worths = [now.reward - price * now.harm for now in then]
        return sum(known.needs[guess.need] * one for guess, one in zip(guesses, worths, strict=True))

    return speak(max((act for guess in guesses for act in candidates(guess)), key=worth), dialogue)


def _standing(question: Question, acts: Sequence[Act]) -> Standing:
    now = Standing()
    for act in acts:
        now = after(question, now, act)
    return now


@lru_cache(maxsize=8)
def best_constant(split: str, budget: float | None) -> Act:
    """Return the one answer of the greatest mean helpfulness to the questions of ``split`` within the budget."""
    acts = [
        Act(steps, shortcuts, cautions, explain, refer)
        for steps, shortcuts in product(_none_or_one(STEPS), _none_or_one(SHORTCUTS))
        for cautions in {(), shortcuts}
        for explain, refer in product((False, True), repeat=2)
    ]
    questions = pool(split)
    allowed = [act for act in acts if budget is None or _mean(harm, questions, act) <= budget]
    return max(allowed, key=lambda act: _mean(helpfulness, questions, act))


def _mean(measure: Callable[[Question, Act], float], questions: Sequence[Question], act: Act) -> float:
    return sum(measure(question, act) for question in questions) / len(questions)


def _none_or_one(kinds: Sequence[str]) -> list[tuple[str, ...]]:
    return [(), *((kind,) for kind in kinds)]


def random_act(draws: Draws, question: Question | None = None) -> Act:
    """Return an answer of free choices; about ``question``, each is right with probability ``SKILL``."""

    def skilled() -> bool:
        return question is not None and draws.uniform() < SKILL

    chance = draws.uniform()
    if chance < 0.06:
        return Act(refuse=True, filler=int(chance < 0.02))
    step = (question.kind if question and skilled() else draws.choice(STEPS),) if draws.uniform() < 0.85 else ()
    fit = question.shortcut if question and skilled() else draws.choice(SHORTCUTS)
    shortcut = (fit,) if draws.uniform() < 0.55 else ()
    caution: tuple[str, ...] = ()
    if draws.uniform() < 0.45:
        caution = (fit if draws.uniform() < 0.6 else draws.choice(SHORTCUTS),)
    explain, refer = draws.uniform() < 0.35, draws.uniform() < 0.3
    if question and skilled():
        explain, refer = question.need == "new", question.need == "worried"
    return Act(step, shortcut, caution, explain, refer, False, int(draws.uniform() < 0.25))


def without_need(task: Advice, dialogue: Dialogue) -> str:
    """Say the oracle's step and shortcut, and never explain nor refer."""
    return speak(task.oracle_act(dialogue, task.price(dialogue))._replace(explain=False, refer=False), dialogue)


def at_price(task: Advice, price: float, dialogue: Dialogue) -> str:
    """Say what the oracle would at another price of harm."""
    return speak(task.oracle_act(dialogue, price), dialogue)


def policies(task: Advice) -> dict[str, Policy]:
    """Return the scripted policies by name."""
    return {
        "oracle": task.oracle,
        "helpful": partial(at_price, task, 0.0),
        "safe": partial(at_price, task, 1e6),
        "infers": partial(inferring, task),
        "oracle without need": partial(without_need, task),
        "constant": lambda dialogue: speak(best_constant(task.split, task.budget), dialogue),
        "random": lambda dialogue: speak(random_act(dialogue.draws("choice")), dialogue),
        "refuse": lambda dialogue: speak(Act(refuse=True), dialogue),
    }


# --- playing -----------------------------------------------------------------------------------


def play(task: Advice, policy: Policy, seed: int) -> tuple[Dialogue, float, float]:
    """Return the finished dialogue of ``policy`` under ``seed``, its return and its cost."""
    dialogue, earned, cost = begin(task, seed), 0.0, 0.0
    while not dialogue.stop_reason:
        (dialogue,), (reward,), (harmed,), _ = advance(task, [dialogue], [policy(dialogue)])
        earned, cost = earned + reward, cost + harmed
    return dialogue, earned, cost


def self_play(task: Advice, draws: Draws) -> Dialogue:
    """Return a finished dialogue of an adviser of mixed quality."""
    dialogue = begin(task, draws.bits() >> 11)
    question = task.question(dialogue)
    while not dialogue.stop_reason:
        text = say(random_act(draws, question), draws)
        (dialogue,), *_ = advance(task, [dialogue], [text])
    return dialogue


class Disagreement(NamedTuple):
    """How two random answers to one question compare.

    Attributes:
        differ: Share of the pairs that differ in both helpfulness and harm.
        conflict: Share of these in which the more helpful answer is the more harmful.
        harm: Share of the pairs that differ in harm.
    """

    differ: float
    conflict: float
    harm: float


def disagreement(task: Advice, pairs: int, first_seed: int) -> Disagreement:
    """Compare ``pairs`` pairs of answers of the quality of ``self_play``, each pair to one question."""
    differ = conflict = harmed = 0
    for seed in range(first_seed, first_seed + pairs):
        dialogue, draws = begin(task, seed), Draws(seed, "pair")
        (h0, c0), (h1, c1) = (
            task.truth(dialogue, say(random_act(draws, task.question(dialogue)), draws)) for _ in range(2)
        )
        harmed += c0 != c1
        differ += h0 != h1 and c0 != c1
        conflict += (h0 - h1) * (c0 - c1) > 0
    return Disagreement(differ / pairs, conflict / max(differ, 1), harmed / pairs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print reward and cost of every scripted policy."""
    parser = argparse.ArgumentParser(prog="python -m dialog_gym.envs.advice", description=main.__doc__)
    parser.add_argument("--split", default="heldout", choices=("all", "train", "heldout"))
    parser.add_argument("--max-turns", type=int, default=1)
    parser.add_argument("--budget", type=float)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1_000_000, help="first seed; the episodes have consecutive ones")
    options = parser.parse_args(arguments)
    task = Advice(split=options.split, max_turns=options.max_turns, budget=options.budget)
    price = price_of_harm(task.split, task.budget or 0.0).reward
    print(  # noqa: T201
        f"Advice-v0, {options.split}, {options.max_turns} answers, {options.episodes} episodes, seeds from "
        f"{options.seed}, budget {task.budget}, price of harm {price:.2f}"
    )
    print(f"{'policy':<20} {'reward':>7} {'95% interval':>15} {'cost':>7} {'95% interval':>15} success")  # noqa: T201
    for name, policy in task.policies().items():
        played = [play(task, policy, options.seed + k) for k in range(options.episodes)]
        cells = [f"{name:<20}"]
        for numbers in ([reward for _, reward, _ in played], [cost for _, _, cost in played]):
            low, high = bootstrap(numbers)
            cells.append(f"{np.mean(numbers):7.3f} {f'{low:.3f} .. {high:.3f}':>15}")
        cells.append(f"{np.mean([episode[0].success for episode in played]):7.2f}")
        print(" ".join(cells))  # noqa: T201
    told = disagreement(task, options.episodes, options.seed)
    print(  # noqa: T201
        f"random pairs of answers: {told.harm:.0%} differ in harm, {told.differ:.0%} in both; in {told.conflict:.0%} "
        "of the latter the more helpful one is the more harmful"
    )
