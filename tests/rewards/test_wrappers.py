"""One wrapper for every environment of dialogues: another reward, a cost, both; text and prefix, one and many."""

import gymnasium as gym
import numpy as np
import pytest

from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.rewards import Reward, Success, TaskReward
from dialog_gym.wrappers import RewardWrapper, VectorRewardWrapper
from tests.toy import GuessTask, Shouting

WORDS = Reward.of(lambda d: len(d.texts("agent")[-1].split()) / 10, "words", 0, 1)


def test_a_composition_with_the_tasks_own_reward():
    env = DialogueEnv(GuessTask())
    wrapped = RewardWrapper(env, 0.5 * TaskReward(env) + 2 * WORDS)
    _, info = wrapped.reset(seed=0)
    assert info["reward_terms"] == {"hits": 0, "words": 0}
    _, reward, *_, info = wrapped.step("a b")
    assert info["reward_terms"] == pytest.approx({"hits": 0.03, "words": 0.2})
    assert reward == pytest.approx(0.5 * 0.03 + 2 * 0.2)


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
@pytest.mark.parametrize("add", [False, True])
def test_costs_are_put_in_and_reported(add, mode):
    rows = DialogueVectorEnv(GuessTask(), 3, autoreset_mode=mode)
    env = VectorRewardWrapper(rows, cost=WORDS.clip(0, 0.3), add=add, budget=0.7)
    env.reset(seed=0)
    _, rewards, *_, infos = env.step(["HELLO", "a b c d", "bye"])
    last = infos.get("final_info", infos)
    costs = np.where(infos["_final_info"], last["cost"], infos["cost"]) if "final_info" in infos else infos["cost"]
    assert costs.tolist() == pytest.approx([0.1 + add, 0.3, 0.1])
    assert infos["cost_terms"]["words"].tolist()[:2] == pytest.approx([0.1, 0.4])
    assert infos["cost_terms"]["shouting"].tolist() == [1, 0, 0]
    assert infos["reward_terms"].keys() == {"hits", "_hits"}
    assert rewards.tolist() == pytest.approx([0.05, 0.07, 0.03])
    assert rows.task.budget == 0.7


def test_a_task_without_a_cost_gets_one():
    task = GuessTask()
    task.cost = None  # type: ignore[assignment]
    env = RewardWrapper(DialogueEnv(task), Success(), cost=Shouting())
    env.reset(seed=0)
    _, reward, *_, info = env.step("HELLO")
    assert (reward, info["cost"], info["cost_terms"]) == (0, 1, {"shouting": 1})
    assert info["reward_terms"].keys() == {"hits", "success"}
    assert task.cost is None


@pytest.mark.parametrize("vector", [False, True])
def test_a_steered_environment_earns_it_too(vector):
    name = "dialog_gym/BargainPrefix-v0"
    if vector:
        rows = VectorRewardWrapper(gym.make_vec(name, num_envs=2), 0.5 * SAID_WORDS, cost=SAID_WORDS)
        rows.reset(seed=0)
        _, given, *_, infos = rows.step(np.zeros((2, rows.single_action_space.shape[0]), np.float32))  # type: ignore[index]
        reward, dialogue, info = given[1], infos["dialogue"][1], {"cost": infos["cost"][1]}
    else:
        env = RewardWrapper(gym.make(name), 0.5 * SAID_WORDS, cost=SAID_WORDS)
        env.reset(seed=1)
        _, reward, *_, info = env.step(np.zeros(env.action_space.shape or (), np.float32))
        dialogue = info["dialogue"]
    said = dialogue.texts(dialogue.roles[0])[-1]
    assert reward == pytest.approx(0.5 * info["cost"])
    assert info["cost"] == pytest.approx(len(said.split()) / 100)


SAID_WORDS = Reward.of(lambda d: len(d.texts(d.roles[0])[-1].split()) / 100, "said", 0, 1)


def test_what_is_refused():
    env = DialogueEnv(GuessTask())
    with pytest.raises(ValueError, match="expected a reward or a cost, got neither"):
        RewardWrapper(env)
    with pytest.raises(ValueError, match=r"a budget of 1 goes with a cost: RewardWrapper\(env, cost=..., budget=1\)"):
        RewardWrapper(env, WORDS, budget=1)
    with pytest.raises(ValueError, match=r"a cost is at least 0 .* '-1 \* words' has the range \[-1, 0\]"):
        RewardWrapper(env, cost=-WORDS)
    with pytest.raises(ValueError, match="would be reported as 'shouting'"):
        RewardWrapper(env, cost=Shouting())
    with pytest.raises(TypeError, match="a reward is a function of dialogues, which CartPoleEnv does not have"):
        RewardWrapper(gym.make("CartPole-v1"), WORDS)
