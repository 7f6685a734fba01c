"""What every method minimises, and the network it trains: a head, and perhaps a link to the local signal."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dialog_gym.rewards.decomposition.losses import (
    geli_loss,
    ircr_loss,
    local_loss,
    regression_loss,
    rrd_loss,
    rudder_loss,
)

Method = Literal["geli", "rrd", "rrd-unbiased", "ircr", "rudder", "regression", "li"]
METHODS: tuple[Method, ...] = ("geli", "rrd", "rrd-unbiased", "ircr", "rudder", "regression", "li")
LOCAL = ("geli", "li")
"""Methods that need a local signal."""
SAMPLED = ("geli", "rrd", "rrd-unbiased")
"""Methods that can learn from some turns of a conversation at a time."""
Link = Literal["same", "fitted"]


class Learner(nn.Module):
    """A head, and how the local signal follows from its rewards.

    Attributes:
        head: Gives the rewards.
        link: ``"same"``: rewards are the signal, as in GELI. ``"fitted"``: the signal is shift + gain * reward, both
            learned and gain above 0, for a signal on an unknown scale (a smile, which is there or not).
    """

    def __init__(self, head: nn.Module, link: Link = "same") -> None:
        """Link ``head`` to a signal."""
        super().__init__()
        self.head, self.link = head, link
        if link == "fitted":
            self.shift, self.log_gain = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, encodings: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reward of each turn, and the signal it stands for; both of shape ``(..., T)``."""
        rewards: Tensor = self.head(encodings)
        if self.link == "same":
            return rewards, rewards
        return rewards, self.shift + self.log_gain.exp() * rewards


def objective(
    method: Method,
    predicted: tuple[Tensor, Tensor],
    mask: Tensor,
    turns: Tensor,
    score: Tensor,
    local: Tensor,
    *,
    weight: float = 0.5,
    replacement: bool = False,
    per_turn: bool = True,
) -> Tensor:
    """Return the loss of each conversation, shape ``(...)``.

    Args:
        method: One of ``METHODS``. GELI's global part is that of ``rrd-unbiased``; where all turns are given, that of
            ``regression``.
        predicted: What ``Learner`` returned for the turns drawn, each of shape ``(..., K)``.
        mask: Which of them count, same shape.
        turns: T, shape ``(...)``.
        score: R in standard units, shape ``(...)``.
        local: The signal of the turns drawn in standard units, NaN where it is missing, shape ``(..., K)``.
        weight: GELI's lambda.
        replacement: Whether turns were drawn with replacement.
        per_turn: Divide GELI's global part by T. In standard units both parts then are about 1 for a reward that is 0
            everywhere, so that ``weight`` weighs like with like; the published code does not divide.
    """
    rewards, shown = predicted
    if method == "li":
        return local_loss(shown, mask, local)
    if method == "ircr":
        return ircr_loss(rewards, mask, turns, score)
    if method == "rudder":
        return rudder_loss(rewards, mask, score)
    if method == "regression":
        return regression_loss(rewards, mask, score)
    spread = rrd_loss(rewards, mask, turns, score, unbiased=method != "rrd", replacement=replacement)
    if method != "geli":
        return spread
    return geli_loss(spread / turns if per_turn else spread, local_loss(shown, mask, local), weight)
