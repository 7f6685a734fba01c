"""Gymnasium's own wrappers and vector environments, around ours as they are."""

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector

import dialog_gym  # noqa: F401
from dialog_gym.rewards.length import Length
from dialog_gym.rollout import evaluate
from dialog_gym.wrappers import RedistributeReward, RewardWrapper

BARGAIN, CHAT, PREFIX = "dialog_gym/Bargain-v0", "dialog_gym/Chat-v0", "dialog_gym/BargainPrefix-v0"
WORDS = ("Hello, how are you?", "Könnten wir über $50 reden? 🙂", "I can do $60.", "")


def words(step, row):
    return WORDS[(step + row) % len(WORDS)]


def played(env, steps, rows, seed=4):
    """Return what a vector environment gave in ``steps`` steps."""
    found = [env.reset(seed=seed)]
    return found + [env.step(tuple(words(step, row) for row in range(rows))) for step in range(steps)]


def same(one, other):
    for mine, theirs in zip(one, other, strict=True):
        for a, b in zip(mine[:-1], theirs[:-1], strict=True):
            assert np.array_equal(a, b)
        assert list(mine[-1]["dialogue"]) == list(theirs[-1]["dialogue"])


def test_episode_statistics_count_what_was_earned():
    env = wrappers.RecordEpisodeStatistics(gym.make(CHAT))
    for seed in range(3):
        env.reset(seed=seed)
        rewards: list[float] = []
        info: dict[str, Any] = {}
        over = False
        while not over:
            _, reward, terminated, truncated, info = env.step(words(len(rewards), seed))
            rewards.append(float(reward))
            over = terminated or truncated
        assert info["episode"]["r"] == pytest.approx(sum(rewards))
        assert info["episode"]["l"] == info["turn"] == len(rewards)


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_vector_episode_statistics_agree_with_our_evaluation(mode):
    rows = 4

    def policy(observations, infos):
        return ["I would give you $20 for it."] * len(observations)

    wanted = {one.seed: one.total for one in evaluate(policy, BARGAIN, episodes=rows, rows=rows, seed=9).episodes}
    env = vector.RecordEpisodeStatistics(gym.make_vec(BARGAIN, num_envs=rows, autoreset_mode=mode))
    _, infos = env.reset(seed=9)
    found: dict[int, float] = {}
    while len(found) < rows:
        _, _, terminated, truncated, infos = env.step(policy(infos["dialogue"], infos))
        for row in np.flatnonzero(terminated | truncated):
            found.setdefault(9 + int(row), float(infos["episode"]["r"][row]))
    assert found == pytest.approx(wanted)


def test_a_time_limit_truncates_and_the_next_episode_is_whole():
    env = gym.make(CHAT, max_episode_steps=2)
    for _ in range(2):
        env.reset(seed=1)
        *_, terminated, truncated, info = env.step("Hello!")
        assert not terminated
        assert not truncated
        *_, terminated, truncated, info = env.step("How are you?")
        assert truncated
        assert not terminated
        assert info["stop_reason"] == ""  # the dialogue itself could go on


def test_gymnasiums_vector_environments_take_any_number_of_wrapped_ones():
    def make():
        return wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(gym.make(CHAT), 3))

    env = SyncVectorEnv([make] * 3)
    env.reset(seed=0)
    for step in range(3):
        *_, truncated, infos = env.step(tuple(words(step, row) for row in range(3)))
    assert truncated.all()
    assert infos["episode"]["l"].tolist() == [3, 3, 3]


def test_processes_of_their_own_give_the_same_dialogues():
    ours = gym.make_vec(BARGAIN, num_envs=2)
    sync = SyncVectorEnv([lambda: gym.make(BARGAIN)] * 2)
    processes = AsyncVectorEnv([lambda: gym.make(BARGAIN)] * 2, shared_memory=False)
    try:
        wanted = played(ours, 12, 2)
        same(played(sync, 12, 2), wanted)
        same(played(processes, 12, 2), wanted)
    finally:
        processes.close()
    assert processes.metadata["autoreset_mode"] is ours.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_a_stack_of_wrappers_is_rebuilt_from_its_spec_as_json():
    env = wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(gym.make(CHAT), 5), buffer_length=7)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(json.dumps(json.loads(env.spec.to_json()))))
    assert str(again) == str(env)
    assert isinstance(again, wrappers.RecordEpisodeStatistics)
    assert again.return_queue.maxlen == 7
    assert again.reset(seed=2)[0] == env.reset(seed=2)[0]
    assert again.step("Hello!")[1] == env.step("Hello!")[1]


@pytest.mark.parametrize(
    "wrap",
    [lambda env: RewardWrapper(env, Length(3, 9)), lambda env: RedistributeReward(env, Length(3, 9))],
    ids=["RewardWrapper", "RedistributeReward"],
)
def test_what_a_spec_cannot_hold_is_refused_and_not_left_out(wrap):
    env = wrap(gym.make(CHAT))
    with pytest.raises(ValueError, match="cannot be recreated"):
        gym.make(env.spec)


def test_a_reward_that_is_named_is_in_the_spec():
    pytest.importorskip("vaderSentiment", reason="vaderSentiment is not installed: pip install 'dialog-gym[affect]'")
    env = wrappers.RecordEpisodeStatistics(gym.make(CHAT, reward="sentiment"))
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    env.reset(seed=2)
    again.reset(seed=2)
    rewards = [env.step(text)[1] for text in WORDS]
    assert rewards == [again.step(text)[1] for text in WORDS]
    plain = gym.make(CHAT)
    plain.reset(seed=2)
    assert rewards != [plain.step(text)[1] for text in WORDS]


def test_texts_can_be_transformed():
    loud = wrappers.TransformAction(gym.make(CHAT), str.upper, None)
    env = wrappers.TransformObservation(loud, lambda text: text[-10:], None)
    env.reset(seed=0)
    observation, *_, info = env.step("hello")
    assert len(observation) == 10
    assert info["dialogue"].texts(info["dialogue"].roles[0]) == ["HELLO"]


def test_vectors_can_be_rescaled_stacked_and_normalised():
    pytest.importorskip("torch")
    env = gym.make(PREFIX)
    low, high = np.float32(-2), np.float32(2)
    env = wrappers.FrameStackObservation(wrappers.RescaleAction(wrappers.NormalizeObservation(env), low, high), 2)
    observation, _ = env.reset(seed=0)
    size = gym.make(PREFIX).observation_space.shape
    assert size is not None
    assert observation.shape == (2, *size)
    assert np.isfinite(env.step(env.action_space.sample())[0]).all()
    rows = vector.NormalizeReward(vector.ClipReward(gym.make_vec(PREFIX, num_envs=2), -1.0, 1.0))
    rows.reset(seed=0)
    assert rows.step(rows.action_space.sample())[1].shape == (2,)
