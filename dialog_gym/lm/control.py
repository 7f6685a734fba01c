"""How much an action changes what is said: the report that a prefix map is judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dialog_gym.lm.base import LanguageModel, Messages, Sampling
from dialog_gym.lm.prefix import PrefixMap

Attributes = Callable[[Sequence[str]], NDArray[Any]]
Encode = Callable[[Sequence[str]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Transplant:
    """What becomes of a reply that is encoded, and whose action is then decoded in another context.

    Attributes:
        similarity: Mean token edit similarity of the reply and what its action says elsewhere.
        chance: The same for all other replies; without control, ``similarity`` is no higher.
        correlations: Per attribute, correlation between the reply and what its action says elsewhere.
    """

    similarity: float
    chance: float
    correlations: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ControlReport:
    """The same random actions in several contexts.

    Attributes:
        contexts: Number of prompts.
        actions: Number of actions tried in each.
        distinct: Share of different replies within a context: 1 if every action says something else.
        similarity: Mean token edit similarity of two replies in one context: 1 if all say the same.
        unlike_unsteered: Share of replies that differ from what the model says without a prefix.
        within: Per attribute, share of its variance that lies between the actions within a context.
        due: Per attribute, share of its variance that an action causes whatever the context.
        transplant: Of replies, if there is an encoder.
    """

    contexts: int
    actions: int
    distinct: float
    similarity: float
    unlike_unsteered: float
    within: tuple[float, ...] = ()
    due: tuple[float, ...] = ()
    transplant: Transplant | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)


def control_report(
    lm: LanguageModel,
    prefix_map: PrefixMap,
    prompts: Sequence[Messages],
    *,
    actions: int = 16,
    sampling: Sampling | None = None,
    attributes: Attributes | None = None,
    encode: Encode | None = None,
    seed: int = 0,
) -> ControlReport:
    """Say the same random actions in the contexts ``prompts`` and compare the replies.

    Args:
        lm: The model.
        prefix_map: The map under test.
        prompts: Contexts; the transplant test needs at least three.
        actions: How many, uniform in [-1, 1].
        sampling: How replies are drawn; greedy, so that all difference is the action's, unless given.
        attributes: From n replies to numbers (n, k); NaN where a reply has no such attribute.
        encode: From n replies to their actions (n, action size), such as ``Fitted.encode``.
        seed: Of the actions.

    Raises:
        ValueError: There are fewer than two actions or no prompts.
    """
    if actions < 2 or not prompts:
        raise ValueError(f"expected at least two actions and a prompt, got {actions} and {len(prompts)}")
    sampling = sampling or Sampling()
    speak = _Speaker(lm, prefix_map, prompts, sampling)
    drawn = np.random.default_rng(seed).uniform(-1.0, 1.0, (actions, prefix_map.action_size)).astype(np.float32)
    said = [speak(np.repeat(action[None], len(prompts), axis=0)) for action in drawn]  # actions x contexts
    contexts = list(zip(*said, strict=True))
    plain = lm.generate(prompts, sampling, seeds=range(len(prompts)))
    numbers = None if attributes is None else np.stack([np.asarray(attributes(row), float) for row in said])
    return ControlReport(
        contexts=len(prompts),
        actions=actions,
        distinct=float(np.mean([len(set(replies)) / actions for replies in contexts])),
        similarity=float(np.mean([_mean_similarity(replies) for replies in contexts])),
        unlike_unsteered=float(
            np.mean([reply != p.text for replies, p in zip(contexts, plain, strict=True) for reply in replies])
        ),
        within=() if numbers is None else _shares(numbers, numbers - _mean(numbers, 0)),
        due=() if numbers is None else _shares(numbers, np.broadcast_to(_mean(numbers, 1), numbers.shape)),
        transplant=None if encode is None else _transplant(speak, len(prompts), drawn, encode, attributes),
    )


def edit_similarity(first: str, second: str) -> float:
    """Return 1 - (Levenshtein distance / longer length), in words.

    >>> edit_similarity("I offer ninety", "I offer you eighty")
    0.5
    """
    a, b = first.split(), second.split()
    if not a and not b:
        return 1.0
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return 1.0 - row[-1] / max(len(a), len(b))


class _Speaker:
    """Says one action in each context; the contexts are read once."""

    def __init__(
        self, lm: LanguageModel, prefix_map: PrefixMap, prompts: Sequence[Messages], sampling: Sampling
    ) -> None:
        self.map, self.sampling = prefix_map, sampling
        self.rows = range(len(prompts))
        self.session = lm.session(len(prompts))
        self.states = self.session.read(self.rows, prompts)

    def __call__(self, actions: NDArray[Any]) -> list[str]:
        prefixes = self.map(actions, self.states)
        replies = self.session.write(
            self.rows, self.sampling, prefixes=prefixes, seeds=self.rows, position=self.map.position
        )
        return [reply.text for reply in replies]


def _mean_similarity(replies: Sequence[str]) -> float:
    pairs = [(a, b) for i, a in enumerate(replies) for b in replies[:i]]
    return float(np.mean([edit_similarity(a, b) for a, b in pairs]))


def _mean(numbers: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return means that leave NaN out, NaN where there is nothing else; the axis stays."""
    there = np.isfinite(numbers)
    count = there.sum(axis=axis, keepdims=True)
    total = np.where(there, numbers, 0.0).sum(axis=axis, keepdims=True)
    mean: NDArray[Any] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _shares(numbers: NDArray[Any], part: NDArray[Any]) -> tuple[float, ...]:
    """Return var(part) / var(numbers) per attribute (last axis), 0 where an attribute never varies."""
    shares = []
    for k in range(numbers.shape[-1]):
        there = np.isfinite(numbers[..., k])
        total = float(np.var(numbers[..., k][there])) if there.any() else 0.0
        shares.append(float(np.var(part[..., k][there])) / total if total > 0 else 0.0)
    return tuple(shares)


def _transplant(
    speak: _Speaker,
    count: int,
    actions: NDArray[Any],
    encode: Encode,
    attributes: Attributes | None,
) -> Transplant:
    """Encode replies of different actions, and say what was found in the next context."""
    if count < 3:
        raise ValueError(f"the transplant test needs at least three prompts, got {count}")
    originals = speak(actions[np.arange(count) % len(actions)])
    found = np.asarray(encode(originals), np.float32)
    moved = speak(np.roll(found, 1, axis=0))  # context i hears reply i - 1
    wanted = [originals[i - 1] for i in range(count)]
    similarity = float(np.mean([edit_similarity(a, b) for a, b in zip(moved, wanted, strict=True)]))
    chance = float(
        np.mean(
            [
                edit_similarity(a, originals[j])
                for i, a in enumerate(moved)
                for j in range(count)
                if j != (i - 1) % count
            ]
        )
    )
    correlations: tuple[float, ...] = ()
    if attributes is not None:
        before, after = (np.asarray(attributes(texts), float) for texts in (wanted, moved))
        correlations = tuple(_correlation(before[:, k], after[:, k]) for k in range(before.shape[1]))
    return Transplant(similarity, chance, correlations)


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    there = np.isfinite(a) & np.isfinite(b)
    a, b = a[there], b[there]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
