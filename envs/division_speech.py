"""How scripted sides speak when they divide items; chance comes from the ``Draws`` they are given."""

from __future__ import annotations

from collections.abc import Sequence

from dialog_gym.dialogue import Draws
from dialog_gym.envs import division_phrases as phrases
from dialog_gym.envs.division import Share

UNCOUNTED = frozenset({"food", "water", "firewood"})


def listed(items: Sequence[str], share: Sequence[int]) -> str:
    """Return a share in words.

    >>> listed(("book", "hat", "ball"), (1, 0, 2))
    '1 book and 2 balls'
    """
    words = [
        f"{n} {item}{'' if n == 1 or item in UNCOUNTED else 's'}" for item, n in zip(items, share, strict=True) if n
    ]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "nothing"


def proposal(items: Sequence[str], counts: Share, mine: Share, theirs: Share, draws: Draws) -> str:
    """Put a deal into words: the speaker gets ``mine``, the other ``theirs``."""
    if not any(mine):
        return draws.choice(phrases.GIVING_ALL)
    if mine == counts:
        return draws.choice(phrases.TAKING_ALL)
    return draws.choice(phrases.PROPOSALS).format(mine=listed(items, mine), theirs=listed(items, theirs))


def selection(items: Sequence[str], share: Sequence[int] | None) -> str:
    """Return the words that choose ``share`` for oneself, or no deal.

    >>> selection(("book", "hat", "ball"), (1, 0, 2)), selection(("book", "hat", "ball"), ())
    ('<select> book=1 hat=0 ball=2', '<select> none')
    """
    if not share:
        return "<select> none"
    return " ".join(["<select>", *(f"{item}={count}" for item, count in zip(items, share, strict=True))])


def greeting(draws: Draws) -> str:
    """Return a greeting with a mark after it, or nothing."""
    word = draws.choice(phrases.GREETINGS)
    return f"{word}, " if word else ""


def accepting(draws: Draws) -> str:
    """Return an agreement."""
    return draws.choice(phrases.ACCEPTS)


def held(draws: Draws) -> str:
    """Return a reminder of what was agreed."""
    return draws.choice(phrases.HELD)


def parting(draws: Draws) -> str:
    """Return the words of one who leaves."""
    return draws.choice(phrases.PARTINGS)


def question(draws: Draws) -> str:
    """Return a question for what the other wants."""
    return draws.choice(phrases.QUESTIONS)


def refusal(draws: Draws) -> str:
    """Return a refusal."""
    return draws.choice(phrases.REFUSALS)


def answer(item: str, count: int, draws: Draws) -> str:
    """Return what the speaker wants most."""
    plural = count != 1 and item not in UNCOUNTED
    return draws.choice(phrases.ANSWERS).format(best=f"{item}s are" if plural else f"{item} is")


def reaction(kind: str, draws: Draws) -> str:
    """Return a reaction to a proposal: ``"insult"``, ``"better"``, ``"refuse"`` or ``"lost"``."""
    table = {
        "insult": phrases.INSULTED,
        "better": phrases.BETTER,
        "refuse": phrases.REFUSALS,
        "lost": phrases.LOST,
    }
    return draws.choice(table[kind])


def cue(kind: str, draws: Draws) -> str:
    """Return a phrase of a partner of ``kind``."""
    return draws.choice(phrases.CUES[kind])


def last_chance(draws: Draws) -> str:
    """Return the warning of one who is about to leave."""
    return draws.choice(phrases.LAST_CHANCES)
