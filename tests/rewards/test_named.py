"""Rewards and costs named where an environment is made."""

import sys
from typing import Any

import gymnasium as gym
import pytest

import dialog_gym  # noqa: F401
from dialog_gym.envs.bargain import Bargain
from dialog_gym.rewards import Length, Repetition, Reward, Success, reward
from dialog_gym.rewards.other import find_reward
from dialog_gym.wrappers import RewardWrapper

MINE = """
from dialog_gym.rewards import Length, Similarity, reward

long = Length(1, 3).named("long")

@reward(0, 1)
def curious(dialogue):
    return "?" in dialogue.texts(dialogue.roles[0])[-1]

def mixed(task):
    return 0.8 * task.reward + 0.2 * curious

def bare(dialogue):
    return len(dialogue.turns)

def seven(task):
    return 7
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Work in a folder with a module of one's own, which nobody has put on the path."""
    (tmp_path / "my_rewards.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_rewards"
    sys.modules.pop("my_rewards", None)


def first_step(env, text="Would you take half?"):
    env.reset(seed=0)
    _, earned, *_, info = env.step(text)
    return earned, info


def test_an_environment_takes_another_reward_and_a_cost_by_name_or_as_they_are():
    named = gym.make("dialog_gym/Bargain-v0", reward="dialog_gym.rewards.outcome:Success", cost=Length(1, 3))
    _, info = first_step(named, "Fine, deal, at your price, now.")
    assert info["reward_terms"] == {"deal": 0.0, "success": float(info["success"])}
    assert info["cost"] == info["cost_terms"]["length"]
    rows = gym.make_vec("dialog_gym/Bargain-v0", num_envs=2, reward=Success())
    rows.reset(seed=0)
    assert set(rows.step(["Hello"] * 2)[4]["reward_terms"]) == {"deal", "_deal", "success", "_success"}


def test_what_ships_with_the_library_needs_no_module():
    assert isinstance(find_reward("Success", Bargain()), Success)
    assert isinstance(find_reward("Repetition", Bargain()), Repetition)
    assert isinstance(find_reward(Success, Bargain()), Success)


def test_a_module_of_the_present_folder_is_found(mine):
    assert find_reward(f"{mine}:long", Bargain()).name == "long"
    assert find_reward(f"{mine}:curious", Bargain()).name == "curious"


def test_a_function_of_the_task_is_called_with_it_and_no_term_is_there_twice(mine):
    for given in (f"{mine}:mixed", lambda task: 0.8 * task.reward + 0.2 * find_reward(f"{mine}:curious", task)):
        earned, info = first_step(gym.make("dialog_gym/Bargain-v0", reward=given))
        assert info["reward_terms"] == {"deal": 0.0, "curious": 1.0}
        assert earned == pytest.approx(0.2)
    earned, _ = first_step(gym.make("dialog_gym/Bargain-v0", reward=f"{mine}:mixed"), "Half.")
    assert earned == 0.0


def test_a_task_has_its_own_reward_scored_once_in_a_composition(monkeypatch):
    asked = []
    task = Bargain()
    own = type(task.reward)
    plain = own.__call__

    def counted(self, dialogues):
        asked.append(1)
        return plain(self, dialogues)

    monkeypatch.setattr(own, "__call__", counted)
    first_step(gym.make("dialog_gym/Bargain-v0", reward=lambda task: 0.5 * task.reward + 0.5 * Success()))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (1, "expected a reward, the name of one .*, got 1$"),
        (
            "Sucess",
            "no reward named 'Sucess'; did you mean 'Success'\\? .*'Similarity'.*; one of your own is 'module:",
        ),
        ("Similarity", "the reward Similarity needs arguments \\(.*\\), which a name cannot give"),
        ("dialog_gym.rewards.similarity:Similarity", "needs arguments"),
        ("nowhere:Success", "cannot find the reward 'nowhere:Success': there is no module 'nowhere'"),
        ("my_rewards:curius", "no reward named 'curius'; did you mean 'curious'"),
        ("my_rewards:bare", "'my_rewards:bare' is called with the task .* put @reward\\(low, high\\) before"),
        ("my_rewards:seven", "got 'my_rewards:seven', which returned 7"),
        ("math:pi", "got 'math:pi', which is 3.14"),
        (lambda task: None, "got the function <lambda>, which returned None"),
    ],
)
def test_what_is_no_reward_is_refused_in_a_sentence(mine, given, told):
    with pytest.raises(ValueError, match=told):
        find_reward(given, Bargain())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda d: 1, "reward must be a reward, got the function <lambda>; .* @reward\\(0, 1\\)"),
        (Success, "reward must be a reward, got the class Success; make one: Success\\(...\\)"),
    ],
)
def test_a_wrapper_refuses_what_is_no_reward(given, told):
    env = gym.make("dialog_gym/Bargain-v0")
    with pytest.raises(TypeError, match=told):
        RewardWrapper(env, reward=given)
    with pytest.raises(TypeError, match=told.replace("reward must", "cost must")):
        RewardWrapper(env, cost=given)


def test_a_decorator_without_a_range_is_refused():
    decorator: Any = reward
    for given in ([lambda dialogue: 1], [], [0]):
        with pytest.raises(TypeError, match=r"@reward needs the range .*, for instance @reward\(0, 1\)"):
            decorator(*given)


def test_a_reward_is_named_by_its_name_when_it_is_checked():
    from dialog_gym.checks import ContractError, check_reward

    wrong = Reward.of(lambda dialogue: float("nan"), "mood", 0, 1)
    with pytest.raises(ContractError, match="reward 'mood' does not keep its contract") as told:
        check_reward(wrong)
    assert str(told.value).count("nan") == 1
    assert str(told.value).count("\n- ") == 1
