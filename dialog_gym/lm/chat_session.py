"""Sessions of models that remember nothing between calls, or remember by themselves (servers do)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dialog_gym.lm.base import Embeddings, Generation, LanguageModel, Messages, Position, Sampling


class ChatSession:
    """A ``Session`` that keeps the prompts alone: whatever the model says is made by its ``generate``.

    There is no state vector: ``read`` returns shape (n, 0).
    """

    def __init__(self, lm: LanguageModel, rows: int) -> None:
        """Open a session for ``rows`` chats with ``lm``."""
        if rows < 1:
            raise ValueError(f"a session needs at least one row, got {rows}")
        self.lm = lm
        self._prompts: list[Messages | None] = [None] * rows

    def read(self, rows: Sequence[int], prompts: Sequence[Messages]) -> NDArray[np.float32]:
        """Keep one prompt for each of ``rows``; return (n, 0).

        Raises:
            ValueError: A row is unknown or named twice, or has no prompt.
        """
        rows = different_rows(rows, len(self._prompts))
        if len(prompts) != len(rows):
            raise ValueError(f"expected one prompt per row, got {len(prompts)} prompts for {len(rows)} rows")
        for row, prompt in zip(rows, prompts, strict=True):
            self._prompts[row] = prompt
        return np.zeros((len(rows), 0), np.float32)

    def write(
        self,
        rows: Sequence[int],
        sampling: Sampling,
        *,
        prefixes: Embeddings | None = None,
        seeds: Sequence[int] | None = None,
        position: Position = "end",
    ) -> list[Generation]:
        """Reply to the prompts last read in ``rows``, in one call of the model.

        Raises:
            ValueError: A row was not read.
            LanguageModelError: The model failed to answer.
        """
        prompts: list[Messages] = []
        for row in different_rows(rows, len(self._prompts)):
            prompt = self._prompts[row]
            if prompt is None:
                raise ValueError(f"row {row} holds no prompt: read it before it is written")
            prompts.append(prompt)
        return self.lm.generate(prompts, sampling, prefixes=prefixes, seeds=seeds, position=position)

    def forget(self, rows: Sequence[int] | None = None) -> None:
        """Drop the prompts of ``rows`` (None: all)."""
        for row in range(len(self._prompts)) if rows is None else different_rows(rows, len(self._prompts)):
            self._prompts[row] = None


def different_rows(rows: Sequence[int], count: int) -> list[int]:
    """Return ``rows`` of a session that has ``count``.

    Raises:
        ValueError: A row is unknown or named twice.
    """
    checked = [int(row) for row in rows]
    if len(set(checked)) != len(checked) or not all(0 <= row < count for row in checked):
        raise ValueError(f"rows must be different numbers from 0 to {count - 1}, got {checked}")
    return checked
