"""BERTScore with any local encoder, and the click made of it: how alike the meanings of two texts are."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.rewards.encoders import SEMANTIC, Encoded, TokenEncoder
from dialog_gym.rewards.text_metrics import Doubles, Finder, References, TextMetric, kept_references, listed
from dialog_gym.rewards.utterance import Memory

THRESHOLD = 0.6  # of a click, dialogue-offline-rl's bert_thresh (arXiv:2307.12425)


class Matches(NamedTuple):
    """BERTScore of ``n`` texts, each of shape ``(n,)``, rescaled if there is a baseline.

    Attributes:
        precision: How well the tokens of the text are found in the reference.
        recall: How well those of the reference are found in the text.
        f1: Their harmonic mean.
    """

    precision: Doubles
    recall: Doubles
    f1: Doubles


class BertScorer:
    """BERTScore (Zhang et al. 2020, arXiv:1904.09675): tokens matched greedily by the cosine of their vectors.

    Agrees with the package ``bert-score`` 0.3.12 to 1e-6 (same encoder, layer, baseline and idf), with one deviation:
    there, a token whose cosines are all negative matches the padding of its batch, with 0, so that a score depends on
    the texts beside it (by up to .016 with the last layer of all-MiniLM-L6-v2, unless ``batch_size=1``); here it
    matches its best token. All texts that are not known yet are encoded in one call; encodings are kept, so that a
    reference is encoded once.

    Attributes:
        encoder: Makes the vectors.
        baseline: What is subtracted in rescaling: of precision, recall and F1; None: nothing is rescaled.
        idf: Weight of each token by its id; None: all the same. Tokens it does not name weigh most.
        memory: Encodings known so far; ``memory.asked`` tells how many texts were encoded.
    """

    def __init__(
        self,
        encoder: str | Path | TokenEncoder = SEMANTIC,
        layer: int | None = None,
        *,
        baseline: str | Path | tuple[float, float, float] | None = None,
        idf: Sequence[str] | None = None,
        batch_size: int = 64,
        device: str | None = None,
        size: int = 5_000,
    ) -> None:
        """Load what scores.

        Args:
            encoder: Folder with an encoder that transformers loads, ``"semantic"`` (the extra of that name), or one
                that is loaded already.
            layer: Whose hidden states are compared; None: the last. The paper takes 9 of bert-base, 17 of
                roberta-large.
            baseline: Precision, recall and F1 of unrelated texts, for ``(x - b) / (1 - b)``; or a file of
                ``bert-score`` with lines ``LAYER,P,R,F``.
            idf: Texts of which the weights of tokens are counted; None: every token but begin and end weighs 1.
            batch_size: Texts that are encoded at once.
            device: Where the encoder runs; default: the CPU.
            size: Encodings that are kept, about 30 kB each for 20 tokens.

        Raises:
            ValueError: There is no encoder, no such layer, or the baseline has no such layer or is not below 1.
        """
        if not isinstance(encoder, TokenEncoder):
            encoder = TokenEncoder(encoder, layer, batch_size=batch_size, device=device)
        elif layer not in (None, encoder.layer):
            raise ValueError(f"the encoder is loaded for layer {encoder.layer}, got layer {layer}")
        self.encoder = encoder
        self.baseline = _baseline(baseline, self.encoder.layer)
        self.memory: Memory[str, Encoded] = Memory(self.encoder, size)
        self.idf: dict[int, float] | None = None
        if idf is not None:
            self.idf = self._frequencies(idf)
            self._unseen = log(len(idf) + 1)

    def __call__(self, texts: Sequence[str], references: References) -> Matches:
        """Score each text; of several references the best, for each of the three numbers by itself.

        A text or a reference without tokens has 0 (before rescaling).
        """
        those = listed(texts, references)
        pairs = [(text, one) for text, ones in zip(texts, those, strict=True) for one in ones]
        known = dict(zip(flat := [t for pair in pairs for t in pair], self.memory(flat), strict=True))
        scores = np.array([self._matched(known[text], known[one]) for text, one in pairs], np.float64).reshape(-1, 3)
        if self.baseline is not None:
            scores = (scores - self.baseline) / (1 - np.array(self.baseline))
        ends = np.cumsum([len(ones) for ones in those]).tolist()
        best = [scores[end - len(ones) : end].max(0) for end, ones in zip(ends, those, strict=True)]
        return Matches(*np.array(best, np.float64).reshape(-1, 3).T)

    def _matched(self, text: Encoded, reference: Encoded) -> tuple[float, float, float]:
        weights = self._weights(text.ids), self._weights(reference.ids)
        if not all(weight.any() for weight in weights):
            return 0.0, 0.0, 0.0
        cosines = _unit(text.states) @ _unit(reference.states).T
        best = (cosines.max(1), cosines.max(0))
        precision, recall = (float(row @ w / w.sum()) for row, w in zip(best, weights, strict=True))
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0

    def _weights(self, ids: npt.NDArray[np.int64]) -> Doubles:
        if self.idf is None:
            return np.array([token not in self.encoder.special for token in ids.tolist()], np.float64)
        return np.array([self.idf.get(token, self._unseen) for token in ids.tolist()], np.float64)

    def _frequencies(self, texts: Sequence[str]) -> dict[int, float]:
        tokens = [set(self.encoder.ids(text)) for text in texts]
        counts = Counter(token for one in tokens for token in one)
        return {token: log((len(texts) + 1) / (count + 1)) for token, count in counts.items()}


def _unit(vectors: npt.NDArray[np.float32]) -> Doubles:
    wide = vectors.astype(np.float64)
    found: Doubles = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return found


def _baseline(given: str | Path | tuple[float, float, float] | None, layer: int) -> tuple[float, float, float] | None:
    if given is None:
        return None
    if isinstance(given, str | Path):
        with open(given, encoding="utf-8", newline="") as file:
            rows = {row[0]: row[1:] for row in csv.reader(file) if row}
        if str(layer) not in rows or len(rows[str(layer)]) != 3:
            raise ValueError(
                f"expected a line '{layer},P,R,F' in the baseline file {str(given)!r}, got the layers "
                f"{', '.join(list(rows)[:30])}; give the file of this encoder, or three numbers"
            )
        numbers: Sequence[str | float] = rows[str(layer)]
    else:
        numbers = given
    precision, recall, f1 = (float(number) for number in numbers)
    if not max(precision, recall, f1) < 1:
        raise ValueError(f"a baseline is below 1 (precision, recall, F1), got {(precision, recall, f1)}")
    return precision, recall, f1


# --- rewards -----------------------------------------------------------------------------------


class BertScore(TextMetric):
    """F1 of BERTScore of the newest agent turn and its references, at most 1.

    Without a baseline in [-1, 1] (as a rule far above 0), with one from (-1 - b) / (1 - b) on.

    Attributes:
        scorer: What scores.
    """

    name = "bertscore"

    def __init__(
        self,
        scorer: BertScorer | str | Path = SEMANTIC,
        references: str | Finder = kept_references,
        *,
        name: str = "",
    ) -> None:
        """Score by ``scorer``, or by a new one of the encoder in this folder (or ``"semantic"``)."""
        super().__init__(references, name=name)
        self.scorer = scorer if isinstance(scorer, BertScorer) else BertScorer(scorer)
        base = 0.0 if self.scorer.baseline is None else self.scorer.baseline[2]
        self.low = (-1 - base) / (1 - base)

    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return F1."""
        return self.scorer(texts, references).f1


class BertClick(TextMetric):
    """1 where F1 of BERTScore is above a threshold, strictly, else 0: whether people would have clicked on the answer.

    The reward of dialogue-offline-rl (arXiv:2307.12425), which rescales by a baseline. What a person answered counts
    1 without being scored: a text that is one of its references.

    Attributes:
        scorer: What scores.
        threshold: What is to be exceeded.
    """

    name = "click"

    def __init__(
        self,
        scorer: BertScorer | str | Path = SEMANTIC,
        references: str | Finder = kept_references,
        *,
        threshold: float = THRESHOLD,
        name: str = "",
    ) -> None:
        """Score by ``scorer``, or by a new one of the encoder in this folder (or ``"semantic"``)."""
        super().__init__(references, name=name)
        self.scorer, self.threshold = scorer if isinstance(scorer, BertScorer) else BertScorer(scorer), threshold

    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return the clicks."""
        found = np.array([text in those for text, those in zip(texts, references, strict=True)], np.float64)
        rows = np.flatnonzero(found == 0).tolist()
        if rows:
            scores = self.scorer([texts[row] for row in rows], [references[row] for row in rows]).f1
            found[rows] = clicks(scores, self.threshold)
        return found


def clicks(scores: Doubles, threshold: float = THRESHOLD) -> Doubles:
    """Return 1 for each score above ``threshold``, strictly, else 0.

    >>> clicks(np.array([0.6, 0.601])).tolist()
    [0.0, 1.0]
    """
    return (scores > threshold).astype(np.float64)
