"""Decision Transformer on words: replies that are conditioned on the return they are to lead to.

Papers: Chen et al. 2021, arXiv:2106.01345; on responses (``DT``) Sodhi et al. 2023, arXiv:2307.12425.

Right before each agent reply, behind the generation prompt, stands a token for the return-to-go of that turn; the
loss is the cross-entropy of the agent's tokens, return tokens left out. To act, the first reply is conditioned on a
target; each further one on what is left of it: ``(target - reward received) / gamma``. The tokens of earlier turns
stay where they were. Of rankings, where one reply has a score and the turns before it have none, that reply alone is
marked; a policy that learned from them marks the reply to come, and always by the target.

Return tokens stand for ranges of return, by one of three rules: ``quantiles`` of the returns-to-go in the data (equal
shares; the default), equal parts of their ``range`` (many of them quantise a continuous return), or ``edges`` given.

Differences from the papers:

1. The return is a token of the vocabulary; Chen et al. embed the number. New tokens begin on a line between two
   points in the order of their returns, so that neighbours begin alike (``lm_network.add_tokens``).
2. Sodhi et al. have two tokens, "one" for a reward of at least 1 (``edges=(1,)``), put it before the token that
   begins a reply, and give "one" to all earlier turns, which people spoke. Here every turn has its own return-to-go,
   or none where none is known. ``dialog_gym.agents.lm_lines`` writes their strings.
3. A return token at the start of a dialogue was tried; small models ignore it. Right before the reply they do not.
4. The policy never says a return token, and a person who types one is not taken to have said it.

Run it with ``python -m dialog_gym.agents.dt --data runs/logged --out runs/dt``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from dialog_gym.agent import Evaluate, main
from dialog_gym.agents.lm_data import Told, agent_turns, returns_to_go
from dialog_gym.agents.lm_network import Outputs
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy
from dialog_gym.agents.lm_recorded import train_lm
from dialog_gym.agents.lm_steps import Sums
from dialog_gym.agents.lm_tokens import TokenBatch, TokenRow, join_turns, reply_ids, sequence_room
from dialog_gym.agents.lm_training import DataArgs, LMTraining, cross_entropy
from dialog_gym.data.columns import DatasetError
from dialog_gym.dialogue import Dialogue, Turn
from dialog_gym.rewards.base import checked

_REMEMBERED = 10_000  # dialogues whose targets are known from turn to turn


@dataclass(frozen=True)
class Args(DataArgs):
    """Settings of the Decision Transformer."""

    out: str = "runs/dt"
    """Run folder. The same command started again goes on there."""
    buckets: int = 10
    """Return tokens (at most; returns that many turns share need fewer)."""
    by: Literal["quantiles", "range"] = "quantiles"
    """How returns-to-go are shared out among them: in equal numbers, or in equal steps."""
    edges: tuple[float, ...] = ()
    """Returns at which a better token begins, instead of both: (0.5, 1) makes three tokens."""
    target: float | None = None
    """Return to ask for; None: the mean of the best token's."""
    decrease: bool = True
    """Ask for what is left of the target after each reward; otherwise for the same at every turn."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        if self.buckets < 2:
            raise ValueError(f"buckets must be at least 2 return tokens, got {self.buckets}")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges must ascend, got {self.edges}")
        if not self.gamma:
            raise ValueError("gamma must be above 0: a target is divided by it from turn to turn")


def edges_of(returns: Sequence[float], buckets: int, by: str) -> list[float]:
    """Return at most ``buckets - 1`` returns at which a better token begins, ascending; the lowest is below them all.

    >>> edges_of([0.0, 0.0, 0.0, 0.5, 1.0, 2.0], 3, "quantiles"), edges_of([0.0, 3.0], 3, "range")
    ([0.5, 1.0], [1.0, 2.0])

    Raises:
        DatasetError: All returns are the same, so that there is nothing to be conditioned on.
    """
    low, high = min(returns), max(returns)
    if low == high:
        raise DatasetError(
            f"all returns-to-go are {low:g}, so no reply is better than another: record dialogues of mixed quality"
        )
    if by == "range":
        cuts = np.linspace(low, high, buckets + 1)[1:-1]
    else:
        cuts = np.quantile(np.array(returns), np.linspace(0, 1, buckets + 1)[1:-1], method="higher")
    above = min(value for value in returns if value > low)  # where most earn the least, the rest is still told apart
    return sorted({float(max(cut, above)) if by == "quantiles" else float(cut) for cut in cuts})


def bucket(value: float, edges: Sequence[float]) -> int:
    """Return which range ``value`` is in: how many of ``edges`` it reaches.

    >>> [bucket(value, [0.6]) for value in (0.59, 0.6, 1.0)]
    [0, 1, 1]
    """
    return int(np.searchsorted(np.asarray(edges), value, side="right"))


class DT(LMPolicy):
    """A language model that is told, before each reply, what return is wanted.

    ``more`` holds ``edges``, ``best``, the mean return-to-go of the best token, and ``ranked``, whether it learned
    from rankings.
    """

    name = "dt"
    args_class: ClassVar[type[LMArgs]] = Args

    def __init__(self, *args: Any) -> None:
        """Use ``build`` or ``load``."""
        super().__init__(*args)
        self._targets: OrderedDict[tuple[int, str, tuple[Turn, ...]], list[float]] = OrderedDict()

    @classmethod
    def new_tokens(cls, args: Args) -> list[str]:
        """Return the return tokens, the worst first."""
        return [f"<|return_{number}|>" for number in range(len(args.edges) + 1 if args.edges else args.buckets)]

    def mark(self, value: float) -> int:
        """Return the token for a return-to-go."""
        return self.tokens[bucket(value, self.more["edges"])]

    def prompt_ids(self, dialogues: Sequence[Dialogue]) -> list[list[int]]:
        """Return what is read before each reply, with the return tokens of this turn and those it learned to see."""
        if self.more["ranked"]:
            mark = self.mark(self.first_target)
            return [[*ids, mark] for ids in super().prompt_ids(dialogues)]
        found = []
        rewards = self._rewards(dialogues)
        for dialogue, reward in zip(dialogues, rewards, strict=True):
            prompts, texts = agent_turns(dialogue, self.words)
            prompts.append(self.words(dialogue))
            starts = self.lm.encode(prompts, self.args.max_tokens)
            said = [
                reply_ids(self.lm, text, prompt, len(start), self.args.max_tokens, marked=True)
                for text, prompt, start in zip(texts, prompts[:-1], starts[:-1], strict=True)
            ]
            marks = [[self.mark(value)] for value in self.targets(dialogue, reward)]
            room = sequence_room(self.lm, self.args.max_tokens)
            found.append(join_turns(starts, [*said, []], marks, room)[-1][0])
        return found

    @property
    def first_target(self) -> float:
        """The return that is wanted of a whole dialogue, or of a reply."""
        target: float = self.more["best"] if self.args.target is None else self.args.target
        return target

    def targets(self, dialogue: Dialogue, reward: float) -> list[float]:
        """Return the return that is wanted in each agent turn so far, and in the one to come.

        They follow from the first target and the rewards since. Of a dialogue that is taken up in its middle, nothing
        but the newest reward is known; the turns before it count as having earned nothing.

        Args:
            dialogue: Where the agent is to speak.
            reward: What its newest turn earned, if it has spoken.
        """
        first = self.first_target
        wanted = [first]
        if dialogue.turn:
            last = max(place for place, turn in enumerate(dialogue.turns) if turn.role == dialogue.roles[0])
            before = self._targets.get(_key(dialogue, last), [first] * dialogue.turn)
            wanted = [*before, (before[-1] - reward) / self.args.gamma if self.args.decrease else first]
        self._targets[_key(dialogue, len(dialogue.turns))] = wanted
        while len(self._targets) > _REMEMBERED:
            self._targets.popitem(last=False)
        return wanted

    def _rewards(self, dialogues: Sequence[Dialogue]) -> list[float]:
        """Return what the newest turn of each dialogue earned by the task, 0 before the first and without a task."""
        known = self.args.decrease and self._plays
        begun = [place for place, dialogue in enumerate(dialogues) if known and dialogue.turn]
        found = [0.0] * len(dialogues)
        if begun:
            values = checked(self.task.reward, [dialogues[place] for place in begun])
            for place, value in zip(begun, values, strict=True):
                found[place] = float(value)
        return found


class Training(LMTraining[DT]):
    """Cross-entropy on the agent's tokens, behind return tokens."""

    def rows(self, train: list[Told], held_out: list[Told]) -> tuple[list[TokenRow], list[TokenRow]]:
        """Share out the returns-to-go of the training data among the tokens, and mark every reply."""
        args, more = self.args, self.agent.more
        kinds = {one.ranked for one in train}
        if len(kinds) == 2:
            raise DatasetError(
                "dt learns from dialogues, every turn of which has a return, or from rankings, where one reply has a "
                "score, and got both: prompts could be like one of them only; train a policy on each"
            )
        more["ranked"] = kinds == {True}
        returns = [value for one in train for value in returns_to_go(one.rewards, args.gamma)]
        more["edges"] = list(args.edges) or edges_of(returns, args.buckets, args.by)
        if len({bucket(value, more["edges"]) for value in returns}) == 1:
            raise DatasetError(
                f"all returns-to-go, from {min(returns):g} to {max(returns):g}, have the same token by the edges "
                f"{args.edges}, so there is nothing to ask for: choose edges between them, or leave edges out"
            )
        best = max(bucket(value, more["edges"]) for value in returns)
        more["best"] = float(np.mean([value for value in returns if bucket(value, more["edges"]) == best]))
        return self.tokens(train, mark=self.agent.mark), self.tokens(held_out, mark=self.agent.mark)

    def loss(self, outputs: Outputs, batch: TokenBatch) -> tuple[Tensor, Sums]:
        """Return the sum of the cross-entropies."""
        return cross_entropy(outputs.logits, batch.actions).sum(), {}


def _key(dialogue: Dialogue, turns: int) -> tuple[int, str, tuple[Turn, ...]]:
    return dialogue.seed, dialogue.scenario.public, dialogue.turns[:turns]


def train(args: Args, *, evaluate: Evaluate | None = None) -> DT:
    """Train a Decision Transformer, or go on where the run folder ``args.out`` stands; errors as in ``train_lm``."""
    return train_lm(DT, args, lambda args: Training(DT, args), evaluate)


if __name__ == "__main__":
    main("dt")
