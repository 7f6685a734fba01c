"""ILQL: learn from recorded dialogues what each token is worth, and speak by it.

Implicit Language Q-Learning (Snell et al. 2022, arXiv:2206.11871). One language model carries heads for the value V
of what was read and the worth Q of each token to come; ``ilql_losses`` has the losses. It says what the model finds
likely *and* worth more than average: tokens are scored by ``log softmax(lm) + beta * (min_k target_k - V)``, within
``top_k`` and above ``floor``, and sampled; ``temperature`` 0 takes the best. With ``beta`` 0 it is the language model
alone, tuned as by ``tf_all``. ``policy.set(beta=4)`` changes how a trained policy speaks; ``candidates`` samples
several utterances and says the one that is worth most.

Loss, the mean over the tokens said: ``L_Q + L_V + cql * L_CQL + awac * L_AWAC``. Behind every ``sync_every``-th update
each target head goes the share ``alpha`` of the way to its head.

The configuration (trlx's ``default_configs.py`` in brackets; that of the paper's dialogue study was not published):
tau .7 (.7), gamma 1 per turn (.99 per token), cql .001 (.1), awac 1 (1), awac_beta 0 (0), alpha .05 at every update
(.001 at every fifth), beta 16 (1), top_k 0 (20), temperature 1 (1), AdamW at 2e-3, cosine, 1000 updates of 32
dialogues (5e-5, constant, 1000 of 128 responses), rewards divided by the standard deviation of returns (whitened).

Differences from trlx:

1. Dialogues of several turns: behind the last token of a turn comes the first of the agent's next one, and the
   discount may be per turn, so that long utterances are not punished. What ran out of turns ends there, unless turns
   follow in another row (``TokenRow.after``).
2. Q of a token is the sum of its own head and one that all tokens share. A token that is seldom said begins at what
   is usual in its state, not at 0. Heads begin at 0 everywhere: random numbers times beta would be noise in speech.
3. For the first ``monte_carlo`` of the updates Q learns what the dialogue went on to earn. V of a state that is far
   from the reward then knows something before Q is taught by it.
4. ``floor``: what the language model finds unlikely was seldom or never said, so its worth is a guess.
5. The weight of L_AWAC is limited.

Run it with ``python -m dialog_gym.agents.ilql --data runs/logged --out runs/ilql``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from dialog_gym.agent import Agent, Evaluate, main
from dialog_gym.agents import ilql_losses as losses
from dialog_gym.agents.ilql_losses import Per
from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_network import LMNetwork, Outputs
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy, Utterance
from dialog_gym.agents.lm_recorded import train_lm
from dialog_gym.agents.lm_steps import Sums
from dialog_gym.agents.lm_tokens import TokenBatch, TokenRow, batch_of
from dialog_gym.agents.lm_training import DataArgs, LMTraining
from dialog_gym.agents.loop import at_least, mean_return
from dialog_gym.agents.networks import polyak
from dialog_gym.data.columns import DatasetError
from dialog_gym.dialogue import Dialogue
from dialog_gym.lm.base import Sampling

HEADS = ("q0", "q1")
BASES = ("base0", "base1")
TARGETS = ("target0", "target1")
TARGET_BASES = ("target_base0", "target_base1")
_CHUNK = 64  # candidates that are valued together


@dataclass(frozen=True)
class Args(DataArgs):
    """Settings of ``ilql``."""

    out: str = "runs/ilql"
    """Run folder. The same command started again goes on there."""
    lr: float = 2e-3
    """AdamW's learning rate; smaller for large models."""
    temperature: float = 1.0
    """Scores are divided by it and sampled; 0 says the best token."""
    tau: float = 0.7
    """Expectile of V: .5 is the mean over what was said, towards 1 the best of it."""
    per: Per = "turn"
    """What gamma discounts: every turn of the agent, or every token it says."""
    cql: float = 0.001
    """Weight of the loss that holds down tokens which nobody said."""
    awac: float = 1.0
    """Weight of the language model's own loss."""
    awac_beta: float = 0.0
    """Weighs each token's loss by exp(awac_beta * advantage); 0 is plain imitation."""
    awac_limit: float = 20.0
    """Largest such weight."""
    monte_carlo: float = 0.5
    """Share of the updates, from the first on, in which Q learns what a dialogue went on to earn; then it learns from
    V."""
    scale: Literal["std", "whiten", "none"] = "std"
    """Rewards are divided by the standard deviation of the returns; whiten also takes their mean off at the end."""
    alpha: float = 0.05
    """Share of the way that target heads go to theirs at each synchronisation."""
    sync_every: int = 1
    """Updates between synchronisations."""
    beta: float = 16.0
    """Weight of the advantage in what is said; 0: the language model alone."""
    top_k: int = 0
    """Say one of as many tokens with the best scores; 0: of all."""
    floor: float = 0.02
    """Say tokens that the language model gives at least this probability, or its first choice."""
    candidates: int = 1
    """Sample as many utterances (temperature above 0) and say the one that is worth most."""
    rank: Literal["q", "v"] = "q"
    """Worth of a candidate: Q of its last token, or V before it."""
    betas: tuple[float, ...] = ()
    """Further values of beta that evaluations try."""
    best: Literal["loss", "return", "none"] = "none"
    """Keep the policy with the lowest eval/loss or the highest eval/return; none keeps the last."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        super().__post_init__()
        at_least(self, 0, "cql", "awac", "awac_beta", "top_k", "floor", "monte_carlo")
        at_least(self, 1, "sync_every", "candidates", "awac_limit")
        for name in ("tau", "alpha", "floor", "monte_carlo"):
            if not getattr(self, name) <= 1:
                raise ValueError(f"{name} must be at most 1, got {getattr(self, name)}")
        if not (self.tau > 0 and self.alpha > 0):
            raise ValueError(f"tau and alpha must be above 0, got {self.tau} and {self.alpha}")
        if self.candidates > 1 and not self.temperature > 0:
            raise ValueError("candidates above 1 are sampled: set temperature above 0")


class Waiting(nn.Sequential):
    """A head that a pass over a batch leaves alone, since its values are wanted of a few tokens only."""

    def forward(self, states: Tensor) -> Tensor:
        """Return ``states`` as they are."""
        return states

    def all(self, states: Tensor) -> Tensor:
        """Return every output, (n, size), in states (n, d)."""
        for layer in self:
            states = layer(states)
        return states

    def taken(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return one output in each state, (N,)."""
        *inner, last = self
        assert isinstance(last, nn.Linear)
        for layer in inner:
            states = layer(states)
        return (states * last.weight[actions]).sum(-1) + last.bias[actions]


class ILQL(LMPolicy):
    """A language model that says what is likely and worth more than average."""

    name = "ilql"
    args_class: ClassVar[type[LMArgs]] = Args

    def __init__(self, args: Any, network: LMNetwork, tokenizer: Any, tokens: Sequence[int], base: Mapping[str, Any]):
        """Use ``build`` or ``load``."""
        super().__init__(args, network, tokenizer, tokens, base)
        for name in (*TARGETS, *TARGET_BASES):
            network.heads[name] = Waiting(*cast(nn.Sequential, network.heads[name])).requires_grad_(False)

    @classmethod
    def head_sizes(cls, args: Any) -> dict[str, int]:
        """Return V, two Q heads with what is common to all tokens, and the slow copy of each."""
        return {"v": 1} | dict.fromkeys((*HEADS, *TARGETS), 0) | dict.fromkeys((*BASES, *TARGET_BASES), 1)

    @classmethod
    def build(cls, args: Any, *, device: str | None = None) -> Self:
        """Return the untrained policy, whose values are 0 everywhere."""
        policy = super().build(args, device=device)
        heads = policy.network.heads
        with torch.no_grad():
            for head in heads.values():
                for parameter in cast(nn.Sequential, head)[-1].parameters():
                    parameter.zero_()
        for slow, quick in policy.followers():
            slow.load_state_dict(quick.state_dict())
        return policy

    def followers(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return each target head with the head that it follows."""
        heads = self.network.heads
        pairs = zip((*TARGETS, *TARGET_BASES), (*HEADS, *BASES), strict=True)
        return [(heads[slow], heads[quick]) for slow, quick in pairs]

    # --- speaking ---------------------------------------------------------------------------------

    def reshape(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """Return the scores of ``ilql_losses.steer``."""
        logits, args = super().reshape(hidden, logits), self.args
        if not (args.beta or args.top_k or args.floor):
            return logits
        return losses.steer(
            logits,
            self.advantage(hidden) if args.beta else torch.zeros_like(logits),
            beta=args.beta,
            top_k=args.top_k,
            floor=args.floor,
        )

    def advantage(self, hidden: Tensor) -> Tensor:
        """Return min_k target_k(s, .) - V(s), (n, vocabulary), for states ``hidden`` (n, d)."""
        states = hidden.float()
        pairs = self._targets()
        least = torch.stack([head.all(states) + base.all(states) for head, base in pairs]).amin(0)
        value: Tensor = self.network.heads["v"](states)
        return least - value

    @torch.no_grad()
    def q_hat(self, outputs: Outputs, actions: Tensor) -> Tensor:
        """Return what the target heads give each action at least, (N,)."""
        states = outputs.hidden.float()
        found = [head.taken(states, actions) + base.all(states)[:, 0] for head, base in self._targets()]
        return torch.stack(found).amin(0)

    def _targets(self) -> list[tuple[Waiting, Waiting]]:
        heads = self.network.heads
        return [
            (cast(Waiting, heads[head]), cast(Waiting, heads[base]))
            for head, base in zip(TARGETS, TARGET_BASES, strict=True)
        ]

    def speak(
        self, dialogues: Sequence[Dialogue], *, sampling: Sampling | None = None, draw: str = "speech"
    ) -> list[Utterance | None]:
        """Return what is said in each dialogue, the best of the candidates if there are several."""
        if self.args.candidates == 1:
            return super().speak(dialogues, sampling=sampling, draw=draw)
        tries = [
            super(ILQL, self).speak(dialogues, sampling=sampling, draw=f"{draw}/{number}")
            for number in range(self.args.candidates)
        ]
        found: list[Utterance | None] = []
        worth = iter(self.worth([said for row in zip(*tries, strict=True) for said in row if said is not None]))
        for row in zip(*tries, strict=True):
            valued = [(next(worth), said) for said in row if said is not None]
            found.append(max(valued, key=lambda one: one[0])[1] if valued else None)
        return found

    @torch.no_grad()
    def worth(self, said: Sequence[Utterance]) -> list[float]:
        """Return what each utterance is worth behind its prompt: as ``args.rank`` says, read at its last token."""
        found: list[float] = []
        with self.quiet():
            for start in range(0, len(said), _CHUNK):
                rows = [_last_token(one) for one in said[start : start + _CHUNK]]
                batch = batch_of(rows).to(self.lm.device)
                outputs = self.network(batch.tokens, batch.positions, batch.where)
                by_q = self.args.rank == "q"
                found += (self.q_hat(outputs, batch.actions) if by_q else outputs.heads["v"][:, 0]).tolist()
        return found

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Inside, the network is in evaluation mode."""
        training = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(training)


def _last_token(said: Utterance) -> TokenRow:
    """Return an utterance behind its prompt, of which the last token is an action."""
    tokens = np.array([*said.prompt, *said.drawn.tokens], np.int32)
    nothing = np.zeros(1, np.float32)
    return TokenRow(tokens, np.array([len(tokens) - 1], np.int32), np.zeros(1, np.int32), nothing, nothing)


class Training(LMTraining[ILQL]):
    """Values learned beside the language model."""

    shards = False  # of a head the row of one token is asked, outside the network's forward

    def rows(self, train: list[Told], held_out: list[Told]) -> tuple[list[TokenRow], list[TokenRow]]:
        """Return every dialogue, with scaled rewards."""
        self.shift, self.unit = scale_of([one.total for one in train], self.args.scale)
        scaled = ([rescaled(one, self.shift, self.unit) for one in part] for part in (train, held_out))
        kept, out = (self.tokens(part) for part in scaled)
        return kept, out

    def loss(self, outputs: Outputs, batch: TokenBatch) -> tuple[Tensor, Sums]:
        """Return the sum of the losses of all actions."""
        args, actions = self.args, batch.actions
        values = outputs.heads["v"][:, 0]
        q = [outputs.heads[head] + outputs.heads[base] for head, base in zip(HEADS, BASES, strict=True)]
        q_hat = self.agent.q_hat(outputs, actions)
        parts = {
            "q": losses.q_loss(losses.taken(q, actions), self.target(values.detach(), batch)),
            "v": losses.v_loss(values, q_hat, args.tau),
            "cql": losses.cql_loss(q, actions),
            "lm": losses.awac_loss(outputs.logits, actions, q_hat - values.detach(), args.awac_beta, args.awac_limit),
        }
        sums = {name: part.sum() for name, part in parts.items()}
        loss = sums["q"] + sums["v"] + args.cql * sums["cql"] + args.awac * sums["lm"]
        return loss, {**sums, "value": values.sum(), "advantage": (q_hat - values).abs().sum()}

    def target(self, values: Tensor, batch: TokenBatch) -> Tensor:
        """Return what Q is to be, (N,)."""
        args, after = self.args, batch.after[batch.row]
        discount = losses.discounts(batch.ends_turn, args.gamma, args.per)
        if self.step < args.monte_carlo * self.total:
            return losses.returns(batch.rewards, discount, batch.following, after)
        return batch.rewards + discount * losses.behind(values, batch.following, after)

    def after_step(self) -> None:
        """Let the targets follow."""
        if (self.step + 1) % self.args.sync_every == 0:
            for slow, quick in self.agent.followers():
                polyak(quick.parameters(), slow.parameters(), self.args.alpha)

    def modules(self) -> dict[str, nn.Module]:
        """Return the targets, which no optimiser holds."""
        return {"targets": nn.ModuleList(slow for slow, _ in self.agent.followers())}

    def held_out_sums(self, outputs: Outputs, batch: TokenBatch) -> Sums:
        """Return besides how far Qhat is from what the dialogue went on to earn, in squared standard deviations."""
        discount = losses.discounts(batch.ends_turn, self.args.gamma, self.args.per)
        earned = losses.returns(batch.rewards, discount, batch.following, batch.after[batch.row])
        error = (self.agent.q_hat(outputs, batch.actions) - earned).square().sum()
        return {**super().held_out_sums(outputs, batch), "q_error": error}


def scale_of(returns: Sequence[float], scale: Literal["std", "whiten", "none"]) -> tuple[float, float]:
    """Return what is taken off a return, and what it is then divided by.

    >>> scale_of([1.0, 3.0], "whiten"), scale_of([1.0, 3.0], "std"), scale_of([1.0, 3.0], "none")
    ((2.0, 1.0), (0.0, 1.0), (0.0, 1.0))

    Raises:
        DatasetError: All returns are the same, so that there is nothing to learn from them.
    """
    spread = float(np.std(np.array(returns)))
    if spread <= 1e-8 * max(abs(returns[0]), 1.0):
        raise DatasetError(
            f"all {len(returns)} dialogues have the return {returns[0]:g}, so no token is worth more than another; "
            "learn from data with different rewards, or imitate them (tf_all)"
        )
    return float(np.mean(np.array(returns))) if scale == "whiten" else 0.0, 1.0 if scale == "none" else spread


def rescaled(told: Told, shift: float, unit: float) -> Told:
    """Return a dialogue with ``shift`` taken off its last reward, and all rewards divided by ``unit``."""
    *early, last = told.rewards
    return replace(told, rewards=tuple(reward / unit for reward in (*early, last - shift)))


def train(args: Args, *, evaluate: Evaluate | None = None) -> ILQL:
    """Train ``ilql``, or go on where the run folder ``args.out`` stands; see ``lm_recorded.train_lm`` for errors."""
    if evaluate is None and args.env and args.betas:
        evaluate = returns_by_beta(args)
    return train_lm(ILQL, args, lambda args: Training(ILQL, args), evaluate)


def returns_by_beta(args: Args) -> Evaluate:
    """Return the default evaluation, which also tells ``eval/return_beta_B`` for each B of ``args.betas``."""
    play = mean_return(args)

    def evaluate(agent: Agent) -> Mapping[str, float]:
        assert isinstance(agent, ILQL)
        found, beta = dict(play(agent)), agent.args.beta
        for other in args.betas:
            found[f"eval/return_beta_{other:g}"] = play(agent.set(beta=other))["eval/return"]
        agent.set(beta=beta)
        return found

    return evaluate


if __name__ == "__main__":
    main("ilql")
