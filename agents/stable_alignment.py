"""Stable Alignment: learn from rated answers to the same question (Liu et al. 2023, arXiv:2305.16960).

The data are rankings whose scores are ratings: of a society that talked about its answers
(``dialog_gym.data.society``), or any others with at least two different scores. Of each question ``num_comp``
candidates are drawn anew at every update; the best rated of them is imitated, and where the others are not less likely
by a margin that grows with the difference in ratings, they are pushed away (``stable_alignment_losses``).

Which of three losses a question gets is told by its type: ``contrastive`` is the margin loss, ``plain`` the mean
cross-entropy of all candidates drawn, ``best`` that of the best rated. A rating of a comment is what a peer gave the
*draft*, not how good the comment is, so contrast would teach the most lenient comment: self-critic data are plain by
default.

Differences from the code behind the paper:

1. The margin of a candidate is that of its own rating. There it is that of whichever rating stands at its place in the
   sorted list, right for 1 of the 6 orders of three candidates; ``legacy`` repeats it, for comparison only.
2. Any batch: the loss is the mean over questions. There only the last question of a batch is learned.
3. The end of an answer is learned, and one template (the model's chat template, the task's notation) serves training
   and use. There no end is learned, and the templates of training and inference differ.
4. Self-critic data are plain by default; there every question with two answers is contrastive.
5. Failed ratings, candidates that do not fit, and questions with nothing to compare are refused; there a failed rating
   is a score of -1, and a question that fills the context has the loss NaN.
6. ``margin=1, ratio=0.2`` as on the card of the released model; the code says 1 and .5, its command 10 and .2.
7. AdamW with a learning rate that suits the tiny model; 2e-5 for one of billions of weights.

Run it with ``python -m dialog_gym.agents.stable_alignment --data runs/society/data --out runs/stable_alignment``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from dialog_gym.agent import Evaluate, main
from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_network import Outputs
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy
from dialog_gym.agents.lm_recorded import train_lm
from dialog_gym.agents.lm_steps import Sums
from dialog_gym.agents.lm_tokens import TokenBatch, TokenRow, batch_of
from dialog_gym.agents.lm_training import DataArgs, LMTraining, cross_entropy
from dialog_gym.agents.loop import at_least
from dialog_gym.agents.stable_alignment_data import (
    LOSSES,
    Form,
    Lone,
    Loss,
    Question,
    TooLong,
    notes_of,
    questions_of,
    rated,
    scale_of,
)
from dialog_gym.agents.stable_alignment_losses import best_rated, margin_loss, mean_loss


@dataclass(frozen=True)
class Args(DataArgs):
    """Settings of ``stable_alignment``."""

    out: str = "runs/stable_alignment"
    """Run folder. The same command started again goes on there."""
    batch: int = 16
    """Questions per update."""
    metric: str = "score"
    """Number of each candidate that is its rating; with - before it, lower is better: -cost."""
    num_comp: int = 3
    """Candidates that are drawn of each question at every update."""
    rating_scale: float = 7.0
    """Highest rating, a difference of which has the whole margin; 0: the largest difference in the data."""
    margin: float = 1.0
    """By how much the mean cross-entropy of a candidate rated lower by the whole scale is to be higher, in nats."""
    ratio: float = 0.2
    """Weight of the penalty for candidates that are not."""
    max_flow: bool = False
    """Penalise by the nearest candidate instead of the mean of all."""
    legacy: bool = False
    """Repeat the published code's error in the margins; for comparison only."""
    imitation: Loss = "contrastive"
    """Loss of imitation data: drafts and revisions."""
    self_critic: Loss = "plain"
    """Loss of self-critic data: comments on a draft."""
    realignment: Loss = "contrastive"
    """Loss of realignment data: a comment and a better answer."""
    others: Loss = "contrastive"
    """Loss of all other rankings."""
    lone: Lone = "refuse"
    """Questions with one candidate, or with equal ratings, where the loss is contrastive: an error, skip them, or
    learn all their candidates by cross-entropy."""
    too_long: TooLong = "refuse"
    """Candidates longer than max_tokens: an error, skip them, or learn their beginning, which teaches no end."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 1, "num_comp")
        at_least(self, 0, "rating_scale", "margin", "ratio")

    @property
    def form(self) -> Form:
        """How questions are made of rankings."""
        own: dict[str, Loss] = {"imitation": self.imitation, "self-critic": self.self_critic}
        losses: dict[str, Loss] = {**own, "realignment": self.realignment, "": self.others}
        return Form(losses, self.rating_scale, self.lone, self.too_long)


class StableAlignment(LMPolicy):
    """Says what was rated best."""

    name = "stable_alignment"
    args_class: ClassVar[type[LMArgs]] = Args


class Training(LMTraining[StableAlignment]):
    """The margin loss on rated candidates. Rows are questions; a batch holds the candidates of all its questions.

    Attributes:
        scale: A difference in ratings that has the whole margin.
    """

    def rows(self, train: list[Told], held_out: list[Told]) -> tuple[list[TokenRow], list[TokenRow]]:
        """Return the questions, each as the row of its best candidate."""
        args = self.args
        notes = notes_of(args.data, args.metric)

        def questions(told: list[Told]) -> list[Question]:
            tokens = self.tokens(rated(told, notes, args.form))
            return questions_of(tokens, notes, self.agent.lm, args.form, args.max_tokens)

        found = questions(train), questions(held_out)
        self.scale = args.rating_scale or scale_of([*found[0], *found[1]])
        return list(found[0]), list(found[1])

    def weight(self, rows: Sequence[TokenRow]) -> float:
        """Return the number of questions."""
        return float(len(rows))

    def in_parts(self, rows: Sequence[TokenRow]) -> list[list[TokenRow]]:
        """Draw the candidates of every question, and return the parts of a batch."""
        key = (self.args.seed, 5, self.step)
        drawn = [cast(Question, row).drawn(self.args.num_comp, key) for row in rows]
        self._tokens -= sum(map(len, rows)) - sum(map(len, drawn))  # what is not drawn is not read
        return super().in_parts(drawn)

    def _loss_of(self, rows: list[TokenRow]) -> tuple[Tensor, Sums]:
        return super()._loss_of(_candidates(rows))

    def loss(self, outputs: Outputs, batch: TokenBatch) -> tuple[Tensor, Sums]:
        """Return the sum of the questions' losses, and of what they are made of."""
        losses, ratings, present, chosen = _by_question(outputs, batch)
        args = self.args
        found = margin_loss(
            losses,
            ratings,
            present,
            scale=self.scale,
            margin=args.margin,
            ratio=args.ratio,
            max_flow=args.max_flow,
            legacy=args.legacy,
        )
        kinds = (found.loss, mean_loss(losses, present), found.best)
        loss = torch.stack(kinds).gather(0, chosen[None])[0]
        best = best_rated(ratings, present)
        likeliest = losses.masked_fill(~present, torch.inf).argmin(1)
        sums = {"best": found.best.sum(), "penalty": found.penalty.sum(), "ranked": (likeliest == best).sum()}
        return loss.sum(), sums

    @torch.no_grad()
    def score_held_out(self) -> dict[str, float]:
        """Return means over the held-out questions, each with all its candidates.

        ``eval/loss`` as in training, ``eval/best`` the cross-entropy of the best rated candidate and its exponential
        ``eval/perplexity``, ``eval/penalty``, and ``eval/ranked``: in which share the best rated is the likeliest.
        """
        self.agent.forget()
        network, device = self.agent.network.eval(), self.stepper.accelerator.device
        rows, size = sorted(self.held_rows, key=len), self.args.micro or self.args.batch
        sums: dict[str, float] = {}
        for start in range(0, len(rows), size):
            batch = batch_of(_candidates(rows[start : start + size])).to(device)
            loss, told = self.loss(network(batch.tokens, batch.positions, batch.where), batch)
            for name, value in {"loss": loss, **told}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        means = {f"eval/{name}": value / len(rows) for name, value in sums.items()}
        return {**means, "eval/perplexity": math.exp(min(means["eval/best"], 50.0))} if means else {}


def _candidates(rows: Sequence[TokenRow]) -> list[TokenRow]:
    """Return the candidates of questions as rows that know their question, its loss and their rating."""
    found = []
    for number, row in enumerate(rows):
        question = cast(Question, row)
        for one in question.candidates:
            numbers = {"question": number, "rating": one.total, "loss": LOSSES.index(question.loss)}
            more = {name: np.full(len(one.said), value, np.float32) for name, value in numbers.items()}
            found.append(replace(one, more=more))
    return found


def _by_question(outputs: Outputs, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mean cross-entropies, ratings and presence of candidates, (B, K), and the questions' losses, (B,)."""
    tokens = cross_entropy(outputs.logits, batch.actions)
    counts = torch.bincount(batch.row)
    means = tokens.new_zeros(len(counts)).index_add(0, batch.row, tokens) / counts
    last = batch.following < 0
    question, place = batch.more["question"][last].long(), torch.arange(len(counts), device=means.device)
    sizes = torch.bincount(question)
    place = place - (sizes.cumsum(0) - sizes)[question]
    losses = means.new_zeros(len(sizes), int(sizes.max())).index_put((question, place), means)
    ratings = torch.zeros_like(losses).index_put((question, place), batch.more["rating"][last].to(losses))
    present = torch.zeros_like(losses, dtype=torch.bool).index_put(
        (question, place), torch.ones_like(question, dtype=torch.bool)
    )
    first = place == 0
    return losses, ratings, present, batch.more["loss"][last][first].long()


def train(args: Args, *, evaluate: Evaluate | None = None) -> StableAlignment:
    """Train, or go on where the run folder ``args.out`` stands; see ``lm_recorded.train_lm`` for errors."""

    def make(args: Any) -> Training:
        return Training(StableAlignment, args)

    return train_lm(StableAlignment, args, make, evaluate)


if __name__ == "__main__":
    main("stable_alignment")
