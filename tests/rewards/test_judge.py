"""A judge as a reward: batched, strict, reported by dimension; and put into environments."""

import gymnasium as gym
import numpy as np
import pytest

import dialog_gym  # noqa: F401 - registers the environments
from dialog_gym.env import DialogueEnv, DialogueVectorEnv
from dialog_gym.errors import LanguageModelError
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.rewards.judge import Judge
from dialog_gym.rewards.rubric import GOAL, SOTOPIA, Dimension, Rubric
from dialog_gym.wrappers import RewardWrapper
from dialog_gym.wrappers.rewards import VectorRewardWrapper
from tests.lm.models import llama, tokenizer
from tests.rewards.judges import Scripted, dialogue, verdict
from tests.toy import GuessTask, Hits

GRADE = Rubric("grade", (Dimension("grade", 1, 5, "School grade."),))


def by_length(messages):
    """Judge by the length of what is shown, so that every dialogue has a score of its own."""
    return verdict(goal=len(messages[1]["content"]) % 11)


def test_all_dialogues_are_judged_in_one_call():
    lm = Scripted(by_length)
    dialogues = [dialogue("a" * n, seed=n) for n in range(32)]
    scores = Judge(lm)(dialogues)
    assert [len(call) for call in lm.calls] == [32]
    assert scores.dtype == np.float32
    assert len(set(scores.tolist())) == 11
    assert scores.tolist() == [Judge(Scripted(by_length))([one])[0] for one in dialogues]


def test_only_what_was_answered_badly_is_asked_again():
    def answer(messages):
        shown = messages[1]["content"]
        return "no idea" if "bb" in shown and "refused" not in shown else verdict(goal=len(shown) % 11)

    lm = Scripted(answer)
    verdicts = Judge(lm).verdicts([dialogue("a"), dialogue("bb"), dialogue("ccc"), dialogue("bbbb")])
    assert [len(call) for call in lm.calls] == [4, 2]
    assert len(verdicts) == 4
    assert verdicts[1].scores == {"goal": len(lm.calls[1][0][1]["content"]) % 11}
    assert verdicts[2].scores == {"goal": len(lm.calls[0][2][1]["content"]) % 11}


def test_every_failure_is_counted_and_the_first_is_named():
    lm = Scripted(lambda messages: "no" if "bb" in messages[1]["content"] else verdict(goal=1))
    with pytest.raises(LanguageModelError, match=r"seed 2 at turn 1, asked twice.*so it was with 1 others"):
        Judge(lm)([dialogue("a", seed=1), dialogue("bb", seed=2), dialogue("bbb", seed=3)])


def test_a_model_that_fails_is_reported_with_the_dialogue():
    def fail(messages):
        raise LanguageModelError("no connection", prompt=0)

    with pytest.raises(LanguageModelError, match="judge 'judge' could not judge the dialogue of seed 9 at turn 1: no"):
        Judge(Scripted(fail))([dialogue("a", seed=9)])


def test_the_schema_is_given_to_models_that_hold_to_one_and_to_no_other():
    answer = verdict(**{d.name: d.high for d in SOTOPIA.dimensions})
    can, cannot = Scripted(lambda messages: answer, json=True), Scripted(lambda messages: answer)
    for lm in (can, cannot):
        assert Judge(lm, "sotopia", reasoning_chars=99)([dialogue("a")]).tolist() == [np.float32(40 / 7)]
    assert can.schemas == [SOTOPIA.schema(99)]
    assert cannot.schemas == [None]


def test_the_end_is_judged_once_and_nothing_before():
    lm = Scripted(lambda messages: verdict(grade=4))
    judge = Judge(lm, GRADE)
    scored = judge.scored([dialogue("a", stop=""), dialogue("b"), dialogue("c", stop="max_turns")])
    assert scored.scores.tolist() == [0, 4, 4]
    assert {name: term.tolist() for name, term in scored.terms.items()} == {
        "judge": [0, 4, 4],
        "judge/grade": [0, 4, 4],
    }
    assert (judge.low, judge.high) == (0, 5)  # 0 is earned while nothing is judged
    assert judge([dialogue("a", stop="")]).tolist() == [0]
    assert len(lm.calls) == 1


def test_every_turn_can_be_judged():
    lm = Scripted(lambda messages: verdict(grade=2))
    judge = Judge(lm, GRADE, when="turn", name="style")
    assert judge([dialogue("a", stop=""), dialogue("b")]).tolist() == [2, 2]
    assert (judge.low, judge.high, judge.terms) == (1, 5, ("style", "style/grade"))
    assert "Judge the newest turn" in lm.calls[0][0][0]["content"]
    with pytest.raises(ValueError, match="no newest turn"):
        judge([dialogue(stop="")])


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="when must be 'end' or 'turn', got 'always'"):
        Judge(Scripted(by_length), when="always")  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="did you mean 'goal'"):
        Judge(Scripted(by_length), "gaol")
    with pytest.raises(ValueError, match="unknown language model"):
        Judge("tinny")


def test_the_mean_and_every_dimension_are_reported():
    scores = {d.name: d.low + 1 for d in SOTOPIA.dimensions}
    judge = Judge(Scripted(lambda messages: verdict(**scores)), SOTOPIA)
    terms = judge.scored([dialogue("a")]).terms
    assert {name: term.item() for name, term in terms.items()} == {
        "judge": pytest.approx(-30 / 7 + 1),
        **{f"judge/{name}": score for name, score in scores.items()},
    }


def test_a_real_model_that_cannot_judge_is_an_error_and_no_score():
    lm = TransformersLM(llama(positions=4096), tokenizer(), name="random")
    with pytest.raises(LanguageModelError, match="gave no verdict on the dialogue of seed 7 at turn 1, asked twice"):
        Judge(lm, max_tokens=24)([dialogue("a")])


def played(env, said, **reset):
    env.reset(seed=3, **reset)
    return [env.step(text) for text in said]


def test_a_wrapped_environment_earns_the_judges_score_and_reports_both():
    lm = Scripted(by_length)
    env = RewardWrapper(DialogueEnv(GuessTask()), Judge(lm))
    assert env.reset(seed=3)[1]["reward_terms"] == {"hits": 0, "judge": 0, "judge/goal": 0}
    *early, last = played(env, ["hello", "HELLO!", "bye"])
    assert [step[1] for step in early] == [0, 0]
    expected = Judge(Scripted(by_length))([last[4]["dialogue"]])[0]
    assert last[1] == last[4]["reward_terms"]["judge"] == last[4]["reward_terms"]["judge/goal"] == expected
    assert early[0][4]["reward_terms"]["hits"] == pytest.approx(0.05)
    assert len(lm.calls) == 1


def test_a_judge_can_be_added():
    env = RewardWrapper(DialogueEnv(GuessTask()), Judge(Scripted(lambda m: verdict(goal=4))), add=True)
    first, last = played(env, ["hello", "bye"])
    assert first[1] == pytest.approx(0.05)
    assert last[1] == pytest.approx(4.03)
    assert last[4]["reward_terms"] == {"hits": pytest.approx(0.03), "judge": 4, "judge/goal": 4}
    assert (env.unwrapped.task.reward.low, env.unwrapped.task.reward.high) == (0, 11)  # type: ignore[attr-defined]


def test_the_task_itself_is_left_as_it_was():
    task = GuessTask()
    RewardWrapper(DialogueEnv(task), Judge(Scripted(by_length)))
    assert isinstance(task.reward, Hits)


def test_two_rewards_of_one_name_are_refused():
    env = DialogueEnv(GuessTask())
    with pytest.raises(ValueError, match=r"would be reported as 'hits'.*give one of them another name"):
        RewardWrapper(env, Hits())


def test_only_dialogues_can_be_judged():
    with pytest.raises(TypeError, match="CartPoleEnv does not have"):
        RewardWrapper(gym.make("CartPole-v1"), Judge(Scripted(by_length)))


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_rows_are_judged_like_single_dialogues_in_one_call_per_step(mode):
    lm = Scripted(by_length)
    rows = VectorRewardWrapper(DialogueVectorEnv(GuessTask(), 5, autoreset_mode=mode), Judge(lm))
    rows.reset(seed=0)
    said = [["hello", "bye", "x" * row, "bye", "HI!"][(row + step) % 5] for step in range(4) for row in range(5)]
    ended = 0
    for step in range(4):
        before = len(lm.calls)
        playing = rows.unwrapped.live.copy()  # type: ignore[attr-defined]
        _, rewards, terminated, truncated, infos = rows.step(said[5 * step : 5 * step + 5])
        over = (terminated | truncated) & playing
        last = infos.get("final_info", infos)
        ended += over.sum()
        assert len(lm.calls) - before == over.any()
        for row in np.flatnonzero(over):
            expected = Judge(Scripted(by_length))([last["dialogue"][row]])[0]
            assert rewards[row] == last["reward_terms"]["judge"][row] == expected
        assert not rewards[~over].any()
        assert infos["reward_terms"]["_judge/goal"].all()
    assert ended > 4
    assert sum(map(len, lm.calls)) == ended


def test_a_judge_that_fails_leaves_the_step_to_be_taken_again():
    broken = [True]

    def answer(messages):
        if broken[0]:
            raise LanguageModelError("the server is down")
        return by_length(messages)

    rows = VectorRewardWrapper(DialogueVectorEnv(GuessTask(), 3, autoreset_mode="disabled"), Judge(Scripted(answer)))
    whole = VectorRewardWrapper(
        DialogueVectorEnv(GuessTask(), 3, autoreset_mode="disabled"), Judge(Scripted(by_length))
    )
    rows.reset(seed=0)
    whole.reset(seed=0)
    before = rows.unwrapped.get_state()  # type: ignore[attr-defined]
    with pytest.raises(LanguageModelError, match="one of 2 dialogues: the server is down"):
        rows.step(["bye", "hello", "bye"])
    assert rows.unwrapped.get_state() == before  # type: ignore[attr-defined]
    broken[0] = False
    again, expected = rows.step(["bye", "hello", "bye"]), whole.step(["bye", "hello", "bye"])
    assert again[0] == expected[0]
    assert again[1].tolist() == expected[1].tolist()


def test_make_takes_a_judge():
    lm = Scripted(by_length)
    env = gym.make("dialog_gym/Bargain-v0", judge=lm, side="seller")
    _, info = env.reset(seed=0)
    assert info["reward_terms"] == {"deal": 0, "judge": 0, "judge/goal": 0}
    *_, last = played(env, ["Hello.", "Goodbye."])
    assert last[4]["stop_reason"] == "left"
    assert last[1] == last[4]["reward_terms"]["judge/goal"] == Judge(Scripted(by_length))([last[4]["dialogue"]])[0]
    rows = gym.make_vec("dialog_gym/Bargain-v0", num_envs=2, judge=Judge(lm, when="turn"))
    rows.reset(seed=0)
    assert rows.step(["Hello.", "Hello."])[1].tolist() == [
        Judge(Scripted(by_length), when="turn")([one])[0]
        for one in rows.unwrapped.dialogues  # type: ignore[attr-defined]
    ]


def test_make_takes_a_judge_for_a_steered_environment():
    lm = Scripted(by_length)
    env = gym.make("dialog_gym/BargainPrefix-v0", judge=lm, rubric=GOAL, max_turns=1)
    *_, last = played(env, [np.zeros(env.action_space.shape, np.float32)])
    assert last[4]["reward_terms"]["judge"] == last[1] == by_score(lm)


def by_score(lm):
    return float(len(lm.calls[-1][0][1]["content"]) % 11)


def test_make_refuses_a_rubric_without_a_judge():
    with pytest.raises(ValueError, match="a rubric goes with a language model that judges"):
        gym.make("dialog_gym/Bargain-v0", rubric="goal")
    with pytest.raises(ValueError, match="reward 'judge' as judge, which knows what it scores"):
        gym.make("dialog_gym/Bargain-v0", judge=Judge(Scripted(by_length)), rubric="goal")
