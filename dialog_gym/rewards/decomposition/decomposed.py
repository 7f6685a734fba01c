"""A learned reward per utterance, as a reward like any other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.compose import newest_turn
from dialog_gym.rewards.decomposition.encoders import Encoder, ModelEncoder, load_encoder
from dialog_gym.rewards.decomposition.model import TurnModel
from dialog_gym.rewards.decomposition.turns import beginning, beginnings
from dialog_gym.rewards.utterance import Memory


class Decomposed(Reward):
    """Score the newest agent turn by what ``dialog-gym fit reward`` has learned, in units of the score.

    Over a dialogue the rewards and ``offset`` sum to the score that the model predicts. The model reads what was said,
    nothing hidden; whether it reads the partner's answer too was settled in training (``model.reading.answer``).
    Turns are encoded once. What has learned from a local signal alone (``li``) knows no score: its rewards are in
    units of that signal, less its mean, and ``knows_score`` is False.

    Attributes:
        model: What was learned.
        offset: Predicted score of a dialogue whose rewards are all 0.
        encoder: Who reads.
        knows_score: Whether the rewards and ``offset`` are in units of a score.
    """

    def __init__(
        self,
        model: TurnModel | str | Path,
        *,
        name: str = "decomposed",
        weight: float = 1.0,
        device: str | None = None,
        remembered: int = 20_000,
    ) -> None:
        """Take a model, or load it from a folder (a run, or what ``TurnModel.save`` wrote).

        Args:
            model: What was learned, or where it lies.
            name: Of this reward.
            weight: Factor of the scores, above 0: 1 gives units of the score.
            device: Where the encoder runs.
            remembered: Turns whose encodings are kept in memory.

        Raises:
            CheckpointError: There is no such model.
            ValueError: Its encoder is not here, or is another one than it has learned with.
        """
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be a finite number above 0, got {weight}")
        self.model = model if isinstance(model, TurnModel) else TurnModel.load(model)
        self.encoder = encoder_of(self.model, device)
        self.name, self.weight = name, weight
        self.high = self.model.spec.bound * self.model.scale.unit * weight
        self.low = -self.high
        self.offset = self.model.scale.offset * weight
        self.knows_score = self.model.about.get("method") != "li"
        self.memory: Memory[str, Floats] = Memory(lambda texts: list(self.encoder(texts)), remembered)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the reward of each newest agent turn, shape ``(len(dialogues),)``.

        Raises:
            ValueError: The agent of a dialogue has said nothing yet.
        """
        if self.model.spec.name == "lstm":  # a turn's reward depends on the turns before it
            return np.array([rewards[-1] for rewards in self.turns(dialogues)], np.float32)
        words = [self.encoder.words(one) for one in map(self._newest, dialogues)]
        if not words:
            return np.zeros(0, np.float32)
        scores = self.model.score_turns(np.stack(self.memory(words)))  # each turn alone, so a batch is like one talk
        return np.asarray(scores * self.weight, np.float32)

    def _newest(self, dialogue: Dialogue) -> Dialogue:
        place = newest_turn(dialogue)
        if place is None:
            raise _silent(dialogue)
        return beginning(dialogue, place, self.model.reading.utterances, answer=self.model.reading.answer)

    def turns(self, dialogues: Sequence[Dialogue]) -> list[npt.NDArray[np.float32]]:
        """Return the reward of every agent turn of each dialogue, oldest first; arrays of shape ``(T,)``.

        Raises:
            ValueError: The agent of a dialogue has said nothing yet.
        """
        reading = self.model.reading
        words: list[list[str]] = []
        for dialogue in dialogues:
            heard = beginnings(dialogue, reading.utterances, answer=reading.answer)
            words.append([self.encoder.words(one) for one in heard])
            if not words[-1]:
                raise _silent(dialogue)
        vectors = self.memory([text for texts in words for text in texts])
        found, start = [], 0
        for texts in words:
            scores = self.model.score_turns(np.stack(vectors[start : start + len(texts)]))
            found.append(np.asarray(scores * self.weight, np.float32))
            start += len(texts)
        return found

    def predicted_scores(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the score that the model predicts for each dialogue: ``offset`` and the sum of its rewards."""
        return np.array([self.offset + rewards.sum() for rewards in self.turns(dialogues)], np.float32)


def load_reward(folder: str | Path, *, name: str = "decomposed", device: str | None = None) -> Decomposed:
    """Return the reward that ``dialog-gym fit reward`` has written to ``folder``.

    Raises:
        CheckpointError: There is none.
    """
    return Decomposed(folder, name=name, device=device)


def encoder_of(model: TurnModel, device: str | None = None) -> Encoder:
    """Return the encoder that ``model`` reads by, with the weights it was tuned to.

    Raises:
        ValueError: It is not here, or is another one than the model has learned with.
    """
    reading = model.reading
    encoder = load_encoder(
        reading.encoder,
        pool=reading.pool,
        max_tokens=reading.max_tokens,
        notation=reading.notation,
        device=device,
    )
    if encoder.size != model.size:
        raise ValueError(
            f"the reward was trained on vectors of {model.size} numbers, encoder {reading.encoder!r} gives "
            f"{encoder.size}; was it replaced since?"
        )
    if model.fingerprint and encoder.fingerprint() != model.fingerprint:
        raise ValueError(
            f"the encoder {reading.encoder!r} is not the one that the reward was trained with: weights, words or "
            "settings have changed since; put that one back, or fit the reward again"
        )
    if model.encoder_state is not None and isinstance(encoder, ModelEncoder):
        encoder = encoder.tuned_copy()
        encoder.model.load_state_dict(model.encoder_state)
        encoder.model.requires_grad_(False)
    return encoder


def _silent(dialogue: Dialogue) -> ValueError:
    return ValueError(f"the agent has said nothing yet in the dialogue of seed {dialogue.seed}")
