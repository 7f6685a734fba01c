"""TD3 and TD3+BC for dialogue: a planner that picks the vector steering a frozen language model.

Papers: TD3, Fujimoto et al. 2018, arXiv:1802.09477; TD3+BC, Fujimoto and Gu 2021, arXiv:2106.06860;
dialogue action tokens (DAT), Li et al. 2024, arXiv:2406.11978.

Differences from them, all of which ``Args`` can undo (``Args.published`` is DAT's setting):

* Nets are 128 wide with LayerNorm, learning rates 1e-3, batches of 128, half an update per step, gamma .95,
  tau .01. DAT has nets as wide as its language model, and learning rates of 1e-5 (critics) and 1e-6 (actor).
* Observations are standardised by running statistics and clipped at 5; DAT ships fixed ones for one model.
* Who acts without noise is the exponential average of the actor in training, which still jumps from update to
  update. Exploration noise decays. Targets can be clamped to the range of possible returns.
* Actions fill the box [-1, 1] through tanh unless ``act_norm`` puts them on DAT's sphere. With ``residual``
  the policy starts at action 0, which is the clone where a self-cloned prefix map adds one; DAT's
  residual has a fixed length and can never be 0.
* A dialogue cut short (``truncated``) bootstraps unless ``cut_ends``, one that ended does not; DAT knows only
  ``done``.
* Critics see what an action says (``meaning``), not the action. Codes of like length say unlike things, so what an
  action is worth is learned from few rewards; what it says is learned from every word said.
* A share of the actions is uniform (``uniform``): a deterministic actor with little noise stays at one meaning.
* ``decompose`` learns from an estimate of what each turn adds to the return, by least squares over whole dialogues
  (return decomposition; Ren et al. 2022, arXiv:2111.13485, draw some steps of each), for returns that come as one
  noisy number. It assumes that they are a sum over turns; where they are not, what is best may move.

Run it with ``python -m dialog_gym.agents.td3 --env dialog_gym/BargainPrefix-v0 --out runs/td3``.
Killed and started again, it goes on from its last checkpoint to the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dialog_gym import checkpoint
from dialog_gym.agent import Agent, Evaluate, args_from_json, load_agent, main
from dialog_gym.agents.collect import Collector, VectorArgs, checked_rows
from dialog_gym.agents.loop import above_0, at_least, from_0_to_1, one_process, run_training
from dialog_gym.agents.networks import RunningNorm
from dialog_gym.agents.replay import ReplayBuffer
from dialog_gym.agents.state import Arrays, join, split, to_numpy, to_torch
from dialog_gym.agents.td3_learner import Actor, Learner, into_range
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.rewards.spec import paid_by


@dataclass(frozen=True)
class Args(VectorArgs):
    """Settings of TD3; comments say what the papers have where they differ: TD3 / TD3+BC / DAT."""

    out: str = "runs/td3"
    """Run folder. The same command started again goes on there."""
    buffer: str = ""
    """Learn offline from this file (see ReplayBuffer.load); ``steps`` then counts updates, and the environment
    is only used to evaluate."""
    buffer_size: int = 1_000_000
    """Transitions to remember (memory is taken for ``steps`` at most)."""
    save_buffer: bool = False
    """At the end write all transitions to buffer.safetensors in the run folder."""
    start: str = ""
    """Folder of a trained TD3 agent or run whose planner and observation statistics to start from."""

    gamma: float = 0.95  # .99 everywhere
    """Discount per turn."""
    tau: float = 0.01  # .005 everywhere
    """How far the target networks move at each actor update."""
    batch: int = 128  # 100 / 256 / 64
    """Transitions per update."""
    updates_per_step: float = 0.5  # 1 / offline / offline
    """Updates per environment step; 0 only collects."""
    random_steps: int = 800  # 1,000 or 10,000 / none / 25,000
    """Environment steps with random actions before learning begins."""
    n_step: int = 1
    """Steps of true reward before the critics take over."""
    cut_ends: bool = True  # False everywhere
    """Whether a dialogue cut short by its longest length is over, as its return has it; else the critics tell what
    it would still earn."""
    critic_lr: float = 1e-3  # 1e-3 / 3e-4 / 1e-5
    """Adam's learning rate of the critics."""
    actor_lr: float = 1e-3  # 1e-3 / 3e-4 / 1e-6
    """Adam's learning rate of the actor."""
    delay: int = 2
    """Critic updates per actor update."""
    average: float = 0.003  # 1 everywhere
    """How far the actor that is evaluated and saved moves to the trained one at each actor update; 1: to it."""
    explore: float = 0.15  # .1 everywhere
    """Standard deviation of the exploration noise at the beginning."""
    explore_end: float = 0.05
    """Standard deviation of the exploration noise at the end; it changes linearly."""
    uniform: float = 0.2  # 0 everywhere
    """Share of actions drawn uniformly at the beginning, which falls linearly to 0: noise stays near what the actor
    does, and codes of another meaning may lie far from it."""
    target_noise: float = 0.1  # .2 everywhere
    """Standard deviation of the noise on the target's action."""
    target_clip: float = 0.2  # .5 everywhere
    """Bound of that noise."""
    value_range: tuple[float, float] | None = None
    """Smallest and largest possible return from any state, to clamp targets to."""
    alpha: float = 0.0  # - / 2.5 / 0
    """Weight of the value against imitation of the buffer's actions (TD3+BC); 0 is pure TD3."""

    hidden: tuple[int, ...] = (128, 128)  # 400, 300 / 256, 256 / d, d
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (128, 128)  # 400, 300 / 256, 256 / d, 256
    """Widths of each critic's hidden layers."""
    activation: Literal["relu", "silu"] = "relu"  # relu / relu / silu
    """Activation of both."""
    layer_norm: bool = True  # none of them
    """Whether a LayerNorm stands before each activation."""
    decompose: bool = False  # none of them
    """Learn from what each turn is estimated to add to the return, in place of the rewards: a net is fitted so that
    its sum over a dialogue is the return. For returns that come as one noisy number in the end."""
    shares_decay: float = 1.0
    """Weight decay of that net (AdamW)."""
    meaning: bool = True  # none of them
    """Whether the critics see what an action says, as a partner understands it (``World.attributes``), in place of the
    action: a net learns what an action says from all that was said, and the actor through it. Where no world tells,
    they see the action."""
    blur: float = 0.1
    """Standard deviation of noise on actions from which that net learns, and by which the actor does."""
    half_critic: bool = False  # DAT: True
    """Whether critics answer (x + 1) / 2 instead of x."""
    act_norm: float | None = None  # DAT: .6, README 1
    """Put all actions on the sphere of this radius, at most 1; None: the box."""
    residual: bool = False
    """Start at action 0 everywhere: at the clone, with a self-cloned prefix map."""
    obs_clip: float = 5.0
    """Bound of standardised observations."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict themselves."""
        super().__post_init__()
        if self.act_norm is not None and not 0 < self.act_norm <= 1:
            raise ValueError(f"act_norm must be in (0, 1] for actions to stay in [-1, 1], got {self.act_norm}")
        if self.act_norm is not None and self.residual:
            raise ValueError("act_norm gives every action one length and residual starts at length 0; give only one")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range must be the smallest and the largest return, got {self.value_range}")
        for name in ("hidden", "critic_hidden"):
            if not all(width >= 1 for width in getattr(self, name)):
                raise ValueError(f"{name} must be widths of at least 1, got {getattr(self, name)}")
        if not 0 < self.average <= 1:
            raise ValueError(f"average must be above 0 and at most 1, got {self.average}")
        if not 0 <= self.uniform <= 1:
            raise ValueError(f"uniform is a share of actions, 0 to 1, got {self.uniform}")
        if self.decompose and self.n_step > 1:
            raise ValueError("decompose gives each turn its share and n_step sums up rewards; give only one")
        if self.buffer and self.reward:
            raise ValueError(
                f"with a buffer TD3 learns from the rewards stored in it, got reward={self.reward!r}; leave it out, "
                "or fill a buffer with that reward first: reward=..., save_buffer=True"
            )
        at_least(self, 1, "batch", "n_step", "delay", "buffer_size")
        at_least(self, 0, "updates_per_step", "random_steps", "explore", "explore_end", "target_noise", "alpha")
        at_least(self, 0, "blur", "shares_decay", "target_clip")
        above_0(self, "tau", "critic_lr", "actor_lr", "obs_clip")
        from_0_to_1(self, "gamma", "tau")

    @property
    def data_used(self) -> tuple[str, ...]:
        """The buffer, if it learns offline; else the files of a learned reward."""
        return (self.buffer,) if self.buffer else super().data_used

    @classmethod
    def published(cls, state_size: int = 4096, **settings: Any) -> Self:
        """Return DAT's settings for a language model with states of ``state_size``; ``settings`` override them."""
        dat: dict[str, Any] = {
            "gamma": 0.99, "tau": 0.005, "batch": 64, "critic_lr": 1e-5, "actor_lr": 1e-6, "explore": 0.1,
            "explore_end": 0.1, "target_noise": 0.2, "target_clip": 0.5, "hidden": (state_size, state_size),
            "critic_hidden": (state_size, 256), "activation": "silu", "layer_norm": False, "half_critic": True,
            "average": 1.0, "meaning": False, "cut_ends": False, "uniform": 0.0, "act_norm": 0.6, "obs_clip": math.inf,
        }  # fmt: skip
        return cls(**{**dat, **settings})


class TD3(Agent):
    """The planner: observation statistics and (averaged) actor."""

    name = "td3"

    def __init__(
        self, observation_size: int, action_size: int, args: Args, generator: torch.Generator | None = None
    ) -> None:
        """Begin untrained."""
        self.args, self.observation_size, self.action_size = args, observation_size, action_size
        self.norm = RunningNorm(observation_size, args.obs_clip)
        self.actor = Actor(observation_size, action_size, args, generator)

    @torch.no_grad()
    def act(self, observations: Any, infos: Mapping[str, Any] | None = None) -> npt.NDArray[np.float32]:
        """Return the policy's actions without noise, (n, A) in [-1, 1].

        Raises:
            ValueError: ``observations`` are not n finite vectors of the size it was trained on.
        """
        rows = checked_rows(observations, self.observation_size)
        actions: npt.NDArray[np.float32] = self.actor(self.norm(torch.from_numpy(rows))).numpy()
        return actions

    def save(self, folder: str | Path) -> None:
        """Write weights and settings."""
        data = {"sizes": [self.observation_size, self.action_size], "args": asdict(self.args)}
        checkpoint.write(folder, self.name, to_numpy(self.modules().state_dict()), data)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote."""
        arrays, data = checkpoint.read(folder, cls.name)
        try:
            observation_size, action_size = data["sizes"]
            agent = cls(observation_size, action_size, args_from_json(Args, data["args"]))
            agent.modules().load_state_dict(to_torch(arrays))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder} does not fit this version of TD3: {error}") from error
        return agent

    def modules(self) -> nn.ModuleDict:
        """Return everything with weights, by name."""
        return nn.ModuleDict({"norm": self.norm, "actor": self.actor})


class Training:
    """A run in progress: everything a checkpoint holds.

    Attributes:
        step: Environment steps taken (offline: updates).
        owed: Updates that the steps so far have earned and that are not made yet.
    """

    def __init__(self, args: Args) -> None:
        """Make environment or buffer, networks and random streams; all follow from ``args.seed``."""
        self.args, self.step, self.owed = args, 0, 0.0
        seeds = np.random.SeedSequence(args.seed).generate_state(3).tolist()
        learn, self.noise = (torch.Generator().manual_seed(seed) for seed in seeds[:2])
        self.collector = (
            None
            if args.buffer
            else Collector(args.env, args.rows, paid_by(args.env_kwargs, args.reward), seeds[2] >> 1, args.budget)
        )
        self.buffer = self._make_buffer()
        self.agent = TD3(self.buffer.observation_size, self.buffer.action_size, args, learn)
        if args.start:
            _copy_planner(args.start, self.agent)
        self.learner = Learner(self.agent, args, learn, self.buffer.said_size if args.meaning else 0)
        self._logged: dict[str, list[Tensor]] = {}
        self._since = (time.perf_counter(), 0)

    def begin(self) -> None:
        """Stand at step 0."""
        if self.collector is not None:
            self.collector.begin()
        else:
            if not self.args.start:
                self.agent.norm.update(self.buffer.data[:, : self.buffer.observation_size])
            if self.learner.meaning is not None:
                self.learner.meaning.norm.update(self.buffer.data[:, -2 - self.buffer.said_size : -2])

    def advance(self) -> None:
        """Take one step in every dialogue and make the updates that it earns (offline: make one update)."""
        if self.collector is None:
            self.step, self.owed = self.step + 1, 1.0
        else:
            earning = self.step >= self.args.random_steps
            self._collect(self.collector)
            self.owed += self.args.rows * self.args.updates_per_step * earning
        while self.owed >= 1:
            self.owed -= 1
            args = self.args
            batch = self.buffer.sample(
                args.batch, self.learner.generator, gamma=args.gamma, n_step=args.n_step, cut_ends=args.cut_ends
            )
            whole = self.buffer.whole(max(args.batch // 16, 1), self.learner.generator) if args.decompose else None
            for name, value in self.learner.update(batch, whole).items():
                self._logged.setdefault(name, []).append(value)

    @property
    def explore(self) -> float:
        """Standard deviation of the exploration noise now."""
        done = min(self.step / self.args.steps, 1.0)
        return self.args.explore + done * (self.args.explore_end - self.args.explore)

    @torch.no_grad()
    def _collect(self, collector: Collector) -> None:
        seen = torch.from_numpy(collector.observations)
        shape = (self.args.rows, collector.action_size)
        if self.step >= self.args.random_steps:
            actions = self.learner.actor(self.agent.norm(seen))
            actions = actions + self.explore * torch.randn(shape, generator=self.noise)
            if share := self.args.uniform * max(1 - self.step / self.args.steps, 0.0):
                anywhere = torch.rand((self.args.rows, 1), generator=self.noise) < share
                actions = torch.where(anywhere, 2 * torch.rand(shape, generator=self.noise) - 1, actions)
        elif self.args.act_norm is None:
            actions = 2 * torch.rand(shape, generator=self.noise) - 1
        else:
            actions = torch.randn(shape, generator=self.noise)
        self.agent.norm.update(seen)
        taken = collector.step(into_range(actions, self.args.act_norm).numpy())
        self.buffer.add(*(taken if self.buffer.said_size else taken[:-1]))
        if self.learner.meaning is not None:
            self.learner.meaning.norm.update(torch.from_numpy(taken.said))
        self.step += self.args.rows

    def pop_metrics(self) -> dict[str, float]:
        """Return and forget what happened since the last call."""
        metrics = {name: torch.stack(values).mean().item() for name, values in self._logged.items()}
        self._logged = {}
        if self.collector is not None:
            metrics |= {**self.collector.pop_metrics(), "train/explore": self.explore}
        now = time.perf_counter()
        metrics["time/steps_per_second"] = (self.step - self._since[1]) / (now - self._since[0])
        self._since = (now, self.step)
        return metrics

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that ``restore`` needs."""
        parts: dict[str, Arrays] = {"learner": self.learner.state(), "rng": {"noise": self.noise.get_state().numpy()}}
        data: dict[str, Any] = {"owed": self.owed, "updates": self.learner.updates}
        if self.collector is not None:
            parts["collector"], data["collector"] = self.collector.state()
            parts["buffer"], data["buffer"] = self.buffer.state()
        return join(**parts), data

    def restore(self, step: int, arrays: Arrays, data: Mapping[str, Any]) -> None:
        """Go on from what ``state`` returned at ``step``."""
        parts = split(arrays)
        self.step, self.owed, self._since = step, data["owed"], (time.perf_counter(), step)
        self.learner.restore(parts["learner"], data["updates"])
        self.noise.set_state(torch.from_numpy(parts["rng"]["noise"]))
        if self.collector is not None:
            self.buffer.restore(parts["buffer"], data["buffer"])
            self.collector.restore(parts["collector"], data["collector"], step)

    def state_bytes(self) -> int:
        """Return how large a checkpoint can become: the buffer, and each weight with its two Adam moments."""
        buffer = 0 if self.collector is None else self.buffer.nbytes
        return buffer + 3 * sum(array.nbytes for array in to_numpy(self.learner.nets().state_dict()).values())

    def finish(self, folder: Path) -> None:
        """Write the buffer, if it is wanted."""
        if self.args.save_buffer:
            self.buffer.save(folder / "buffer.safetensors")

    def close(self) -> None:
        """Close the environment."""
        if self.collector is not None:
            self.collector.close()

    def _make_buffer(self) -> ReplayBuffer:
        args = self.args
        if self.collector is None:
            return ReplayBuffer.load(args.buffer)
        whole = args.rows * math.ceil(args.steps / args.rows)
        sizes = (self.collector.observation_size, self.collector.action_size)
        said_size = self.collector.said_size if args.meaning else 0
        return ReplayBuffer(min(args.buffer_size, whole), *sizes, rows=args.rows, said_size=said_size)


def _copy_planner(folder: str, agent: TD3) -> None:
    """Give ``agent`` the weights and observation statistics of the planner in ``folder``."""
    other = load_agent(folder)
    try:
        if not isinstance(other, TD3):
            raise TypeError(f"it is an agent of kind {other.name!r}")
        agent.modules().load_state_dict(other.modules().state_dict())
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"start={folder!r} holds no TD3 planner of this shape: {error}") from error


def train(args: Args, *, evaluate: Evaluate | None = None) -> TD3:
    """Train a planner, or go on where the run folder ``args.out`` stands, and return it.

    Args:
        args: Every setting.
        evaluate: Called with the agent every ``args.eval_every`` steps; returns what to log. By default the
            mean return of ``args.eval_episodes`` dialogues without noise, with its interval.

    Raises:
        ValueError: Several processes were started.
        RunFolderError: The folder is of another run, in use, or cannot be written.
        CheckpointError: Its last checkpoint is damaged.
        Interrupted: Ctrl-C was pressed; a checkpoint has been written.
    """
    one_process("td3")
    return run_training(TD3, args, Training, evaluate)


if __name__ == "__main__":
    main("td3")
