"""What rewards of texts share: which utterance is meant, and a memory for texts that come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.compose import newest_turn

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def role_of(dialogue: Dialogue, who: str) -> str:
    """Return the role that ``who`` means: ``"agent"``, ``"partner"``, or the name of a role.

    Raises:
        ValueError: There is no such role.
    """
    if who in dialogue.roles:
        return who
    if who not in ("agent", "partner"):
        raise ValueError(f"expected 'agent', 'partner' or one of the roles {dialogue.roles}, got {who!r}")
    return dialogue.roles[who == "partner"]


def newest(dialogue: Dialogue, who: str) -> str | None:
    """Return what ``who`` said in the newest exchange: the newest agent turn, or the partner's answer to it.

    None where nothing was said: the partner left without a word, or the agent has not spoken yet.

    Raises:
        ValueError: There is no such role.
    """
    role, place = role_of(dialogue, who), newest_turn(dialogue)
    if place is None:
        return None
    if role == dialogue.roles[0]:
        return dialogue.turns[place].text
    answers = [turn.text for turn in dialogue.turns[place + 1 :]]
    return answers[-1] if answers else None


class Memory(Generic[K, V]):
    """A function of many keys at once that is asked for each key only once; the oldest keys are forgotten.

    >>> lengths = Memory(lambda words: [len(word) for word in words])
    >>> lengths(["one", "three", "one"])
    [3, 5, 3]
    >>> lengths.asked
    2
    """

    def __init__(self, compute: Callable[[list[K]], Sequence[V]], size: int = 100_000) -> None:
        """Remember the last ``size`` keys of ``compute``, which answers for a list of distinct keys."""
        self.compute, self.size, self.asked = compute, size, 0
        self._known: OrderedDict[K, V] = OrderedDict()

    def __call__(self, keys: Sequence[K]) -> list[V]:
        """Return one value per key; unknown ones are computed in one call."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._known]
        if missing:
            values = self.compute(missing)
            self.asked += len(missing)
            self._known.update(zip(missing, values, strict=True))
        found = [self._known[key] for key in keys]
        for key in dict.fromkeys(keys):
            self._known.move_to_end(key)
        while len(self._known) > self.size:
            self._known.popitem(last=False)
        return found
