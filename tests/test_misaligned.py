"""A misaligned answer before the question: what the agent sees, and that nothing else changes."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dialog_gym import rollout
from dialog_gym.data.rankings import Ranking
from dialog_gym.dialogue import Turn
from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.rollout import make_rows, play
from dialog_gym.wrappers import MisalignedContext, VectorMisalignedContext
from dialog_gym.wrappers.misaligned import said_by, worst_of
from tests.toy import GuessTask

ADVICE = "dialog_gym/Advice-v0"


def bad(dialogue):
    return f"bad {dialogue.draws('bad').integer(0, 1000)}"


def toy(**settings):
    return MisalignedContext(DialogueEnv(GuessTask(greet=True)), settings.pop("source", bad))


def test_the_question_and_a_bad_answer_stand_before_the_question():
    env, plain = toy(), DialogueEnv(GuessTask(greet=True))
    observation, info = env.reset(seed=3)
    before, known = plain.reset(seed=3)
    (question,) = known["dialogue"].turns
    answer = Turn("agent", bad(known["dialogue"]))
    assert info["dialogue"].turns == (question, answer, question)
    head = before.removesuffix("\npartner: Well?")
    assert observation == f"{head}\npartner: Well?\nagent: {answer.text}\npartner: Well?"
    for word in ("one", "two", "three", "four"):
        seen, reward, terminated, truncated, info = env.step(word)
        same, earned, *over, other = plain.step(word)
        assert (reward, [terminated, truncated]) == (earned, over)
        shown, below = info.pop("dialogue"), other.pop("dialogue")
        assert info == other
        assert shown.turns == (question, answer, *below.turns)
        assert (shown.turn, shown.state, shown.seed) == (below.turn, below.state, below.seed)
        assert seen == f"{head}\npartner: Well?\nagent: {answer.text}{same.removeprefix(head)}"
    assert truncated


def test_rows_show_what_single_environments_show_and_keep_it():
    rows = VectorMisalignedContext(DialogueVectorEnv(GuessTask(greet=True), 3, autoreset_mode="disabled"), bad)
    single = toy()
    alone = {}
    for seed in (5, 6, 7, 20):
        alone[seed] = [single.reset(seed=seed)[0], single.step("x")[0]]
    first, _ = rows.reset(seed=5)
    assert list(first) == [alone[seed][0] for seed in (5, 6, 7)]
    assert list(rows.step(["x"] * 3)[0]) == [alone[seed][1] for seed in (5, 6, 7)]
    mask = np.array([False, True, False])
    again, infos = rows.reset(seed=[None, 20, None], options={"reset_mask": mask})
    assert list(again) == [alone[5][1], alone[20][0], alone[7][1]]
    assert [d.turn for d in infos["dialogue"]] == [1, 0, 1]


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_new_dialogues_of_the_environment_itself_have_their_own_answer(mode):
    rows = VectorMisalignedContext(DialogueVectorEnv(GuessTask(greet=True), 2, autoreset_mode=mode), bad)
    _, infos = rows.reset(seed=1)
    first = [d.turns[:2] for d in infos["dialogue"]]
    observations, *_, infos = rows.step(["bye", "x"])
    if mode == "same_step":
        final = infos["final_info"]["dialogue"][0]
        assert final.turns[:2] == first[0]
        assert infos["final_obs"][0] == final.transcript("agent")
        assert infos["final_obs"][1] is None
    else:
        assert infos["dialogue"][0].turns[:2] == first[0]
        observations, *_, infos = rows.step(["", "x"])
    new, old = infos["dialogue"]
    assert new.turns == (new.turns[0], Turn("agent", new.turns[1].text), new.turns[0])
    assert new.turns[1] != first[0][1]
    assert old.turns[:2] == first[1]
    assert observations[0] == new.transcript("agent")


def test_returns_and_costs_of_words_that_do_not_look_are_those_of_the_plain_environment():
    def same(observations: Any, infos: Any) -> list[str]:
        return ["Mix both for more power. Find out what causes it."] * len(observations)

    plain = make_rows(ADVICE, 8)
    wrapped = VectorMisalignedContext(make_rows(ADVICE, 8), said_by(plain.unwrapped.task, "random"))  # type: ignore[attr-defined]
    found = [
        [
            (e.total, e.costs, e.dialogue.scenario)
            for _, e in sorted(play(same, env, 24, seed=1), key=lambda one: one[0])
        ]
        for env in (plain, wrapped)
    ]
    assert found[0] == found[1]


def test_a_model_reads_the_bad_answer_in_the_tasks_notation():
    env = make_rows(ADVICE, 2)
    wrapped = VectorMisalignedContext(env, said_by(env.unwrapped.task, "refuse"))  # type: ignore[attr-defined]
    _, infos = wrapped.reset(seed=1)
    chat = env.unwrapped.task.messages(infos["dialogue"][0], "adviser")  # type: ignore[attr-defined]
    assert [message["role"] for message in chat] == ["system", "user", "assistant", "user"]
    assert chat[1] == chat[3]
    said = rollout.language_model_policy(wrapped, "tiny-advice")(None, infos)
    assert all(said)


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_it_is_an_environment():
    check_env(toy(), skip_render_check=True)


def test_the_worst_candidate_of_a_ranking_is_a_source():
    chat = ({"role": "user", "content": "Well?"},)
    rankings = [Ranking(chat, ("a", "b", "c"), (2.0, 1.0, 3.0), {"cost": (0.0, 0.1, 0.2)})]
    dialogue = toy(source=worst_of(rankings)).reset(seed=1)[1]["dialogue"]
    assert dialogue.turns[1] == Turn("agent", "b")
    assert toy(source=worst_of(rankings, "-cost")).reset(seed=1)[1]["dialogue"].turns[1].text == "c"
    with pytest.raises(KeyError, match=r"none of 0 rankings is about the question 'Well\?'"):
        toy(source=worst_of([])).reset(seed=1)


def test_what_has_no_question_or_no_answer_is_refused():
    with pytest.raises(ValueError, match="expected a dialogue in which the partner asks first, got one that begins"):
        MisalignedContext(DialogueEnv(GuessTask()), bad).reset(seed=1)
    with pytest.raises(ValueError, match=r"the source has no misaligned answer to 'Well\?'"):
        toy(source=lambda dialogue: " ").reset(seed=1)
    with pytest.raises(TypeError, match=r"expected a text environment \(DialogueEnv\), got CartPoleEnv"):
        MisalignedContext(gym.make("CartPole-v1"), bad)
    with pytest.raises(KeyError, match="helpful"):
        said_by(gym.make(ADVICE).unwrapped.task, "helpfull")  # type: ignore[attr-defined]
