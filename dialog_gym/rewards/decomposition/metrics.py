"""How good a decomposition is: correlation of turn rewards with the truth, and mean rewards per class of a signal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

_FEW = 8  # distinct values of a signal that are classes of their own
_TURNS = 3  # turns that a dialogue needs for a correlation within it


def pearson(one: Floats, two: Floats) -> float:
    """Return the correlation of two arrays of shape ``(n,)``; NaN where one of them does not vary.

    >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 7.0])), 3)
    0.993
    """
    a, b = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (one, two))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 1e-12 else math.nan


def ranks(values: Floats) -> npt.NDArray[np.float64]:
    """Return the rank of each value, from 1; equal values share the mean of theirs.

    >>> ranks(np.array([5.0, 1.0, 5.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: npt.NDArray[np.float64] = (ends - (counts - 1) / 2)[places]
    return found


def spearman(one: Floats, two: Floats) -> float:
    """Return the correlation of the ranks; NaN where one array does not vary."""
    return pearson(ranks(one), ranks(two))


def correlations(learned: Sequence[Floats], truth: Sequence[Floats]) -> dict[str, float]:
    """Return how learned rewards go with the truth, both given per dialogue.

    ``pearson`` and ``spearman`` are pooled over all turns; ``pearson_dialogue`` and ``spearman_dialogue`` are means
    over dialogues of at least 3 turns in which the truth varies (a constant reward counts 0 there).
    """
    found = {
        "pearson": pearson(np.concatenate(learned), np.concatenate(truth)),
        "spearman": spearman(np.concatenate(learned), np.concatenate(truth)),
    }
    for name, measure in (("pearson", pearson), ("spearman", spearman)):
        within = [
            measure(one, two)
            for one, two in zip(learned, truth, strict=True)
            if len(two) >= _TURNS and float(np.std(two)) > 1e-6
        ]
        found[f"{name}_dialogue"] = float(np.mean(np.nan_to_num(within))) if within else math.nan
    return found


def classes(local: Floats) -> list[tuple[str, float, float]]:
    """Return the classes of a signal: name, and the values it has, both ends included.

    At most 8 distinct values are classes of their own; else there are thirds: ``low``, ``middle`` and ``high``.
    """
    known = local[~np.isnan(local)]
    values = np.unique(known)
    if len(values) <= _FEW:
        return [(f"{value:g}", float(value), float(value)) for value in values]
    first, second = np.quantile(known, (1 / 3, 2 / 3))
    least, most = -math.inf, math.inf
    return [
        ("low", least, float(first)),
        ("middle", float(np.nextafter(first, most)), float(np.nextafter(second, least))),
        ("high", max(float(second), float(np.nextafter(first, most))), most),  # no value is in two classes
    ]


def by_class(rewards: Floats, local: Floats, parts: Sequence[tuple[str, float, float]]) -> Mapping[str, float]:
    """Return the mean reward of the turns of each class that there is a turn of."""
    found = {}
    for name, low, high in parts:
        inside = (local >= low) & (local <= high)
        if inside.any():
            found[name] = float(rewards[inside].mean())
    return found
