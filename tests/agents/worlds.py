"""Vector environments whose best policy is known, with the contract of the dialogue environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class Aim(VectorEnv[Any, Any, Any]):
    """Hit a target that the observation shows; what is earned is paid at the last of ``turns`` steps.

    The target is +-.5 in each of ``size`` coordinates, the observation [target + noise, turn, score so far].
    Return: 1 - mean |action - target| over turns and coordinates. Best: 1; constant 0: .5; random: .375.
    ``cut=True`` ends dialogues by truncation. ``costly=True``: a dialogue costs twice its mean |action|, so 1 if best.
    ``broken="observation"`` or ``"reward"`` gives NaN at step 3.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 2,
        turns: int = 3,
        cut: bool = False,
        costly: bool = False,
        broken: str = "",
        autoreset_mode: str | AutoresetMode = AutoresetMode.DISABLED,
    ) -> None:
        self.num_envs, self.size, self.turns, self.cut, self.broken = num_envs, size, turns, cut, broken
        self.costly = costly
        mode = autoreset_mode if isinstance(autoreset_mode, AutoresetMode) else AutoresetMode[autoreset_mode.upper()]
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = Box(-np.inf, np.inf, (size + 2,), np.float32)
        self.single_action_space = Box(-1, 1, (size,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.rngs = [np.random.default_rng(row) for row in range(num_envs)]
        self.targets = np.zeros((num_envs, size))
        self.turn, self.score = np.zeros(num_envs, dtype=int), np.zeros(num_envs)
        self.over, self.calls = np.zeros(num_envs, dtype=bool), 0

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        seeds = [seed + row for row in range(self.num_envs)] if isinstance(seed, int) else seed
        for row in np.flatnonzero(mask):
            if seeds is not None and seeds[row] is not None:
                self.rngs[row] = np.random.default_rng(seeds[row])
            self.targets[row] = self.rngs[row].choice([-0.5, 0.5], self.size)
            self.turn[row], self.score[row], self.over[row] = 0, 0.0, False
        return self._observe(), {}

    def step(self, actions):
        actions = np.asarray(actions)
        assert actions.shape == self.action_space.shape
        assert np.abs(actions).max() <= 1
        assert not self.over.any(), "a row that had ended was stepped"
        self.calls += 1
        self.score += 1 - np.abs(actions - self.targets).mean(1)
        self.turn += 1
        self.over = self.turn == self.turns
        rewards = np.where(self.over, self.score / self.turns, 0.0)
        if self.calls == 3 and self.broken == "reward":
            rewards[1] = np.nan
        none = np.zeros(self.num_envs, dtype=bool)
        ends = (none, self.over.copy()) if self.cut else (self.over.copy(), none)
        infos = {"turn": self.turn.copy(), "success": self.over.copy()}
        if self.costly:
            infos["cost"] = 2 * np.abs(actions).mean(1) / self.turns
        return self._observe(), rewards, *ends, infos

    def get_state(self):
        return {
            "rngs": [rng.bit_generator.state for rng in self.rngs],
            "targets": self.targets.tolist(),
            "turn": self.turn.tolist(),
            "score": self.score.tolist(),
        }

    def set_state(self, state):
        for rng, saved in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = saved
        self.targets, self.turn = np.array(state["targets"]), np.array(state["turn"])
        self.score, self.over = np.array(state["score"]), np.zeros(self.num_envs, dtype=bool)
        return np.full((self.num_envs, self.size + 2), 7.0, dtype=np.float32), {}  # the agent must keep its own

    def _observe(self):
        noise = 0.1 * np.sin(37 * self.targets.sum(1) + 11 * self.turn)  # looks random, needs no state
        seen = np.concatenate([self.targets + noise[:, None], self.turn[:, None] / self.turns, self.score[:, None]], 1)
        if self.calls == 3 and self.broken == "observation":
            seen[1, 0] = np.nan
        return seen.astype(np.float32)


class AimOnce(gym.Env[Any, Any]):
    """``Aim`` as a single environment, without ``get_state``."""

    def __init__(self, **settings: Any) -> None:
        self.rows = Aim(1, **settings)
        self.observation_space, self.action_space = self.rows.single_observation_space, self.rows.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.rows.reset(seed=None if seed is None else [seed])[0][0], {}

    def step(self, action):
        seen, rewards, terminated, truncated, infos = self.rows.step(np.asarray(action)[None])
        told = {"cost": float(infos["cost"][0])} if "cost" in infos else {}
        return seen[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), told


def _once(env_id: str, **registration: Any) -> None:
    if env_id not in gym.registry:
        gym.register(env_id, **registration)


AIM = "tests.agents.worlds:toy/Aim-v0"
ONCE = "tests.agents.worlds:toy/AimOnce-v0"
_once("toy/Aim-v0", vector_entry_point="tests.agents.worlds:Aim")
_once("toy/AimOnce-v0", entry_point="tests.agents.worlds:AimOnce")
