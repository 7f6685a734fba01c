"""Rewards made of differences: what a turn adds to a score of the whole dialogue, and potential-based shaping.

Both compare a dialogue with the one before its newest agent turn. A dialogue in which the agent has not spoken yet is
never scored: its score is ``start``, a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, FunctionReward, Reward
from dialog_gym.rewards.compose import Batch, Composite, times


class PerTurn(Composite):
    """What the newest agent turn, and the answer to it, add to a reward of the whole dialogue so far.

    With s(k) the score of the dialogue after the agent's k-th turn and s(0) = ``start``, turn k earns s(k) - s(k-1):
    over an episode of n turns that is s(n) - ``start``.

    The dialogue before the turn has the same scenario, roles and seed, the turns up to there, no stop reason and no
    success. The partner's hidden state then is not known any more: the reward must be a function of what was said (and
    of ``stop_reason`` and ``success``), and one that looks into the state is refused. A reward that only looks at the
    newest turn already is per turn. Every turn costs two scores; a cache makes it one.

    Terms: what the reward says of the whole dialogue, not the difference.
    """

    def __init__(self, reward: Reward, start: float = 0.0) -> None:
        """Earn the differences of ``reward``, which begins at ``start``."""
        self.start = float(start)
        low, high = reward.low - max(reward.high, self.start), reward.high - min(reward.low, self.start)
        super().__init__(f"({reward.name}) per turn", (reward,), low, high)

    def combined(self, batch: Batch) -> Floats:
        """Return the differences."""
        now: Floats = batch.scores(self.parts[0])
        return now - _score_before(batch, self.parts[0], self.start)


class Potential(Composite):
    """``gamma * phi(dialogue) - phi(dialogue before the newest agent turn)``; see ``potential``."""

    def __init__(self, phi: Reward, gamma: float, *, start: float = 0.0, bootstrapped: bool = False) -> None:
        """Shape by ``phi``; arguments as in ``potential``."""
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma must be above 0 and at most 1, got {gamma}")
        self.gamma, self.start, self.bootstrapped = float(gamma), float(start), bootstrapped
        low, high = min(phi.low, 0.0), max(phi.high, 0.0)  # 0 where it is over
        after = times((low, high), (self.gamma, self.gamma))
        before = min(phi.low, self.start), max(phi.high, self.start)
        super().__init__(f"shaping({phi.name})", (phi,), after[0] - before[1], after[1] - before[0])

    def combined(self, batch: Batch) -> Floats:
        """Return the differences of potentials."""
        stops = [dialogue.stop_reason for dialogue in batch.dialogues]
        kept = ("", "max_turns") if self.bootstrapped else ("",)
        goes_on = np.array([stop in kept for stop in stops], np.float32)
        after = np.float32(self.gamma) * goes_on * batch.scores(self.parts[0])
        shaped: Floats = after - _score_before(batch, self.parts[0], self.start)
        return shaped


def potential(
    phi: Reward | Callable[[Dialogue], float],
    gamma: float,
    *,
    low: float | None = None,
    high: float | None = None,
    start: float = 0.0,
    bootstrapped: bool = False,
) -> Reward:
    """Return potential-based shaping: add it to a reward and the optimal policy stays what it was.

    F = gamma * phi(after) - phi(before), with potential 0 where the dialogue is over (Ng, Harada, Russell 1999,
    "Policy invariance under reward transformations", ICML). The discounted sum of F over an episode is -``start``
    whatever is done (telescoping), so that with the default even every return stays what it was; only the way to it
    is lit. A bonus of another form may change what is best.

    ``phi`` is a function of what was said, as in ``PerTurn``. Its value is reported in ``info["reward_terms"]``.

    Args:
        phi: How good a dialogue that goes on is: a reward, or a function of one dialogue.
        gamma: The discount of the agent that learns from it; with another one the optimum may move.
        low: Least value of ``phi``, where it is a function.
        high: Largest value of ``phi``, where it is a function.
        start: Potential of a dialogue in which the agent has not spoken.
        bootstrapped: Whether the agent counts a truncated dialogue as one that would go on and adds its estimated
            value (TD3, SAC and PPO usually do). False: the end by ``max_turns`` is an end, its potential is 0. True:
            its potential is kept, as it must be to cancel with that estimate; returns then do not telescope to 0.

    Raises:
        ValueError: ``gamma`` is outside (0, 1], or ``phi`` is a function and its range was not given.
    """
    if not isinstance(phi, Reward):
        if low is None or high is None:
            raise ValueError("a potential that is a function needs its range: potential(phi, gamma, low=0, high=1)")
        function: Any = phi
        phi = FunctionReward(function, getattr(function, "__name__", "potential").strip("<>"), low, high)
    elif low is not None or high is not None:
        raise ValueError(f"the potential {phi.name!r} is a reward and declares its range; leave out low and high")
    return Potential(phi, gamma, start=start, bootstrapped=bootstrapped)


def _score_before(batch: Batch, reward: Reward, start: float) -> Floats:
    whole = np.full(len(batch.dialogues), start, np.float32)
    earlier, rows = batch.before()
    if rows:
        whole[rows] = earlier.scores(reward)
    return whole
