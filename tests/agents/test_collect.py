"""The collector resets what ended, sees the true last observation, and goes on exactly where it stood."""

import json

import gymnasium as gym
import numpy as np
import pytest

from dialog_gym.agents.collect import Collector, make_vector_env
from tests.agents.worlds import AIM, ONCE

ACTIONS = np.random.default_rng(0).uniform(-1, 1, size=(12, 3, 2)).astype(np.float32)


def collector(env=AIM, budget=None, **settings):
    return Collector(env, 3, settings, 5, budget)


def begun(*args, **settings):
    rows = collector(*args, **settings)
    rows.begin()
    return rows


def test_the_last_observation_is_the_true_one_and_the_next_dialogue_begins():
    rows = begun(turns=2)
    rows.step(ACTIONS[0])
    last = rows.step(ACTIONS[1])
    assert last.terminated.all()
    assert not last.truncated.any()
    assert (last.next_observations[:, 2] == 1).all()  # turn 2 of 2
    assert (rows.observations[:, 2] == 0).all()
    following = rows.step(ACTIONS[2])
    assert (following.observations[:, 2] == 0).all()
    assert rows.pop_metrics() == {"train/return": pytest.approx(last.rewards.mean()), "train/turns": 2}
    assert rows.pop_metrics() == {}


def test_a_cut_dialogue_is_truncated():
    step = begun(turns=1, cut=True).step(ACTIONS[0])
    assert step.truncated.all()
    assert not step.terminated.any()


@pytest.mark.parametrize("settings", [{}, {"costly": True, "budget": 0.1}])
@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_restored_it_goes_on_bit_for_bit(at, settings):
    whole = begun(**settings)
    for actions in ACTIONS[:at]:
        whole.step(actions)
    arrays, data = whole.state()
    arrays = {name: array.copy() for name, array in arrays.items()}
    resumed = collector(**settings)
    resumed.restore(arrays, json.loads(json.dumps(data)), step=at)
    whole.pop_metrics()  # as before every checkpoint
    for actions in ACTIONS[at:]:
        for mine, theirs in zip(resumed.step(actions), whole.step(actions), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(resumed.returns, whole.returns)
    assert resumed.pop_metrics() == whole.pop_metrics()


def test_an_environment_without_get_state_begins_new_dialogues(caplog):
    whole = begun(ONCE)
    whole.step(ACTIONS[0])
    resumed = collector(ONCE)
    resumed.restore(*whole.state(), step=3)
    assert "toy/AimOnce-v0 has no get_state" in caplog.text
    assert (resumed.observations[:, 2] == 0).all()
    again = collector(ONCE)
    again.restore(*whole.state(), step=3)
    np.testing.assert_array_equal(again.observations, resumed.observations)


def test_single_environments_are_stepped_together():
    rows = begun(ONCE, turns=2)
    assert rows.step(ACTIONS[0]).observations.shape == (3, 4)
    assert rows.step(ACTIONS[1]).terminated.all()


@pytest.mark.parametrize("broken", ["observation", "reward"])
def test_numbers_that_are_none_are_refused(broken):
    rows = begun(broken=broken)
    rows.step(ACTIONS[0])
    rows.step(ACTIONS[1])
    with pytest.raises(ValueError, match=f"toy/Aim-v0: the {broken} of row 1"):
        rows.step(ACTIONS[2])


def test_with_a_budget_costs_are_paid_for_and_returns_told_before():
    free, paying = begun(costly=True), begun(costly=True, budget=0.1)
    for actions in ACTIONS:  # 12 steps of 3 rows, 3 turns a dialogue: the price is set anew by 10 dialogues
        price = paying.lagrangian.multiplier
        earned, paid = free.step(actions), paying.step(actions)
        np.testing.assert_allclose(paid.rewards, earned.rewards - price * 2 * np.abs(actions).mean(1) / 3, atol=1e-6)
    assert paying.lagrangian.updates == 1
    found = paying.pop_metrics()
    assert found["train/multiplier"] == paying.lagrangian.multiplier > 0
    assert found["train/cost"] == pytest.approx(2 * np.abs(ACTIONS).mean())
    assert found["train/return"] == pytest.approx(free.pop_metrics()["train/return"])


def test_a_multiplier_is_restored_where_dialogues_begin_anew():
    whole = begun(ONCE, budget=0.1, costly=True, turns=2)
    for actions in ACTIONS[:7]:
        whole.step(actions)
    whole.lagrangian.update(0.5)
    resumed = collector(ONCE, budget=0.1, costly=True, turns=2)
    resumed.restore(*whole.state(), step=7)
    assert resumed.lagrangian.multiplier == whole.lagrangian.multiplier > 0
    assert not resumed.costs.any()


def test_a_budget_needs_a_task_that_has_one_and_costs():
    with pytest.raises(ValueError, match="the task has no budget"):
        make_vector_env(AIM, 2, {}, "task")
    with pytest.raises(ValueError, match=r"needs info\['cost'\]"):
        begun(budget=0.1).step(ACTIONS[0])


def test_other_spaces_are_refused():
    with pytest.raises(ValueError, match=r"expected actions that are vectors.*'Prefix'"):
        make_vector_env("Acrobot-v1", 2, {})
    with pytest.raises(ValueError, match=r"in \[-1, 1\], got \[-2.0, 2.0\].*RescaleAction"):
        make_vector_env("Pendulum-v1", 2, {})
    with pytest.raises(gym.error.NameNotFound, match="Aim"):
        make_vector_env("tests.agents.worlds:toy/Aym-v0", 2, {})
