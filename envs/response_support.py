"""The embedded world of ``Response-v0``: a shop's support. The rules are told in ``response``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.envs import response_phrases as phrases
from dialog_gym.envs import response_rules as rules
from dialog_gym.envs.response_language import from_notation, say, tell, to_notation, understand
from dialog_gym.envs.response_rules import DAYS, MOODS, OFFERS, QUESTIONS, TONES, Act, Case, Standing, Step, Verdict
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.splits import SPLITS, in_split
from dialog_gym.task import Reply
from dialog_gym.world import World

AGENT, CUSTOMER = "agent", "customer"
WRONG_MOOD = 0.15  # share of the phrases of mood that mislead
SUCCESS = 0.7  # least return of a success
KNOWN_GOOD = 4  # wordings of the right answer that an overlap metric may compare with

ATTRIBUTES = (
    *(f"ask:{name}" for name in ("none", *QUESTIONS)),
    *(f"offer:{name}" for name in ("none", *OFFERS)),
    *(f"day:{name}" for name in ("none", *DAYS)),
    *(f"tone:{name}" for name in TONES),
)
FACTS = (
    *(f"ask_{name}" for name in QUESTIONS),
    *(f"offer_{name}" for name in OFFERS),
    *(f"day_{name}" for name in DAYS),
    *(f"believed_{mood}" for mood in MOODS),
)


class Quality(Reward):
    """The true quality of the newest answer, times the weight of what it does."""

    name, low, high = "quality", 0.0, 1.0

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the quality of each newest answer."""
        return np.array([d.state["reward"] for d in dialogues], np.float32)


class Support(World):
    """The support of a shop; see ``dialog_gym.envs.response`` for the rules.

    Args:
        split: ``"all"``, ``"train"`` or ``"heldout"``: 70 and 30 percent of the cases, by a hash of the item, the
            problem and the fact.
        max_turns: Agent turns after which the dialogue is truncated.
        metric: What is rewarded: ``"quality"``, the true one; or the metric of a corpus (``response_metrics``), which
            compares the answer with right ones.
        encoder: For ``"bertscore"``, ``"click"`` and ``"bleurt"``: folder of the model.
    """

    world: ClassVar[str] = "support"
    attribute_names: ClassVar[tuple[str, ...]] = ATTRIBUTES
    fact_names: ClassVar[tuple[str, ...]] = FACTS
    model_tokens = ("<support>",)
    roles = (AGENT, CUSTOMER)

    def __init__(
        self,
        split: str = "all",
        max_turns: int = 7,
        metric: str | Reward = "quality",
        encoder: str | None = None,
    ) -> None:
        """Make the pool of cases; see the class for the arguments."""
        if max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, got {max_turns}")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}")
        self.max_turns, self.split = max_turns, split
        self.pool = [
            (item, problem, fact)
            for item in phrases.ITEMS
            for problem in rules.PROBLEMS
            for fact in (True, False)
            if in_split(f"{item} {problem} {fact}", split)
        ]
        self.reward = Quality()
        self.compared = metric != "quality"
        if self.compared:
            from dialog_gym.envs.response_metrics import metric_named

            self.reward = metric_named(metric, encoder)

    # --- the scenario --------------------------------------------------------------------------

    def scenario(self, draws: Draws) -> Scenario:
        """Draw one or two cases, the customer's first mood and patience."""
        first = self._case(draws)
        cases = [first]
        while draws.uniform() < 0.7 and len(cases) < 2:
            second = self._case(draws)
            if second.item != first.item:
                cases.append(second)
        hidden: dict[str, Any] = {
            "cases": [case._asdict() for case in cases],
            "mood": rules.mood_after(_FAILED, "", draws.uniform(), begins=True),
            "patience": draws.integer(2, 5),
        }
        record = " ".join(f"Order: {c.item}, {_STATUS[c.status]}, {c.day}." for c in cases)
        private = {AGENT: f"{_GOAL} {record}", CUSTOMER: "You want what you asked for."}
        return Scenario(_PUBLIC, private, hidden)

    def _case(self, draws: Draws) -> Case:
        item, problem, fact = draws.choice(self.pool)
        told = not rules.POLICIES[problem].question or draws.uniform() < 0.4
        return Case(item, problem, fact, told, draws.uniform() < 0.7, draws.choice(DAYS))

    def opening(self, dialogue: Dialogue) -> Dialogue:
        """Let the customer tell the first case."""
        hidden = dialogue.scenario.hidden
        now = Standing(0, 0, hidden["mood"], hidden["patience"])
        opened = Dialogue(dialogue.scenario, self.roles, dialogue.seed, (), rules.state_of(now, 0.0, 0.0))
        draws = dialogue.draws("customer")
        return opened.said(CUSTOMER, tell([*_told(cases_of(dialogue)[0], draws), _mood(now.mood, draws)]))

    # --- the customer --------------------------------------------------------------------------

    def reply(self, dialogues: Sequence[Dialogue]) -> list[Reply]:
        """Let the customers react to the newest answers."""
        return [self._reply(dialogue) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue) -> Reply:
        verdict, now, state, stop = self._judged(dialogue)
        draws = dialogue.draws("customer")
        if stop:
            text = _LAST[stop][draws.integer(0, len(_LAST[stop]))]
            return Reply(text, state, stop, stop == "solved" and state["earned"] >= SUCCESS)
        return Reply(_reaction(cases_of(dialogue), dialogue.state["place"], verdict, now.mood, draws), state)

    def settled(self, dialogue: Dialogue) -> Reply | None:
        """Return the end where the newest answer was the last that is needed, or the last that is borne."""
        _, _, state, stop = self._judged(dialogue)
        return Reply("", state, stop, stop == "solved" and state["earned"] >= SUCCESS) if stop else None

    def heard(self, dialogue: Dialogue, text: str) -> Reply:
        """Go on after a language model, as the customer, reacted with ``text``."""
        return Reply(text, self._judged(dialogue)[2])

    def _judged(self, dialogue: Dialogue) -> tuple[Verdict, Standing, dict[str, Any], str]:
        """Return the verdict on the newest answer, how it stands then, the state, and why it is over ("" if not)."""
        cases, before = cases_of(dialogue), standing(dialogue)
        verdict = rules.judge(cases, before, understand(dialogue.turns[-1].text))
        steps, draws = rules.plan(cases), dialogue.draws("mind")
        begins = rules.begins(steps, before.place, verdict.place)
        mood = rules.mood_after(verdict, before.mood, draws.uniform(), begins)
        tries = 0 if verdict.done else before.tries + 1
        now = Standing(verdict.place, tries, mood, before.patience - (not verdict.done))
        state = rules.state_of(now, verdict.reward, dialogue.state["earned"] + verdict.reward)
        if self.compared:
            state["references"] = self.known_good(replace(dialogue, turns=dialogue.turns[:-1], turn=-1))
        over = verdict.place >= len(steps)
        gone = now.patience <= 0 or draws.uniform() < rules.LEAVES[mood]
        return verdict, now, state, "solved" if over else "left" if gone else ""

    # --- the truth -----------------------------------------------------------------------------

    def right(self, dialogue: Dialogue) -> Act:
        """Return the right answer: what is due, in the tone that fits the customer's mood."""
        step, mood = due(dialogue), dialogue.state["mood"]
        tone = max(TONES, key=lambda tone: rules.FIT[mood][tone])
        return act_for(step.kind, step.right, tone)

    def known_good(self, dialogue: Dialogue) -> list[str]:
        """Return wordings of the right answer, with which overlap metrics compare what is said."""
        right = self.right(dialogue)
        return [say(right, dialogue.draws("known good", number)) for number in range(KNOWN_GOOD)]

    def oracle(self, dialogue: Dialogue) -> str:
        """Say the right answer."""
        return say(self.right(dialogue), dialogue.draws("agent"))

    def value(self, dialogue: Dialogue) -> float:
        """Return the true quality that the oracle still earns, whatever metric is rewarded."""
        if dialogue.stop_reason:
            return 0.0
        now = standing(dialogue)
        return rules.value(
            rules.plan(cases_of(dialogue)), now.place, now.tries, now.mood, self.max_turns - dialogue.turn
        )

    # --- notation ------------------------------------------------------------------------------

    def messages(self, dialogue: Dialogue, role: str) -> list[dict[str, str]]:
        """Return the chat for a language model: lower case, words and stops by themselves."""
        record = " ; ".join(f"{c.item} {c.status} {c.day}" for c in cases_of(dialogue))
        brief = f"<support> {record} ." if role == AGENT else "<support> you are the customer ."
        chat = [{"role": "system", "content": brief}]
        for speaker, text in dialogue.turns:
            chat.append({"role": "assistant" if speaker == role else "user", "content": to_notation(text)})
        return chat

    def utterance(self, dialogue: Dialogue, text: str) -> str:
        """Return what a language model wrote as people read it."""
        return from_notation(text)

    def attributes(self, dialogue: Dialogue, role: str, text: str) -> Floats:
        """Return what ``text`` does (the first of each kind) as the numbers ``ATTRIBUTES`` names."""
        act = understand(text)
        numbers = np.zeros(len(ATTRIBUTES), np.float32)
        place = 0
        for kinds, told in ((QUESTIONS, act.asks), (OFFERS, act.offers), (DAYS, act.days)):
            numbers[place + (kinds.index(told[0]) + 1 if told else 0)] = 1
            place += len(kinds) + 1
        numbers[place + TONES.index(act.tone)] = 1
        return numbers

    def facts(self, dialogue: Dialogue) -> Floats:
        """Return what is due as far as the words and the record tell, and the mood they show."""
        from dialog_gym.envs.response_policies import facts

        return facts(dialogue)

    def parsed(self, dialogue: Dialogue) -> list[Act]:
        """Return what was understood of each answer."""
        return [understand(text) for text in dialogue.texts(AGENT)]

    def understood(self, dialogue: Dialogue) -> bool:
        """Return whether the newest answer has a meaning."""
        answers = dialogue.texts(AGENT)
        return bool(answers) and understand(answers[-1]).understood

    def self_play(self, draws: Draws) -> Dialogue:
        """Return a finished dialogue of an agent of mixed quality, to train language models on."""
        from dialog_gym.envs.response_policies import self_play

        return self_play(self, draws)

    def policies(self) -> Mapping[str, Callable[[Dialogue], str]]:
        """Return the scripted policies of the table, by name."""
        from dialog_gym.envs.response_policies import policies

        return policies(self)


_PUBLIC = "A customer writes to the support of a shop."
_GOAL = (
    "You are the support. Find out what is missing, then offer what the shop's policy says, and name the day of the "
    "record where the customer wants to know it. Policy: late: wait if it was sent, replace if it is lost; broken: "
    "replace if it was bought lately, repair if long ago; wrong: replace if the box is closed, voucher if it is open; "
    "not wanted: refund if the box is closed, voucher if it is open; price wrong: refund if by card, wait if by bank."
)
_STATUS = {"sent": "on its way", "lost": "lost", "here": "delivered"}
_LAST = {
    stop: [from_notation(f"{phrase} .") for phrase in table]
    for stop, table in (("solved", phrases.SOLVED), ("left", phrases.LEFT))
}
_FAILED = Verdict(False, 0, 0.0, 0.0, "unclear")


def cases_of(dialogue: Dialogue) -> tuple[Case, ...]:
    """Return the cases of a dialogue."""
    return tuple(Case(**case) for case in dialogue.scenario.hidden["cases"])


def standing(dialogue: Dialogue) -> Standing:
    """Return how a dialogue stands."""
    state = dialogue.state
    return Standing(state["place"], state["tries"], state["mood"], state["patience"])


def due(dialogue: Dialogue) -> Step:
    """Return what is due; the last step where nothing is left."""
    steps = rules.plan(cases_of(dialogue))
    return steps[min(standing(dialogue).place, len(steps) - 1)]


def act_for(kind: str, right: str, tone: str) -> Act:
    """Return the act that does one thing in one tone."""
    asks, offers, days = ((right,) if kind == one else () for one in ("ask", "offer", "time"))
    return Act(asks, offers, days, tone)


def _told(case: Case, draws: Draws) -> list[str]:
    """Return the phrases that tell a case."""
    told = [draws.choice(phrases.CASES[case.problem]).format(case.item)]
    question = rules.POLICIES[case.problem].question
    return [*told, draws.choice(phrases.FACTS[question, case.fact])] if case.told and question else told


def _mood(mood: str, draws: Draws) -> str:
    if draws.uniform() < WRONG_MOOD:
        mood = MOODS[(MOODS.index(mood) + draws.integer(1, 3)) % 3]
    return draws.choice(phrases.MOODS[mood])


def _reaction(cases: tuple[Case, ...], place: int, verdict: Verdict, mood: str, draws: Draws) -> str:
    """Put the customer's reaction into words: how the answer was, what is wanted next, and the mood.

    Args:
        cases: What the dialogue is about.
        place: The step that was due.
        verdict: What the answer did.
        mood: The mood after it.
        draws: Chooses the words.
    """
    steps = rules.plan(cases)
    last, step = steps[place], steps[verdict.place]
    case = cases[step.case]
    reaction = draws.choice(phrases.REACTIONS[verdict.reaction])
    if step.case != last.case:
        told = _told(case, draws)
        parts = [reaction, *told] if len(told) == 1 else told  # three phrases at most
    elif last.kind == "ask" and step.kind == "offer":
        fact = draws.choice(phrases.FACTS[last.right, case.fact])  # asked for, or brought to light by a wrong guess
        parts = [fact] if verdict.done else [reaction, fact]
    else:
        parts = [reaction, draws.choice(phrases.WHEN if step.kind == "time" else phrases.AGAIN)]
    return tell([*parts, _mood(mood, draws)])
