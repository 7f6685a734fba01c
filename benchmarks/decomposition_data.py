"""Conversations of embedded worlds with known values of every turn, and scores and affect that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym import checkpoint
from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import begin
from dialog_gym.rewards.decomposition.encoders import Encoder
from dialog_gym.rewards.decomposition.turns import beginnings
from dialog_gym.rewards.decomposition.worlds import task_of, true_turns

Floats = npt.NDArray[np.float32]

SHOWN: Mapping[str, Mapping[str, float]] = {
    "dialog_gym/Chat-v0": {
        "move:joke": 1.5,
        "move:share": 0.7,
        "move:ack": 0.2,
        "move:advice": -0.8,
        "move:empathy": -1.6,
    },
    "dialog_gym/Bargain-v0": {"style:polite": 1.0, "style:firm": -1.0},
}
"""What a face shows whether the turn helps or not: numbers of attributes of the utterance. Chat-v0's own; in
Bargain-v0 people smile at who is polite, even if it is firmness that moves them."""
SMILES = 1.0  # affect, in standard deviations of a turn's value, above which one smiles


class World(NamedTuple):
    """Played conversations, padded by NaN to the longest.

    Attributes:
        encodings: Of turns, NaN-free, standardised, shape ``(N, T, size)``.
        turns: Agent turns, shape ``(N,)``.
        truth: True value of turns in standard deviations from the mean, shape ``(N, T)``.
        shown: What the face does beside, mean 0 and variance 1 over turns, shape ``(N, T)``.
        total: The true final score in standard deviations of a turn's value, shape ``(N,)``.
    """

    encodings: Floats
    turns: npt.NDArray[np.int64]
    truth: Floats
    shown: Floats
    total: Floats


class Setting(NamedTuple):
    """What is seen of a world.

    Attributes:
        bias: How much affect shows beside the value of a turn, in standard deviations of a value.
        affect_noise: Of the affect, in the same unit.
        score_noise: Of the final score, in the same unit.
        kind: ``"plain"``; ``"scaled"``: on an unknown scale, .1 * affect + 3; ``"smile"``: 1 for an affect above 1,
            else 0.
    """

    bias: float = 0.5
    affect_noise: float = 1.0
    score_noise: float = 2.0
    kind: str = "plain"


def played(env: str, count: int, encoder: Encoder, file: Path) -> World:
    """Return ``count`` conversations of self-play, from ``file`` if it is there, else played, encoded and kept."""
    about = {"env": env, "count": count, "encoder": encoder.fingerprint()}
    if file.exists():
        arrays, data = checkpoint.read(file, "decomposition world")
        if data == about:
            return World(**arrays)
    found = _played(env, count, encoder)
    checkpoint.write(file, "decomposition world", found._asdict(), about)
    return found


def _played(env: str, count: int, encoder: Encoder) -> World:
    task: Any = task_of(env, {})
    weights = np.array([SHOWN[env].get(name, 0.0) for name in task.attribute_names])
    vectors, truths, shown, totals = [], [], [], []
    for number in range(count):
        dialogue = task.self_play(Draws(0, "decomposition", number))
        nothing = (0.0,) * dialogue.turn
        truth = true_turns(Recorded(dialogue.seed, dialogue, nothing, nothing, env=env))
        assert truth is not None, f"{env}: self-play {number} could not be played again"
        heard = list(beginnings(dialogue))
        vectors.append(np.asarray(encoder([encoder.words(one) for one in heard]), np.float32))
        truths.append(np.array(truth))
        said = [task.attributes(one, one.turns[-1].role, one.turns[-1].text) for one in heard]
        shown.append(np.array(said) @ weights)
        totals.append(_total(task, dialogue, truth))
    return _standard(vectors, truths, shown, np.array(totals))


def _total(task: Any, dialogue: Dialogue, truth: list[float]) -> float:
    """Return the final score without noise: of Chat the sum of all moves, those missed included; else the return."""
    if hasattr(task, "true_moves"):
        from dialog_gym.envs.chat_rules import MISSED

        return sum(truth) + float(MISSED * (task.max_turns - len(truth)))
    return sum(truth) + float(task.value(begin(task, dialogue.seed)))


def _standard(vectors: list[Any], truths: list[Any], shown: list[Any], totals: npt.NDArray[Any]) -> World:
    every, values, faces = np.concatenate(vectors), np.concatenate(truths), np.concatenate(shown)
    mean, spread = every.mean(0), every.std(0) + 1e-4
    unit = float(values.std())
    longest = max(map(len, truths))
    encodings = np.zeros((len(truths), longest, every.shape[1]), np.float32)
    truth = np.full((len(truths), longest), np.nan, np.float32)
    face = np.full_like(truth, np.nan)
    for row, (some, value, one) in enumerate(zip(vectors, truths, shown, strict=True)):
        encodings[row, : len(value)] = (some - mean) / spread
        truth[row, : len(value)] = (value - values.mean()) / unit
        face[row, : len(value)] = (one - faces.mean()) / faces.std()
    turns = np.array([len(one) for one in truths], np.int64)
    return World(encodings, turns, truth, face, (totals / unit).astype(np.float32))


def scores(world: World, setting: Setting, seed: int) -> Floats:
    """Return the noisy final score of every conversation, shape ``(N,)``."""
    noise = np.random.default_rng([seed, 1]).standard_normal(len(world.total))
    return (world.total + setting.score_noise * noise).astype(np.float32)


def affect(world: World, setting: Setting, seed: int) -> Floats:
    """Return the affect at every turn, NaN beyond the end, shape ``(N, T)``."""
    noise = np.random.default_rng([seed, 2]).standard_normal(world.truth.shape)
    plain = world.truth + setting.bias * world.shown + setting.affect_noise * noise
    if setting.kind == "scaled":
        plain = 0.1 * plain + 3
    elif setting.kind == "smile":
        plain = np.where(np.isnan(plain), np.nan, plain > SMILES)
    return plain.astype(np.float32)
