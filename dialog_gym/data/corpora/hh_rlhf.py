"""HH-RLHF (Bai et al. 2022, arXiv:2204.05862): which of two answers people preferred, helpful or harmless."""

from __future__ import annotations

from collections.abc import Iterator

from dialog_gym.data.corpora.base import ranking
from dialog_gym.data.corpora.files import Source
from dialog_gym.data.corpora.preferences import hh_pair
from dialog_gym.data.rankings import Ranking

ROLES = ("assistant", "user")


def read(source: Source) -> Iterator[Ranking]:
    """Yield a ranking per pair: the chosen answer has score 1, the rejected one 0.

    A few pairs are one answer twice; they have that one candidate, of score 0.5.
    """
    for number, data in source.rows("*.jsonl", "*.parquet"):
        with source.record(number):
            prompt, chosen, rejected = hh_pair(data)
            yield ranking(
                ROLES, prompt, {rejected: (0.0,), chosen: (1.0,)} if chosen != rejected else {chosen: (0.5,)}, number
            )
