"""Another reward for a task: in place of its own, or added to it. Both are reported."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward, Scored
from dialog_gym.task import Task


class OtherReward(Reward):
    """``other`` in place of ``own``, or the sum of both; the terms are those of both."""

    def __init__(self, own: Reward, other: Reward, *, add: bool = False) -> None:
        """Earn ``other``; with ``add``, ``own`` as well.

        Raises:
            ValueError: The two have a term of the same name.
        """
        if both := set(own.terms) & set(other.terms):
            raise ValueError(f"both rewards have a term {sorted(both)[0]!r}; give one of them another name")
        self.own, self.other, self.add = own, other, add
        self.name = f"{own.name}+{other.name}" if add else other.name
        self.low = other.low + own.low * add
        self.high = other.high + own.high * add

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms of both."""
        return (*self.own.terms, *self.other.terms)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return what is earned."""
        return self.scored(dialogues).scores

    def scored(self, dialogues: Sequence[Dialogue]) -> Scored:
        """Return what is earned, with the terms of both."""
        own, other = self.own.scored(dialogues), self.other.scored(dialogues)
        scores = own.scores + other.scores if self.add else other.scores
        return Scored(scores, {**own.terms, **other.terms})


def with_reward(task: Task, reward: Reward, *, add: bool = False) -> Task:
    """Return a copy of ``task`` that is rewarded by ``reward``; with ``add``, by its own reward as well."""
    changed = copy(task)
    changed.reward = OtherReward(task.reward, reward, add=add)
    return changed
