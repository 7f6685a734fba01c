"""BLEURT: a learned metric, given a local checkpoint that transformers loads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dialog_gym.rewards.text_metrics import Doubles, Finder, References, TextMetric, kept_references, listed


class BleurtScorer:
    """BLEURT (Sellam et al. 2020, arXiv:2004.04696): an encoder with one output reads reference and text as a pair.

    Works with checkpoints in the format of transformers whose head has one label: the ports of BLEURT to
    ``BertForSequenceClassification``, for instance. BLEURT-20 (RemBERT) needs a port likewise. The published
    checkpoints of TensorFlow are not read. Scores are about 0 to 1 for BLEURT-20, about -2 to 1 for the first ones.

    Attributes:
        model: What reads.
    """

    def __init__(self, folder: str | Path, *, batch_size: int = 64, device: str | None = None) -> None:
        """Load the checkpoint in ``folder``.

        Raises:
            ValueError: There is none, or it has not one output.
        """
        if not (Path(folder) / "config.json").is_file():
            raise ValueError(f"expected a folder with a BLEURT checkpoint for transformers, got {str(folder)!r}")
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder))
        model: Any = AutoModelForSequenceClassification.from_pretrained(str(folder))
        if model.config.num_labels != 1:
            raise ValueError(
                f"BLEURT has one output, the model in {str(folder)!r} has {model.config.num_labels}; give a "
                "checkpoint that scores a pair of texts"
            )
        self.model, self.batch_size = model.eval().to(device or "cpu"), batch_size
        self.longest = int(min(model.config.max_position_embeddings, self.tokenizer.model_max_length))

    def __call__(self, texts: Sequence[str], references: References) -> Doubles:
        """Return the score of each text, shape ``(n,)``; of several references the best."""
        import torch

        those = listed(texts, references)
        pairs = [(one, text) for text, ones in zip(texts, those, strict=True) for one in ones]
        scores = np.zeros(len(pairs), np.float64)
        order = sorted(range(len(pairs)), key=lambda row: len(pairs[row][0]) + len(pairs[row][1]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            first, second = zip(*(pairs[row] for row in rows), strict=True)
            read = self.tokenizer(
                list(first), list(second), return_tensors="pt", padding=True, truncation=True, max_length=self.longest
            ).to(self.model.device)
            with torch.inference_mode():
                scores[rows] = self.model(**read).logits[:, 0].double().cpu().numpy()
        ends = np.cumsum([len(ones) for ones in those]).tolist()
        return np.array(
            [scores[end - len(ones) : end].max() for end, ones in zip(ends, those, strict=True)], np.float64
        )


class Bleurt(TextMetric):
    """BLEURT of the newest agent turn and its references, cut to [``low``, ``high``].

    Attributes:
        scorer: What scores.
    """

    name = "bleurt"

    def __init__(
        self,
        scorer: BleurtScorer | str | Path,
        references: str | Finder = kept_references,
        *,
        low: float = -2.0,
        high: float = 2.0,
        name: str = "",
    ) -> None:
        """Score by ``scorer``, or by a new one of the checkpoint in this folder.

        Raises:
            ValueError: ``low`` is not below ``high``, or there is no checkpoint.
        """
        if not low < high:
            raise ValueError(f"expected low < high, got {low} and {high}")
        super().__init__(references, name=name)
        self.scorer = scorer if isinstance(scorer, BleurtScorer) else BleurtScorer(scorer)
        self.low, self.high = float(low), float(high)

    def measured(self, texts: Sequence[str], references: Sequence[tuple[str, ...]]) -> Doubles:
        """Return the scores."""
        return self.scorer(texts, references)
