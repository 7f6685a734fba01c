"""Rewards and costs named where an environment is made."""

import gymnasium as gym
import pytest

import dialog_gym  # noqa: F401
from dialog_gym.rewards import Length, Success
from dialog_gym.rewards.other import find_reward


def test_an_environment_takes_another_reward_and_a_cost_by_name_or_as_they_are():
    named = gym.make("dialog_gym/Bargain-v0", reward="dialog_gym.rewards.outcome:Success", cost=Length(1, 3))
    named.reset(seed=0)
    *_, info = named.step("Fine, deal, at your price, now.")
    assert info["reward_terms"] == {"deal": 0.0, "success": float(info["success"])}
    assert info["cost"] == info["cost_terms"]["length"]
    rows = gym.make_vec("dialog_gym/Bargain-v0", num_envs=2, reward=Success())
    rows.reset(seed=0)
    assert set(rows.step(["Hello"] * 2)[4]["reward_terms"]) == {"deal", "_deal", "success", "_success"}


@pytest.mark.parametrize(
    "name", ["nowhere:Success", "dialog_gym.rewards:Sucess", "dialog_gym.rewards:Similarity", "x"]
)
def test_what_is_no_reward_is_refused(name):
    with pytest.raises(ValueError, match="reward"):
        find_reward(name)


def test_a_module_may_hold_anything_but_a_reward():
    with pytest.raises(ValueError, match="expected a reward or 'module:name' of one, got 'math:pi'"):
        find_reward("math:pi")
