"""What a member of a society remembers: questions and answers, found again by how alike the questions are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.envs.advice_language import to_notation

Vectors = npt.NDArray[np.float32]
WORDS = "words"
"""Names the built-in embedding: which words a text has. It needs no model, and knows no meaning."""
SIZE = 512  # of the vectors of the built-in embedding
_COMMON = frozenset(
    to_notation(
        "a an and are as at be but do does for from have how i in is it its me my of on or so that the their them "
        "they this to was we what when which who why with you your . , ; : ! ?"
    ).split()
)


class Found(NamedTuple):
    """What was remembered.

    Attributes:
        question: The question that is most alike.
        answer: What was answered to it.
        distance: One minus the cosine of both embeddings.
    """

    question: str
    answer: str
    distance: float


class Embeddings:
    """Unit vectors of texts, each text embedded once."""

    def __init__(self, encoder: str = WORDS) -> None:
        """Embed by ``encoder``: ``"words"``, or what ``dialog_gym.rewards.similarity.Similarity`` takes.

        Raises:
            ModuleNotFoundError: What runs the encoder is not installed.
            ValueError: There is no such encoder.
        """
        self._known: dict[str, Vectors] = {}
        self._embed: Callable[[list[str]], Sequence[Vectors]]
        if encoder == WORDS:
            self._embed = lambda texts: [by_words(text) for text in texts]
        else:
            from dialog_gym.rewards.similarity import Similarity

            self._embed = Similarity(encoder).memory

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text, shape ``(n, d)``."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


def by_words(text: str) -> Vectors:
    """Return a unit vector of the words of ``text``, each at a place by its hash; common words do not count.

    The square root of a word's count keeps repetitions from counting much. A text of common words alone is a zero
    vector, which is like nothing.
    """
    vector = np.zeros(SIZE, np.float32)
    for word in to_notation(text).split():
        if word not in _COMMON:
            vector[int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "little") % SIZE] += 1
    vector = np.sqrt(vector)
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm else vector


class Memory:
    """Questions in the order in which they came, each once, with its answer and embedding.

    Attributes:
        pairs: Question and answer of each.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        """Remember nothing yet."""
        self.pairs: list[tuple[str, str]] = []
        self._embeddings, self._vectors = embeddings, np.zeros((0, 0), np.float32)
        self._questions: set[str] = set()

    def add(self, question: str, answer: str) -> bool:
        """Remember an answer if the question is new; return whether it was."""
        if question in self._questions:
            return False
        self._questions.add(question)
        self.pairs.append((question, answer))
        return True

    def nearest(self, question: str, threshold: float) -> Found | None:
        """Return the question most alike, the first of several, if its cosine distance is below ``threshold``."""
        if not self.pairs:
            return None
        if len(self._vectors) < len(self.pairs):  # one list of pairs: their order is that of the vectors
            new = self._embeddings([asked for asked, _ in self.pairs[len(self._vectors) :]])
            self._vectors = new if not len(self._vectors) else np.concatenate([self._vectors, new])
        distances = 1 - self._vectors @ self._embeddings([question])[0]
        place = int(distances.argmin())
        distance = round(float(distances[place]), 5)  # not further: sums depend on the order of additions
        return Found(*self.pairs[place], distance) if distance < threshold else None
