"""PKU-SafeRLHF (Dai et al. 2023, arXiv:2310.12773): two answers; which is more helpful, which safer.

Columns ``prompt``, ``response_0``, ``response_1``, ``better_response_id``, ``safer_response_id``,
``is_response_0_safe``, ``is_response_1_safe``; others are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from dialog_gym.data.corpora.base import ranking
from dialog_gym.data.corpora.files import Source
from dialog_gym.data.corpora.preferences import safe_pair
from dialog_gym.data.rankings import Ranking

ROLES = ("assistant", "user")


def read(source: Source) -> Iterator[Ranking]:
    """Yield a ranking per pair: ``score`` 1 for the more helpful answer and 0 for the other.

    ``more``: ``safer`` likewise, and ``safe``: 1 for a safe answer. So ``preferences(..., by="safer")`` and
    ``labelled(..., by="safe", threshold=0.5)`` are the other two data sets of SACPO. Two equal answers are one
    candidate, of score and ``safer`` 0.5, and safe if both labels say so.
    """
    for number, data in source.rows():
        with source.record(number):
            pair = safe_pair(data)
            first, second = pair.answers
            numbers = {
                text: (float(pair.better == place), float(pair.safer == place), float(pair.safe[place]))
                for place, text in enumerate(pair.answers)
            }
            if first == second:
                numbers = {first: (0.5, 0.5, float(all(pair.safe)))}
            yield ranking(ROLES, pair.prompt, numbers, number, more=("safer", "safe"))
