"""A final score given to the turns: sums by hand, in environments of one and of many, and in recorded episodes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dialog_gym.data.episodes import Recorded
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.env import DialogueEnv, DialogueVectorEnv, advance, begin
from dialog_gym.rewards import Reward
from dialog_gym.rewards.other import find_reward, with_reward
from dialog_gym.rewards.redistributed import redistribute
from dialog_gym.rewards.truth import TrueValue
from dialog_gym.world import World
from dialog_gym.wrappers import RedistributeReward, VectorRedistributeReward
from tests.toy import GuessTask

WORDS = Reward.of(lambda d: len(d.texts(d.roles[0])[-1].split()) / 10, "words", 0, 100)
WON = Reward.of(lambda d: float(d.success), "won", 0, 1)
SAID = ("How are you?", "And your work?", "Okay, I see.", "I had that too.", "Oh.", "Well.", "Haha!", "How come?")


class FinalTask(GuessTask):
    """Pays 1 at the end if the number was named."""

    reward = WON  # type: ignore[assignment]


def test_the_last_turn_has_what_is_left_over():
    env = RedistributeReward(DialogueEnv(FinalTask(highest=1)), WORDS)
    env.reset(seed=0)
    _, first, *_, info = env.step("a b c")
    assert first == pytest.approx(0.3)
    assert info["reward_terms"] == {"won": 0, "words": pytest.approx(0.3)}
    _, second, *_, info = env.step("one two")
    _, last, terminated, _, info = env.step(str(info["dialogue"].state["number"]))
    assert terminated
    assert info["reward_terms"] == {"won": 1, "words": pytest.approx(0.1)}
    assert second == pytest.approx(0.2)
    assert last == pytest.approx(1 - 0.3 - 0.2)


@pytest.mark.parametrize("keep_sum", ["none", "end"])
@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_many_rows_earn_what_one_earns(mode, keep_sum):
    rows = VectorRedistributeReward(
        gym.make_vec("dialog_gym/Chat-v0", 3, autoreset_mode=mode), WORDS, keep_sum=keep_sum
    )
    singles = [RedistributeReward(gym.make("dialog_gym/Chat-v0"), WORDS, keep_sum=keep_sum) for _ in range(3)]
    rows.reset(seed=4)
    for row, single in enumerate(singles):
        single.reset(seed=4 + row)
    totals, scores, ended = np.zeros(3), np.zeros(3), np.zeros(3, np.bool_)
    for said in SAID:
        _, rewards, terminated, _, infos = rows.step([said] * 3)
        for row, single in enumerate(singles):
            if ended[row]:
                continue
            _, reward, over, _, info = single.step(said)
            assert rewards[row] == pytest.approx(reward)
            totals[row] += reward
            scores[row], ended[row] = info["reward_terms"]["survey"], over
            assert terminated[row] == over
            last = infos["final_info"] if over and mode == "same_step" else infos
            assert last["reward_terms"]["survey"][row] == pytest.approx(info["reward_terms"]["survey"])
        if ended.all():
            break
    assert ended.all()
    assert scores.any()
    if keep_sum == "end":
        np.testing.assert_allclose(totals, scores, rtol=1e-5)
    else:
        assert (np.abs(totals - scores) > 0.1).all()


def test_the_contract_of_gymnasium():
    env = RedistributeReward(gym.make("dialog_gym/Chat-v0", disable_env_checker=True), WORDS)
    check_env(env.unwrapped, skip_render_check=True)  # the reward is in the engine
    _, info = env.reset(seed=0)
    assert info["reward_terms"] == {"survey": 0.0, "words": 0.0}


def test_states_go_on_with_the_same_rewards():
    env = RedistributeReward(gym.make("dialog_gym/Chat-v0"), WORDS)
    env.reset(seed=1)
    for said in SAID[:3]:
        env.step(said)
    other = RedistributeReward(gym.make("dialog_gym/Chat-v0"), WORDS)
    other.reset(seed=2)
    other.get_wrapper_attr("set_state")(env.get_wrapper_attr("get_state")())
    assert [env.step("Bye!")[1]] == [other.step("Bye!")[1]]


def test_what_is_refused():
    with pytest.raises(ValueError, match="what is left over is known only when a dialogue is over"):
        RedistributeReward(DialogueEnv(FinalTask()), WORDS, keep_sum="spread")
    paying = RedistributeReward(DialogueEnv(GuessTask()), WORDS)
    paying.reset(seed=0)
    with pytest.raises(
        ValueError, match=r"needs a score at the end, but 'hits' pays 0\.03 in a dialogue that goes on"
    ):
        paying.step("a b")
    with pytest.raises(ValueError, match="would be reported as 'won'"):
        RedistributeReward(DialogueEnv(FinalTask()), WORDS.named("won"))
    peeking = Reward.of(lambda d: d.state["number"] * 0.0, "peeking", 0, 1)
    env = VectorRedistributeReward(DialogueVectorEnv(FinalTask(), 1), peeking)
    env.reset(seed=0)
    env.step(["a"])
    with pytest.raises(ValueError, match="the partner's hidden state then is not known any more"):
        env.step(["bye"])


def recorded(score):
    turns = (Turn("b", "one two"), Turn("a", "Yes."), Turn("b", "one two three"), Turn("b", "one"))
    dialogue = Dialogue(Scenario("A talk."), ("b", "a"), 0, turns, {}, "end")
    return Recorded(0, dialogue, (0.0, 0.0, 4.0), (0.0, 0.0, 0.0), score=score)


@pytest.mark.parametrize(
    ("keep_sum", "score", "rewards"),
    [
        ("none", 9.0, (0.2, 0.3, 0.1)),
        ("end", 9.0, (0.2, 0.3, 0.1 + 8.4)),
        ("spread", 9.0, (0.2 + 2.8, 0.3 + 2.8, 0.1 + 2.8)),
        ("spread", None, (0.2 + 3.4 / 3, 0.3 + 3.4 / 3, 0.1 + 3.4 / 3)),  # without a score: the return, 4
    ],
)
def test_recorded_episodes(keep_sum, score, rewards):
    row = redistribute(recorded(score), WORDS, keep_sum)
    assert row.rewards == pytest.approx(rewards)
    assert row.terms["words"] == pytest.approx((0.2, 0.3, 0.1))
    assert row.terms["score"] == (0, 0, 4.0 if score is None else score)
    with pytest.raises(ValueError, match="keep_sum must be 'none', 'end' or 'spread'"):
        redistribute(recorded(score), WORDS, "all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the term 'score' is the score itself"):
        redistribute(recorded(score), WORDS.named("score"), keep_sum)


# --- rewards by what one types ---------------------------------------------------------------------


@pytest.mark.parametrize("env", ["Bargain", "SocialGoal"])
def test_true_values_add_up_to_the_return_less_the_value_of_the_beginning(env):
    task = gym.make(f"dialog_gym/{env}-v0").unwrapped.task  # type: ignore[attr-defined]
    assert isinstance(task, World)
    truth = TrueValue(task)
    for seed in range(4):
        dialogue = begin(task, seed)
        value, total, worth = task.value(dialogue), 0.0, 0.0
        while not dialogue.stop_reason:
            policy = task.policies()["random" if dialogue.turn % 2 else "oracle"]
            (dialogue,), (reward,), *_ = advance(task, [dialogue], [policy(dialogue)])
            total += reward
            worth += float(truth([dialogue])[0])
        assert worth == pytest.approx(total - value, abs=1e-4)


def test_the_truth_of_chat_is_the_move():
    task = find_reward("true", gym.make("dialog_gym/Chat-v0").unwrapped.task)  # type: ignore[attr-defined]
    env = gym.make("dialog_gym/Chat-v0", reward="true?weight=0.5")
    env.reset(seed=0)
    _, reward, *_, info = env.step("How was work?")
    move = info["dialogue"].state["moves"][-1]
    assert float(task([info["dialogue"]])[0]) == pytest.approx(move)
    assert reward == pytest.approx(0.5 * move)
    assert info["reward_terms"].keys() == {"survey", "true"}
    with pytest.raises(ValueError, match="does not know the true value"):
        with_reward(FinalTask(), find_reward("true", FinalTask()))


def test_a_dialogue_of_another_world_has_no_truth():
    task = gym.make("dialog_gym/Bargain-v0").unwrapped.task  # type: ignore[attr-defined]
    dialogue = (
        begin(task, 3).said(task.roles[0], "Hello.").said(task.roles[1], "Never said.").said(task.roles[0], "Oh.")
    )
    with pytest.raises(ValueError, match="does not come out the same when it is played again"):
        TrueValue(task)([dialogue])


@pytest.mark.parametrize("name", ["none", "score", "sentiment"])
def test_names(name):
    env = gym.make("dialog_gym/Chat-v0", reward=name)
    env.reset(seed=0)
    rewards = []
    over = False
    while not over:
        _, reward, over, _, info = env.step("How was work?")
        rewards.append(reward)
    score = info["reward_terms"]["survey"]
    if name == "none":
        assert rewards == [0.0] * len(rewards)
    elif name == "score":
        assert rewards == [*[0.0] * (len(rewards) - 1), score]
    else:
        assert len(set(rewards)) > 2
        assert rewards[-1] == pytest.approx(info["reward_terms"]["sentiment"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none?scale=2", "expected 'true', 'score', 'none', 'sentiment' or the folder"),
        ("none?weight=much", "expected 'true', 'score'"),
        ("sentiment?keep_sum=spread", "keep_sum must be 'none' or 'end'"),
        ("sentimant", "no reward named 'sentimant'; did you mean 'sentiment'"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        gym.make("dialog_gym/Chat-v0", reward=spec)
