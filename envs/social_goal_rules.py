"""The rules of ``SocialGoal-v0``: what an utterance does to the partner's mind, and the seven scores.

``hear`` tells every outcome of an act with its probability. The partner draws one of them; the oracle's planning
(``social_goal_policies``) takes the expectation over them. So there is one copy of the rules.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

KINDS = ("warm", "reasons", "trade", "slow")
"""What moves a partner: friendliness, arguments, something in return, interest in it."""
TOPICS = ("work", "family", "health")
MANNERS = ("warm", "plain", "rude")
ACTS = ("ask", "offer", "reason", "question", "compliment", "apologise", "accept", "reveal", "leave", "none")
LIKED_MANNER = {"warm": "warm", "reasons": "plain", "trade": "plain", "slow": "warm"}

# QUALITY[kind][act]: how well an act moves such a partner; at most WRONG is held against the speaker.
QUALITY = {
    "warm": {"compliment": 1.0, "question": 0.25, "reason": 0.2, "offer": 0.1},
    "reasons": {"reason": 1.0, "offer": 0.2, "question": 0.2, "compliment": 0.1},
    "trade": {"offer": 1.0, "reason": 0.3, "question": 0.2, "compliment": 0.1},
    "slow": {"question": 1.0, "compliment": 0.2, "reason": 0.1, "offer": 0.1},
}
WRONG = 0.1
MOVES = 0.9  # probability that the right act in the right manner moves the partner
OTHER_MANNER = 0.4  # factor on it in the other civil manner
NO_TOPIC = 0.5  # factor on it where the act is about nothing in particular
TRUST = 2  # how far the whole secret moves any partner
HIGHEST_WILL = 5
CREDIT_START = 3  # believability before the first word
CREDIT = {"moved": 2, "unmoved": 0, "against": -1}  # what a new turn adds to it, by how it is taken
CREDIT_LOST = 2  # by a turn that repeats, or that nobody understands
RUDENESS = 4  # points of social rules
TELLS = (1, 3, 4)  # will from which on it tells a first, second and third thing of itself
KNOWN = (0, 2, 6, 10)  # knowledge by the number of things told
OFFER_COST = (0, 1, 3)  # benefits given away by nothing, a small offer, a big one; due at an agreement
NEW_ONCE = ("compliment", "reason", "question")
"""Acts that are new once for every topic."""


class Act(NamedTuple):
    """What is understood of an utterance.

    Attributes:
        kind: One of ``ACTS``.
        manner: One of ``MANNERS``.
        topic: One of ``TOPICS``, or ``""``.
        size: Of an offer: 1 small, 2 big; else 0.
    """

    kind: str = "none"
    manner: str = "plain"
    topic: str = ""
    size: int = 0


class Mind(NamedTuple):
    """The partner's mind and the account of the agent's conduct; it stands in ``Dialogue.state``.

    Attributes:
        kind: One of ``KINDS``.
        need: Will from which on it agrees to what it is asked.
        gain: Benefit of the agent in a full agreement.
        will: How far it has been moved, 0 to ``HIGHEST_WILL``.
        patience: Turns it will still bear; a bad turn costs more than one.
        bond: What the talk did to the relationship, -5 to 5.
        credit: Believability so far, 0 to 10.
        used: Bits of the acts and topics that are no longer new (``bit``).
        told: Number of things it told of itself.
        told_topics: Bits of what they are about.
        offer: Largest offer so far.
        refused: Its will at the last request it refused; -1 before.
        half: Whether it has proposed to do half.
        hurt: Offences it has not forgiven.
        rude: Rude turns.
        leaked: Whether the agent's secret is out.
        agreed: 0 nothing, 1 half, 2 all.
    """

    kind: str
    need: int
    gain: int
    will: int
    patience: int
    bond: int = 0
    credit: int = CREDIT_START
    used: int = 0
    told: int = 0
    told_topics: int = 0
    offer: int = 0
    refused: int = -1
    half: bool = False
    hurt: int = 0
    rude: int = 0
    leaked: bool = False
    agreed: int = 0


class Heard(NamedTuple):
    """One outcome of an act.

    Attributes:
        chance: Its probability.
        mind: The mind afterwards.
        reaction: How the partner takes it.
        stop: ``"agreed"``, ``"left"`` or ``""``.
    """

    chance: float
    mind: Mind
    reaction: str
    stop: str = ""


def bit(act: str, topic: str) -> int:
    """Return the bit in ``Mind.used`` of an act on a topic (``""`` is a topic of its own)."""
    return 1 << (4 * NEW_ONCE.index(act) + (TOPICS.index(topic) if topic else 3))


def fresh_topics(mind: Mind, act: str) -> list[str]:
    """Return the topics on which ``act`` would be new."""
    return [topic for topic in TOPICS if not mind.used & bit(act, topic)]


def quality(kind: str, act: Act) -> float:
    """Return the probability that ``act``, said for the first time, moves a partner of ``kind``."""
    if act.manner == "rude" or act.kind not in QUALITY[kind]:
        return 0.0
    manner = 1.0 if act.manner == LIKED_MANNER[kind] else OTHER_MANNER
    return MOVES * QUALITY[kind][act.kind] * manner * (1.0 if act.topic or act.size else NO_TOPIC)


@lru_cache(maxsize=1 << 16)
def hear(mind: Mind, act: Act) -> tuple[Heard, ...]:
    """Return every outcome of ``act``; the chances add up to 1."""
    mind = mind._replace(patience=mind.patience - 1)
    if act.kind == "leave":
        return (Heard(1.0, _insulted(mind) if act.manner == "rude" else mind, "left", "left"),)
    if act.manner == "rude":
        hurt = _insulted(mind)._replace(leaked=mind.leaked or act.kind == "reveal")
        return (_over(Heard(1.0, hurt, "rude")),)
    if act.kind in QUALITY[mind.kind]:
        return tuple(_over(heard) for heard in _approached(mind, act))
    return (_over(_SIMPLE[act.kind](mind)),)


def told(mind: Mind, topic: str) -> Mind:
    """Return the mind after the partner has told something of itself on ``topic``."""
    return mind._replace(told=min(mind.told + 1, 3), told_topics=mind.told_topics | 1 << TOPICS.index(topic))


def scores(mind: Mind) -> tuple[float, ...]:
    """Return the seven scores of the agent in Sotopia's order."""
    spent = OFFER_COST[mind.offer] if mind.agreed else 0
    return (
        float(mind.credit),
        float(mind.bond),
        float(KNOWN[mind.told]),
        -10.0 if mind.leaked else 0.0,
        float(max(-RUDENESS * mind.rude, -10)),
        min(max(mind.gain * mind.agreed / 2 - spent, -5.0), 5.0),
        5.0 * mind.agreed,
    )


def _approached(mind: Mind, act: Act) -> list[Heard]:
    """Return the outcomes of a compliment, reason, question or offer."""
    if act.kind == "offer":
        if act.size <= mind.offer:
            return [_repeated(mind)]
        mind = mind._replace(offer=act.size)
    else:
        mark = bit(act.kind, act.topic)
        if mind.used & mark:
            return [_repeated(mind)]
        mind = mind._replace(used=mind.used | mark)
    chance = quality(mind.kind, act)
    moved = _credited(mind, "moved")
    will = min(mind.will + max(act.size, 1), HIGHEST_WILL)
    moved = moved._replace(will=will, bond=mind.bond + (will > mind.will))  # so bond <= will <= 5
    stuck, reaction = _credited(mind, "unmoved"), "unmoved"
    if QUALITY[mind.kind][act.kind] <= WRONG:
        stuck, reaction = _credited(_annoyed(mind), "against"), "against"
    outcomes = [Heard(chance, moved, "moved"), Heard(1 - chance, stuck, reaction)]
    if act.kind == "question" and act.topic:
        outcomes = [_answered(heard, act.topic) for heard in outcomes]
    return outcomes


def _answered(heard: Heard, topic: str) -> Heard:
    """Let the partner answer a question, if it trusts the agent enough."""
    mind = heard.mind
    if heard.reaction == "against" or mind.told >= 3 or mind.will < TELLS[mind.told]:
        return heard._replace(reaction=_EVASIVE[heard.reaction])
    mind = told(mind, topic)
    reaction = "told_moved" if heard.reaction == "moved" else "told"
    return Heard(heard.chance, mind, reaction)


_EVASIVE = {"against": "against", "unmoved": "evasive", "moved": "evasive_moved"}


def _asked(mind: Mind) -> Heard:
    if mind.will >= mind.need:
        return Heard(1.0, mind._replace(agreed=2), "agreed", "agreed")
    if mind.will <= mind.refused:
        return _repeated(mind)
    refused = mind._replace(refused=mind.will)
    if mind.need - mind.will == 1:
        return Heard(1.0, _credited(refused, "moved")._replace(half=True), "half")
    return Heard(1.0, _annoyed(refused), "early")


def _accepted(mind: Mind) -> Heard:
    if mind.half:
        return Heard(1.0, mind._replace(agreed=1), "agreed_half", "agreed")
    return Heard(1.0, mind._replace(patience=mind.patience - 1), "idle")


def _apologised(mind: Mind) -> Heard:
    if not mind.hurt:
        return Heard(1.0, mind._replace(patience=mind.patience - 1), "idle")
    return Heard(1.0, mind._replace(hurt=mind.hurt - 1, bond=min(mind.bond + 1, 5)), "forgiven")


def _revealed(mind: Mind) -> Heard:
    if mind.leaked:
        return _repeated(mind)
    moved = _credited(mind, "moved")
    return Heard(1.0, moved._replace(leaked=True, will=min(mind.will + TRUST, HIGHEST_WILL)), "trust")


def _unclear(mind: Mind) -> Heard:
    return Heard(1.0, mind._replace(credit=max(mind.credit - CREDIT_LOST, 0)), "unclear")


_SIMPLE = {"ask": _asked, "accept": _accepted, "apologise": _apologised, "reveal": _revealed, "none": _unclear}


def _repeated(mind: Mind) -> Heard:
    credit = max(mind.credit - CREDIT_LOST, 0)
    return Heard(1.0, mind._replace(credit=credit, patience=mind.patience - 1), "repeat")


def _credited(mind: Mind, taken: str) -> Mind:
    return mind._replace(credit=min(max(mind.credit + CREDIT[taken], 0), 10))


def _annoyed(mind: Mind) -> Mind:
    return mind._replace(patience=mind.patience - 1, bond=max(mind.bond - 1, -5))


def _insulted(mind: Mind) -> Mind:
    return mind._replace(
        patience=mind.patience - 1,
        bond=max(mind.bond - 2, -5),
        will=max(mind.will - 1, 0),
        hurt=min(mind.hurt + 1, 2),
        rude=mind.rude + 1,
    )


def _over(heard: Heard) -> Heard:
    """Let the partner leave when its patience is used up."""
    return heard._replace(stop="left") if not heard.stop and heard.mind.patience <= 0 else heard
