"""The rules of ``Chat-v0``: what an utterance is worth, how needs change, and the oracle's plan.

Everything here is known to the world and hidden from the agent. ``plan`` solves the game exactly by backward
induction over (turns left, need, last move, matter, the last two topics); topics are numbered by how much the
partner likes them, so that one plan serves all partners.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.envs.chat_phrases import MOVE_NAMES, NEED_NAMES

Floats = npt.NDArray[np.float64]

# EFFECT[need][move]: how far a move lifts the mood, said on the right topic and in the right energy.
# Moves: question, empathy, share, advice, joke, ack, none.
EFFECT: Mapping[str, tuple[float, ...]] = {
    "tell": (0.6, 0.0, -0.4, -0.7, -0.6, 1.0, -0.4),
    "comfort": (-0.3, 1.0, 0.6, -0.7, -1.0, 0.0, -0.4),
    "advise": (0.5, -0.4, 0.0, 1.0, -0.7, -0.5, -0.4),
    "cheer": (0.0, -0.6, 0.6, -0.7, 1.0, -0.4, -0.4),
}
TOPIC_WEIGHT = {"right": 1.0, "none": 0.6, "neutral": 0.5, "stale": 0.35, "wrong": -0.3}  # of an effect above 0
ENERGY_WEIGHT = (0.4, 0.75, 1.0)  # opposite, plain, right; of an effect above 0
REPEAT_WEIGHT = 0.4  # of an effect above 0, for the move of the turn before
LUCK = 0.2  # a move is lifted or lowered by up to this, evenly
MEETING = 0.5  # effect from which a move meets the need
CHANGE_MET, CHANGE = 0.45, 0.12  # probability that the need changes after a turn that met it, or did not
NEXT: Mapping[str, tuple[float, ...]] = {  # what the need becomes: tell, comfort, advise, cheer
    "tell": (0.0, 0.4, 0.3, 0.3),
    "comfort": (0.3, 0.0, 0.3, 0.4),
    "advise": (0.3, 0.2, 0.0, 0.5),
    "cheer": (0.5, 0.2, 0.3, 0.0),
}
LIKED, NEUTRAL = 3, 1  # topics; the other two are disliked
TOPIC_COUNT, MOVE_COUNT, NEED_COUNT = 6, len(MOVE_NAMES), len(NEED_NAMES)
NONE = TOPIC_COUNT  # index of "no topic"
TALK = NEED_NAMES.index("tell")

MOVE_SD = 0.55  # standard deviation of a move in self-play, the unit of the noises
BASE, GAIN = 0.3, 0.7  # survey = BASE + GAIN * mean move
MEMORY = 0.7  # share of the mood that lasts a turn
LEAVES = -1.9  # mood under which the partner leaves
MISSED = -0.6  # what each turn counts in the survey that a partner who left did not stay for
SATISFIED = 0.6  # survey from which an episode is a success

# What the face shows beside the mood: people smile at jokes and look sad when comforted, whether it helps or not.
# Mean 0 and variance 1 over the six moves. The last one is no move.
SHOWN = (0.0, -1.6, 0.7, -0.8, 1.5, 0.2, 0.0)


def topic_kind(need: str, topic: int, matter: int, recent: Sequence[int]) -> str:
    """Return how a topic fits: ``"right"``, ``"none"``, ``"neutral"``, ``"stale"`` or ``"wrong"``.

    Args:
        need: What the partner needs.
        topic: Number of the topic by liking (0, 1, 2 liked, 3 neutral, 4, 5 disliked), ``NONE`` for none.
        matter: What is on the partner's mind, likewise.
        recent: Topics of the agent's last two turns.
    """
    if topic == NONE:
        return "none"
    if need != "cheer":
        return "right" if topic == matter else "wrong"
    if topic == matter or topic in recent:
        return "stale"
    return "right" if topic < LIKED else "neutral" if topic < LIKED + NEUTRAL else "wrong"


def worth(need: str, move: int, kind: str, match: int, repeated: bool) -> float:
    """Return the expected move of the mood, in [-1, 1].

    Args:
        need: What the partner needs.
        move: Index in ``MOVE_NAMES``, ``MOVE_COUNT`` for none.
        kind: What ``topic_kind`` says of the topic.
        match: Energy: 0 opposite, 1 plain, 2 right.
        repeated: Whether the turn before made the same move.
    """
    effect = EFFECT[need][move]
    if effect > 0:
        effect *= TOPIC_WEIGHT[kind] * ENERGY_WEIGHT[match] * (REPEAT_WEIGHT if repeated else 1.0)
    return effect


def right_energy(need: str, pace: str) -> str:
    """Return ``"calm"`` for who needs comfort, else the partner's own pace."""
    return "calm" if need == "comfort" else pace


def energy_match(energy: str, right: str) -> int:
    """Return 2 for the right energy, 1 for a plain one, 0 for the opposite."""
    return 2 if energy == right else 1 if energy == "plain" else 0


class Plan(NamedTuple):
    """What the oracle does, and what is to come under it, by turns left.

    Attributes:
        choice: Move and topic as ``move * 7 + topic``, ``choice[left][state]``.
        mean: Expected sum of the moves to come, likewise.
        variance: Its variance, likewise.
    """

    choice: list[list[int]]
    mean: list[list[float]]
    variance: list[list[float]]


def state_index(need: int, last: int, matter: int, recent: Sequence[int]) -> int:
    """Return the place of a state in the lists of ``Plan``."""
    before, earlier = recent
    return (((need * 7 + last) * 6 + matter) * 7 + before) * 7 + earlier


@lru_cache(maxsize=4)
def plan(turns: int) -> Plan:
    """Return the plan for up to ``turns`` turns; about 10 ms a turn, once."""
    rewards = _rewards()
    shape = rewards.shape[:5]
    met = np.array([[effect >= MEETING for effect in EFFECT[need]] for need in NEED_NAMES])
    change = np.where(met, CHANGE_MET, CHANGE)[:, None, None, None, None, :, None]
    mean, variance = np.zeros(shape), np.zeros(shape)
    choices, means, variances = [[0] * mean.size], [mean.ravel().tolist()], [variance.ravel().tolist()]
    for _ in range(turns):
        stay, go = _onward(mean), _onward(_changed(mean))
        q = rewards + (1 - change) * stay + change * go
        flat = q.reshape(*shape, -1)
        choice = flat.argmax(-1)
        squared = mean**2 + variance
        second = (1 - change) * _onward(squared) + change * _onward(_changed(squared))
        spread = np.broadcast_to(second - ((1 - change) * stay + change * go) ** 2, q.shape).reshape(flat.shape)
        mean = np.take_along_axis(flat, choice[..., None], -1)[..., 0]
        variance = np.take_along_axis(spread, choice[..., None], -1)[..., 0] + LUCK**2 / 3
        choices.append(choice.ravel().tolist())
        means.append(mean.ravel().tolist())
        variances.append(variance.ravel().tolist())
    return Plan(choices, means, variances)


def _rewards() -> Floats:
    """Return ``worth`` in the right energy, (need, last move, matter, topic before, earlier, move, topic)."""
    kinds = list(TOPIC_WEIGHT)
    fits = np.empty((NEED_COUNT, 6, 7, 7, 7), dtype=int)
    for need, matter, before, earlier, topic in np.ndindex(fits.shape):
        kind = topic_kind(NEED_NAMES[need], topic, matter, (before, earlier))
        fits[need, matter, before, earlier, topic] = kinds.index(kind)
    effects = np.array([EFFECT[need] for need in NEED_NAMES])
    weights = np.array(list(TOPIC_WEIGHT.values()))[fits]
    repeats = np.where(np.eye(7, dtype=bool), REPEAT_WEIGHT, 1.0)
    scaled = np.einsum("nmbet,lv->nlmbevt", weights, repeats) * effects[:, None, None, None, None, :, None]
    plain = np.broadcast_to(effects[:, None, None, None, None, :, None], scaled.shape)
    return np.where(plain > 0, scaled, plain)


def _onward(after: Floats) -> Floats:
    """Return ``after`` the agent's move and topic, in the axes of ``_rewards`` (those that do not matter are 1)."""
    # after: need, last = move, matter, before = topic, earlier = before
    turned = after.transpose(0, 2, 4, 1, 3)  # need, matter, before, move, topic
    return turned[:, None, :, :, None, :, :]


def _changed(after: Floats) -> Floats:
    """Return the mean of ``after`` over what the need becomes; who tells anew tells of another matter."""
    other = (after[TALK].sum(1, keepdims=True) - after[TALK]) / (TOPIC_COUNT - 1)
    fresh = after.copy()
    fresh[TALK] = other
    mixed: Floats = np.einsum("no,olmbe->nlmbe", np.array([NEXT[need] for need in NEED_NAMES]), fresh)
    return mixed


def expected_survey(total: float, variance: float, turns: int) -> float:
    """Return the mean of a survey clipped to [0, 1], where the sum of moves and noise is normal.

    Args:
        total: Mean of the sum of moves.
        variance: Its variance, noise included.
        turns: By how many turns the sum is divided.
    """
    mean, spread = BASE + GAIN * total / turns, GAIN * math.sqrt(variance) / turns
    if spread < 1e-9:
        return min(max(mean, 0.0), 1.0)
    low, high = -mean / spread, (1 - mean) / spread
    inside = mean * (_below(high) - _below(low)) + spread * (_density(low) - _density(high))
    return inside + 1 - _below(high)


def _below(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
