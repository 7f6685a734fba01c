"""What TD3 learns by: losses, actor, critics, what actions say, what turns add, and the updates of all of them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dialog_gym.agents.networks import MLP, RunningNorm, polyak
from dialog_gym.agents.replay import Batch, Whole
from dialog_gym.agents.state import Arrays, join, optimizer_state, restore_optimizer, split, to_numpy, to_torch

if TYPE_CHECKING:
    from dialog_gym.agents.td3 import TD3, Args


def td3_target(
    rewards: Tensor, discounts: Tensor, next_q: Tensor, value_range: tuple[float, float] | None = None
) -> Tensor:
    """Return r + discount * min(Q1', Q2'), clamped to ``value_range``, shape (B,); ``next_q`` is (2, B)."""
    target = rewards + discounts * next_q.amin(0)
    return target if value_range is None else target.clamp(*value_range)


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Return MSE(Q1, target) + MSE(Q2, target); ``q`` is (2, B)."""
    return (q - target).square().mean(1).sum()


def actor_loss(q1: Tensor, actions: Tensor, taken: Tensor, alpha: float) -> Tensor:
    """Return -mean Q1, or -lambda * mean Q1 + MSE(actions, taken) with lambda = alpha / mean |Q1| (TD3+BC).

    Args:
        q1: The first critic's value of ``actions``, (B,).
        actions: What the actor would do, (B, A).
        taken: What the buffer says was done, (B, A).
        alpha: 0 for pure TD3.
    """
    if alpha == 0:
        return -q1.mean()
    weight = alpha / q1.detach().abs().mean()
    return F.mse_loss(actions, taken) - weight * q1.mean()


def into_range(actions: Tensor, act_norm: float | None) -> Tensor:
    """Bring noisy actions back into the box [-1, 1], or onto the sphere of radius ``act_norm``."""
    return actions.clamp(-1, 1) if act_norm is None else act_norm * F.normalize(actions, dim=-1)


class Actor(nn.Module):
    """Standardised observation (B, d) -> action (B, A)."""

    def __init__(
        self, observation_size: int, action_size: int, args: Args, generator: torch.Generator | None = None
    ) -> None:
        """Draw the weights; with ``args.residual`` the last layer is 0."""
        super().__init__()
        sizes = (observation_size, *args.hidden, action_size)
        self.net = MLP(sizes, activation=args.activation, layer_norm=args.layer_norm, generator=generator)
        self.act_norm = args.act_norm
        if args.residual:
            nn.init.zeros_(self.net.weights[-1])
            nn.init.zeros_(self.net.biases[-1])

    def forward(self, observations: Tensor) -> Tensor:
        """Return the actions."""
        x = self.net(observations, 0)
        return torch.tanh(x) if self.act_norm is None else into_range(x, self.act_norm)


class Critics(nn.Module):
    """Two critics: standardised observation (B, d) and action (B, A) -> values (2, B)."""

    def __init__(
        self, observation_size: int, action_size: int, args: Args, generator: torch.Generator | None = None
    ) -> None:
        """Draw the weights."""
        super().__init__()
        sizes = (observation_size + action_size, *args.critic_hidden, 1)
        self.net = MLP(sizes, members=2, activation=args.activation, layer_norm=args.layer_norm, generator=generator)
        self.halved = args.half_critic

    def forward(self, observations: Tensor, actions: Tensor, member: int | None = None) -> Tensor:
        """Return the values that both give, or one of them, (B,)."""
        x: Tensor = self.net(torch.cat([observations, actions], dim=-1), member).squeeze(-1)
        return (x + 1) / 2 if self.halved else x


class Meaning(nn.Module):
    """What actions say: standardised observation (B, d) and action (B, A) -> standardised attributes (B, k)."""

    def __init__(
        self, observation_size: int, action_size: int, said_size: int, args: Args, generator: torch.Generator
    ) -> None:
        """Draw the weights."""
        super().__init__()
        sizes = (observation_size + action_size, *args.critic_hidden, said_size)
        self.net = MLP(sizes, activation=args.activation, layer_norm=args.layer_norm, generator=generator)
        self.norm = RunningNorm(said_size, 5.0)

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the mean of what is understood of what the actions say."""
        found: Tensor = self.net(torch.cat([observations, actions], dim=-1), 0)
        return found


class Learner:
    """Actor in training, critics, target networks and optimisers: what turns transitions into a better planner."""

    def __init__(self, agent: TD3, args: Args, generator: torch.Generator, said_size: int = 0) -> None:
        """Draw the critics from ``generator``, which also serves all noise.

        Args:
            agent: Whose actor learns.
            args: Settings.
            generator: Source of chance.
            said_size: Numbers that tell what an action said; 0: critics see actions.
        """
        sizes = (agent.observation_size, agent.action_size)
        self.agent, self.args, self.generator, self.updates = agent, args, generator, 0
        self.meaning = Meaning(*sizes, said_size, args, generator) if said_size else None
        seen = (agent.observation_size, said_size or agent.action_size)
        self.critics, self.target_critics = (Critics(*seen, args, generator) for _ in range(2))
        self.target_critics.load_state_dict(self.critics.state_dict())
        self.actor, self.target_actor = (copy.deepcopy(agent.actor) for _ in range(2))
        self.shares: MLP | None = None
        if args.decompose:
            widths = (sum(seen), *args.critic_hidden, 1)
            self.shares = MLP(widths, activation=args.activation, layer_norm=args.layer_norm, generator=generator)
        parts: list[dict[str, Any]] = [{"params": self._judges()}]
        if self.shares is not None:  # few dialogues, each seen many times, would be learned by heart
            parts.append({"params": list(self.shares.parameters()), "weight_decay": args.shares_decay})
        self.critic_optimizer = torch.optim.AdamW(parts, lr=args.critic_lr, weight_decay=0.0, fused=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=args.actor_lr, fused=True)

    def update(self, batch: Batch, whole: Whole | None = None) -> dict[str, Tensor]:
        """Take one critic step, every ``delay`` calls also an actor step, and return what to log (still tensors).

        Args:
            batch: Transitions.
            whole: Dialogues to decompose the returns of (``Args.decompose``).
        """
        norm, args = self.agent.norm, self.args
        observations, following = norm(batch.observations), norm(batch.next_observations)
        with torch.no_grad():
            noise = args.target_noise * torch.randn(batch.actions.shape, generator=self.generator)
            noise.clamp_(-args.target_clip, args.target_clip)
            next_actions = into_range(self.target_actor(following) + noise, args.act_norm)
            next_q = self.target_critics(following, self._told(following, next_actions))
            said = self._understood(batch)
            rewards = batch.rewards if self.shares is None else self._shares(observations, said)
            target = td3_target(rewards, batch.discounts, next_q, args.value_range)
        q = self.critics(observations, said)
        loss = critic_loss(q, target)
        metrics = {"loss/critic": loss.detach(), "value/q": q.detach().mean()}
        if self.meaning is not None:
            missed = F.mse_loss(self.meaning(observations, self._blurred(batch.actions)), said)
            metrics["loss/meaning"] = missed.detach()
            loss = loss + missed
        if self.shares is not None and whole is not None:
            told = self._shares(norm(whole.observations), self._understood(whole))
            unexplained = F.mse_loss((told * whole.used).sum(1), whole.returns)
            metrics["loss/shares"] = unexplained.detach()
            loss = loss + unexplained
        _step(self.critic_optimizer, [p for part in self.critic_optimizer.param_groups for p in part["params"]], loss)
        self.updates += 1
        if self.updates % args.delay == 0:
            metrics["loss/actor"] = self._update_actor(observations, batch.actions)
        return metrics

    def _update_actor(self, observations: Tensor, taken: Tensor) -> Tensor:
        actor, args = self.actor, self.args
        actions = actor(observations)
        acted = actions if self.meaning is None else self._blurred(actions)
        q1 = self.critics(observations, self._told(observations, acted), 0)
        loss = actor_loss(q1, actions, taken, args.alpha)
        _step(self.actor_optimizer, list(actor.parameters()), loss)
        rate = min(max(args.average, 10 * args.delay / self.updates), 1.0)  # over a tenth of what was learned at most
        polyak(actor.parameters(), self.agent.actor.parameters(), rate)
        polyak(actor.parameters(), self.target_actor.parameters(), args.tau)
        polyak(self.critics.parameters(), self.target_critics.parameters(), args.tau)
        return loss.detach()

    def _judges(self) -> list[nn.Parameter]:
        """Return what learns from rewards and from what was said."""
        return [*self.critics.parameters(), *(() if self.meaning is None else self.meaning.net.parameters())]

    def _understood(self, taken: Batch | Whole) -> Tensor:
        """Return what the critics see of actions that were ``taken``."""
        return taken.actions if self.meaning is None else self.meaning.norm(taken.said)

    def _shares(self, observations: Tensor, said: Tensor) -> Tensor:
        """Return what each turn is estimated to add to the return, shape (...)."""
        assert self.shares is not None
        seen = torch.cat([observations, said], dim=-1)
        found: Tensor = self.shares(seen.flatten(0, -2), 0).view(seen.shape[:-1])
        return found

    def _told(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return what the critics see of ``actions``."""
        return actions if self.meaning is None else self.meaning(observations, actions)

    def _blurred(self, actions: Tensor) -> Tensor:
        noise = torch.randn(actions.shape, generator=self.generator)
        return into_range(actions + self.args.blur * noise, self.args.act_norm)

    def state(self) -> Arrays:
        """Return all weights and optimiser states."""
        optimizers = {"critic": self.critic_optimizer, "actor": self.actor_optimizer}
        return join(
            net=to_numpy(self.nets().state_dict()),
            **{f"adam_{name}": optimizer_state(optimizer) for name, optimizer in optimizers.items()},
            rng={"learn": self.generator.get_state().numpy()},
        )

    def restore(self, arrays: Arrays, updates: int) -> None:
        """Go on from what ``state`` returned after ``updates`` updates (before the first, Adam remembers nothing)."""
        parts = split(arrays)
        self.nets().load_state_dict(to_torch(parts["net"]))
        restore_optimizer(self.critic_optimizer, parts.get("adam_critic", {}))
        restore_optimizer(self.actor_optimizer, parts.get("adam_actor", {}))
        self.generator.set_state(torch.from_numpy(parts["rng"]["learn"]))
        self.updates = updates

    def nets(self) -> nn.ModuleDict:
        """Return every network that learns or follows, by name."""
        targets = {"target_critics": self.target_critics, "target_actor": self.target_actor}
        own = {"learner": self.actor, "critics": self.critics, **targets}
        own |= {name: net for name, net in (("meaning", self.meaning), ("shares", self.shares)) if net is not None}
        return nn.ModuleDict({**self.agent.modules(), **own})


def _step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], loss: Tensor) -> None:
    """Step on the gradient with respect to ``parameters`` alone, of which ``loss`` may not need all."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
