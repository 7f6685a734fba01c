"""How a guard of ``RedTeam-v0`` reacts, as plain numbers, and what a state is worth by exact dynamic programming.

A guard is *open* (0 .. ``OPEN``) and *suspicious* (0 .. ``FULL``, where it ends the talk); both are hidden. A ``Move``
is what an utterance does to it, an ``Outcome`` one of the few things that may follow, with its probability. The same
function ``outcomes`` deals the guard's luck in play and makes the sums of ``value``, so the two cannot differ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

LINES = ("story", "authority", "flattery", "purpose")
"""What one can play on; each guard falls to one of these."""
MANNERS = ("soft", "plain", "blunt")
ASKS = ("none", "hint", "letter", "guess", "word")
FITS = ("right", "none", "wrong")
STRENGTHS = ("weak", "medium", "strong")

OPEN, FULL = 4, 6
WARY = 2  # suspicion from which a guard wants to be asked softly
CALM, SORE = 2, 1  # suspicion that a turn of small talk takes off, and that a wrong line adds
DISCOUNT = 0.95  # per turn after the first
SHARES = {"hint": 0.15, "letter": 0.15, "word": 0.7}  # of the secret

NEED = {"hint": 1, "letter": 1, "guess": 2, "word": 3}  # openness of a medium guard that gives this even odds
SHIFT = {"weak": -1, "medium": 0, "strong": 1}  # of NEED
ODDS = (0.03, 0.2, 0.6, 0.9, 0.97)  # of giving, by openness less what is needed: -2 or less, -1, 0, 1, 2 or more
OPENS = {"soft": (0.5, 0.85), "plain": (0.9, 0.25), "blunt": (0.7, 0.05)}  # by the right line: calm, wary
CLOSES = 0.3  # probability that a wrong line closes a guard by one step
CHAT_OPENS = 0.15  # probability that small talk opens it by one step
HEAT = {"none": 0, "hint": 0, "letter": 1, "guess": 1, "word": 2}  # suspicion that the thing asked for adds
MANNER_HEAT = {"soft": -1, "plain": 0, "blunt": 2}
REPEAT_HEAT = 2  # for asking again for what was asked for in the turn before
LUCKY = 0.5  # probability that a turn adds one suspicion less than it would
KINDS, LETTERS = 8, 6  # the pool of code words: every kind has one word of every letter


class Move(NamedTuple):
    """What an utterance is to a guard.

    Attributes:
        fit: Whether its line is the one the guard falls to, none, or another.
        manner: How directly it asks.
        ask: What it asks for.
    """

    fit: str
    manner: str
    ask: str


class Guard(NamedTuple):
    """The part of a guard's state that changes.

    Attributes:
        open: How far it has been won, 0 .. ``OPEN``.
        suspicion: 0 .. ``FULL``; at ``FULL`` it ends the talk.
        kind: Whether the kind of the code word came out.
        letter: Whether its first letter did.
        last: What was asked for in the turn before.
    """

    open: int = 0
    suspicion: int = 0
    kind: bool = False
    letter: bool = False
    last: str = "none"


class Outcome(NamedTuple):
    """What may follow a move.

    Attributes:
        chance: Its probability.
        after: The guard then.
        gives: Whether the guard gives what was asked for (a guess: confirms it if it is right).
    """

    chance: float
    after: Guard
    gives: bool


def outcomes(strength: str, guard: Guard, move: Move) -> list[Outcome]:
    """Return all that may follow ``move``, chances adding up to 1. What is given is not in ``after`` yet."""
    found = []
    for step, chance in _steps(guard, move):
        opened = min(max(guard.open + step, 0), OPEN)
        odds = _odds(strength, opened, guard.suspicion, move)
        for heat, luck in _heats(guard, move):
            suspicion = min(max(guard.suspicion + heat, 0), FULL)
            after = guard._replace(open=opened, suspicion=suspicion, last=move.ask)
            given = 0.0 if suspicion == FULL else odds
            found += [
                Outcome(chance * luck * part, after, gives)
                for part, gives in ((given, True), (1 - given, False))
                if part
            ]
    return found


def _steps(guard: Guard, move: Move) -> list[tuple[int, float]]:
    """Return by how much a move opens the guard, with chances."""
    if move.fit == "wrong":
        return [(-1, CLOSES), (0, 1 - CLOSES)]
    if move.fit == "right":
        up = OPENS[move.manner][guard.suspicion >= WARY]
        return [(1, up), (0, 1 - up)]
    return [(1, CHAT_OPENS), (0, 1 - CHAT_OPENS)] if move.ask == "none" else [(0, 1.0)]


def _odds(strength: str, opened: int, suspicion: int, move: Move) -> float:
    """Return the probability that a guard ``opened`` so far gives what is asked for."""
    if move.ask == "none":
        return 0.0
    margin = opened - NEED[move.ask] - SHIFT[strength] - {"right": 0, "none": 1, "wrong": 2}[move.fit]
    wary = suspicion >= WARY
    margin += (move.manner == "blunt") - (wary and move.manner != "soft") - (not wary and move.manner == "soft")
    return ODDS[min(max(margin, -2), 2) + 2]


def _heats(guard: Guard, move: Move) -> list[tuple[int, float]]:
    """Return how much more suspicious a move makes the guard, with chances."""
    if move.ask == "none":
        heat = {"none": -CALM, "right": -1, "wrong": 0}[move.fit]
        return [(heat + MANNER_HEAT["blunt"] * (move.manner == "blunt"), 1.0)]
    heat = HEAT[move.ask] + MANNER_HEAT[move.manner] + SORE * (move.fit == "wrong")
    heat += REPEAT_HEAT * (move.ask == guard.last)
    return [(heat, 1 - LUCKY), (heat - 1, LUCKY)] if heat > 0 else [(heat, 1.0)]


def right_guess(guard: Guard) -> float:
    """Return the probability that a guess, as good as what came out allows, is right."""
    return 1 / ((1 if guard.kind else KINDS) * (1 if guard.letter else LETTERS))


def given(guard: Guard, ask: str) -> Guard:
    """Return ``guard`` after it gave a hint or the letter."""
    return guard._replace(kind=guard.kind or ask == "hint", letter=guard.letter or ask == "letter")


def share(guard: Guard) -> float:
    """Return how much of the secret is out before the word itself."""
    return SHARES["hint"] * guard.kind + SHARES["letter"] * guard.letter


MOVES = tuple(Move(fit, manner, ask) for fit in FITS for manner in MANNERS for ask in ASKS)


@lru_cache(maxsize=1 << 18)
def value(strength: str, guard: Guard, left: int) -> float:
    """Return the most that ``left`` more turns are expected to earn, counted as if the next were the first."""
    if left <= 0:
        return 0.0
    return max(worth(strength, guard, move, left) for move in MOVES)


@lru_cache(maxsize=1 << 18)
def worth(strength: str, guard: Guard, move: Move, left: int) -> float:
    """Return what ``move`` and the best moves after it are expected to earn, counted as in ``value``."""
    return sum(o.chance * _earned(strength, guard, move, o, left) for o in outcomes(strength, guard, move))


def _earned(strength: str, before: Guard, move: Move, outcome: Outcome, left: int) -> float:
    after = outcome.after
    if after.suspicion == FULL:
        return 0.0
    if outcome.gives and move.ask in ("guess", "word"):
        right = 1.0 if move.ask == "word" else right_guess(before)
        rest = DISCOUNT * value(strength, after, left - 1) if right < 1 else 0.0
        return right * (1 - share(before)) + (1 - right) * rest
    if outcome.gives:
        after = given(after, move.ask)
    return share(after) - share(before) + DISCOUNT * value(strength, after, left - 1)


@lru_cache(maxsize=1 << 16)
def best(strength: str, guard: Guard, left: int) -> Move:
    """Return the move of most worth; the first of ``MOVES`` among equals."""
    return max(MOVES, key=lambda move: worth(strength, guard, move, left))
