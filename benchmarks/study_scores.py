"""Scores of responses in ``dialog_gym.benchmarks.study``: metrics, best of k, intervals, tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dialog_gym.benchmarks.paired import crossed_interval
from dialog_gym.benchmarks.statistics import markdown_table, with_interval
from dialog_gym.benchmarks.study_data import Context
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import LanguageModel
from dialog_gym.rewards.bert_score import BertClick, BertScore, BertScorer
from dialog_gym.rewards.perplexity import Perplexity
from dialog_gym.rewards.text_metrics import Bleu, Chrf, Meteor, TextMetric, WordOverlap
from dialog_gym.rollout import bootstrap

Doubles = npt.NDArray[np.float64]

LEXICAL: Mapping[str, type[TextMetric]] = {"bleu": Bleu, "chrf": Chrf, "meteor": Meteor, "overlap": WordOverlap}
METRICS = ("bertscore", "click", *LEXICAL, "perplexity")
_TOGETHER = 32  # dialogues whose perplexity is measured in one pass
LOWER = frozenset({"perplexity"})
"""Metrics of which less is better."""


class Judge:
    """Measures responses by their likeness to what a person said, or by how likely a language model finds them.

    ``bertscore`` is F1 rescaled by ``baseline``, ``click`` whether it exceeds ``threshold``, ``perplexity`` minus the
    mean log-probability of the tokens (nats; 10 for no words). The others lie in [0, 1].

    Attributes:
        known: Names of what can be measured here.
    """

    def __init__(
        self,
        names: Sequence[str],
        lm: LanguageModel | None = None,
        *,
        encoder: str = "semantic",
        baseline: Sequence[float] | None = None,
        threshold: float = 0.6,
    ) -> None:
        """Load what is needed for ``names``; what is not installed is left out of ``known``."""
        self.lm, self.metrics = lm, dict[str, TextMetric | Perplexity]()
        for name in names:
            try:
                self.metrics[name] = self._made(name, encoder, baseline, threshold)
            except ModuleNotFoundError:
                continue
        self.known = tuple(self.metrics)

    def _made(self, name: str, encoder: str, baseline: Sequence[float] | None, threshold: float) -> Any:
        if name in LEXICAL:
            metric = LEXICAL[name]()
            metric.measured(["a"], [("a",)])  # whether its package is installed
            return metric
        if name == "perplexity":
            if self.lm is None:
                raise ValueError("perplexity needs a language model")
            return Perplexity(self.lm)
        base = None if baseline is None else (float(baseline[0]), float(baseline[1]), float(baseline[2]))
        others = (one.scorer for one in self.metrics.values() if isinstance(one, BertScore | BertClick))
        scorer = next(others, None) or BertScorer(encoder, baseline=base)
        return BertScore(scorer) if name == "bertscore" else BertClick(scorer, threshold=threshold)

    def measure(self, name: str, contexts: Sequence[Context], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return a number for each text of each context."""
        metric = self.metrics[name]
        pairs = [(one, text) for one, some in zip(contexts, texts, strict=True) for text in some]
        if isinstance(metric, Perplexity):
            numbers = _surprise(metric, [one.dialogue.said(one.dialogue.roles[0], text) for one, text in pairs])
        else:
            numbers = metric.measured([text for _, text in pairs], [(one.reference,) for one, _ in pairs]).tolist()
        rest = iter(numbers)
        return [[next(rest) for _ in some] for some in texts]


def _surprise(metric: Perplexity, dialogues: Sequence[Dialogue]) -> list[float]:
    """Return the perplexity of each newest turn; dialogues of like length are read together, without much padding."""
    order = sorted(range(len(dialogues)), key=lambda place: sum(len(turn.text) for turn in dialogues[place].turns))
    found = [0.0] * len(dialogues)
    for places in (order[start : start + _TOGETHER] for start in range(0, len(order), _TOGETHER)):
        for place, number in zip(places, metric([dialogues[place] for place in places]).tolist(), strict=True):
            found[place] = number
    return found


def baseline_of(references: Sequence[str], encoder: str, seed: int) -> list[float]:
    """Return precision, recall and F1 of BERTScore between responses to different contexts: what "unlike" scores.

    Zhang et al. 2020 (arXiv:1904.09675) take the mean over random pairs of sentences of a large corpus; these are of
    the corpus that is studied.
    """
    order = np.random.default_rng(seed).permutation(len(references)).tolist()
    found = BertScorer(encoder)([references[k] for k in order], [references[k] for k in order[1:] + order[:1]])
    return [float(column.mean()) for column in found]


def best_of(values: npt.ArrayLike, lower: bool = False) -> Doubles:
    """Return the best of the first k = 1 .. n of each row, shape as ``values``, (contexts, n).

    >>> best_of([[0.2, 0.5, 0.4]]).tolist(), best_of([[0.2, 0.5, 0.1]], lower=True).tolist()
    ([[0.2, 0.5, 0.5]], [[0.2, 0.2, 0.1]])
    """
    array = np.asarray(values, np.float64)
    found: Doubles = np.minimum.accumulate(array, 1) if lower else np.maximum.accumulate(array, 1)
    return found


def ordered(
    numbers: Mapping[str, Sequence[Sequence[float]]], worth: Sequence[Sequence[float]]
) -> dict[str, list[list[float]]]:
    """Return the numbers of each context's responses in the order of what those are worth, the highest first.

    >>> ordered({"chrf": [[0.1, 0.2, 0.3]]}, [[5.0, 7.0, 5.0]])
    {'chrf': [[0.2, 0.1, 0.3]]}
    """
    order = [np.argsort(-np.asarray(row), kind="stable").tolist() for row in worth]
    return {
        metric: [[row[place] for place in places] for row, places in zip(rows, order, strict=True)]
        for metric, rows in numbers.items()
    }


Numbers = Mapping[str, Sequence[Sequence[float]]]
"""Of each metric, shape (contexts, n)."""
BySeed = Mapping[int, Numbers]
"""Of each seed of training; 0 is that of what has not learned, and stands beside every other."""


class Line(NamedTuple):
    """A metric of a method: the mean over seeds and contexts, and the ends of its 95% interval.

    With one seed the interval is that for other contexts alone (bootstrap), with more that for other seeds and
    contexts (``paired.crossed_interval``).
    """

    method: str
    metric: str
    k: int
    seeds: int
    mean: float
    low: float
    high: float


def table(found: Mapping[str, BySeed]) -> list[Line]:
    """Return a line per method, metric and k, from the numbers of each method."""
    lines = []
    for method, seeds in found.items():
        for metric in next(iter(seeds.values())):
            best = np.stack([best_of(one[metric], metric in LOWER) for one in seeds.values()])
            for k in range(best.shape[2]):
                lines.append(_line(method, metric, k + 1, best[:, :, k]))
    return lines


def gains(found: Mapping[str, BySeed], floor: str) -> list[Line]:
    """Return what each method has more than ``floor`` with its first response, paired by seed and by context."""
    lines = []
    for method, own in found.items():
        pairs = [(own.get(seed, own.get(0)), other) for seed, other in found.get(floor, {}).items()]
        both = [(one, other) for one, other in pairs if one is not None]
        if method == floor or not both:
            continue
        for metric in both[0][0]:
            gain = np.stack([_first(one[metric]) - _first(other[metric]) for one, other in both])
            lines.append(_line(f"{method} - {floor}", metric, 1, gain))
    return lines


def _first(numbers: Sequence[Sequence[float]]) -> Doubles:
    return np.asarray(numbers, np.float64)[:, 0]


def _line(method: str, metric: str, k: int, values: Doubles) -> Line:
    """Return the line of ``values``, shape (seeds, contexts)."""
    ends = crossed_interval(values) if min(values.shape) > 1 else bootstrap(values.mean(axis=0))
    return Line(method, metric, k, len(values), float(values.mean(axis=0).mean()), *ends)


def markdown(lines: Sequence[Line]) -> str:
    """Return one line per method and k, one column per metric."""
    metrics = list(dict.fromkeys(line.metric for line in lines))
    found: dict[tuple[str, int, int], dict[str, Line]] = {}
    for line in lines:
        found.setdefault((line.method, line.seeds, line.k), {})[line.metric] = line
    rows = [
        (method, f"{seeds}", f"{k}", *(_cell(by_metric.get(metric)) for metric in metrics))
        for (method, seeds, k), by_metric in found.items()
    ]
    return markdown_table(("method", "seeds", "best of", *metrics), rows)


def _cell(line: Line | None) -> str:
    return "" if line is None else with_interval(3, line.mean, line.low, line.high)


def write_csv(
    path: Path,
    contexts: Sequence[Context],
    said: Sequence[Sequence[str]],
    numbers: Mapping[str, Sequence[Sequence[float]]],
) -> None:
    """Write a line per context: its words, the person's response, the responses, and their numbers."""
    count = len(said[0])
    names = [f"response_{k + 1}" for k in range(count)]
    columns = [f"{metric}_{k + 1}" for metric in numbers for k in range(count)]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)  # an empty response is "", and nothing else
        writer.writerow(["context", "true_response", *names, *columns])
        for row, (one, texts) in enumerate(zip(contexts, said, strict=True)):
            found = [number for metric in numbers.values() for number in metric[row]]
            writer.writerow([one.dialogue.transcript(one.dialogue.roles[0]), one.reference, *texts, *found])
