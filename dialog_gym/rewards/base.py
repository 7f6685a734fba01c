"""What a reward is: a named function from dialogues to numbers of a declared range.

Rewards are terms of a small language: ``0.7 * Success() + 0.3 * Affect()`` is a reward too. The operators are here,
what they make is in ``compose`` and ``increments``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue

Floats = npt.NDArray[np.float32]

TOLERANCE = 1e-5  # of the larger bound, at least of 1: what rounding to float32 may add to a declared range


class Scored(NamedTuple):
    """The scores of ``n`` dialogues.

    Attributes:
        scores: What is earned, shape ``(n,)``.
        terms: What is told of how it came about, by the names in ``Reward.terms``, each of shape ``(n,)``.
    """

    scores: Floats
    terms: Mapping[str, Floats]


class Reward(ABC):
    """Score the newest agent turn of each dialogue; subclass and write ``__call__``.

    A reward that cannot score (a judge that fails) raises. It never returns a made-up number.

    Rewards compose: ``+``, ``-``, ``*`` and ``/`` with numbers, ``*`` with rewards, and the methods below. What each
    reward measured stands in ``info["reward_terms"]`` by its name, before any weight; one of weight 0 is measured and
    not earned. A reward that occurs twice in a composition is scored once.

    Attributes:
        name: Key of this term in ``info["reward_terms"]``.
        low: Smallest possible score; ``-math.inf`` where there is none.
        high: Largest possible score; ``math.inf`` where there is none.
    """

    name: str
    low: float
    high: float
    __array_ufunc__ = None  # numpy's own numbers leave ``number * reward`` to the reward

    @abstractmethod
    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return one finite score per dialogue, shape ``(len(dialogues),)``, in [low, high]."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names in ``info["reward_terms"]``; override together with ``scored``."""
        return (self.name,)

    def scored(self, dialogues: Sequence[Dialogue]) -> Scored:
        """Return what ``__call__`` returns, with its terms; each dialogue is scored once."""
        scores = self(dialogues)
        return Scored(scores, {self.name: scores})

    @staticmethod
    def of(function: Callable[[Dialogue], float], name: str, low: float, high: float) -> Reward:
        """Return the reward that scores each dialogue by ``function``; ``reward`` is the decorator for it.

        >>> polite = Reward.of(lambda dialogue: "please" in dialogue.turns[-1].text, "polite", 0, 1)
        >>> polite.terms
        ('polite',)
        """
        return FunctionReward(function, name, low, high)

    def __add__(self, other: Reward | float) -> Reward:
        """Return the sum of both."""
        from dialog_gym.rewards.compose import total

        return total(self, 1.0, other)

    def __radd__(self, other: float) -> Reward:
        """Return the sum of both."""
        return self + other

    def __sub__(self, other: Reward | float) -> Reward:
        """Return the difference of both."""
        from dialog_gym.rewards.compose import total

        return total(self, -1.0, other)

    def __rsub__(self, other: float) -> Reward:
        """Return the difference of both."""
        return -self + other

    def __neg__(self) -> Reward:
        """Return the reward with the other sign."""
        return self * -1.0

    def __mul__(self, other: Reward | float) -> Reward:
        """Return the product with a number (a weight) or with a reward."""
        from dialog_gym.rewards.compose import product

        return product(self, other)

    def __rmul__(self, other: float) -> Reward:
        """Return the product with a number."""
        return self * other

    def __truediv__(self, other: float) -> Reward:
        """Return the reward divided by a number."""
        if other == 0:
            raise ZeroDivisionError(f"reward {self.name!r} cannot be divided by 0")
        return self * (1.0 / other)

    def clip(self, low: float, high: float) -> Reward:
        """Return the reward cut to [low, high].

        Raises:
            ValueError: ``low`` is not below ``high``.
        """
        from dialog_gym.rewards.compose import Clipped

        return Clipped(self, low, high)

    def at_end(self) -> Reward:
        """Return the reward that is 0 until the dialogue is over (also by truncation), and then this one.

        Nothing is scored before: a judge is not asked.
        """
        from dialog_gym.rewards.compose import AtEnd

        return AtEnd(self)

    def per_turn(self, *, start: float = 0.0) -> Reward:
        """Return what each turn adds to this reward of the whole dialogue so far.

        It is the score of the dialogue less the score of the dialogue before the newest agent turn, so that over an
        episode it adds up to the score of the whole dialogue less ``start``. See ``increments.PerTurn`` for what this
        reward may look at.

        Args:
            start: Score of a dialogue in which the agent has not spoken; that is never asked for.
        """
        from dialog_gym.rewards.increments import PerTurn

        return PerTurn(self, start)

    def normalise(self, low: float = 0.0, high: float = 1.0) -> Reward:
        """Return the reward moved and stretched from its declared range to [low, high].

        What depends on what was seen so far (a running mean) is no function of a dialogue, hence no reward:
        ``gymnasium.wrappers.NormalizeReward`` and its vector twin do that.

        Raises:
            ValueError: The declared range is infinite or a point, or ``low`` is not below ``high``.
        """
        from dialog_gym.rewards.compose import Normalised

        return Normalised(self, low, high)

    def named(self, name: str) -> Reward:
        """Return the reward under another name; what it is composed of is reported as ``name/part``."""
        from dialog_gym.rewards.compose import Named

        return Named(self, name)


class FunctionReward(Reward):
    """Score dialogues one by one with a function."""

    def __init__(self, function: Callable[[Dialogue], float], name: str, low: float, high: float) -> None:
        """Score by ``function``, whose numbers lie in [low, high]."""
        if not low <= high:
            raise ValueError(f"reward {name!r} needs a range with low <= high, got {low} and {high}")
        self.function, self.name, self.low, self.high = function, name, float(low), float(high)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return what the function returns for each dialogue."""
        return np.array([self.function(dialogue) for dialogue in dialogues], np.float32)


def reward(
    low: float = math.nan, high: float = math.nan, *, name: str | None = None
) -> Callable[[Callable[[Dialogue], float]], Reward]:
    """Make a reward of a function of one dialogue; a decorator.

    >>> @reward(0, 1)
    ... def asked(dialogue):
    ...     return "?" in dialogue.texts(dialogue.roles[0])[-1]
    >>> (asked * 0.1).high
    0.1

    Args:
        low: Smallest number it returns; must be given.
        high: Largest number it returns; must be given.
        name: Of the reward, by default that of the function.

    Raises:
        TypeError: There is no range.
    """
    if not isinstance(low, Real) or not isinstance(high, Real) or math.isnan(low) or math.isnan(high):
        raise TypeError("@reward needs the range of the numbers that the function returns, for instance @reward(0, 1)")
    return lambda function: FunctionReward(function, name or function.__name__, low, high)


def checked(reward: Reward, dialogues: Sequence[Dialogue]) -> list[float]:
    """Score ``dialogues`` and refuse what would poison training.

    Raises:
        TypeError: The scores are no array of floats.
        ValueError: They have the wrong shape, or one of them is not finite or outside the declared range.
    """
    return finite(reward, reward(dialogues), dialogues)


def finite(reward: Reward, scores: Floats, dialogues: Sequence[Dialogue]) -> list[float]:
    """Return ``scores`` of ``reward`` as numbers.

    Raises:
        TypeError: They are no array of floats.
        ValueError: They have the wrong shape, or one of them is not finite or outside the declared range.
    """
    if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f":
        kind = f"an array of {scores.dtype}" if isinstance(scores, np.ndarray) else f"a {type(scores).__name__}"
        raise TypeError(
            f"reward {reward.name!r} must return a numpy array of floats (float32), got {kind}: "
            "np.array(scores, np.float32)"
        )
    numbers: list[float] = scores.tolist()
    # A sum is finite unless a member is not (or it overflows, which is as bad).
    if scores.shape != (len(dialogues),) or not math.isfinite(sum(numbers)):
        raise ValueError(
            f"reward {reward.name!r} must return {len(dialogues)} finite scores, one per dialogue, got shape "
            f"{scores.shape}: {scores}; raise an error where a dialogue cannot be scored"
        )
    if numbers:
        least, most = min(numbers), max(numbers)
        if least < reward.low - _slack(reward.low) or most > reward.high + _slack(reward.high):
            raise _outside(reward, numbers)
    return numbers


def _slack(bound: float) -> float:
    return TOLERANCE * max(1.0, abs(bound)) if math.isfinite(bound) else 0.0


def _outside(reward: Reward, numbers: Sequence[float]) -> ValueError:
    row = max(range(len(numbers)), key=lambda i: max(reward.low - numbers[i], numbers[i] - reward.high))
    return ValueError(
        f"reward {reward.name!r} declares the range [{reward.low:g}, {reward.high:g}] and gave {numbers[row]:g} "
        f"(row {row} of {len(numbers)}); declare a wider range (low, high) or clip the score"
    )
