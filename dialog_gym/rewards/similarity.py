"""How alike what was said is to a text, or to what the other said, by embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.lm import load
from dialog_gym.lm.base import LanguageModel, require
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.encoders import SEMANTIC, TokenEncoder, Vectors
from dialog_gym.rewards.utterance import Memory, newest, role_of

Encoder = Callable[[list[str]], Vectors]
"""Turns n texts into vectors, shape ``(n, d)``."""


class Similarity(Reward):
    """Cosine of the embeddings of what a role said in the newest exchange and of another text, in [-1, 1].

    The other text is given, or it is what the other role said last before that. Each distinct text is embedded once.
    Where one of the two is missing it is 0.

    Attributes:
        memory: The vectors known so far; ``memory.asked`` tells how many texts were embedded.
    """

    low, high = -1.0, 1.0

    def __init__(
        self,
        encoder: LanguageModel | Encoder | str,
        to: str | None = None,
        *,
        role: str = "agent",
        name: str = "similarity",
    ) -> None:
        """Compare with ``to``.

        Args:
            encoder: ``"semantic"``, the sentence encoder of the extra of that name; a folder with an encoder that
                transformers loads (both: the mean of the last hidden states of a text); a language model or its spec
                (its last hidden state after the text as a user's message); or any function from n texts to (n, d)
                vectors.
            to: The text to compare with; None: what the other role said last before.
            role: ``"agent"``, ``"partner"``, or the name of a role.
            name: Of this reward.

        Raises:
            ModuleNotFoundError: The extra ``semantic`` is not installed.
            UnsupportedError: The language model gives no states.
        """
        self.to, self.role, self.name = to, role, name
        self.memory: Memory[str, Vectors] = Memory(_Unit(_encoder(encoder)), 20_000)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return how alike the two texts of each dialogue are."""
        pairs = [self._pair(dialogue) for dialogue in dialogues]
        vectors = iter(self.memory([text for pair in pairs if pair is not None for text in pair]))
        cosines = [0.0 if pair is None else float(next(vectors) @ next(vectors)) for pair in pairs]
        return np.array(cosines, np.float32).clip(-1.0, 1.0)

    def _pair(self, dialogue: Dialogue) -> tuple[str, str] | None:
        text = newest(dialogue, self.role)
        other = self.to if self.to is not None else self._before(dialogue)
        return None if text is None or other is None else (text, other)

    def _before(self, dialogue: Dialogue) -> str | None:
        """Return what the other role said last before the newest utterance of ``role``."""
        role, seen = role_of(dialogue, self.role), False
        for turn in reversed(dialogue.turns):
            if turn.role != role and seen:
                return turn.text
            seen = seen or turn.role == role
        return None


class _OfModel:
    def __init__(self, lm: LanguageModel) -> None:
        require(lm, ("state",), "the similarity of texts")
        self.lm = lm

    def __call__(self, texts: list[str]) -> Vectors:
        return self.lm.embed([[{"role": "user", "content": text}] for text in texts])


class _Unit:
    """Vectors of length 1; a zero vector stays zero."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def __call__(self, texts: list[str]) -> list[Vectors]:
        vectors = np.asarray(self.encoder(texts), np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ValueError(f"an encoder returns one finite vector per text, {len(texts)} here; got {vectors.shape}")
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return list(vectors / np.where(norms > 0, norms, 1))


def _encoder(encoder: LanguageModel | Encoder | str) -> Encoder:
    if isinstance(encoder, str):
        if encoder == SEMANTIC or _is_encoder(Path(encoder)):
            return TokenEncoder(encoder).pooled
        return _OfModel(load(encoder))
    if isinstance(encoder, LanguageModel):
        return _OfModel(encoder)
    return encoder


def _is_encoder(folder: Path) -> bool:
    """Return whether ``folder`` has a model of transformers that does not continue texts."""
    config = folder / "config.json"
    if not config.is_file():
        return False
    names = json.loads(config.read_text(encoding="utf-8")).get("architectures") or [""]
    return not any(name.endswith(("CausalLM", "LMHeadModel")) for name in names)
