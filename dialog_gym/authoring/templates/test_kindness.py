"""Tests of the reward for kind words: its contract, numbers worked out by hand, and an environment that earns it."""

from __future__ import annotations

import gymnasium as gym
import pytest

import dialog_gym  # noqa: F401 - registers the environments
from dialog_gym.authoring.templates.kindness import Kindness
from dialog_gym.checks import check_reward
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.wrappers import RewardWrapper


def test_it_keeps_the_contract_of_rewards() -> None:
    check_reward(Kindness())


@pytest.mark.parametrize(
    ("text", "score"), [("Thanks, please!", 1.0), ("You idiot.", -1.0), ("Please, idiot", 0.0), ("Hello", 0.0)]
)
def test_scores_by_hand(text: str, score: float) -> None:
    dialogue = Dialogue(Scenario("Two people talk."), ("agent", "partner")).said("agent", text)
    assert Kindness()([dialogue.said("partner", "You idiot.")]).tolist() == [score]


def test_an_environment_earns_it() -> None:
    env = RewardWrapper(gym.make("dialog_gym/Bargain-v0"), Kindness())
    env.reset(seed=0)
    _, reward, _, _, info = env.step("Thank you, I offer $50.")
    assert reward == 1.0
    assert info["reward_terms"]["kindness"] == 1.0
