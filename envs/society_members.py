"""The scripted members of a society: graded from bad to good, they draft, rate, comment and revise by the norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dialog_gym.dialogue import Draws
from dialog_gym.envs.society_language import (
    DEEDS,
    TONES,
    VALUES,
    WANTS,
    WRONGS,
    Act,
    comments,
    missing,
    say,
    understand,
)
from dialog_gym.envs.society_memory import Found
from dialog_gym.envs.society_minds import Rated
from dialog_gym.envs.society_norms import Question, alignment, engagement, peer_comment, peer_rating, rating

COPY = 0.8  # how often an aspect of a remembered answer is taken over
FOLLOW = 0.8  # how often what peers miss is mended
LOW = 4.0  # mean rating below which a member tries anew where it hears no reasons


class Noise(NamedTuple):
    """Standard deviations of the ratings of peers and observers."""

    peer: float
    observer: float


def draft(question: Question, good: float, remembered: Found | None, draws: Draws) -> str:
    """Return a first answer of a member of quality ``good``, much like what it remembers of a question like it."""
    act = act_of(question, good, draws)
    if remembered is not None:
        old = understand(remembered.answer)
        if draws.uniform() < COPY:
            act = act._replace(deeds=old.deeds, wrongs=old.wrongs)
        if draws.uniform() < COPY:
            act = act._replace(values=old.values)
        if draws.uniform() < COPY:
            act = act._replace(tone=old.tone)
    return say(act, draws)


def act_of(question: Question, good: float, draws: Draws) -> Act:
    """Return what a member of quality ``good`` in [0, 1] would say by itself.

    The deed is right with probability .1 + .6 * good; else it is a wrong (mostly the tempting one) with probability
    1 - good, or any deed. Value and tone are right with probability .2 + .5 * good, else anything.
    """
    deeds: tuple[str, ...] = ()
    wrongs: tuple[str, ...] = ()
    if draws.uniform() < 0.1 + 0.6 * good:
        deeds = (question.deed,)
    elif draws.uniform() < 1 - good:
        wrongs = (question.tempting if draws.uniform() < 0.6 else draws.choice(WRONGS),)
    else:
        deeds = (draws.choice(DEEDS),)
    kept = 0.2 + 0.5 * good
    value = question.value if draws.uniform() < kept else draws.choice((*VALUES, ""))
    tone = WANTS[question.mood] if draws.uniform() < kept else draws.choice(TONES)
    return Act(deeds, wrongs, (value,) if value else (), tone, draws.uniform() < 0.15)


def revise(question: Question, good: float, first: str, heard: Sequence[Rated], draws: Draws) -> str:
    """Return the second answer of a member that drafted ``first`` and ``heard`` its peers, highest rating first.

    In each aspect it follows what most peers miss, of equals what the lowest rating goes with; advice to do wrong
    with probability 1 - ``good``. Without reasons it tries anew where the mean rating is low.
    """
    act = understand(first)._replace(filler=0, words=0, ask=False)
    missed = [c.missed for one in heard for c in comments(f"Rating 1: {one.text}") if c.missed]
    ratings = [one.rating for one in heard if one.rating is not None]
    if not any(one.text for one in heard):
        low = bool(ratings) and sum(ratings) / len(ratings) < LOW
        return say(act_of(question, good, draws) if low else act, draws)
    told = _most([m for m in missed if m in DEEDS or m in WRONGS])
    if told in WRONGS and draws.uniform() < good:
        told = ""
    if told and draws.uniform() < FOLLOW:
        act = act._replace(deeds=(told,), wrongs=()) if told in DEEDS else act._replace(deeds=(), wrongs=(told,))
    if (value := _most([m for m in missed if m in VALUES])) and draws.uniform() < FOLLOW:
        act = act._replace(values=(value,))
    if (tone := _most([m for m in missed if m in TONES])) and draws.uniform() < FOLLOW:
        act = act._replace(tone=tone)
    return say(act, draws)


def _most(missed: Sequence[str]) -> str:
    """Return the most frequent of ``missed``, of equals the last, ``""`` of none."""
    return max(reversed(missed), key=missed.count) if missed else ""


def judge(question: Question, answer: str, good: float, noise: Noise, reason: bool, draws: Draws) -> Rated:
    """Return what a peer of quality ``good`` says of a draft; without ``reason`` the rating alone."""
    act = understand(answer)
    rated = float(peer_rating(question, act, good, noise.peer, draws))
    return Rated(rated, f"{missing(peer_comment(question, act, good, draws), draws)}." if reason else "")


def observe(question: Question, answer: str, axis: str, noise: Noise, draws: Draws) -> Rated:
    """Return how an observer rates an answer on ``axis``, ``"alignment"`` or ``"engagement"``."""
    act = understand(answer)
    score = alignment(question, act) if axis == "alignment" else engagement(act)
    return Rated(float(rating(score, noise.observer, draws)))
