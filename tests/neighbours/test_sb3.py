"""Stable-Baselines3 by its own helpers alone, nothing of ours between: text environments steered by vectors."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not installed: pip install 'dialog-gym[sb3]'")
import gymnasium as gym
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import dialog_gym  # noqa: F401
from dialog_gym.envs.bargain import Bargain

# their make_vec_env asks for pictures, is refused, and goes on without
pytestmark = pytest.mark.filterwarnings("ignore:.*environment is being initialised with render_mode='rgb_array'")
PREFIX = "dialog_gym/BargainPrefix-v0"
SMALL: dict[str, Any] = {"seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [16]}}


@pytest.fixture(scope="module")
def env():
    made = make_vec_env(PREFIX, n_envs=2, seed=3, env_kwargs={"max_tokens": 4})
    yield made
    made.close()


def test_make_vec_env_gives_their_monitored_environments(env):
    assert isinstance(env, DummyVecEnv)
    assert env.env_is_wrapped(Monitor) == [True, True]
    seen = np.asarray(env.reset())
    assert seen.shape == (2, *(env.observation_space.shape or ()))


def test_ppo_learns_and_is_evaluated_by_their_helpers(env):
    model = PPO("MlpPolicy", VecNormalize(env, norm_reward=False), n_steps=32, batch_size=32, n_epochs=1, **SMALL)
    before = [one.detach().clone() for one in model.policy.parameters()]
    model.learn(128)
    assert model.num_timesteps == 128
    assert any((a != b).any() for a, b in zip(before, model.policy.parameters(), strict=True))
    assert model.ep_info_buffer
    played = model.get_env()
    assert played is not None
    found: Any = evaluate_policy(model, played, n_eval_episodes=3, return_episode_rewards=True)
    assert [len(kind) for kind in found] == [3, 3]
    assert all(0 < length <= Bargain().max_turns for length in found[1])


def test_sac_learns_saves_and_loads(env, tmp_path):
    model = SAC("MlpPolicy", env, learning_starts=20, batch_size=16, buffer_size=500, train_freq=4, **SMALL)
    model.learn(100)
    seen = env.reset()
    wanted = model.predict(seen, deterministic=True)[0]
    model.save(tmp_path / "sac")
    np.testing.assert_array_equal(
        SAC.load(tmp_path / "sac", device="cpu").predict(seen, deterministic=True)[0], wanted
    )


def test_a_monitor_writes_what_was_earned(tmp_path):
    env = Monitor(gym.make(PREFIX), str(tmp_path / "log"), info_keywords=("success", "stop_reason"))
    env.reset(seed=0)
    rewards, over = [], False
    while not over:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        rewards.append(float(reward))
        over = terminated or truncated
    env.close()
    assert env.get_episode_rewards() == pytest.approx([sum(rewards)])
    assert info["stop_reason"] in (tmp_path / "log.monitor.csv").read_text()
