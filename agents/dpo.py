"""DPO: learn from pairs of answers which to prefer (Rafailov et al. 2023, arXiv:2305.18290), by TRL's trainer.

Loss: the mean over pairs of ``-log sigmoid(beta (log p/ref (chosen) - log p/ref (rejected)))``, where a log-ratio is
summed over the tokens of the answer, its end included. ``loss="ipo"`` is IPO in TRL's form: there log-ratios are means
over tokens.

Pairs are of any number that candidates have (``metric``): ``score``, ``-cost``.

Differences from the code behind SACPO (Wachi et al. 2024, arXiv:2404.11049): prompts lose whole turns, the oldest
first, and not their first tokens; an answer longer than ``max_tokens`` is cut and then has no end to learn; the
learning rate suits the tiny model (2e-5 or less for one of billions of weights).

Run it with ``python -m dialog_gym.agents.dpo --data runs/ranked --out runs/dpo``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dialog_gym.agent import Evaluate, main
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy
from dialog_gym.agents.lm_recorded import train_lm
from dialog_gym.agents.loop import above_0, at_least, from_0_to_1
from dialog_gym.agents.preference_data import Context, Pair, Which, pairs
from dialog_gym.agents.preference_training import PreferenceArgs, PreferenceTraining


@dataclass(frozen=True)
class Args(PreferenceArgs):
    """Settings of ``dpo``."""

    out: str = "runs/dpo"
    """Run folder. The same command started again goes on there."""
    lr: float = 5e-4
    """AdamW's learning rate; smaller for large models."""
    pairs: Which = "all"
    """Pairs of a context: every two candidates, or the best with the worst."""
    margin: float = 0.0
    """Learn from pairs whose numbers differ by more than this."""
    share: float = 1.0
    """Learn from this share of the pairs alone, those that differ most, in whatever unit."""
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """DPO's own, IPO's (arXiv:2310.12036) or SLiC's (arXiv:2305.10425)."""
    label_smoothing: float = 0.0
    """Share of pairs that are thought to be labelled wrongly (with loss=sigmoid; arXiv:2403.00409)."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 0, "margin")
        above_0(self, "share")
        from_0_to_1(self, "share")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing must be a share from 0 and below 0.5, got {self.label_smoothing}")
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing is for loss='sigmoid', got loss={self.loss!r}")


class DPO(LMPolicy):
    """Says what is preferred."""

    name = "dpo"
    args_class: ClassVar[type[LMArgs]] = Args


class Training(PreferenceTraining[DPO, Pair]):
    """DPO on the pairs of rankings."""

    kind = "dpo"

    def rows(self, found: Sequence[Context], required: bool) -> list[Pair]:
        """Return the pairs that differ enough."""
        args = self.args
        return pairs(found, margin=args.margin, share=args.share, which=args.pairs, required=required)

    def settings(self, rows: Sequence[Pair]) -> dict[str, Any]:
        """Return TRL's fields of the loss; its "robust" loss is the smoothed one that stays unbiased."""
        smoothing = self.args.label_smoothing
        return {"loss_type": ["robust" if smoothing else self.args.loss], "label_smoothing": smoothing}


def train(args: Args, *, evaluate: Evaluate | None = None) -> DPO:
    """Train, or go on where the run folder ``args.out`` stands; see ``lm_recorded.train_lm`` for errors."""
    return train_lm(DPO, args, lambda args: Training(DPO, args), evaluate)


if __name__ == "__main__":
    main("dpo")
