"""Stable-Baselines3's PPO, SAC and TD3, as they are, on vector environments that do not reset themselves.

``SB3VecEnv`` is all they need:

    model = SAC("MlpPolicy", SB3VecEnv(gym.make_vec("dialog_gym/BargainPrefix-v0", 32, autoreset_mode="disabled")))

``train`` adds settings that work for small language models (see ``Args``), standardised observations, a
run folder and evaluation. SB3's own zip files hold pickles; agents are saved as safetensors and JSON.

There are no checkpoints within a run: SB3 cannot be stopped and resumed exactly. A run that was killed
begins again and ends with the numbers it would have had.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import stable_baselines3
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor, nn
from torch.nn import functional as F

from dialog_gym import checkpoint
from dialog_gym.agent import Agent, Evaluate, args_from_json, config_of, main
from dialog_gym.agents.collect import VectorArgs, checked_rows, make_vector_env
from dialog_gym.agents.loop import (
    NO_EFFECT,
    above_0,
    at_least,
    due,
    from_0_to_1,
    mean_return,
    one_process,
    torch_threads,
)
from dialog_gym.agents.state import join, split, to_numpy, to_torch
from dialog_gym.chance import global_random_state_kept
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.rewards.spec import paid_by
from dialog_gym.runs import Interrupted, RunFolder
from dialog_gym.tracking import progress_bar

Floats = npt.NDArray[np.float32]
_EPSILON = 1e-8  # VecNormalize's


@dataclass(frozen=True)
class Args(VectorArgs):
    """Settings; those of the algorithm that is not chosen have no effect."""

    algo: Literal["ppo", "sac", "td3"] = "sac"
    """Algorithm."""
    out: str = "runs/sb3"
    """Run folder. A finished run is loaded, an unfinished one begins again (``checkpoint_every`` has no effect)."""
    gamma: float = 0.95
    """Discount per turn."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers."""
    layer_norm: bool = True
    """Whether a LayerNorm (without gain and bias) stands before each ReLU."""
    obs_clip: float = 5.0
    """Bound of standardised observations."""
    actor_lr: float = 3e-4
    """Learning rate of the actor; of the whole network for PPO."""
    batch: int = 128
    """Transitions per update."""

    critic_lr: float = 1e-3
    """SAC, TD3: learning rate of the critics and of SAC's temperature."""
    tau: float = 0.01
    """SAC, TD3: how far target networks move per update."""
    updates_per_step: float = 0.5
    """SAC, TD3: updates per environment step."""
    random_steps: int = 800
    """SAC, TD3: environment steps with random actions before learning begins."""
    temperature: float = 0.01
    """SAC: weight of the entropy at the beginning; it is adapted."""
    target_entropy: float = -0.5
    """SAC: entropy to adapt it to, per action coordinate."""
    explore: float = 0.2
    """TD3: standard deviation of the exploration noise."""

    rollout: int = 32
    """PPO: steps of every row between updates."""
    epochs: int = 10
    """PPO: passes over each roll-out."""
    gae_lambda: float = 0.95
    """PPO: weight of longer returns in the advantage."""
    log_std: float = -0.5
    """PPO: logarithm of the standard deviation of actions at the beginning."""

    def __post_init__(self) -> None:
        """Refuse what SB3 would fail on later."""
        super().__post_init__()
        at_least(self, 1, "batch", "rollout", "epochs")
        at_least(self, 0, "updates_per_step", "random_steps", "explore")
        above_0(self, "tau", "critic_lr", "actor_lr", "obs_clip", "temperature")
        from_0_to_1(self, "gamma", "tau", "gae_lambda")
        if self.algo != "ppo" and self.rows * self.updates_per_step < 1:
            raise ValueError(
                f"rows * updates_per_step must be at least 1 update per vector step, got {self.rows} * "
                f"{self.updates_per_step}; use more rows"
            )


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment with ``AutoresetMode.DISABLED``, as Stable-Baselines3 wants one.

    Rows that end begin anew within the same step; ``infos[row]`` then has ``terminal_observation``,
    ``TimeLimit.truncated`` (true if it was cut short and had not ended) and ``episode`` (return ``r``,
    length ``l``), besides the environment's own infos of this row.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Wrap ``env``."""
        if env.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
            raise ValueError(
                "SB3VecEnv resets rows itself and needs an environment made with autoreset_mode='disabled', "
                f"got {env.metadata.get('autoreset_mode')}"
            )
        self.env = env
        self._actions: Any = None
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Begin all rows anew, from the seeds that ``seed`` set if it was called."""
        seeds = list(self._seeds) if any(seed is not None for seed in self._seeds) else None
        observations, infos = self.env.reset(seed=seeds)  # type: ignore[arg-type]  # one per row
        self._returns[:], self._lengths[:] = 0.0, 0
        self.reset_infos = _by_row(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, Floats, npt.NDArray[np.bool_], list[dict[str, Any]]]:
        """Step every row, and reset those that ended."""
        found, rewards, terminated, truncated, arrays = self.env.step(self._actions)
        observations, over = np.array(found), np.logical_or(terminated, truncated)
        infos = _by_row(arrays, self.num_envs)
        self._returns += rewards
        self._lengths += 1
        for row in np.flatnonzero(over):
            infos[row]["terminal_observation"] = observations[row].copy()
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            infos[row]["episode"] = {"r": float(self._returns[row]), "l": int(self._lengths[row]), "t": 0.0}
        if over.any():
            self._returns[over], self._lengths[over] = 0.0, 0
            fresh = self.env.reset(options={"reset_mask": over})[0]
            observations[over] = np.asarray(fresh)[over]
        return observations, np.asarray(rewards, dtype=np.float32), over, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the vector environment, once per row."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the vector environment."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the vector environment once, and return its answer once per row."""
        answer = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [answer] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return False for every row: single-environment wrappers cannot be around one."""
        return [False] * len(list(self._get_indices(indices)))


def _by_row(infos: Mapping[str, Any], rows: int) -> list[dict[str, Any]]:
    """Turn a dict of arrays into one dict per row, leaving out Gymnasium's masks."""
    kept = {name: values for name, values in infos.items() if not name.startswith("_")}
    nested = {name: _by_row(values, rows) for name, values in kept.items() if isinstance(values, dict)}
    return [{name: nested.get(name, values)[row] for name, values in kept.items()} for row in range(rows)]


class NormReLU(nn.Module):
    """LayerNorm without gain and bias, then ReLU; SB3 takes an activation without arguments."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations, of the shape of ``x``."""
        return torch.relu(F.layer_norm(x, x.shape[-1:]))


class _ActorRate:
    """SB3 gives all optimisers one learning rate; this gives the actor its own."""

    actor: Any
    actor_lr: float

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)  # type: ignore[misc]  # of the algorithm beside it
        for group in self.actor.optimizer.param_groups:
            group["lr"] = self.actor_lr


class SAC(_ActorRate, stable_baselines3.SAC):
    """SB3's SAC with a learning rate for the actor."""


class TD3(_ActorRate, stable_baselines3.TD3):
    """SB3's TD3 with a learning rate for the actor."""


class SB3Agent(Agent):
    """A policy of Stable-Baselines3 and the statistics its observations are standardised by."""

    name = "sb3"

    def __init__(self, args: Args, policy: BasePolicy, statistics: RunningMeanStd) -> None:
        """Hold a policy."""
        self.args, self.policy, self.statistics = args, policy, statistics

    def act(self, observations: Any, infos: Mapping[str, Any] | None = None) -> Floats:
        """Return the policy's actions without noise, (n, A) in [-1, 1].

        Raises:
            ValueError: ``observations`` are not n finite vectors of the size it was trained on.
        """
        mean, scale = self.statistics.mean, np.sqrt(self.statistics.var + _EPSILON)
        seen = (checked_rows(observations, len(mean)) - mean) / scale
        seen = np.clip(seen, -self.args.obs_clip, self.args.obs_clip).astype(np.float32)
        actions, _ = self.policy.predict(seen, deterministic=True)
        return np.asarray(actions, dtype=np.float32)

    def save(self, folder: str | Path) -> None:
        """Write weights, statistics and settings."""
        norm = {"mean": self.statistics.mean, "variance": self.statistics.var}
        sizes = [len(self.statistics.mean), int(np.prod(self.policy.action_space.shape or 0))]
        arrays = join(policy=to_numpy(self.policy.state_dict()), norm=norm)
        checkpoint.write(folder, self.name, arrays, {"sizes": sizes, "args": asdict(self.args)})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote."""
        arrays, data = checkpoint.read(folder, cls.name)
        try:
            parts, args = split(arrays), args_from_json(Args, data["args"])
            size, action_size = data["sizes"]
            spaces = (Box(-np.inf, np.inf, (size,)), Box(-1.0, 1.0, (action_size,)))
            policy = _policy_class(args)(*spaces, lambda _: 0.0, **_policy_settings(args))
            policy.load_state_dict(to_torch(parts["policy"]))
            statistics = RunningMeanStd(shape=(size,))
            statistics.mean, statistics.var = parts["norm"]["mean"], parts["norm"]["variance"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder} does not fit this version of sb3: {error}") from error
        return cls(args, policy, statistics)


def make_model(args: Args, env: VecEnv) -> BaseAlgorithm:
    """Return the untrained algorithm."""
    shared: dict[str, Any] = {
        "policy": "MlpPolicy", "env": env, "gamma": args.gamma, "batch_size": args.batch, "seed": args.seed,
        "policy_kwargs": _policy_settings(args), "device": "cpu",
    }  # fmt: skip
    if args.algo == "ppo":
        own: dict[str, Any] = {"n_steps": args.rollout, "n_epochs": args.epochs, "gae_lambda": args.gae_lambda}
        return stable_baselines3.PPO(learning_rate=args.actor_lr, **own, **shared)
    size = int(np.prod(env.action_space.shape or 0))
    shared |= {
        "learning_rate": args.critic_lr, "tau": args.tau, "learning_starts": args.random_steps, "train_freq": 1,
        "gradient_steps": int(args.rows * args.updates_per_step),
        "buffer_size": max(args.steps, args.random_steps) + args.rows,
    }  # fmt: skip
    model: SAC | TD3
    if args.algo == "sac":
        entropy: dict[str, Any] = {
            "ent_coef": f"auto_{args.temperature}",
            "target_entropy": args.target_entropy * size,
        }
        model = SAC(**entropy, **shared)
    else:
        noise = stable_baselines3.common.noise.NormalActionNoise(np.zeros(size), np.full(size, args.explore))
        model = TD3(action_noise=noise, target_policy_noise=0.2, target_noise_clip=0.4, **shared)
    model.actor_lr = args.actor_lr
    return model


def _policy_settings(args: Args) -> dict[str, Any]:
    values = "vf" if args.algo == "ppo" else "qf"
    settings: dict[str, Any] = {
        "net_arch": {"pi": list(args.hidden), values: list(args.hidden)},
        "activation_fn": NormReLU if args.layer_norm else nn.ReLU,
    }
    return {**settings, "log_std_init": args.log_std} if args.algo == "ppo" else settings


def _policy_class(args: Args) -> type[BasePolicy]:
    algorithm: dict[str, Any] = {
        "ppo": stable_baselines3.PPO,
        "sac": stable_baselines3.SAC,
        "td3": stable_baselines3.TD3,
    }
    policy: type[BasePolicy] = algorithm[args.algo].policy_aliases["MlpPolicy"]
    return policy


class _Watch(BaseCallback):
    """Metrics, evaluations and Ctrl-C while SB3 trains."""

    def __init__(self, run: RunFolder, agent: SB3Agent, evaluate: Evaluate, show: Any) -> None:
        super().__init__()
        self.run, self.agent, self.evaluate, self.show = run, agent, evaluate, show
        self.ended: list[tuple[float, int]] = []
        self.before = 0

    def _on_step(self) -> bool:
        args, step = self.agent.args, self.num_timesteps
        self.ended += [
            (info["episode"]["r"], info["episode"]["l"]) for info in self.locals["infos"] if "episode" in info
        ]
        metrics: dict[str, float] = {}
        if due(args.log_every, self.before, step):
            metrics |= self.pop_metrics()
        if args.eval_every and (step >= args.steps or due(args.eval_every, self.before, step)):
            metrics |= self.evaluate(self.agent)
        if metrics:
            self.run.log(step, metrics)
        self.show(step, metrics)
        self.before = step
        return not self.run.interrupted

    def pop_metrics(self) -> dict[str, float]:
        """Return SB3's own metrics and the mean return of the dialogues that ended."""
        own = {name: float(value) for name, value in self.logger.name_to_value.items() if name.startswith("train/")}
        if not self.ended:
            return own
        score, turns = np.mean(self.ended, axis=0).tolist()
        self.ended = []
        return {**own, "train/return": score, "train/turns": turns}


def train(args: Args, *, evaluate: Evaluate | None = None) -> SB3Agent:
    """Train SB3's ``args.algo``, or load it if the run folder ``args.out`` has finished.

    Args:
        args: Every setting.
        evaluate: As in ``dialog_gym.agents.td3.train``.

    Raises:
        ValueError: Several processes were started.
    """
    one_process("sb3")
    config = config_of(SB3Agent.name, args, apart_from=NO_EFFECT)
    with torch_threads(args.threads), RunFolder.open(args.out, config, track=args.track, data=args.data_used) as run:
        if run.finished:
            return SB3Agent.load(run.agent_folder)
        rows = SB3VecEnv(make_vector_env(args.env, args.rows, paid_by(args.env_kwargs, args.reward), args.budget))
        env = VecNormalize(rows, norm_reward=False, clip_obs=args.obs_clip, epsilon=_EPSILON, gamma=args.gamma)
        with closing(env), global_random_state_kept(), run.catching_interrupts():
            agent = _learn(args, env, run, evaluate or mean_return(args))
            run.save_agent(agent)
            run.finish({"steps": args.steps})
        return agent


def _learn(args: Args, env: VecNormalize, run: RunFolder, evaluate: Evaluate) -> SB3Agent:
    model = make_model(args, env)
    assert isinstance(env.obs_rms, RunningMeanStd)
    agent = SB3Agent(args, model.policy, env.obs_rms)
    with progress_bar(f"sb3 {args.algo}", args.steps, show=args.progress) as show:
        watch = _Watch(run, agent, evaluate, show)
        model.learn(args.steps, callback=watch, log_interval=None)
    if run.interrupted:
        raise Interrupted(
            f"stopped at step {model.num_timesteps}; SB3 keeps no checkpoints: start it again to begin anew"
        )
    return agent


if __name__ == "__main__":
    main("sb3")
