"""What Gymnasium and Stable-Baselines3 say about every registered id."""

import json
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from stable_baselines3.common import env_checker as sb3_checker

import dialog_gym
from dialog_gym.lm import load
from dialog_gym.registration import TASKS, register, register_envs

IDS = sorted(env_id for env_id in gym.registry if env_id.startswith("dialog_gym/"))
PREFIX_IDS = [env_id for env_id in IDS if "Prefix" in env_id]


@pytest.fixture(scope="module", autouse=True)
def _one_model_for_all():
    held = load("tiny-bargain")
    yield
    del held


def test_every_task_is_registered_in_both_forms():
    assert set(IDS) == {f"dialog_gym/{name}{form}-v0" for name in TASKS for form in ("", "Prefix")}


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_has_no_complaint(env_id, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id).unwrapped)
    assert "turn" in capsys.readouterr().out, "the render check shows a dialogue"


@pytest.mark.parametrize(
    "settings", [{"state": "last"}, {"temperature": 1.0}, {"lm": "tiny", "prefix": "pca"}], ids=str
)
def test_prefix_environments_pass_the_checker_however_they_are_set(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("dialog_gym/BargainPrefix-v0", **settings).unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", PREFIX_IDS)
def test_stable_baselines3s_checker_has_no_complaint(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_checker.check_env(gym.make(env_id).unwrapped, warn=True)


@pytest.mark.parametrize("env_id", IDS)
def test_a_spec_serialises_and_rebuilds_the_environment(env_id):
    env = gym.make(env_id, render_mode="ansi")
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(json.dumps(json.loads(env.spec.to_json()))))
    assert again.render_mode == "ansi"
    assert (again.observation_space, again.action_space) == (env.observation_space, env.action_space)
    (first, info), (second, same) = env.reset(seed=3), again.reset(seed=3)
    assert data_equivalence(first, second, exact=True)
    assert info["dialogue"] == same["dialogue"]
    spec = gym.make_vec(env_id, num_envs=2).spec
    assert spec is not None
    json.loads(spec.to_json())


@pytest.mark.parametrize("env_id", IDS)
def test_make_vec_gives_our_own_vector_environment(env_id):
    envs = gym.make_vec(env_id, num_envs=3)
    assert type(envs.unwrapped) is dialog_gym.DialogueVectorEnv
    single = gym.make(env_id)
    assert envs.single_observation_space == single.observation_space
    assert envs.single_action_space == single.action_space
    observations, _ = envs.reset(seed=0)
    assert observations in envs.observation_space
    observations, *_ = envs.step(envs.action_space.sample())
    assert observations in envs.observation_space


@pytest.mark.parametrize("env_id", IDS)
def test_two_resets_leave_no_trace_of_the_first_episode(env_id):
    env, fresh = gym.make(env_id), gym.make(env_id)
    env.action_space.seed(0)
    env.reset(seed=1)
    for _ in range(3):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            break
    assert data_equivalence(env.reset(seed=2), fresh.reset(seed=2), exact=True)
    action = env.action_space.sample()
    assert data_equivalence(env.step(action), fresh.step(action), exact=True)


@pytest.mark.parametrize("env_id", IDS)
def test_the_seed_is_told(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=11)
    assert env.np_random_seed == 11
    env.np_random = np.random.default_rng(5)
    first = env.reset()[1]["dialogue"]
    env.np_random = np.random.default_rng(5)
    assert env.reset()[1]["dialogue"] == first


def test_one_string_makes_it_without_importing_us():
    code = """
import gymnasium as gym, sys
assert "dialog_gym" not in sys.modules
for make in (gym.make, gym.make_vec):
    make("dialog_gym:dialog_gym/Bargain-v0").reset(seed=0)
assert "torch" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
@pytest.mark.parametrize(
    ("env_id", "match"),
    [
        ("dialog_gym/Bargin-v0", r"Did you mean: `Bargain`\?"),
        ("dialog_gym/BargainPrefx-v0", r"Did you mean: `BargainPrefix`\?"),
        ("dialog_gim/Bargain-v0", "dialog_gym"),
        ("dialog_gym/Bargain-v9", "It provides versioned environments: .*`v0`"),
    ],
)
def test_an_unknown_id_is_told_the_nearest(make, env_id, match):
    with pytest.raises(gym.error.UnregisteredEnv, match=match):
        make(env_id)


def test_registering_again_does_nothing_and_a_new_id_gets_both_forms():
    before = dict(gym.registry)
    register_envs()
    assert before == gym.registry
    try:
        register("tests/Guess-v3", "tests.toy:GuessTask", highest=2)
        env = gym.make("tests/Guess-v3")
        numbers = {env.reset(seed=seed)[1]["dialogue"].state["number"] for seed in range(20)}
        assert numbers == {0, 1}, "settings are the task's arguments"
        assert "tests/GuessPrefix-v3" in gym.registry
    finally:
        for env_id in ("tests/Guess-v3", "tests/GuessPrefix-v3"):
            gym.registry.pop(env_id, None)


@pytest.mark.parametrize("env_id", ["Guess", "tests/Guess", "tests/Guess-3", "-v0", ""])
def test_an_id_needs_a_version(env_id):
    with pytest.raises(ValueError, match="an environment id looks like 'namespace/Name-v0', got"):
        register(env_id, "tests.toy:GuessTask")
