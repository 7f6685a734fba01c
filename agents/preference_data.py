"""Rankings as preference data: pairs of answers for DPO, labelled answers for KTO, both as tokens.

A context is put to the model as when the policy acts (the task's notation, the chat template, the oldest turns going
first), and an answer is the tokens that the model would draw to say it, the end of the turn included: all of
``dialog_gym.agents.lm_tokens`` holds. What is learned from is a number that each candidate has: ``Ranking.by``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from dialog_gym.agents.lm_data import Told, Wordings, read_rows, told_ranking
from dialog_gym.agents.lm_tokens import Empty, token_rows
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Ranking
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.task import Task

Ints = npt.NDArray[np.int32]

RowT = TypeVar("RowT")
Which = Literal["all", "best"]
"""Pairs of a context: every two answers, or the best with the worst."""


@dataclass(frozen=True)
class Context:
    """A context and its answers, as tokens.

    Attributes:
        prompt: What is read before an answer.
        answers: The tokens of each answer, no two alike.
        values: What each is worth, higher is better.
        group: Number of the context.
    """

    prompt: Ints
    answers: tuple[Ints, ...]
    values: tuple[float, ...]
    group: int


@dataclass(frozen=True)
class Pair:
    """Two answers to one context.

    Attributes:
        prompt: What is read before them.
        chosen: The better answer.
        rejected: The other.
        reference: Log-probability of each under the reference; empty if not yet known.
    """

    prompt: Ints
    chosen: Ints
    rejected: Ints
    reference: tuple[float, ...] = ()

    def __len__(self) -> int:
        """Return the number of tokens that are read."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)

    def example(self) -> dict[str, Any]:
        """Return the row as TRL's ``DPOTrainer`` wants it."""
        found = {"prompt_ids": self.prompt, "chosen_ids": self.chosen, "rejected_ids": self.rejected}
        known = zip(("ref_chosen_logps", "ref_rejected_logps"), self.reference, strict=False)
        return {**{name: ids.tolist() for name, ids in found.items()}, **dict(known)}


@dataclass(frozen=True)
class Labelled:
    """An answer that is desirable or not.

    Attributes:
        prompt: What is read before it.
        answer: What was said.
        other: An answer to another context, by which the distance from the reference is estimated.
        label: Whether it is desirable.
        reference: Log-probability of ``answer`` and ``other`` under the reference; empty if not yet known.
    """

    prompt: Ints
    answer: Ints
    other: Ints
    label: bool
    reference: tuple[float, ...] = ()

    def __len__(self) -> int:
        """Return the number of tokens that are read."""
        return 2 * len(self.prompt) + len(self.answer) + len(self.other)

    def example(self) -> dict[str, Any]:
        """Return the row as TRL's ``KTOTrainer`` wants it."""
        found = {"prompt_ids": self.prompt, "completion_ids": self.answer, "KL_completion_ids": self.other}
        known = zip(("ref_logps", "ref_KL_logps"), self.reference, strict=False)
        return {**{name: ids.tolist() for name, ids in found.items()}, "label": self.label, **dict(known)}


# --- reading -----------------------------------------------------------------------------------


def read_rankings(
    data: Iterable[str], lm: TransformersLM, task: Task | None = None, *, metric: str = "score", limit: int = 0
) -> list[Told]:
    """Return every candidate of the rankings in ``data`` as ``lm`` is put it, with its number as reward.

    White space around what a candidate says is no part of it.

    Args:
        data: As in ``lm_data.read_data``; all of it rankings.
        lm: The model that is to learn.
        task: Words rankings that do not tell their environment.
        metric: The number, as in ``Ranking.by``: ``score``, ``-cost``.
        limit: Most contexts; 0: all.

    Raises:
        DatasetError: Data cannot be read, are no rankings, or have no such number.
    """
    return [one for told in islice(_by_context(data, Wordings(lm, task), metric), limit or None) for one in told]


def require_metric(data: Iterable[str], metric: str) -> None:
    """Refuse data whose first row is no ranking or has no such number, without reading all of it.

    Raises:
        DatasetError: It is so, or data cannot be read.
    """
    for source in data:
        for row in islice(read_rows(source), 1):
            _by(row, metric, f"row 0 of {source}")


def _by(row: Any, metric: str, origin: str) -> Ranking:
    """Return a ranking whose scores are the numbers named ``metric``."""
    if not isinstance(row, Ranking):
        raise DatasetError(
            f"{origin}: expected a ranking (a context and scored candidates), got a dialogue; `dialog-gym branch` "
            "makes rankings in an environment"
        )
    try:
        return replace(row, scores=row.by(metric))
    except KeyError as error:
        raise DatasetError(f"{origin}: {error.args[0]}; choose another metric") from error


def _by_context(data: Iterable[str], reading: Wordings, metric: str) -> Iterator[list[Told]]:
    group = 0
    for source in data:
        for number, row in enumerate(read_rows(source)):
            origin = f"row {number} of {source}"
            ranking = _by(row, metric, origin)
            played = bool(ranking.meta.get("env"))  # in an environment silence is an answer like others
            told = told_ranking(ranking, reading, origin, group)
            yield [replace(one, played=played, replies=(one.replies[0].strip(),)) for one in told]
            group += 1


def contexts(
    told: Sequence[Told], lm: TransformersLM, *, max_tokens: int = 32, empty: Empty = "refuse"
) -> list[Context]:
    """Return candidates by context, as tokens; of answers that are the same tokens only the first.

    Raises:
        DatasetError: An answer is empty, or a context longer than the model can read; the message says which.
    """
    rows = token_rows(told, lm, max_tokens=max_tokens, empty=empty)
    found = []
    for group, part in groupby(rows, key=lambda row: row.group):
        prompt: Ints = np.zeros(0, np.int32)
        answers: dict[bytes, tuple[Ints, float]] = {}
        for row in part:
            prompt, answer = row.tokens[: row.said[0]], row.tokens[row.said[0] :]
            answers.setdefault(answer.tobytes(), (answer, row.total))
        texts, values = zip(*answers.values(), strict=True)
        found.append(Context(prompt, texts, values, group))
    return found


# --- what is learned from -----------------------------------------------------------------------


def pairs(
    found: Sequence[Context],
    *,
    margin: float = 0.0,
    share: float = 1.0,
    which: Which = "all",
    required: bool = True,
) -> list[Pair]:
    """Return pairs of answers whose values differ by more than ``margin``; of these the ``share`` that differs most.

    Raises:
        DatasetError: There is none, and one is ``required``.
    """
    chosen, gaps = [], []
    for one in found:
        best = sorted(range(len(one.values)), key=lambda i: -one.values[i])
        every = [(i, j) for place, i in enumerate(best) for j in best[place + 1 :]]
        for i, j in every if which == "all" else [(best[0], best[-1])]:
            if (gap := one.values[i] - one.values[j]) > margin:
                chosen.append(Pair(one.prompt, one.answers[i], one.answers[j]))
                gaps.append(gap)
    if required and found and not chosen:
        lone = sum(len(one.answers) < 2 for one in found)
        raise DatasetError(
            f"no pair to learn from: in none of {len(found)} contexts do two different answers differ by more than "
            f"{margin:g} ({lone} have one text alone, the others equal numbers); take other data, another metric or a "
            "smaller margin"
        )
    return _largest(chosen, gaps, share)


def labelled(
    found: Sequence[Context],
    *,
    threshold: float | None = None,
    margin: float = 0.0,
    share: float = 1.0,
    seed: int = 0,
    required: bool = True,
) -> list[Labelled]:
    """Return answers as desirable or not, in random order.

    Desirable is what is worth at least ``threshold``, or where that is None more than the mean of its context. What is
    nearer to the bar than ``margin``, or is the mean, is left out; of the rest only the ``share`` is taken that is
    farthest from its bar.
    The answer of another context that each row holds is that of the nearest row before it, in a circle.

    Raises:
        DatasetError: No answer is clearly on a side, and one is ``required``.
    """
    chosen, gaps = [], []
    for one in found:
        bar = float(np.mean(one.values)) if threshold is None else threshold
        for answer, value in zip(one.answers, one.values, strict=True):
            above = value > bar + margin if threshold is None else value >= bar + margin
            if above or value < bar - margin:
                chosen.append((one, answer, above))
                gaps.append(abs(value - bar))
    if required and found and not chosen:
        raise DatasetError(
            f"no answer to learn from: in none of {len(found)} contexts is one further than {margin:g} from "
            f"{'the mean' if threshold is None else 'the threshold'}; take other data, another metric or a threshold"
        )
    chosen = _largest(chosen, gaps, share)
    order = np.random.default_rng([seed, 3]).permutation(len(chosen)).tolist()
    rows = [chosen[place] for place in order]
    others = _others([one.prompt.tobytes() for one, _, _ in rows])
    return [
        Labelled(one.prompt, answer, rows[other][1], label)
        for (one, answer, label), other in zip(rows, others, strict=True)
    ]


def class_weights(rows: Sequence[Labelled]) -> tuple[float, float]:
    """Return the weights of desirable and undesirable rows under which both classes count the same.

    The rarer class is weighted by the number of the others over its own.

    >>> answer = np.zeros(1, np.int32)
    >>> class_weights([Labelled(answer, answer, answer, label) for label in (True, True, True, False)])
    (1.0, 3.0)

    Raises:
        DatasetError: All rows are of one class.
    """
    good = sum(row.label for row in rows)
    bad = len(rows) - good
    if not good or not bad:
        raise DatasetError(
            f"KTO needs desirable and undesirable answers, got {good} and {bad}: set threshold so that it parts them"
        )
    return max(bad / good, 1.0), max(good / bad, 1.0)


def _largest(rows: list[RowT], gaps: Sequence[float], share: float) -> list[RowT]:
    """Return the ``share`` of rows with the largest gaps, in their order, and those with the same gap as the least.

    >>> _largest(["a", "b", "c", "d"], [0.1, 0.3, 0.2, 0.3], 0.25)
    ['b', 'd']
    """
    if share == 1 or not rows:
        return rows
    least = sorted(gaps, reverse=True)[math.ceil(share * len(gaps)) - 1]
    return [row for row, gap in zip(rows, gaps, strict=True) if gap >= least]


def _others(prompts: Sequence[bytes]) -> list[int]:
    """Return for each place the nearest before it, in a circle, with another prompt; the last if none has.

    >>> _others([b"1", b"1", b"2", b"3"])
    [3, 3, 1, 2]
    >>> _others([b"5", b"5", b"5"])
    [2, 2, 2]
    """
    count = len(prompts)
    last = next((place for place in reversed(range(count)) if prompts[place] != prompts[0]), count - 1)
    found = []
    for place, prompt in enumerate(prompts):
        if place and prompts[place - 1] != prompt:
            last = place - 1
        found.append(last)
    return found
