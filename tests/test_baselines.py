"""The policies agents are compared with: the search for a constant, and the scale of the score."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from dialog_gym import baselines
from dialog_gym.baselines import Trial
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.env import PARTS

BEST = np.array([0.5, -0.25, 0.0], dtype=np.float32)


class Target(gym.vector.VectorEnv):
    """One step; the reward is 1 minus the squared distance to ``BEST``, and a little luck."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012, as Gymnasium declares it

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.single_action_space = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self.single_observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.luck = np.zeros(num_envs)

    def reset(self, *, seed=None, options=None):
        self.luck = np.array([np.random.default_rng(s).normal() if s is not None else 0.0 for s in seed])
        return np.zeros((self.num_envs, 1), np.float32), self.infos()

    def step(self, actions):
        rewards = 1 - np.square(actions - BEST).sum(axis=1) + 0.05 * self.luck
        ended = np.ones(self.num_envs, dtype=bool)
        return np.zeros((self.num_envs, 1), np.float32), rewards, ended, ~ended, self.infos()

    def infos(self):
        dialogue = Dialogue(Scenario("nothing"), ("a", "b"))
        told = {"dialogue": np.array([dialogue] * self.num_envs, dtype=object), "cost": np.zeros(self.num_envs)}
        return {**told, **{part: {} for part in PARTS}}


def test_search_finds_the_best_constant():
    found = baselines.best_constant(Target(16))
    assert np.abs(found - BEST).max() < 0.15
    assert found.dtype == np.float32


def test_search_is_the_same_every_time_and_stays_in_the_box():
    first, second = (baselines.best_constant(Target(8), candidates=16, rounds=2) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() <= 1


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
@pytest.mark.parametrize("actions", [1, 4, 7])
def test_each_action_is_scored_by_its_own_rows(rows, actions):
    tried = np.linspace(-1, 1, 3 * actions, dtype=np.float32).reshape(actions, 3)
    expected = 1 - np.square(tried - BEST).sum(axis=1)
    np.testing.assert_allclose(baselines.mean_returns(Target(rows), tried, 2, seed=5), expected, atol=0.2)


def test_a_trial_is_played_on_its_own_seeds():
    oracle = baselines.evaluate("oracle", Trial("dialog_gym/Bargain-v0", episodes=8, rows=4))
    assert oracle.env == "dialog_gym/Bargain-v0"
    assert [episode.seed for episode in oracle.episodes] == [baselines.HELD_OUT + k for k in range(8)]


def test_the_model_left_alone_is_the_one_of_the_world_in_words_and_under_vectors():
    def mean(form, **settings):
        return baselines.evaluate("lm", Trial(f"dialog_gym/Bargain{form}-v0", episodes=4, rows=4, **settings)).mean

    assert mean("") == mean("Prefix") == mean("", lm="tiny-bargain") != mean("", lm="tiny")


def test_the_scale_is_that_of_the_results_themselves():
    trial = Trial("dialog_gym/Bargain-v0", episodes=4, rows=4)
    results = [baselines.evaluate(name, trial) for name in ("random", "lm", "oracle")]
    random, lm, oracle = baselines.on_scale(results)
    assert (lm.normalised, oracle.normalised) == (0, 1)
    assert random.normalised == pytest.approx((random.mean - lm.mean) / (oracle.mean - lm.mean))
    assert baselines.on_scale(results[:2])[0].normalised is None


@pytest.mark.parametrize(("setting", "value"), [("episodes", 0), ("rows", 0), ("seed", -1)])
def test_trials_that_cannot_be_played_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be at least"):
        Trial("dialog_gym/Bargain-v0", **{setting: value})


def test_environments_without_dialogues_are_refused():
    with pytest.raises(ValueError, match="expected an environment of dialogues"):
        baselines.text_rows(gym.make_vec("CartPole-v1", num_envs=1))


def test_a_world_brings_its_own_policies_but_vectors_keep_random_and_constant():
    text, vectors = (
        baselines.scripted_policies(Trial(f"dialog_gym/Bargain{kind}-v0", rows=1)) for kind in ("", "Prefix")
    )
    assert {"infers", "constant", "random"} <= text.keys()
    assert text.keys() - vectors.keys() == {"constant", "random"}
    assert "oracle" not in text
    assert baselines.scripted_policies(Trial("dialog_gym/Bargain-v0", {"partner": "tiny"})).keys() == text.keys()


def test_a_constant_needs_vectors_or_a_world(monkeypatch):
    monkeypatch.setattr(baselines, "scripted_policies", lambda trial: {})
    with pytest.raises(ValueError, match="a constant policy acts by vectors"):
        baselines.evaluate("constant", Trial("dialog_gym/Bargain-v0", episodes=2))


def test_unknown_policy_names_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'random'"):
        baselines.evaluate("randon", Trial("dialog_gym/Bargain-v0"))
