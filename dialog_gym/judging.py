"""Score played episodes by a judge, beside what the environment rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from dialog_gym.lm.base import Counts
from dialog_gym.rewards.judge import Judge
from dialog_gym.rewards.rubric import Verdict
from dialog_gym.rollout import Episode, bootstrap


@dataclass(frozen=True)
class Judged:
    """What a judge said of a number of episodes.

    Attributes:
        model: Who judged.
        rubric: By which rubric.
        verdicts: One per episode, in their order.
        counts: What this has cost: the growth of ``dialog_gym.lm.base.Counts``, as JSON values.
    """

    model: str
    rubric: str
    verdicts: tuple[Verdict, ...]
    counts: Mapping[str, Any]

    @property
    def scores(self) -> list[float]:
        """Mean score of each episode."""
        return [verdict.score for verdict in self.verdicts]

    @property
    def interval(self) -> tuple[float, float]:
        """95% bootstrap interval of the mean score over episodes."""
        return bootstrap(self.scores)

    @property
    def dimensions(self) -> dict[str, float]:
        """Mean score by dimension."""
        names = self.verdicts[0].scores
        return {name: float(np.mean([verdict.scores[name] for verdict in self.verdicts])) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return the summary and the scores as plain JSON values."""
        return {
            "model": self.model,
            "rubric": self.rubric,
            "mean": float(np.mean(self.scores)),
            "interval": list(self.interval),
            "dimensions": self.dimensions,
            "scores": self.scores,
            "counts": dict(self.counts),
        }

    def rows(self) -> list[dict[str, str]]:
        """Return what a table shows: the mean score, and that of each dimension."""
        low, high = self.interval
        whole = {
            "judged by": self.rubric,
            "mean": f"{np.mean(self.scores):.2f}",
            "95% interval": f"{low:.2f} .. {high:.2f}",
        }
        parts = self.dimensions if len(self.dimensions) > 1 else {}
        return [
            whole,
            *({"judged by": name, "mean": f"{mean:.2f}", "95% interval": ""} for name, mean in parts.items()),
        ]

    def spent(self) -> str:
        """Return what it has cost, as a sentence."""
        asked, known, read, written, cost = (
            self.counts[name] for name in ("requests", "hits", "prefilled", "generated", "cost")
        )
        price = f", price {cost:.4f}" if cost else ""
        return (
            f"The judge read {read:,} tokens and wrote {written:,} ({asked} requests, {known} answers known){price}."
        )


def judge_episodes(judge: Judge, episodes: Sequence[Episode]) -> Judged:
    """Let ``judge`` score the dialogues of ``episodes`` (at least one), all in one batched call.

    Raises:
        LanguageModelError: One could not be judged. With an answer cache, what was answered costs nothing again.
    """
    before = _numbers(judge.lm.counts)
    verdicts = tuple(judge.verdicts([episode.dialogue for episode in episodes]))
    spent = {name: number - before.get(name, 0) for name, number in _numbers(judge.lm.counts).items()}
    return Judged(judge.lm.name, judge.rubric.name, verdicts, spent)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return one verdict as plain JSON values."""
    return {"score": verdict.score, "scores": dict(verdict.scores), "reasoning": verdict.reasoning}


def _numbers(counts: Counts) -> dict[str, float]:
    """Return ``counts`` as one number each; retries by what had gone wrong."""
    numbers = {field.name: getattr(counts, field.name) for field in fields(counts) if field.name != "retries"}
    return {**numbers, **{f"retries/{why}": number for why, number in counts.retries.items()}}
