"""Rated candidates as the questions that ``stable_alignment`` learns from.

A *question* is a context with its candidates, each a ``TokenRow``: what was said there as the policy reads and writes
it (``dialog_gym.agents.lm_tokens``), with its rating. All that is refused is refused here, before training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np

from dialog_gym.agents.lm_data import Told, read_rows
from dialog_gym.agents.lm_tokens import TokenRow
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Ranking
from dialog_gym.data.society import TYPES
from dialog_gym.lm.transformers_lm import TransformersLM

Loss = Literal["contrastive", "plain", "best"]
"""The margin loss; the mean cross-entropy of all candidates drawn; the cross-entropy of the best of them."""
LOSSES: tuple[Loss, ...] = ("contrastive", "plain", "best")

Lone = Literal["refuse", "skip", "plain"]
"""What to do with a question whose candidates cannot be compared: one alone, or all rated the same."""
TooLong = Literal["refuse", "skip", "cut"]
"""What to do with a candidate that is longer than ``max_tokens``: an error, leave it out, or learn its beginning."""


class Note(NamedTuple):
    """What a ranking says beside its texts: of which type of data it is ("" of none), and its ratings."""

    type: str
    ratings: tuple[float, ...]
    origin: str


@dataclass(frozen=True)
class Question(TokenRow):
    """A question: the row of its best candidate, with all candidates.

    Attributes:
        candidates: Each as a row; ``total`` is its rating.
        loss: What it is learned by.
        number: Of the question among all that were read.
    """

    candidates: tuple[TokenRow, ...] = ()
    loss: Loss = "contrastive"
    number: int = 0

    def __len__(self) -> int:
        """Return the number of tokens of all candidates."""
        return sum(map(len, self.candidates))

    def drawn(self, count: int, key: Sequence[int]) -> Question:
        """Return the question with ``count`` candidates, or all, in an order that follows from ``key``."""
        order = np.random.default_rng([*key, self.number]).permutation(len(self.candidates))
        return replace(self, candidates=tuple(self.candidates[place] for place in order[:count]))


@dataclass(frozen=True)
class Form:
    """How questions are made.

    Attributes:
        losses: By type of data; "" is all other.
        scale: Highest rating of the types of ``dialog_gym.data.society``; 0: there is none.
        lone: See ``Lone``.
        too_long: See ``TooLong``.
    """

    losses: Mapping[str, Loss]
    scale: float
    lone: Lone
    too_long: TooLong


def notes_of(data: Iterable[str], metric: str) -> list[Note]:
    """Return what the rankings in ``data`` say beside their texts, in their order.

    Args:
        data: As in ``lm_data.read_data``; all of it rankings.
        metric: Number of each candidate that counts, as in ``Ranking.by``.

    Raises:
        DatasetError: A row is no ranking, or has no such number.
    """
    return [note for source in data for note in _notes(source, metric)]


def _notes(source: str, metric: str) -> Iterator[Note]:
    for number, row in enumerate(read_rows(source)):
        origin = f"row {number} of {source}"
        if not isinstance(row, Ranking):
            raise DatasetError(
                f"{origin}: expected a ranking (a context and scored candidates), got a dialogue; `dialog-gym branch` "
                "makes rankings in an environment, `dialog-gym data society` out of societies"
            )
        try:
            yield Note(str(row.meta.get("type", "")), row.by(metric), origin)
        except KeyError as error:
            raise DatasetError(f"{origin}: {error.args[0]}; choose another metric") from error


def rated(told: Sequence[Told], notes: Sequence[Note], form: Form) -> list[Told]:
    """Return candidates with the rating that counts as their reward.

    Raises:
        DatasetError: A rating of a society is out of the scale: a failed one that was written down as a number.
    """
    found = []
    for group, candidates in groupby(told, key=lambda one: one.group):
        note = notes[group]
        if note.type in TYPES and form.scale:
            bad = [rating for rating in note.ratings if not 1 <= rating <= form.scale]
            if bad:
                raise DatasetError(
                    f"{note.origin}: expected ratings from 1 to {form.scale:g}, got {bad[0]:g}; a rating that failed "
                    "is no rating: leave it out, or set rating_scale"
                )
        found += [replace(one, rewards=(value,)) for one, value in zip(candidates, note.ratings, strict=True)]
    return found


def questions_of(
    rows: Iterable[TokenRow], notes: Sequence[Note], lm: TransformersLM, form: Form, max_tokens: int
) -> list[Question]:
    """Return rows of candidates by question; of candidates that are the same tokens only the first.

    Raises:
        DatasetError: A candidate is too long, or questions have nothing to compare, and are to be refused.
    """
    found, lone = [], []
    for group, part in groupby(rows, key=lambda row: row.group):
        note = notes[group]
        every = {row.tokens.tobytes(): row for row in reversed([*_fitting(part, note, lm, form, max_tokens)])}
        candidates = tuple(reversed(every.values()))
        if not candidates:
            continue
        loss = form.losses.get(note.type, form.losses[""])
        ratings = [row.total for row in candidates]
        if loss == "contrastive" and min(ratings) == max(ratings):
            lone.append((note, len(candidates)))
            if form.lone == "skip":
                continue
            loss = "plain"
        best = candidates[int(np.argmax(ratings))]
        found.append(Question(**vars(best), candidates=candidates, loss=loss, number=group))
    if lone and form.lone == "refuse":
        note, count = lone[0]
        what = "one candidate" if count == 1 else f"{count} candidates, all rated {note.ratings[0]:g}"
        raise DatasetError(
            f"{len(lone)} of {len(found)} questions have nothing to compare, the first is {note.origin}: expected two "
            f"ratings that differ, got {what}; set lone to 'skip' (leave them out) or 'plain' (learn by cross-entropy)"
        )
    return found


def scale_of(questions: Sequence[Question]) -> float:
    """Return the difference between the highest and the lowest rating of all candidates, 1 if there is none."""
    ratings = [row.total for one in questions for row in one.candidates]
    return (max(ratings) - min(ratings)) or 1.0 if ratings else 1.0


def _fitting(
    rows: Iterable[TokenRow], note: Note, lm: TransformersLM, form: Form, max_tokens: int
) -> Iterator[TokenRow]:
    """Yield the candidates that are whole: an answer that was cut does not teach where it ends."""
    for row in rows:
        if not math.isfinite(row.total):  # a ranking cannot hold one; a metric may
            raise DatasetError(f"{note.origin}: expected ratings that are finite numbers, got {row.total}")
        whole = int(row.tokens[-1]) in lm.chat.stop_ids
        if not whole and form.too_long == "refuse":
            raise DatasetError(
                f"{note.origin}: expected candidates of at most {max_tokens} tokens with the end of the turn, got a "
                "longer one; raise max_tokens, or set too_long to 'skip' (leave it out) or 'cut' (learn its beginning)"
            )
        if whole or form.too_long == "cut":
            yield row
