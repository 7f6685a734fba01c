"""What the oracle of ``Bargain-v0`` asks for, and what a dialogue is worth while it speaks.

Both are arithmetic on the partner's hidden state; the words are made elsewhere. Demands, gains and willingness are
percent of the list price that a price leaves the agent.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from dialog_gym.dialogue import Dialogue
from dialog_gym.envs.bargain import ABSURD, DISCOUNT, GAIN, QUALITY, REACH, Bargain, pressure
from dialog_gym.envs.bargain_language import REASONS, STEP

UNLUCKY = 0.75  # of the mean gain: reached in more than 9 turns of 10
LUCK = (0.7, 1.3)  # range of the partner's luck, uniform
TRAIL = 0.25  # zones that the price asked trails the willingness by, on average
NODES = 4  # points at which the luck of a rejected offer is tried
GRID = 0.5  # willingness is rounded to this in what is remembered


class Standing(NamedTuple):
    """What the oracle's next act depends on.

    Attributes:
        zone: Between the two limits.
        willing: The best for the agent that the partner would agree to.
        offer: What the agent's last price asked for, None if it named none.
        asked: What the partner's price leaves the agent; negative beyond the agent's limit.
        left: Turns the agent still has, at least 1.
    """

    zone: int
    willing: float
    offer: int | None
    asked: int
    left: int


def standing(task: Bargain, dialogue: Dialogue) -> Standing:
    """Return where the game of ``dialogue`` stands."""
    hidden, state = dialogue.scenario.hidden, dialogue.state
    left = min(state["patience"], hidden["deadline"] - dialogue.turn, task.max_turns - dialogue.turn)
    zone = abs(hidden["agent_limit"] - hidden["partner_limit"])
    return Standing(zone, state["willing"], state["offer"], task.gain(hidden, state["ask"]), max(left, 1))


def demand(now: Standing) -> float | None:
    """Return what the oracle asks for, None where it agrees to the partner's price."""
    wait, reachable = _best_wait(now.willing, now.zone, now.offer, now.left)
    if wait == 0:
        return None if now.asked >= reachable else reachable
    high = ABSURD * now.zone if now.offer is None else now.offer - STEP
    return min(high, now.zone)


def _best_wait(willing: float, zone: int, last: int | None, left: int) -> tuple[int, int]:
    """Return after how many more turns to close, and the demand that would close now."""
    best, wait, now = -1.0, 0, 0
    for turns in range(left):
        reached = min(willing + UNLUCKY * GAIN * (REACH * zone - willing), zone)
        asks = int(max(reached, 0) // STEP) * STEP
        if last is not None and last - STEP * (turns + 1) < asks:
            asks = max(min(asks, last - STEP * (turns + 1)), 0)
        if turns == 0:
            now = asks
        if asks * DISCOUNT**turns > best + 1e-9:
            best, wait = asks * DISCOUNT**turns, turns
        willing = min(willing + GAIN * (REACH * zone - willing), zone)
    return wait, now


def value(task: Bargain, dialogue: Dialogue) -> float:
    """Return the expected reward still to come while the oracle speaks.

    A recursion over its turns: the chance of a deal is exact, the luck of a rejected offer is tried at ``NODES``
    points. Left out: that the type may change (the oracle sees it, and goes on as well), and the spread of the price
    asked around its mean.
    """
    if dialogue.stop_reason:
        return 0.0
    fresh = len(REASONS)
    if dialogue.state["type"] == "analyst":  # the only type that wants a new reason each time
        fresh -= len(dialogue.state["heard"])
    return DISCOUNT**dialogue.turn * _worth(standing(task, dialogue), fresh)


def _worth(now: Standing, fresh: int) -> float:
    """Return the expected share of the zone, discounted to the present turn."""
    asks = demand(now)
    if asks is None:
        return min(max(now.asked / now.zone, 0.0), 1.0)
    asks = int(asks // STEP) * STEP
    weight = pressure(asks, now.offer, now.willing, now.zone)
    quality = 1.0 if fresh > 0 else QUALITY["analyst"]["neutral"][2]
    pull = weight.weight * quality * GAIN * (REACH * now.zone - now.willing)
    rejected = min(max((asks - now.willing) / pull, LUCK[0]), LUCK[1])  # luck below which the demand is too much
    refusal = (rejected - LUCK[0]) / (LUCK[1] - LUCK[0])
    worth = (1 - refusal) * min(max(asks / now.zone, 0.0), 1.0)
    left = now.left - 1 - weight.patience
    if refusal == 0 or left <= 0:
        return worth
    later = 0.0
    for node in range(NODES):
        luck = LUCK[0] + (rejected - LUCK[0]) * (node + 0.5) / NODES
        willing = min(now.willing + pull * luck, now.zone)
        asked = max(now.asked, int((willing - TRAIL * now.zone) // STEP) * STEP)
        later += _remembered(now.zone, round(willing / GRID), asks, asked, left, fresh - 1) / NODES
    return worth + refusal * DISCOUNT * later


@lru_cache(maxsize=1 << 16)
def _remembered(zone: int, cell: int, offer: int, asked: int, left: int, fresh: int) -> float:
    return _worth(Standing(zone, min(cell * GRID, zone), offer, asked, left), fresh)
