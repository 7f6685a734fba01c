"""What each token of a round of dialogues was worth: the penalty for drifting, values, advantages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator  # type: ignore[import-untyped]

from dialog_gym.agents import ppo_losses as losses
from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.agents.lm_processes import gathered
from dialog_gym.agents.lm_tokens import TokenRow, batch_of
from dialog_gym.agents.ppo_losses import Bools, Floats
from dialog_gym.agents.ppo_play import Played


class Judge:
    """Compares what was said with the reference, with values, or with other dialogues of the same start.

    Attributes:
        reference: The network as training began, frozen; None with an adapter, without which it is that.
    """

    def __init__(self, policy: LMPolicy, reference: LMNetwork | None, args: Any, accelerator: Accelerator) -> None:
        """Judge by the settings ``args`` of ``ppo``."""
        self.policy, self.reference, self.args, self.accelerator = policy, reference, args, accelerator

    def judge(
        self, played: Sequence[Played], dialogues: Sequence[list[TokenRow]], kl_weight: float
    ) -> tuple[list[list[TokenRow]], dict[str, float]]:
        """Return the dialogues with what is learned, and what there is to say of them.

        Args:
            played: The dialogues, whole groups side by side.
            dialogues: Their rows of tokens.
            kl_weight: What a nat of drift costs.

        Returns:
            The rows, with the value's target in ``returns``, and in ``more`` the ``advantage`` and ``value`` of each
            token; and ``kl/turn``, ``kl/dialogue`` (nats, of what the policy drew), ``value/explained``, ...
        """
        rows = [row for one in dialogues for row in one]
        drift = [old - new for old, new in zip(_column(dialogues, "old"), self.likely(dialogues), strict=True)]
        ends = [losses.turn_ends(np.concatenate([row.turns for row in one])) for one in dialogues]
        earned = [np.concatenate([row.rewards for row in one]) for one in dialogues]
        rewards = [reward - kl_weight * kl for reward, kl in zip(earned, drift, strict=True)]
        values = [np.zeros(len(end)) for end in ends]
        if not self.args.grouped:
            values = _joined(self.scored(rows, "value"), dialogues)
        advantages, targets = self._advantages(rewards, ends, values, self.values_behind(played))
        kl = float(sum(map(np.sum, drift)))
        told = {"kl/turn": kl / sum(one.dialogue.turn for one in played), "kl/dialogue": kl / len(played)}
        if not self.args.grouped:
            every = np.concatenate(values)
            told["value/explained"] = losses.explained_variance(np.concatenate(targets), every)
            told["value/mean"] = float(every.mean())
        return [_with(*one) for one in zip(dialogues, advantages, targets, values, strict=True)], told

    def _advantages(
        self, rewards: list[Floats], ends: list[Bools], values: list[Floats], behind: Sequence[float]
    ) -> tuple[list[Floats], list[Floats]]:
        """Return advantages, and what values should have been, of the tokens of each dialogue."""
        args = self.args
        if args.grouped:
            returns = [
                losses.discounted(reward, end, args.gamma, args.discount)
                for reward, end in zip(rewards, ends, strict=True)
            ]
            against = losses.leave_one_out if args.advantage == "rloo" else losses.group_normalised
            found = [np.full(len(end), one) for end, one in zip(ends, against(returns, args.group), strict=True)]
            return found, values
        found = [
            losses.gae(reward, value, end, gamma=args.gamma, lam=args.lam, per=args.discount, after=after)
            for reward, value, end, after in zip(rewards, values, ends, behind, strict=True)
        ]
        return losses.whitened(found), [one + value for one, value in zip(found, values, strict=True)]

    def likely(self, dialogues: Sequence[list[TokenRow]]) -> list[Floats]:
        """Return the log-probability that the reference gives to each token said, (A,) for each dialogue."""
        return _joined(self.scored([row for one in dialogues for row in one], "reference"), dialogues)

    def values_behind(self, played: Sequence[Played]) -> list[float]:
        """Return what the state behind each dialogue is worth: 0 unless it was cut and that is no end."""
        found = [0.0] * len(played)
        cut = [place for place, one in enumerate(played) if one.truncated]
        if self.args.grouped or self.args.cut_ends or not cut:
            return found
        prompts = self.policy.prompt_ids([played[place].dialogue for place in cut])
        rows = [_asking(prompt) for prompt in prompts]
        for place, value in zip(cut, self.scored(rows, "value"), strict=True):
            found[place] = float(value[0])
        return found

    @torch.no_grad()
    def scored(self, rows: Sequence[TokenRow], what: Literal["reference", "value"]) -> list[Floats]:
        """Return the reference's log-probability of each token said in ``rows``, or the value of the state before it.

        Rows of like length are worked through together, by each process its share.
        """
        self.policy.network.eval()
        mine: list[tuple[int, Floats]] = []
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        size = 2 * (self.args.micro or self.args.batch)
        index, count = self.accelerator.process_index, self.accelerator.num_processes
        for places in [order[at : at + size] for at in range(0, len(order), size)][index::count]:
            batch = batch_of([rows[place] for place in places], packed=self.args.packed).to(self.accelerator.device)
            outputs = self._outputs(what, batch.tokens, batch.positions, batch.where)
            if what == "value":
                each = outputs.heads["value"][:, 0]
            else:
                each, _ = losses.log_probabilities(outputs.logits, batch.actions)
            counts = np.cumsum([len(rows[place].said) for place in places])[:-1]
            mine += zip(places, np.split(each.double().cpu().numpy(), counts), strict=True)
        found = dict(gathered(self.accelerator, mine))
        return [found[place] for place in range(len(rows))]

    def _outputs(self, what: str, *batch: torch.Tensor) -> Any:
        network = self.policy.network
        with self.accelerator.autocast():
            if what == "value":
                return network(*batch)
            if self.reference is not None:
                return self.reference(*batch)
            with network.without_adapter():
                return network(*batch)


def _asking(prompt: Sequence[int]) -> TokenRow:
    """Return a row in which a token is said behind ``prompt``: its value is that of the state before any is said."""
    zero = np.zeros(1, np.float32)
    tokens, place = np.array([*prompt, 0], np.int32), np.array([len(prompt)], np.int32)
    return TokenRow(tokens, place, np.zeros(1, np.int32), zero, zero)


def _column(dialogues: Sequence[list[TokenRow]], name: str) -> list[Floats]:
    """Return what ``more`` has of the tokens of each dialogue."""
    return [np.concatenate([row.more[name] for row in one]).astype(np.float64) for one in dialogues]


def _joined(columns: Sequence[Floats], dialogues: Sequence[list[TokenRow]]) -> list[Floats]:
    """Return what belongs to the rows of each dialogue, as one."""
    rest = iter(columns)
    return [np.concatenate([next(rest) for _ in rows]) for rows in dialogues]


def _with(rows: list[TokenRow], advantages: Floats, targets: Floats, values: Floats) -> list[TokenRow]:
    """Return the rows of a dialogue with numbers for all its tokens."""
    places = np.cumsum([len(row.said) for row in rows])[:-1]
    columns = (np.split(column.astype(np.float32), places) for column in (advantages, targets, values))
    return [
        replace(row, returns=target, more={**row.more, "advantage": advantage, "value": value})
        for row, advantage, target, value in zip(rows, *columns, strict=True)
    ]
