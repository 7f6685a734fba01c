"""The truth of the support world of ``Response-v0``: what is due, what an answer earns, and what it does.

A dialogue is one or two *cases*, each about one order. A case has up to three steps, in this order: *ask* (where the
fact that decides has not been told), *offer* (the solution), *time* (where the customer wants to know the day).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

QUESTIONS = ("opened", "bought", "paid")
OFFERS = ("refund", "replace", "repair", "voucher", "wait")
DAYS = ("tomorrow", "friday", "monday")
TONES = ("plain", "sorry", "warm")
MOODS = ("angry", "worried", "calm")


class Policy(NamedTuple):
    """What the shop does about a problem.

    Attributes:
        question: What must be known, one of ``QUESTIONS``; ``""`` where the record of the order tells it.
        yes: The solution where the fact holds (box closed, bought lately, paid by card, parcel sent).
        no: The solution where it does not (box open, bought long ago, paid by bank, parcel lost).
    """

    question: str
    yes: str
    no: str


POLICIES: Mapping[str, Policy] = {
    "late": Policy("", "wait", "replace"),
    "broken": Policy("bought", "replace", "repair"),
    "wrong": Policy("opened", "replace", "voucher"),
    "unwanted": Policy("opened", "refund", "voucher"),
    "charged": Policy("paid", "refund", "wait"),
}
"""The shop's policy by problem."""
PROBLEMS = tuple(POLICIES)

WEIGHTS: Mapping[str, float] = {"ask": 0.5, "offer": 1.0, "time": 0.75}  # of a step, before they are made to add to 1
BASE = 0.4  # quality of the right content in the worst tone; the rest is the tone's
FIT: Mapping[str, Mapping[str, float]] = {  # how well a tone fits a mood
    "angry": {"plain": 0.0, "sorry": 1.0, "warm": 0.2},
    "worried": {"plain": 0.0, "sorry": 0.2, "warm": 1.0},
    "calm": {"plain": 1.0, "sorry": 0.0, "warm": 0.3},
}
EXTRA, FALSE = 0.25, 0.25  # what a thing that is not due takes from the quality, and what it takes more if it is false
LONG, WORD = 30, 0.01  # words that are read gladly, and what each further one costs
RETRY = 0.5  # what a step is worth after each failure at it
PRIOR: Mapping[str, float] = {"angry": 0.4, "worried": 0.35, "calm": 0.25}  # moods at the beginning of a case
SOOTHED = 0.6  # probability that a right answer in the right tone calms
HURT = 0.25  # that a right answer in a tone that fits not at all makes angry
ANNOYED = 0.5  # that a failure makes angry
LEAVES: Mapping[str, float] = {"angry": 0.2, "worried": 0.08, "calm": 0.03}  # that a customer leaves after a turn


class Act(NamedTuple):
    """What was understood of an answer.

    Attributes:
        asks: Facts it asks for (``QUESTIONS``), each once.
        offers: Solutions it offers (``OFFERS``), likewise.
        days: Days it names (``DAYS``), likewise.
        tone: One of ``TONES``; both apology and comfort are ``"plain"``: nobody believes both.
        words: Its length in words.
    """

    asks: tuple[str, ...] = ()
    offers: tuple[str, ...] = ()
    days: tuple[str, ...] = ()
    tone: str = "plain"
    words: int = 0

    @property
    def understood(self) -> bool:
        """Whether it has a meaning."""
        return bool(self.asks or self.offers or self.days) or self.tone != "plain"


class Case(NamedTuple):
    """One problem with one order.

    Attributes:
        item: What was ordered.
        problem: One of ``PROBLEMS``.
        fact: Whether the fact that decides holds.
        told: Whether the customer tells it with the problem, or the record does.
        timed: Whether the customer will ask for the day.
        day: The day of the record, one of ``DAYS``.
    """

    item: str
    problem: str
    fact: bool
    told: bool
    timed: bool
    day: str

    @property
    def solution(self) -> str:
        """The right offer."""
        policy = POLICIES[self.problem]
        return policy.yes if self.fact else policy.no

    @property
    def status(self) -> str:
        """What the record tells of the parcel: ``"sent"``, ``"lost"``, or ``"here"``."""
        return "here" if self.problem != "late" else "sent" if self.fact else "lost"


class Step(NamedTuple):
    """One thing that is due.

    Attributes:
        case: Number of the case.
        kind: ``"ask"``, ``"offer"`` or ``"time"``.
        right: What is to be asked, offered or named.
        weight: Reward of doing it perfectly at once; those of a dialogue add up to 1.
    """

    case: int
    kind: str
    right: str
    weight: float


class Standing(NamedTuple):
    """How a dialogue stands: the mutable part of its state.

    Attributes:
        place: Number of the step that is due.
        tries: Failures at it so far.
        mood: The customer's mood.
        patience: Failures that are still borne; at 0 the customer leaves.
    """

    place: int
    tries: int
    mood: str
    patience: int


class Verdict(NamedTuple):
    """What an answer is worth and what it does, without chance.

    Attributes:
        done: Whether it does what is due.
        place: Number of the step that is due next.
        reward: What it earns.
        fit: How well its tone fits, in [0, 1].
        reaction: ``"done"``, or why it failed: ``"refused"`` (wrong offer), ``"asked"`` (needless question),
            ``"doubted"`` (wrong day), ``"unclear"``.
    """

    done: bool
    place: int
    reward: float
    fit: float
    reaction: str


@lru_cache(maxsize=1 << 14)
def plan(cases: tuple[Case, ...]) -> tuple[Step, ...]:
    """Return the steps of a dialogue, in their order."""
    steps = []
    for number, case in enumerate(cases):
        if not case.told:
            steps.append((number, "ask", POLICIES[case.problem].question))
        steps.append((number, "offer", case.solution))
        if case.timed:
            steps.append((number, "time", case.day))
    total = sum(WEIGHTS[kind] for _, kind, _ in steps)
    return tuple(Step(number, kind, right, WEIGHTS[kind] / total) for number, kind, right in steps)


def judge(cases: tuple[Case, ...], now: Standing, act: Act) -> Verdict:
    """Return what ``act`` is worth where ``now`` is how the dialogue of ``cases`` stands.

    The step that is due is done by naming the one right thing of its kind. Where a question is due, the right offer
    does as well (a lucky guess) and leaves the reward of the question behind; a wrong one brings the fact to light.
    """
    steps = plan(cases)
    due, fit = steps[now.place], FIT[now.mood][act.tone]
    said = _said(act, due.kind)
    guessed = due.kind == "ask" and said != (due.right,) and bool(act.offers)
    place = now.place + guessed
    if guessed:
        due, said = steps[place], act.offers
    if said == (due.right,):
        reward = due.weight * RETRY**now.tries * _quality(cases[due.case], due, act, fit)
        return Verdict(True, place + 1, reward, fit, "done")
    return Verdict(False, place, 0.0, fit, _reaction(act, said, due.kind))


def _said(act: Act, kind: str) -> tuple[str, ...]:
    return act.asks if kind == "ask" else act.offers if kind == "offer" else act.days


def _quality(case: Case, due: Step, act: Act, fit: float) -> float:
    quality = BASE + (1 - BASE) * fit - WORD * max(act.words - LONG, 0)
    for kind, true in (("ask", ""), ("offer", case.solution), ("time", case.day)):
        if kind != due.kind:
            quality -= sum(EXTRA + FALSE * (one != true and kind != "ask") for one in _said(act, kind))
    return max(quality, 0.0)


def _reaction(act: Act, said: Sequence[str], kind: str) -> str:
    if len(said) > 1:
        return "unclear"
    if said:
        return {"ask": "asked", "offer": "refused", "time": "doubted"}[kind]
    return "asked" if act.asks else "refused" if act.offers else "unclear"


# --- chance ------------------------------------------------------------------------------------


def mood_after(verdict: Verdict, mood: str, chance: float, begins: bool) -> str:
    """Return the mood after an answer, by ``chance`` in [0, 1); a new case (``begins``) brings its own."""
    if begins:
        return "angry" if chance < PRIOR["angry"] else "worried" if chance < 1 - PRIOR["calm"] else "calm"
    if not verdict.done:
        return "angry" if chance < ANNOYED else mood
    if verdict.fit == 1.0:
        return "calm" if chance < SOOTHED else mood
    return "angry" if verdict.fit == 0.0 and chance < HURT else mood


def begins(steps: Sequence[Step], before: int, after: int) -> bool:
    """Return whether going from place ``before`` to ``after`` begins a new case."""
    return after < len(steps) and steps[after].case != steps[before].case


@lru_cache(maxsize=1 << 16)
def value(steps: tuple[Step, ...], place: int, tries: int, mood: str, turns: int) -> float:
    """Return what is still earned by doing each step at once in the right tone, with ``turns`` left.

    The only chance is the customer's: moods change, and the customer may leave after any turn but the last.
    """
    if place >= len(steps) or turns <= 0:
        return 0.0
    earned = steps[place].weight * RETRY**tries
    if begins(steps, place, place + 1):
        moods = PRIOR
    else:
        moods = {mood: 1 - SOOTHED, "calm": SOOTHED} if mood != "calm" else {"calm": 1.0}
    rest = (p * (1 - LEAVES[m]) * value(steps, place + 1, 0, m, turns - 1) for m, p in moods.items())
    return earned + sum(rest)


def state_of(now: Standing, reward: float, earned: float) -> dict[str, Any]:
    """Return the state of a dialogue, JSON: how it stands, the reward of the newest answer, and that of all."""
    return {**now._asdict(), "reward": reward, "earned": earned}
