"""KTO: learn from answers that are desirable or not, without pairs (Ethayarajh et al. 2024, arXiv:2402.01306).

Loss, by TRL's trainer: the mean over answers of ``w+ (1 - sigmoid(beta (r - z)))`` where one is desirable and of
``w- (1 - sigmoid(beta (z - r)))`` where it is not; r is the log-ratio to the reference, summed over the answer's
tokens, and z the distance from the reference: the mean over the batch of the log-ratio of answers to other contexts,
at least 0 and without gradient.

Class weights make both classes count the same, once: the rarer is weighted by the number of the others over its own
(``class_weights``). The code behind SACPO does it twice, by weights and by an equal share of both in each batch, which
may be why its KTO for safety did badly. A batch of one class alone is no error.

Differences from TRL: an answer's partner from another context, which z is estimated with, is drawn once from all rows
and is never of the same context; TRL rotates the answers of each batch. With ``micro``, z is that of each part.

Run it with ``python -m dialog_gym.agents.kto --data runs/ranked --out runs/kto``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dialog_gym.agent import Evaluate, main
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy
from dialog_gym.agents.lm_recorded import train_lm
from dialog_gym.agents.loop import above_0, at_least, from_0_to_1
from dialog_gym.agents.preference_data import Context, Labelled, class_weights, labelled
from dialog_gym.agents.preference_training import PreferenceArgs, PreferenceTraining


@dataclass(frozen=True)
class Args(PreferenceArgs):
    """Settings of ``kto``."""

    out: str = "runs/kto"
    """Run folder. The same command started again goes on there."""
    lr: float = 1e-3
    """AdamW's learning rate; smaller for large models."""
    threshold: float | None = None
    """Desirable is a candidate whose number is at least this; without it, one above the mean of its context."""
    margin: float = 0.0
    """Leave out candidates that are nearer to the bar than this."""
    share: float = 1.0
    """Learn from this share of the candidates alone, those farthest from the bar, in whatever unit."""
    balance: bool = True
    """Weight the rarer class so that both count the same."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 0, "margin")
        above_0(self, "share")
        from_0_to_1(self, "share")
        if (self.micro or self.batch) < 2:
            raise ValueError("KTO estimates a distance from the rows read at once: batch and micro must be 2 or more")


class KTO(LMPolicy):
    """Says what is desirable."""

    name = "kto"
    args_class: ClassVar[type[LMArgs]] = Args


class Training(PreferenceTraining[KTO, Labelled]):
    """KTO on the candidates of rankings."""

    kind = "kto"

    def rows(self, found: Sequence[Context], required: bool) -> list[Labelled]:
        """Return the candidates that are clearly on one side of the bar."""
        args = self.args
        bar = {"threshold": args.threshold, "margin": args.margin, "share": args.share}
        return labelled(found, **bar, seed=args.seed, required=required)

    def settings(self, rows: Sequence[Labelled]) -> dict[str, Any]:
        """Return TRL's fields of the loss; data of one class are refused here."""
        weights = class_weights(rows)
        good, bad = weights if self.args.balance else (1.0, 1.0)
        return {"loss_type": "kto", "desirable_weight": good, "undesirable_weight": bad}


def train(args: Args, *, evaluate: Evaluate | None = None) -> KTO:
    """Train, or go on where the run folder ``args.out`` stands; see ``lm_recorded.train_lm`` for errors."""
    return train_lm(KTO, args, lambda args: Training(KTO, args), evaluate)


if __name__ == "__main__":
    main("kto")
