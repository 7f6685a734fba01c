"""Dialogues that a policy plays to learn from, and what it said in them as rows of tokens.

Episode k of a run with seed s always begins alike, whatever was played before it and in which row. Its dialogue has a
seed of its own of 53 bits, drawn from a stream that nothing else draws from, so none is ever evaluated on. With
groups, k // group tells the start (scenario and first words) and k the chance after it: partner and policy draw
afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dialog_gym.agents.lm_policy import LMPolicy, Utterance
from dialog_gym.agents.lm_tokens import TokenRow, join_turns, sequence_room
from dialog_gym.baselines import text_rows
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import begin
from dialog_gym.lm.base import Sampling
from dialog_gym.rewards.spec import paid_by
from dialog_gym.rollout import make_rows
from dialog_gym.task import Task
from dialog_gym.wrappers.lagrangian import MULTIPLIER, Lagrangian, VectorLagrangianWrapper


@dataclass
class Played:
    """A dialogue that the policy plays, and has in the end played.

    Attributes:
        number: Episode of the run.
        dialogue: As it stands.
        said: What the policy read and said in each turn.
        rewards: What each turn earned, less what its cost is worth.
        earned: The return of the environment.
        costs: The sum of the costs.
    """

    number: int
    dialogue: Dialogue
    said: list[Utterance] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    earned: float = 0.0
    costs: float = 0.0

    @property
    def truncated(self) -> bool:
        """Whether it ran out of turns."""
        return self.dialogue.stop_reason == "max_turns"


def opening(task: Task, seed: int, number: int, group: int = 1) -> Dialogue:
    """Return how episode ``number`` of the run ``seed`` begins."""
    dialogue = begin(task, _bits(seed, "start", number // group))
    return replace(dialogue, seed=_bits(seed, "chance", number)) if group > 1 else dialogue


class Player:
    """A vector environment in which a policy plays episodes by their numbers.

    Attributes:
        env: The environment.
        lagrangian: What sets the price of a cost, None without a budget.
    """

    def __init__(self, policy: LMPolicy, args: Any, rows: int) -> None:
        """Make the environment, with ``rows`` dialogues in parallel; the policy plays the very task of it.

        Raises:
            ValueError: Its actions are no text, it is none of dialogues, or the task has no budget.
        """
        self.policy, self.args = policy, args
        _ = policy.task  # refuses what cannot be played
        self.env = make_rows(args.env, rows, paid_by(args.env_kwargs, args.reward))
        policy.task = self.task = text_rows(self.env).task
        if args.budget is not None:
            self.env = VectorLagrangianWrapper(self.env, budget=None if args.budget == "task" else args.budget)

    @property
    def lagrangian(self) -> Lagrangian | None:
        """What sets the price of a cost, None without a budget."""
        return self.env.lagrangian if isinstance(self.env, VectorLagrangianWrapper) else None

    def play(self, numbers: Sequence[int]) -> list[Played]:
        """Play the episodes ``numbers``, at least as many as there are rows, and return them in this order.

        Row r of n plays the episodes at places r, r + n, ... Tokens are drawn at temperature 1.
        """
        rows, sampling = self.env.num_envs, Sampling(self.args.max_tokens, 1.0)
        self.policy.forget()
        waiting = [list(numbers[row::rows])[::-1] for row in range(rows)]
        tapes: list[Played | None] = [self._begun(queue) for queue in waiting]
        infos = self._open(tapes, np.ones(rows, np.bool_))
        found: list[Played] = []
        while any(tapes):
            said = self.policy.speak(infos["dialogue"], sampling=sampling)
            texts = ["" if one is None else one.text for one in said]
            _, rewards, terminated, truncated, infos = self.env.step(texts)
            over = terminated | truncated
            for row, tape in enumerate(tapes):
                if tape is None:
                    continue
                _note(tape, said[row], float(rewards[row]), row, infos)
                if over[row]:
                    found.append(tape)
                    tapes[row] = self._begun(waiting[row])
            again = over & np.array([tape is not None for tape in tapes])
            if again.any():
                infos = self._open(tapes, again)
        return sorted(found, key=lambda played: played.number)

    def _begun(self, waiting: list[int]) -> Played | None:
        """Return the next episode of a row, None if none waits."""
        if not waiting:
            return None
        number = waiting.pop()
        return Played(number, opening(self.task, self.args.seed, number, self.args.starts_alike))

    def _open(self, tapes: Sequence[Played | None], mask: Any) -> Any:
        begun = [tape.dialogue if tape is not None and new else None for tape, new in zip(tapes, mask, strict=True)]
        return self.env.reset(options={"reset_mask": mask, "dialogues": begun})[1]

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def rows_of(played: Played, policy: LMPolicy) -> list[TokenRow]:
    """Return a dialogue as rows of tokens, mostly one, in which what is learned are the tokens that were said.

    The token that ends a turn is one of them if it was said; a reply that was cut has none. ``more`` holds ``old``,
    the log-probabilities with which they were drawn.
    """
    limit = sequence_room(policy.lm, policy.args.max_tokens)
    prompts = [one.prompt for one in played.said]
    replies = [list(one.drawn.tokens) for one in played.said]
    found = []
    for tokens, places in join_turns(prompts, replies, [[]] * len(replies), limit):
        counts = [len(replies[turn]) for turn, _ in places]
        rewards = np.zeros(sum(counts), np.float32)
        rewards[np.cumsum(counts) - 1] = [played.rewards[turn] for turn, _ in places]
        found.append(
            TokenRow(
                np.array(tokens, np.int32),
                np.concatenate([first + np.arange(len(replies[turn])) for turn, first in places]).astype(np.int32),
                np.repeat([turn for turn, _ in places], counts).astype(np.int32),
                rewards,
                np.zeros_like(rewards),
                truncated=played.truncated,
                total=played.earned,
                group=played.number,
                more={"old": np.array([p for t, _ in places for p in played.said[t].drawn.logprobs], np.float32)},
            )
        )
    return found


def _note(tape: Played, said: Utterance | None, paid: float, row: int, infos: Any) -> None:
    """Write down what was said in a row, and what it earned."""
    assert said is not None, "a dialogue that goes on is spoken in"
    cost = float(infos["cost"][row])
    tape.dialogue = infos["dialogue"][row]
    tape.said.append(said)
    tape.rewards.append(paid)
    tape.costs += cost
    tape.earned += paid + (float(infos[MULTIPLIER][row]) * cost if MULTIPLIER in infos else 0.0)


def _bits(seed: int, name: str, number: int) -> int:
    return Draws(seed, f"ppo {name}", number).bits() >> 11
