"""The scripted partner of a division: what it demands, what moves it, what it offers, and the best play against it.

The partner demands a share of the points that everything is worth to it. The demand has ``STEPS`` levels above its
hidden floor and falls by whole levels, by chance. Its kind tells what lets it fall:

- *steady*: time. Any proposal, a little more when it is better for the partner than those before.
- *mirror*: concessions. Only a proposal that is better for the partner than all before.

A proposal that is worth the demand (also after it fell) is accepted. Each turn costs one of its patience, one that
leaves it next to nothing two; when the patience is out it walks away. So what may be won is a small Markov decision
process: level, patience and the best proposal so far; ``Prospect`` solves it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from operator import itemgetter, mul
from typing import Any, NamedTuple

from dialog_gym.dialogue import Draws, Json
from dialog_gym.envs.division import Pot, Share, deals

KINDS = ("steady", "mirror")
STEPS = 6  # levels of the demand above the floor
INSULT = 0.2  # a proposal that leaves the partner less than this share of all points costs double patience
MOVES = {  # chance that the demand falls by one level, by two
    "steady": {"better": (0.5, 0.35), "again": (0.45, 0.1), "none": (0.2, 0.0)},
    "mirror": {"better": (0.45, 0.5), "again": (0.05, 0.0), "none": (0.05, 0.0)},
}


class Temper(NamedTuple):
    """What partners of an environment may be like.

    Attributes:
        starts: First demands, in shares of all points.
        floors: Last demands.
        patience: Turns.
    """

    starts: tuple[float, ...]
    floors: tuple[float, ...]
    patience: tuple[int, ...] = (5, 6, 7, 8)


class Mind(NamedTuple):
    """What the partner has in mind; worths are shares of all points to it.

    Attributes:
        kind: One of ``KINDS``.
        floor: Its last demand.
        start: Its first.
        level: Levels that the demand stands above the floor.
        patience: Turns it still has.
        best: The best worth of a proposal of the agent so far, 0 before the first.
        last: The agent's latest proposal (its share), None before.
        offer: The partner's standing offer (the agent's share), None if there is none.
        agreed: The deal both agreed on (the agent's share), None if there is none.
        wants: How often the agent asked for each item.
    """

    kind: str
    floor: float
    start: float
    level: int
    patience: int
    best: float
    last: Share | None
    offer: Share | None
    agreed: Share | None
    wants: Share

    @property
    def demand(self) -> float:
        """The share of all points that it demands now."""
        return self.floor + (self.start - self.floor) * self.level / STEPS


def drawn(temper: Temper, draws: Draws) -> dict[str, Json]:
    """Return a partner's hidden parameters."""
    return {
        "kind": draws.choice(KINDS),
        "floor": draws.choice(temper.floors),
        "start": draws.choice(temper.starts),
        "patience": draws.choice(temper.patience),
    }


def first_mind(hidden: Mapping[str, Any]) -> Mind:
    """Return the partner's mind before the first word."""
    wants = (0,) * len(hidden["counts"])
    return Mind(
        hidden["kind"], hidden["floor"], hidden["start"], STEPS, hidden["patience"], 0.0, None, None, None, wants
    )


def mind_of(state: Mapping[str, Any]) -> Mind:
    """Return the mind that is written in ``state``."""
    fields = {name: state[name] for name in Mind._fields}
    for name in ("last", "offer", "agreed", "wants"):
        if fields[name] is not None:
            fields[name] = tuple(fields[name])
    return Mind(**fields)


def written(mind: Mind) -> dict[str, Json]:
    """Return ``mind`` as JSON by name."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in zip(mind._fields, mind, strict=True)
    }


class Table(NamedTuple):
    """The deals of a pot by their worth to the partner.

    Attributes:
        worth: Share of all points that a deal leaves the partner, by the agent's share.
        falling: Every deal and its worth, the highest first.
    """

    worth: Mapping[Share, float]
    falling: tuple[tuple[Share, float], ...]


@lru_cache(maxsize=1 << 13)
def table(pot: Pot) -> Table:
    """Return the deals of ``pot`` as its partner sees them."""
    left = [[value * (count - taken) for taken in range(count + 1)] for count, _, value in zip(*pot, strict=True)]
    whole = sum(most for most, *_ in left)
    worth = {deal: sum(parts) / whole for deal, parts in zip(deals(pot.counts), product(*left), strict=True)}
    return Table(worth, tuple(sorted(worth.items(), key=itemgetter(1), reverse=True)))


def reaction(mind: Mind, share: Share | None, worth: float) -> str:
    """Return what a proposal of ``worth`` is to the partner: better than all before, no better ("again"), or none."""
    if share is None:
        return "none"
    return "better" if worth > mind.best + 1e-9 else "again"


def hear(mind: Mind, pot: Pot, share: Share | None, chance: float) -> Mind:
    """Return the mind after a proposal (the agent's share) or None; ``agreed`` is set if it is accepted.

    Args:
        mind: The mind before.
        pot: What is divided.
        share: What the agent proposed for itself, None if nothing.
        chance: A uniform number in [0, 1) that decides how far the demand falls.
    """
    worth = 0.0 if share is None else table(pot).worth[share]
    if mind.agreed is not None:
        better = share is not None and worth > table(pot).worth[mind.agreed]
        return mind._replace(agreed=share if better else mind.agreed)
    if share is not None and worth >= mind.demand - 1e-9:
        return mind._replace(agreed=share, last=share, best=max(worth, mind.best), wants=_noted(mind, share))
    one, two = MOVES[mind.kind][reaction(mind, share, worth)]
    level = max(mind.level - (2 if chance < two else 1 if chance < one + two else 0), 0)
    patience = mind.patience - (2 if share is not None and worth < INSULT else 1)
    after = mind._replace(level=level, patience=patience)
    if share is None:
        return after
    after = after._replace(last=share, best=max(worth, mind.best), wants=_noted(mind, share))
    return after._replace(agreed=share) if worth >= after.demand - 1e-9 else after


def _noted(mind: Mind, share: Share) -> Share:
    return tuple(count + (taken > 0) for count, taken in zip(mind.wants, share, strict=True))


def counter(mind: Mind, pot: Pot, draws: Draws) -> Share:
    """Return the deal that the partner offers: worth its demand, and of these the kindest to what the agent asked for.

    Before the agent asked for anything, it offers what it can do without.
    """
    weights = [1 + 2 * wanted for wanted in mind.wants]
    best: tuple[Share, ...] = ()
    most = -1
    for deal, worth in table(pot).falling:
        if worth < mind.demand - 1e-9:
            break
        kindness = sum(map(mul, weights, deal))
        if kindness > most:
            best, most = (deal,), kindness
        elif kindness == most:
            best = (*best, deal)
    return best[0] if len(best) == 1 else draws.choice(best)


# --- the best play -----------------------------------------------------------------------------


class Prospect:
    """The best play against a partner whose kind, floor and start are known, solved exactly.

    The agent may propose any deal that is no insult; one that is not accepted counts only by its worth to the partner.
    The value is in points of the agent; who is left by the partner has ``fallback``.
    """

    def __init__(self, pot: Pot, kind: str, floor: float, start: float, fallback: int) -> None:
        """Prepare the game; states are solved when they are asked for."""
        self.pot, self.kind, self.floor, self.start, self.fallback = pot, kind, floor, start, fallback
        best: dict[float, tuple[Share, float, int]] = {}
        for deal, worth in table(
            pot
        ).falling:  # of deals with one worth the agent's best; what is accepted at once as one
            key, mine = min(worth, start), pot.worth(deal)[0]
            if worth >= INSULT and (key not in best or mine > best[key][2]):
                best[key] = (deal, worth, mine)
        self.choices = tuple(best.values())
        self._solved: dict[tuple[int, int, float], tuple[float, Share]] = {}

    def demand(self, level: int) -> float:
        """Return the demand at ``level``."""
        return self.floor + (self.start - self.floor) * level / STEPS

    def best(self, level: int, patience: int, heard: float) -> tuple[float, Share]:
        """Return the expected points and the best proposal where the best one so far was worth ``heard``."""
        key = level, patience, heard
        if key not in self._solved:
            self._solved[key] = max(
                ((self._worth(choice, *key), choice[0]) for choice in self.choices), key=lambda pair: pair[0]
            )
        return self._solved[key]

    def _worth(self, choice: tuple[Share, float, int], level: int, patience: int, heard: float) -> float:
        _, worth, points = choice
        if worth >= self.demand(level) - 1e-9:
            return float(points)
        if points <= self.fallback:
            return float(self.fallback)
        one, two = MOVES[self.kind]["better" if worth > heard + 1e-9 else "again"]
        value = 0.0
        for fall, chance in ((2, two), (1, one), (0, 1 - one - two)):
            if chance > 0:
                value += chance * self._after(choice, max(level - fall, 0), patience - 1, max(worth, heard))
        return value

    def _after(self, choice: tuple[Share, float, int], level: int, patience: int, heard: float) -> float:
        if choice[1] >= self.demand(level) - 1e-9:
            return float(choice[2])
        return float(self.fallback) if patience <= 0 else self.best(level, patience, heard)[0]


@lru_cache(maxsize=1 << 12)
def prospect(pot: Pot, kind: str, floor: float, start: float, fallback: int) -> Prospect:
    """Return the solved game, kept for the next question about it."""
    return Prospect(pot, kind, floor, start, fallback)
