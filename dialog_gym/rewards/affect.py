"""How an utterance feels: VADER, or any text classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dialog_gym.dialogue import Dialogue
from dialog_gym.rewards.base import Floats, Reward
from dialog_gym.rewards.utterance import Memory, newest

Classifier = Callable[..., Any]


class Affect(Reward):
    """Affect of what a role said in the newest exchange: by default, how glad the partner's answer is.

    Without a classifier it is the compound score of VADER, in [-1, 1] (Hutto and Gilbert 2014, "VADER: A
    Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM). With one it is the sum of
    ``values[label] * probability`` over the labels, in the range of the values. Texts are scored once each, in
    batches. Where the role said nothing it is ``silent``.

    Attributes:
        memory: The scores known so far; ``memory.asked`` tells how many texts were scored.
    """

    def __init__(
        self,
        role: str = "partner",
        classifier: str | Classifier | None = None,
        values: Mapping[str, float] | None = None,
        *,
        name: str = "affect",
        silent: float = 0.0,
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        """Measure the affect of ``role``.

        Args:
            role: ``"agent"``, ``"partner"``, or the name of a role.
            classifier: A text-classification pipeline of transformers, or a folder or name that makes one; None:
                VADER (``pip install 'dialog-gym[affect]'``).
            values: What each label of the classifier is worth; every label needs one.
            name: Of this reward.
            silent: Score where the role said nothing.
            batch_size: Texts per batch of the classifier.
            device: Where a classifier that is loaded here runs.

        Raises:
            ModuleNotFoundError: The package that scores is not installed.
            ValueError: A classifier without values, or values without a classifier.
        """
        if (classifier is None) != (values is None):
            raise ValueError(
                "a classifier and values go together: Affect(classifier=FOLDER, values={'joy': 1.0, ...})"
            )
        self.role, self.name, self.silent = role, name, float(silent)
        span = (-1.0, 1.0) if values is None else (min(values.values()), max(values.values()))
        self.low, self.high = min(span[0], self.silent), max(span[1], self.silent)
        if classifier is None or values is None:
            score = _vader()
        else:
            made = _pipeline(classifier, device) if isinstance(classifier, str) else classifier
            score = _Classified(made, values, batch_size)
        self.memory: Memory[str, float] = Memory(score)

    def __call__(self, dialogues: Sequence[Dialogue]) -> Floats:
        """Return the affect of each newest exchange."""
        texts = [newest(dialogue, self.role) for dialogue in dialogues]
        scores = iter(self.memory([text for text in texts if text is not None]))
        return np.array([self.silent if text is None else next(scores) for text in texts], np.float32)


class _Classified:
    """Expected value of the labels a classifier gives."""

    def __init__(self, classifier: Classifier, values: Mapping[str, float], batch_size: int) -> None:
        self.classifier, self.values, self.batch_size = classifier, dict(values), batch_size

    def __call__(self, texts: list[str]) -> list[float]:
        # Softmax, also where a model was trained on several labels at once: the expectation stays in its range.
        found = self.classifier(
            texts, top_k=None, function_to_apply="softmax", batch_size=self.batch_size, truncation=True
        )
        return [self._expected(labels) for labels in found]

    def _expected(self, labels: Sequence[Mapping[str, Any]]) -> float:
        names = {str(label["label"]) for label in labels}
        if names != self.values.keys():
            raise ValueError(
                f"values must name the labels {sorted(names)} of the classifier, got {sorted(self.values)}"
            )
        return sum(self.values[str(label["label"])] * float(label["score"]) for label in labels)


def _vader() -> Callable[[list[str]], list[float]]:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the affect of a text needs VADER: pip install 'dialog-gym[affect]'; or give a classifier", name=error.name
        ) from error
    analyser = SentimentIntensityAnalyzer()
    return lambda texts: [float(analyser.polarity_scores(text)["compound"]) for text in texts]


def _pipeline(name_or_path: str, device: str | None) -> Classifier:
    from transformers import pipeline

    made: Any = pipeline("text-classification", model=name_or_path, device=device)
    classifier: Classifier = made
    return classifier
