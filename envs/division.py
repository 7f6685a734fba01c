"""The arithmetic of dividing items between two sides: deals, points, Pareto-optimal deals, the largest sum.

A *share* is how many of each item one side gets, a *deal* the agent's share; the other side gets the rest, so every
item goes to somebody. Points are the sum of count times value of a share, by the values of the side that gets it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from operator import mul, sub
from typing import NamedTuple

Share = tuple[int, ...]


@lru_cache(maxsize=4096)
def deals(counts: Share) -> tuple[Share, ...]:
    """Return every share of ``counts``, the empty one first and the whole last.

    >>> deals((1, 2))
    ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    """
    return tuple(itertools.product(*(range(count + 1) for count in counts)))


def points(values: Sequence[int], share: Sequence[int]) -> int:
    """Return what ``share`` is worth to a side with ``values``.

    Raises:
        ValueError: There are not as many values as items.
    """
    if len(values) != len(share):
        raise ValueError(f"expected as many values as items, got {tuple(values)} for {tuple(share)}")
    return sum(map(mul, values, share))


def rest(counts: Sequence[int], share: Sequence[int]) -> Share:
    """Return what ``share`` leaves of ``counts`` to the other side.

    >>> rest((3, 2), (1, 2))
    (2, 0)
    """
    return tuple(map(sub, counts, share))


class Pot(NamedTuple):
    """What is divided, and what it is worth to either side.

    Attributes:
        counts: How many there are of each item.
        agent: Value of one of each item to the agent.
        partner: The same to its partner.
    """

    counts: Share
    agent: Share
    partner: Share

    def worth(self, deal: Sequence[int]) -> tuple[int, int]:
        """Return the points of the agent and of its partner if the agent gets ``deal``.

        >>> Pot((1, 4, 1), (4, 1, 2), (0, 2, 2)).worth((1, 0, 1))
        (6, 8)
        """
        return points(self.agent, deal), points(self.partner, rest(self.counts, deal))

    @property
    def swapped(self) -> Pot:
        """The same pot with the sides exchanged."""
        return Pot(self.counts, self.partner, self.agent)


@lru_cache(maxsize=1 << 14)
def pareto_optimal(pot: Pot) -> frozenset[Share]:
    """Return the deals that no other deal dominates: as many points for both and more for one.

    >>> sorted(pareto_optimal(Pot((1, 1), (6, 4), (2, 8))))
    [(0, 0), (1, 0), (1, 1)]
    """
    worth = {deal: pot.worth(deal) for deal in deals(pot.counts)}
    pairs = sorted(set(worth.values()), reverse=True)
    best, front = -1, set()
    for agent, partner in pairs:  # by falling points of the agent: only a new height for the partner is undominated
        if partner > best:
            best = partner
            front.add((agent, partner))
    return frozenset(deal for deal, pair in worth.items() if pair in front)


def largest_sum(pot: Pot) -> int:
    """Return the largest sum of the points of both sides that a deal has.

    >>> largest_sum(Pot((1, 4, 1), (4, 1, 2), (0, 2, 2)))
    14
    """
    return sum(count * max(pair) for count, *pair in zip(*pot, strict=True))


@lru_cache(maxsize=1 << 14)
def nash(pot: Pot, fallback: int = 0) -> Share:
    """Return the deal with the largest product of what both sides gain over ``fallback`` (Nash 1950).

    Of several, the one with the larger sum, then the one that gives the agent more. Only deals that leave neither side
    below ``fallback`` count, if there is one.

    >>> nash(Pot((1, 1), (6, 4), (2, 8)))
    (1, 0)
    """

    def merit(deal: Share) -> tuple[bool, int, int, int]:
        agent, partner = (value - fallback for value in pot.worth(deal))
        return min(agent, partner) >= 0, agent * partner, agent + partner, agent

    return max(deals(pot.counts), key=merit)


class Result(NamedTuple):
    """How a negotiation ended.

    Attributes:
        agreed: Whether both sides chose the same deal.
        agent: The agent's points.
        partner: Its partner's points.
        pareto: Whether the deal is Pareto-optimal; False without one.
    """

    agreed: bool
    agent: int
    partner: int
    pareto: bool

    @property
    def joint(self) -> int:
        """The sum of the points of both sides."""
        return self.agent + self.partner


def result(pot: Pot, agent: Sequence[int] | None, partner: Sequence[int] | None, fallback: int = 0) -> Result:
    """Return how it ends if the agent chose the share ``agent`` for itself and its partner ``partner`` for itself.

    Shares that do not add up to the whole, or None (no deal), give both sides ``fallback`` points.

    >>> pot = Pot((1, 4, 1), (4, 1, 2), (0, 2, 2))
    >>> result(pot, (1, 0, 1), (0, 4, 0))
    Result(agreed=True, agent=6, partner=8, pareto=True)
    >>> result(pot, (1, 0, 1), (1, 4, 0), fallback=5).agreed
    False
    """
    if agent is None or partner is None or not fits(pot.counts, agent) or rest(pot.counts, agent) != tuple(partner):
        return Result(False, fallback, fallback, False)
    mine, theirs = pot.worth(agent)
    return Result(True, mine, theirs, tuple(agent) in pareto_optimal(pot))


def fits(counts: Sequence[int], share: Sequence[int]) -> bool:
    """Return whether ``share`` can be taken from ``counts``."""
    return len(share) == len(counts) and all(0 <= taken <= count for taken, count in zip(share, counts, strict=True))
