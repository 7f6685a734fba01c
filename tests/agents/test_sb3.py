"""Stable-Baselines3 trains on our vector environments as it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import stable_baselines3
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env

from dialog_gym.agents import sb3
from dialog_gym.agents.collect import make_vector_env
from dialog_gym.agents.sb3 import Args, SB3VecEnv, make_model, train
from dialog_gym.runs import Interrupted
from tests.agents.contract import QUICK, check_agent, mean_return
from tests.agents.worlds import AIM, Aim, AimOnce

SHORT = Args(**QUICK, rows=4, steps=160, random_steps=40, batch=16, hidden=(16,), rollout=8, epochs=2, log_every=40)


def test_the_single_environment_passes_their_check():
    check_env(AimOnce())


@pytest.mark.parametrize("algo", ["ppo", "sac", "td3"])
def test_contract(tmp_path, algo):
    check_agent("sb3", tmp_path, replace(SHORT, algo=algo))


def test_sac_learns(tmp_path):
    args = Args(**QUICK, out=str(tmp_path), rows=16, steps=1000, random_steps=160, batch=64, hidden=(32, 32),
                actor_lr=3e-3, critic_lr=3e-3)  # fmt: skip
    assert mean_return(train(args)) > 0.85  # random .375, best constant .5, best 1


def test_their_algorithms_run_on_the_bare_adapter():
    model = stable_baselines3.PPO("MlpPolicy", SB3VecEnv(Aim(4)), n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    model.learn(64)
    assert model.num_timesteps == 64


@pytest.mark.parametrize("cut", [False, True])
def test_rows_that_end_begin_anew_in_the_same_step(cut):
    env = SB3VecEnv(Aim(3, turns=2, cut=cut))
    env.seed(5)
    first = env.reset()
    actions = np.zeros((3, 2), dtype=np.float32)
    assert not env.step(actions)[2].any()
    observations, rewards, over, infos = env.step(actions)
    assert over.all()
    assert (np.asarray(observations)[:, 2] == 0).all()
    for row, info in enumerate(infos):
        assert info["terminal_observation"][2] == 1
        assert info["TimeLimit.truncated"] is cut
        assert info["episode"]["r"] == pytest.approx(rewards[row])
        assert info["episode"]["l"] == info["turn"] == 2
    env.seed(5)
    np.testing.assert_array_equal(env.reset(), first)
    np.testing.assert_array_equal(first, Aim(3).reset(seed=5)[0])


def test_attributes_and_methods_of_the_vector_environment():
    env = SB3VecEnv(Aim(3))
    assert env.get_attr("size") == [2, 2, 2]
    env.set_attr("size", 5)
    assert env.get_attr("size", [0]) == [5]
    assert len(env.env_method("get_state", indices=[1, 2])) == 2
    assert env.env_is_wrapped(object) == [False] * 3
    env.close()


def test_environments_that_reset_themselves_are_refused():
    with pytest.raises(ValueError, match="autoreset_mode='disabled', got"):
        SB3VecEnv(Aim(2, autoreset_mode=AutoresetMode.NEXT_STEP))


def test_actor_and_critics_learn_at_their_own_rates():
    args = replace(SHORT, algo="sac", actor_lr=0.002, critic_lr=0.004)
    model: Any = make_model(args, SB3VecEnv(make_vector_env(AIM, 4, {})))
    model.learn(80, log_interval=None)
    assert model.actor.optimizer.param_groups[0]["lr"] == 0.002
    assert model.critic.optimizer.param_groups[0]["lr"] == 0.004


def test_ctrl_c_stops_it(tmp_path, monkeypatch):
    run_step = sb3._Watch._on_step

    def pressed(self):
        self.run.interrupted = True
        return run_step(self)

    monkeypatch.setattr(sb3._Watch, "_on_step", pressed)
    with pytest.raises(Interrupted, match="stopped at step 4; SB3 keeps no checkpoints"):
        train(replace(SHORT, out=str(tmp_path)))


def test_too_few_updates_are_refused():
    with pytest.raises(ValueError, match=r"at least 1 update per vector step, got 1 \* 0.5"):
        Args(rows=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algo": "a2c"}, "algo must be one of 'ppo', 'sac', 'td3', got 'a2c'"),
        ({"gamma": -0.1}, "gamma must be from 0 to 1, got -0.1"),
        ({"gae_lambda": 1.1}, "gae_lambda must be from 0 to 1, got 1.1"),
        ({"tau": 0.0}, "tau must be above 0, got 0"),
        ({"tau": 2.0}, "tau must be from 0 to 1, got 2"),
        ({"actor_lr": 0.0}, "actor_lr must be above 0, got 0"),
        ({"critic_lr": -1.0}, "critic_lr must be above 0, got -1"),
        ({"obs_clip": 0.0}, "obs_clip must be above 0, got 0"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0"),
        ({"explore": -0.2}, "explore must be at least 0, got -0.2"),
        ({"random_steps": -1}, "random_steps must be at least 0, got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Args(**settings)
