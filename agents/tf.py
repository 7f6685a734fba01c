"""Teacher forcing: imitate recorded dialogues, wholly, the agent's words alone, or the best (filtered imitation).

The imitation baselines of Sodhi et al. 2023, arXiv:2307.12425 (``TF``, ``TF All``, ``TF Top``), under three names:

- ``tf`` (the base model): cross-entropy on every token of every dialogue, the partner's and the context's too.
- ``tf_all``: cross-entropy on the agent's tokens alone, of every dialogue or candidate.
- ``tf_top``: the same on the best of them: the ``top`` percent by return, or where ``threshold`` is set those whose
  return is at least it (candidates of rankings: the score).

Loss: the mean over the tokens learned of -log p(token | all before it).

Differences from the paper's code:

1. A dialogue of several turns is one example, learned at every agent turn; there, each response is an example. The
   two have the same gradient.
2. Dialogues are padded or packed into lines of their own; there, ``tf`` cuts one stream of text into blocks of 1024
   and drops the rest, so that most dialogues of a block see the end of a foreign one.
3. Chats are written by the tokenizer's template and end with its token; ``dialog_gym.agents.lm_lines`` writes the
   strings of the paper's code byte for byte, for comparisons. There is no newline to be learned behind a response.
4. The threshold is on the reward whatever it is; the paper's is 1 for rewards of 0 and 1. Graded returns have ``top``.
5. AdamW with a warm-up, no weight decay; learning rate 1e-3 suits the tiny model (theirs: 1e-4 to 5e-4).

Run it with ``python -m dialog_gym.agents.tf --data runs/logged --out runs/tf``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from dialog_gym.agent import Evaluate, main
from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_network import Outputs
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy
from dialog_gym.agents.lm_recorded import train_lm
from dialog_gym.agents.lm_steps import Sums
from dialog_gym.agents.lm_tokens import TokenBatch, TokenRow, learn_everything
from dialog_gym.agents.lm_training import DataArgs, LMTraining, cross_entropy
from dialog_gym.data.columns import DatasetError


@dataclass(frozen=True)
class Args(DataArgs):
    """Settings of ``tf``."""

    out: str = "runs/tf"
    """Run folder. The same command started again goes on there."""


@dataclass(frozen=True)
class AllArgs(DataArgs):
    """Settings of ``tf_all``."""

    out: str = "runs/tf_all"
    """Run folder. The same command started again goes on there."""


@dataclass(frozen=True)
class TopArgs(DataArgs):
    """Settings of ``tf_top``."""

    out: str = "runs/tf_top"
    """Run folder. The same command started again goes on there."""
    top: float = 10.0
    """Percent of the dialogues to learn from, those with the highest returns; what ties with the last is in."""
    threshold: float | None = None
    """Learn from returns (scores) of at least this instead."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        if not 0 < self.top <= 100:
            raise ValueError(f"top must be above 0 and at most 100 percent, got {self.top}")


class TF(LMPolicy):
    """Imitates both sides of every dialogue."""

    name = "tf"
    args_class: ClassVar[type[LMArgs]] = Args


class TFAll(LMPolicy):
    """Imitates the agent in every dialogue."""

    name = "tf_all"
    args_class: ClassVar[type[LMArgs]] = AllArgs


class TFTop(LMPolicy):
    """Imitates the agent in the best dialogues."""

    name = "tf_top"
    args_class: ClassVar[type[LMArgs]] = TopArgs


def bar_of(returns: Sequence[float], top: float, threshold: float | None) -> float:
    """Return what a dialogue must at least earn to be learned from.

    >>> bar_of([0.0, 0.2, 0.4, 0.6, 0.8], 40.0, None), bar_of([0.0, 1.0], 10.0, 0.6)
    (0.6, 0.6)

    Raises:
        DatasetError: All returns are the same, so that the best are no better.
    """
    if threshold is not None:
        return threshold
    if min(returns) == max(returns):
        raise DatasetError(
            f"all {len(returns)} dialogues have the return {returns[0]:g}, so none is better than another: set "
            "threshold, or learn from all of them (tf_all)"
        )
    count = max(1, round(top / 100 * len(returns)))
    return float(np.sort(np.array(returns))[-count])


class Training(LMTraining[LMPolicy]):
    """Cross-entropy on what is to be imitated."""

    def rows(self, train: list[Told], held_out: list[Told]) -> tuple[list[TokenRow], list[TokenRow]]:
        """Return the dialogues that are good enough."""
        if isinstance(self.args, TopArgs):
            bar = bar_of([one.total for one in train], self.args.top, self.args.threshold)
            train, held_out = ([one for one in part if one.total >= bar] for part in (train, held_out))
            if not train:
                raise DatasetError(f"no dialogue has a return of at least {bar:g}; lower the threshold")
        found = self.tokens(train), self.tokens(held_out)
        if isinstance(self.agent, TF):
            return [learn_everything(row) for row in found[0]], [learn_everything(row) for row in found[1]]
        return found

    def loss(self, outputs: Outputs, batch: TokenBatch) -> tuple[Tensor, Sums]:
        """Return the sum of the cross-entropies."""
        return cross_entropy(outputs.logits, batch.actions).sum(), {}


def train(args: Args, *, evaluate: Evaluate | None = None) -> TF:
    """Train ``tf``, or go on where the run folder ``args.out`` stands; see ``lm_recorded.train_lm`` for errors."""
    return train_lm(TF, args, lambda args: Training(TF, args), evaluate)


def train_all(args: AllArgs, *, evaluate: Evaluate | None = None) -> TFAll:
    """Train ``tf_all``, likewise."""
    return train_lm(TFAll, args, lambda args: Training(TFAll, args), evaluate)


def train_top(args: TopArgs, *, evaluate: Evaluate | None = None) -> TFTop:
    """Train ``tf_top``, likewise."""
    return train_lm(TFTop, args, lambda args: Training(TFTop, args), evaluate)


if __name__ == "__main__":
    main("tf")
