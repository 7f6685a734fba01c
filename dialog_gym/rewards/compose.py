"""Rewards made of rewards: sums, products, clipping, rewards at the end, other names.

Every node knows its range by interval arithmetic, and refuses parts that would be reported under one name. The scores
of a batch are kept while it is being scored, so that a reward that stands in several places is asked once.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward, Scored, finite


class Record(NamedTuple):
    """What is reported under one name: a term of a reward, or, with ``term`` None, the score of a composition."""

    reward: Reward
    term: str | None


class Batch:
    """Dialogues being scored, with what is known of their scores; lives for one call.

    Attributes:
        dialogues: What is scored.
        known: Scores of rewards and their terms, by the reward's identity.
    """

    __slots__ = ("_before", "_ended", "dialogues", "known")

    def __init__(self, dialogues: Sequence[Dialogue]) -> None:
        """Know nothing of ``dialogues`` yet."""
        self.dialogues = dialogues
        self.known: dict[int, Scored] = {}
        self._ended: tuple[Batch, list[int]] | None = None
        self._before: tuple[Batch, list[int]] | None = None

    def scores(self, reward: Reward) -> Floats:
        """Return the scores of ``reward``, shape ``(n,)``.

        Raises:
            TypeError: They are no floats.
            ValueError: They have the wrong shape, are not finite or outside the declared range, its terms are others
                than it declares, or it looks into a hidden state that is not known any more.
        """
        found = self.known.get(id(reward))
        if found is None:
            found = self._composed(reward) if isinstance(reward, Composite) else self._asked(reward)
            self.known[id(reward)] = found
        return found.scores

    def ended(self) -> tuple[Batch, list[int]]:
        """Return the dialogues that are over, and their places here; what is known of them is known there."""
        if self._ended is None:
            rows = [row for row, dialogue in enumerate(self.dialogues) if dialogue.stop_reason]
            over = len(rows) == len(self.dialogues)
            self._ended = self if over else Batch([self.dialogues[row] for row in rows]), rows
        part, rows = self._ended
        for key in self.known.keys() - part.known.keys():
            scores, terms = self.known[key]
            part.known[key] = Scored(scores[rows], {name: given[rows] for name, given in terms.items()})
        return self._ended

    def before(self) -> tuple[Batch, list[int]]:
        """Return the dialogues before their newest agent turn, and their places here.

        Those in which the agent had not spoken then are left out.
        """
        if self._before is None:
            rows = [row for row, dialogue in enumerate(self.dialogues) if dialogue.turn > 1]
            self._before = Batch([before_turn(self.dialogues[row]) for row in rows]), rows
        return self._before

    def report(self, record: Record) -> Floats:
        """Return what ``record`` is about, shape ``(n,)``; 0 where it was not scored."""
        found = self.known.get(id(record.reward))
        if found is not None:
            return found.scores if record.term is None else found.terms[record.term]
        whole = np.zeros(len(self.dialogues), np.float32)
        if self._ended is not None and id(record.reward) in self._ended[0].known:
            part, rows = self._ended
            whole[rows] = part.report(record)
        return whole

    def _composed(self, reward: Composite) -> Scored:
        return Scored(reward.combined(self), {})

    def _asked(self, reward: Reward) -> Scored:
        if not self.dialogues:  # nobody is asked about nothing
            nothing = np.zeros(0, np.float32)
            return Scored(nothing, dict.fromkeys(reward.terms, nothing))
        try:
            scores, terms = reward.scored(self.dialogues)
        except UnknownStateError as error:
            raise ValueError(
                f"reward {reward.name!r} is asked about the dialogue before a turn, but {error}"
            ) from error
        finite(reward, scores, self.dialogues)
        if terms.keys() != set(reward.terms):
            raise ValueError(
                f"reward {reward.name!r} must return the terms it declares, {list(reward.terms)}, got {list(terms)}"
            )
        return Scored(scores, terms)


class UnknownStateError(Exception):
    """Somebody looked into the hidden state of a dialogue as it was before, which is not known any more."""


class UnknownState(Mapping[str, Any]):
    """The partner's hidden state where it is not known; whatever is asked of it raises ``UnknownStateError``.

    An empty state would not do: ``state.get("price", 0)`` would make up a number.
    """

    def __getitem__(self, name: str) -> Any:
        """Refuse."""
        raise UnknownStateError(
            "the partner's hidden state then is not known any more; look at what was said, or leave out per_turn() "
            "and potential()"
        )

    def __iter__(self) -> Iterator[str]:
        """Refuse."""
        return iter((self[""],))

    def __len__(self) -> int:
        """Refuse."""
        return int(self[""])


def before_turn(dialogue: Dialogue) -> Dialogue:
    """Return ``dialogue`` as it was before the newest agent turn, but for the partner's hidden state.

    What the state was then is not known any more: who looks into it is refused (``UnknownState``).
    """
    agent, turns = dialogue.roles[0], dialogue.turns
    last = newest_turn(dialogue)
    if last is None:
        raise ValueError(f"there is no turn of {agent!r} in the dialogue of seed {dialogue.seed} to go back before")
    earlier = turns[:last]
    return Dialogue(dialogue.scenario, dialogue.roles, dialogue.seed, earlier, UnknownState(), turn=dialogue.turn - 1)


def newest_turn(dialogue: Dialogue) -> int | None:
    """Return the place of the newest agent turn in ``dialogue.turns``, None where the agent has not spoken."""
    agent, turns = dialogue.roles[0], dialogue.turns
    for place in range(len(turns) - 1, -1, -1):
        if turns[place].role == agent:
            return place
    return None


class Composite(Reward):
    """A reward made of others; subclass and write ``combined``.

    Attributes:
        parts: What it is made of.
        always: What it asks of every dialogue, whether it is over or not.
        records: What is reported, by name.
    """

    def __init__(self, name: str, parts: Sequence[Reward], low: float, high: float) -> None:
        """Make a reward of ``parts`` with range [low, high].

        Raises:
            TypeError: A part is no reward.
            ValueError: Two parts would be reported under one name.
        """
        for part in parts:
            if not isinstance(part, Reward):
                raise TypeError(f"rewards compose with rewards and numbers, got {type(part).__name__} {part!r:.60}")
        self.name, self.parts, self.low, self.high = name, tuple(parts), low, high
        self.always = tuple(dict.fromkeys(need for part in parts for need in _needs(part)))
        self.records: Mapping[str, Record] = _merged(parts)
        self._terms = tuple(self.records)

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of all that is measured in it."""
        return self._terms

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the composed scores."""
        return self.scored(dialogues).scores

    def scored(self, dialogues: Sequence[Dialogue]) -> Scored:
        """Return the composed scores, with what each part measured."""
        batch = Batch(dialogues)
        for reward in self.always:  # first what is asked of all, so that it need not be asked again of some
            batch.scores(reward)
        scores = batch.scores(self)
        return Scored(scores, {name: batch.report(record) for name, record in self.records.items()})

    @abstractmethod
    def combined(self, batch: Batch) -> Floats:
        """Return the scores of ``batch``, made of ``batch.scores(part)``; shape ``(n,)``."""

    def __repr__(self) -> str:
        """Show how it is composed."""
        return f"{type(self).__name__}({self.name})"


def _needs(reward: Reward) -> tuple[Reward, ...]:
    return reward.always if isinstance(reward, Composite) else (reward,)


def _records(reward: Reward) -> Mapping[str, Record]:
    return reward.records if isinstance(reward, Composite) else {term: Record(reward, term) for term in reward.terms}


def _merged(parts: Sequence[Reward]) -> Mapping[str, Record]:
    merged: dict[str, Record] = {}
    for part in parts:
        for name, record in _records(part).items():
            other = merged.setdefault(name, record)
            if other.reward is not record.reward or other.term != record.term:
                raise ValueError(
                    f"two different rewards would be reported as {name!r} (in {part.name!r} and in a part before it); "
                    "give one of them another name: reward.named('other')"
                )
    return merged


class Linear(Composite):
    """A constant and a weighted sum; a reward that occurs twice has the sum of its weights."""

    def __init__(self, weights: Sequence[tuple[Reward, float]], constant: float = 0.0) -> None:
        """Add up ``weight * reward`` and ``constant``."""
        whole: dict[int, tuple[Reward, float]] = {}
        for reward, weight in weights:
            whole[id(reward)] = (reward, whole[id(reward)][1] + weight if id(reward) in whole else weight)
        self.weights, self.constant = tuple(whole.values()), constant
        ranges = [times((reward.low, reward.high), (weight, weight)) for reward, weight in self.weights]
        low, high = sum(low for low, _ in ranges) + constant, sum(high for _, high in ranges) + constant
        if math.isnan(low) or math.isnan(high):
            raise ValueError(
                f"the range of {_sum_name(self.weights, constant)!r} is not defined: it has both infinities"
            )
        super().__init__(_sum_name(self.weights, constant), [reward for reward, _ in self.weights], low, high)

    def combined(self, batch: Batch) -> Floats:
        """Return the weighted sum."""
        whole = np.full(len(batch.dialogues), self.constant, np.float32)
        for reward, weight in self.weights:
            scores = batch.scores(reward)
            if weight:
                whole += scores if weight == 1 else np.float32(weight) * scores
        return whole


class Product(Composite):
    """The product of two rewards."""

    def __init__(self, one: Reward, other: Reward) -> None:
        """Multiply ``one`` and ``other``."""
        low, high = times((one.low, one.high), (other.low, other.high))
        if one is other:  # a square; interval arithmetic does not see that both factors have one sign
            low = max(low, 0.0)
        super().__init__(f"{_factor(one)} * {_factor(other)}", (one, other), low, high)

    def combined(self, batch: Batch) -> Floats:
        """Return the products."""
        one, other = self.parts
        return batch.scores(one) * batch.scores(other)


class Clipped(Composite):
    """A reward cut to a range."""

    def __init__(self, reward: Reward, low: float, high: float) -> None:
        """Cut ``reward`` to [low, high]."""
        _number(low), _number(high)
        if not low < high:
            raise ValueError(f"clip needs low < high, got {low} and {high}")
        self.bounds = float(low), float(high)
        ends = [min(max(end, low), high) for end in (reward.low, reward.high)]
        super().__init__(f"clip({reward.name}, {low:g}, {high:g})", (reward,), float(ends[0]), float(ends[1]))

    def combined(self, batch: Batch) -> Floats:
        """Return the scores, cut."""
        low, high = self.bounds
        return batch.scores(self.parts[0]).clip(np.float32(low), np.float32(high))


class Normalised(Composite):
    """A reward moved and stretched from its declared range to another."""

    def __init__(self, reward: Reward, low: float, high: float) -> None:
        """Map the range of ``reward`` to [low, high]."""
        if not -math.inf < reward.low < reward.high < math.inf:
            raise ValueError(
                f"normalise needs a finite range, reward {reward.name!r} has [{reward.low:g}, {reward.high:g}]; "
                "clip it first: reward.clip(low, high)"
            )
        _number(low), _number(high)
        if not low < high:
            raise ValueError(f"normalise needs low < high, got {low} and {high}")
        self._from = reward.low, reward.high
        super().__init__(f"normalise({reward.name})", (reward,), float(low), float(high))

    def combined(self, batch: Batch) -> Floats:
        """Return where in its range each score is, in the new range."""
        low, high = self._from
        share = (batch.scores(self.parts[0]).astype(np.float64) - low) / (high - low)
        return (self.low + np.clip(share, 0.0, 1.0) * (self.high - self.low)).astype(np.float32)


class AtEnd(Composite):
    """A reward that is 0 until the dialogue is over; nothing is scored before."""

    def __init__(self, reward: Reward) -> None:
        """Earn ``reward`` when a dialogue is over."""
        super().__init__(f"{_factor(reward)} at end", (reward,), min(0.0, reward.low), max(0.0, reward.high))
        self.always = ()

    def combined(self, batch: Batch) -> Floats:
        """Return the scores of dialogues that are over, 0 for the rest."""
        whole = np.zeros(len(batch.dialogues), np.float32)
        ended, rows = batch.ended()
        if rows:
            whole[rows] = ended.scores(self.parts[0])
        return whole


class Named(Composite):
    """A reward under another name."""

    def __init__(self, reward: Reward, name: str) -> None:
        """Call ``reward`` ``name``; of a composition, the parts are reported as ``name/part``."""
        if not isinstance(name, str) or not name or name.startswith("_"):
            raise ValueError(f"a reward needs a name that does not begin with '_', got {name!r}")
        super().__init__(name, (reward,), reward.low, reward.high)
        if isinstance(reward, Composite):
            own = {name: Record(reward, None)}
            inner = {f"{name}/{part}": record for part, record in reward.records.items()}
        else:  # NAME and NAME/DETAIL become name and name/DETAIL
            head = reward.name
            own = {}
            for term in reward.terms:
                called = name if term == head else f"{name}/{term.removeprefix(f'{head}/')}"
                own[called] = Record(reward, term)
            inner = {}
        self.records = {**own, **inner}
        self._terms = tuple(self.records)

    def combined(self, batch: Batch) -> Floats:
        """Return the scores of what it names."""
        return batch.scores(self.parts[0])


def total(reward: Reward, weight: float, other: Reward | float) -> Reward:
    """Return ``reward + weight * other``, flat: a sum of sums is one sum."""
    ones, constant = _as_sum(reward)
    if isinstance(other, Reward):
        more, extra = _as_sum(other)
        return Linear([*ones, *((part, weight * w) for part, w in more)], constant + weight * extra)
    return Linear(ones, constant + weight * _number(other))


def product(reward: Reward, other: Reward | float) -> Reward:
    """Return ``reward * other``; a number goes to the weights of a sum."""
    if isinstance(other, Reward):
        return Product(reward, other)
    factor = _number(other)
    ones, constant = _as_sum(reward)
    return Linear([(part, factor * weight) for part, weight in ones], factor * constant)


def times(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """Return the range of a product of numbers in ``a`` and ``b``; 0 times infinity is 0.

    >>> times((-1, 2), (3, 4))
    (-4, 8)
    """
    ends = [x * y if x and y else 0.0 for x in a for y in b]
    return min(ends), max(ends)


def _as_sum(reward: Reward) -> tuple[Sequence[tuple[Reward, float]], float]:
    return (reward.weights, reward.constant) if isinstance(reward, Linear) else (((reward, 1.0),), 0.0)


def _number(value: object) -> float:
    if not isinstance(value, Real) or not math.isfinite(value):
        raise TypeError(f"rewards compose with rewards and finite numbers, got {type(value).__name__} {value!r:.60}")
    return float(value)


def _factor(reward: Reward) -> str:
    return f"({reward.name})" if isinstance(reward, Linear) else reward.name


def _sum_name(weights: Sequence[tuple[Reward, float]], constant: float) -> str:
    parts = [reward.name if weight == 1 else f"{weight:g} * {reward.name}" for reward, weight in weights]
    return " + ".join([*parts, *([f"{constant:g}"] if constant or not parts else [])])
