"""Tests of Evening-v0: its contracts, its rules, and what different policies earn."""

from __future__ import annotations

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from dialog_gym.authoring.templates.evening import Evening, activity
from dialog_gym.checks import check_env_id, check_task
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.env import advance, begin


def made(favourite: str) -> Dialogue:
    """Return a new dialogue with a friend whose favourite is known."""
    return begin(Evening(), 0, Scenario("Two friends.", {}, {"favourite": favourite}))


def said(dialogue: Dialogue, text: str) -> tuple[Dialogue, float]:
    """Return what ``text`` led to, and what it earned."""
    outcome = advance(Evening(), [dialogue], [text])
    return outcome.dialogues[0], outcome.rewards[0]


def test_task_and_environment_keep_their_contracts() -> None:
    check_task(Evening())
    check_env_id("my/Evening-v0")
    check_env(gym.make("my/Evening-v0").unwrapped, skip_render_check=True)


def test_the_favourite_is_agreed_to_and_a_later_turn_earns_less() -> None:
    dialogue, reward = said(made("chess"), "How about hiking?")
    assert (dialogue.stop_reason, reward) == ("", 0.0)
    dialogue, reward = said(dialogue, "Then chess!")
    assert (dialogue.stop_reason, dialogue.success) == ("agreed", True)
    assert reward == pytest.approx(0.9)


def test_saying_nothing_and_repeating_cost_double() -> None:
    dialogue = made("chess")
    for text, patience in [("hiking?", 3), ("hiking!", 1)]:
        dialogue, _ = said(dialogue, text)
        assert dialogue.state["patience"] == patience
    assert said(dialogue, "hm")[0].stop_reason == "left"


@pytest.mark.parametrize(("text", "meant"), [("Cooking? Or chess?", "cooking"), ("", None), ("chessboard", None)])
def test_what_is_understood(text: str, meant: str | None) -> None:
    assert activity(text) == meant


def test_the_oracle_earns_1() -> None:
    task = Evening()
    for seed in range(20):
        dialogue = begin(task, seed)
        assert said(dialogue, task.oracle(dialogue))[1] == 1.0
