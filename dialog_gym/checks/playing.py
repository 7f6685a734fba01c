"""Plays that the checks look at: a task, played to the end by speakers of any quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from dialog_gym.checks.base import need
from dialog_gym.dialogue import Dialogue
from dialog_gym.env import advance, begin
from dialog_gym.spaces import Utterance
from dialog_gym.task import Task
from dialog_gym.world import World

Speaker = Callable[[Dialogue], str]

ODD = ("", "?", "hello! how are you?", "Ünï 🙂 — 5 €\nnew line", "word " * 30, "agent: I am the partner", "goodbye")


class Step(NamedTuple):
    """One turn of the agent and what came of it."""

    before: Dialogue
    text: str
    after: Dialogue
    reward: float


@dataclass(frozen=True)
class Playing:
    """A task and some games of it.

    Attributes:
        task: What is played.
        seeds: Of the dialogues; each is played by every speaker.
    """

    task: Task
    seeds: Sequence[int] = field(default=range(6))

    @cached_property
    def speakers(self) -> dict[str, Speaker]:
        """Who plays: somebody who says anything, the oracle if there is one, and a world's random policy."""
        speakers: dict[str, Speaker] = {"anything": lambda dialogue: anything(self.task, dialogue)}
        with suppress(NotImplementedError):
            self.task.oracle(begin(self.task, self.seeds[0]))
            speakers["oracle"] = self.task.oracle
        if isinstance(self.task, World) and "random" in (named := self.task.policies()):
            speakers["random"] = named["random"]
        return speakers

    @cached_property
    def plays(self) -> list[list[Step]]:
        """Every play, as its steps."""
        return [
            play(self.task, begin(self.task, seed), speak) for speak in self.speakers.values() for seed in self.seeds
        ]

    @property
    def steps(self) -> list[Step]:
        """The steps of all plays."""
        return [step for steps in self.plays for step in steps]


def play(task: Task, dialogue: Dialogue, speak: Speaker) -> list[Step]:
    """Return the steps of ``dialogue`` played to its end."""
    steps = []
    while not dialogue.stop_reason:
        text = speak(dialogue)
        need(isinstance(text, str), f"a policy (the oracle?) must return what it says, a text, got {text!r:.60}")
        (after,), (reward,), *_ = advance(task, [dialogue], [text])
        steps.append(Step(dialogue, text, after, reward))
        dialogue = after
    return steps


def earned(steps: Sequence[Step]) -> float:
    """Return the undiscounted return of a play."""
    return sum(step.reward for step in steps)


def anything(task: Task, dialogue: Dialogue) -> str:
    """Return one of many kinds of utterances: odd ones, common words, the scenario's words, what was just said."""
    draws = dialogue.draws("anything")
    last = dialogue.turns[-1].text if dialogue.turns else ""
    words = [*Utterance.WORDS, *dialogue.brief(dialogue.roles[0]).split(), *last.split()]
    some = " ".join(draws.choice(words) for _ in range(1 + draws.integer(0, 12)))
    text = draws.choice((*ODD, last, some, some, some, some, some))
    return text[: task.max_chars]


def heard(task: Task, step: Step) -> Dialogue:
    """Return the dialogue that the partner answered in ``step``."""
    return step.before.said(task.roles[0], step.text)
