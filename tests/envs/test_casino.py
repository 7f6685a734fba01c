import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.corpora.casino import scenario
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs.casino import CaSiNo, generated
from dialog_gym.envs.casino_satisfaction import Satisfaction, features, told
from dialog_gym.envs.division import Result, deals, rest
from dialog_gym.envs.division_policies import TABLE, main, play, random_decision, spoken
from dialog_gym.envs.division_speech import proposal
from dialog_gym.envs.division_task import outcome

DATA = Path(__file__).parents[3] / "shared/data/casino"
there = pytest.mark.skipif(not DATA.exists(), reason="the published corpus is not here")
SIDES = ("first", "second")
ALL = (3, 3, 3)


def made(side="first", kind="steady", floor=0.4, start=0.7, patience=6, seed=3):
    """Return a task and a dialogue: food, water, firewood are worth 5, 4, 3 to the agent, 3, 4, 5 to its partner."""
    task = CaSiNo(side)
    other = "second" if side == "first" else "first"
    values = {side: (5, 4, 3), other: (3, 4, 5)}
    reasons = {side: {"food": "We hike a lot."}, other: {}}
    hidden = {"kind": kind, "floor": floor, "start": start, "patience": patience}
    return task, begin(task, seed, scenario(values, reasons, **hidden))


def step(task, dialogue, text):
    (after,), (reward,), *_ = advance(task, [dialogue], [text])
    return after, reward


# --- how it ends -------------------------------------------------------------------------------


def test_a_submitted_deal_that_is_worth_the_demand_is_accepted():
    task, dialogue = made()  # the partner demands .7 * 36 = 25.2 points
    ended, reward = step(task, dialogue, "<select> food=2 water=0 firewood=0")  # leaves it 3 + 12 + 15 = 30
    assert (ended.turns[-1].text, ended.stop_reason, ended.success, reward) == ("<accept>", "agreed", True, 10.0)
    assert outcome(ended, 5) == Result(True, 10, 30, True)


def test_one_that_is_not_is_rejected_and_talk_goes_on():
    task, dialogue = made()
    after, reward = step(task, dialogue, "i choose 3 food and 3 water")  # leaves it 15
    assert (after.turns[-1].text, after.stop_reason, reward) == ("<reject>", "", 0.0)
    assert after.state["patience"] == 5


def test_what_was_agreed_in_talk_is_accepted_and_nothing_else():
    task, dialogue = made()
    talked, _ = step(task, dialogue, "i would like 2 food and you get the rest")
    assert talked.state["agreed"] == [2, 0, 0]
    assert step(task, talked, "<select> food=2 water=0 firewood=0")[1] == 10.0
    greedy, _ = step(task, talked, "<select> food=3 water=0 firewood=0")
    assert (greedy.turns[-1].text, greedy.state["patience"]) == ("<reject>", talked.state["patience"] - 1)


@pytest.mark.parametrize("text", ["<walk>", "<select> none", "i choose no deal"])
def test_walking_away_gives_both_five_points(text):
    task, dialogue = made()
    result_ = advance(task, [dialogue], [text])
    assert (result_.dialogues[0].stop_reason, result_.rewards) == ("no deal", [5.0])
    assert result_.parts["reward_terms"]["partner_points"].tolist() == [5.0]


def test_running_out_of_turns_is_no_deal_either():
    task, dialogue = made()
    task.max_turns = 2
    after, _ = step(task, dialogue, "hello")
    ended, reward = step(task, after, "hello")
    assert (ended.stop_reason, reward, ended.success) == ("max_turns", 5.0, False)


@pytest.mark.parametrize(("answer", "stop"), [("<accept>", "agreed"), ("deal", "agreed"), ("<walk>", "no deal"),
                                              ("<reject>", ""), ("i need 3 food", "")])  # fmt: skip
def test_the_partner_submits_what_the_agent_agreed_to(answer, stop):
    task, dialogue = made()
    countered, _ = step(task, dialogue, "what do you need most?")
    offer = countered.state["offer"]
    submitted, _ = step(task, countered, "ok, deal")
    assert task.act(submitted, submitted.turns[-1].text).select == rest(ALL, offer)
    ended, reward = step(task, submitted, answer)
    assert ended.stop_reason == stop
    assert reward == (
        sum(v * n for v, n in zip((5, 4, 3), offer, strict=True)) if stop == "agreed" else 5.0 * bool(stop)
    )
    if not stop:
        assert ended.state["submitted"] is None


def test_impatient_partners_walk():
    task, dialogue = made(patience=1)
    ended, reward = step(task, dialogue, "i need 3 food and 3 water, you get the rest")
    assert (ended.turns[-1].text, ended.stop_reason, reward) == ("<walk>", "no deal", 5.0)


# --- laws --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**53), st.sampled_from(SIDES))
def test_batch_order_and_json_do_not_matter(seed, side):
    task = CaSiNo(side)
    dialogues = [begin(task, seed + i) for i in range(3)]
    while dialogues:
        texts = [spoken(task, random_decision, d) for d in dialogues]
        together = advance(task, dialogues, texts).dialogues
        alone = [step(task, Dialogue.from_json(json.loads(json.dumps(d.to_json()))), t)[0]
                 for d, t in zip(dialogues, texts, strict=True)]  # fmt: skip
        assert alone == together
        dialogues = [d for d in together if not d.stop_reason]


@given(st.text(max_size=200), st.integers(0, 1000), st.sampled_from(SIDES))
@settings(max_examples=50, deadline=None)
def test_any_text_gets_an_answer(text, seed, side):
    task = CaSiNo(side)
    after, reward = step(task, begin(task, seed), text)
    assert reward in (0.0, 5.0)
    assert after.stop_reason or after.turns[-1].role == task.roles[1]


def test_gymnasium():
    check_env(gym.make("dialog_gym/CaSiNo-v0", disable_env_checker=True).unwrapped, skip_render_check=True)
    rows = gym.make_vec("dialog_gym/CaSiNo-v0", num_envs=2, autoreset_mode="disabled")
    single = gym.make("dialog_gym/CaSiNo-v0")
    seen, _ = rows.reset(seed=8)
    assert [single.reset(seed=8 + i)[0] for i in range(2)] == list(seen)


# --- what a world tells ------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_value_is_what_the_oracle_earns(side):
    task = CaSiNo(side)
    value = np.mean([task.value(begin(task, seed)) for seed in range(100)])
    earned = np.mean([outcome(play(task, TABLE["oracle"][1], seed), 5).agent for seed in range(100)])
    assert abs(value - earned) < 1.0


def test_policies_differ_in_the_right_order():
    task = CaSiNo()
    mean = {
        name: np.mean([outcome(play(task, policy, seed), 5).agent for seed in range(100)])
        for name, (_, policy) in TABLE.items()
    }
    assert mean["oracle"] > 21
    assert mean["oracle"] - 1 > mean["infers"] > mean["constant"] + 2
    assert max(mean["random"], mean["accepts-first"]) < 14
    assert mean["greedy"] < 8


def test_every_template_says_what_it_was_made_of():
    task, dialogue = made()
    for mine in deals(ALL):
        words = {proposal(task.items(dialogue), ALL, mine, rest(ALL, mine), Draws(k)) for k in range(40)}
        assert {task.act(dialogue, text).share for text in words} == {mine}, (mine, words)


@pytest.mark.parametrize("side", SIDES)
def test_self_play_is_finished_varied_and_repeatable(side):
    task = CaSiNo(side)
    played = [task.self_play(Draws(seed, "corpus")) for seed in range(120)]
    assert played[4] == task.self_play(Draws(4, "corpus"))
    assert {"agreed", "no deal"} <= {d.stop_reason for d in played}
    words = {w for d in played for role in SIDES for m in task.messages(d, role) for w in m["content"].split()}
    assert len(words) < 300


def test_the_table_is_printed(capsys):
    main(CaSiNo, ["--episodes", "3"])
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(TABLE)


# --- notation and a model as the partner -------------------------------------------------------


def test_what_models_read():
    task, dialogue = made()
    ended, _ = step(task, dialogue, "I choose 2 food.")
    mine, theirs = (task.messages(ended, role) for role in SIDES)
    assert mine[0]["content"] == "camp : food value 5 , water value 4 , firewood value 3 . food : we hike a lot . ."
    assert theirs[0]["content"] == "camp : food value 3 , water value 4 , firewood value 5 ."
    assert [m["content"] for m in mine[1:]] == ["<select> food=2 water=0 firewood=0", "<accept>"]
    assert [m["role"] for m in theirs[1:]] == ["user", "assistant"]
    assert [m["content"] for m in theirs[1:]] == ["<select> food=2 water=0 firewood=0", "<accept>"]


@pytest.mark.parametrize(
    ("said", "answer", "stop"),
    [
        ("<select> food=3 water=2 firewood=0", "<accept>", "agreed"),
        ("<select> food=3 water=2 firewood=0", "sure, that works", "agreed"),
        ("<select> food=3 water=2 firewood=0", "<reject>", ""),
        ("<select> food=3 water=2 firewood=0", "<walk>", "no deal"),
        ("hello", "<walk>", "no deal"),
        ("hello", "<accept>", ""),
        ("hello", "hi", ""),
    ],
)
def test_what_a_model_settles(said, answer, stop):
    task, dialogue = made()
    asked = dialogue.said("first", said)
    assert task.settled(asked) is None
    reply = task.heard(asked, answer)
    assert (reply.stop_reason, reply.success, reply.text) == (stop, stop == "agreed", answer)


def test_a_model_submits():
    task, dialogue = made()
    reply = task.heard(dialogue.said("first", "hi"), "<select> food=0 water=1 firewood=3")
    open_ = replace(dialogue, state=reply.state).said("first", "hi").said("second", reply.text)
    ended = task.settled(open_.said("first", "<accept>"))
    assert (ended.stop_reason, ended.state["selections"]) == ("agreed", {"first": [3, 2, 0], "second": [0, 1, 3]})
    assert task.settled(open_.said("first", "<reject>")) is None
    assert task.settled(open_.said("first", "<walk>")).stop_reason == "no deal"


def test_a_model_submits_what_was_agreed_if_anything_was():
    task, dialogue = CaSiNo(choices="tracked"), made()[1]
    wrong = "<select> food=1 water=1 firewood=1"
    assert task.utterance(dialogue, wrong) == wrong
    offered = dialogue.said("first", "i take three food and two water, you get the rest")
    assert task.utterance(offered, wrong) == "<select> food=0 water=1 firewood=3"  # submitting it is accepting it
    agreed = offered.said("second", "deal")
    assert task.utterance(agreed, wrong) == "<select> food=3 water=2 firewood=0"
    assert CaSiNo().utterance(agreed, wrong) == wrong
    for token in ("<walk>", "<accept>", "<reject>", "<select> none"):
        assert task.utterance(agreed, token) == token


# --- scenarios and satisfaction ----------------------------------------------------------------


def test_embedded_scenarios_and_splits():
    assert len(generated()) == 6 * 6 * 4
    keys = [{one.hidden["key"] for one in CaSiNo(split=split).pool} for split in ("all", "train", "heldout")]
    assert keys[1] | keys[2] == keys[0]
    assert not keys[1] & keys[2]


@pytest.mark.parametrize("setting", [{"side": "left"}, {"objective": "fun"}, {"max_turns": 1}, {"split": "dev"}])
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        CaSiNo(**setting)


def test_satisfaction_by_hand():
    model = Satisfaction((1.0, 0.5, 3.6, -1.8), 0.2, 10)
    assert features(Result(True, 18, 9, True)) == [1.0, 1.0, 0.5, 0.25]
    assert model.of(Result(True, 18, 9, True)) == pytest.approx(1 + 0.5 + 1.8 - 0.45)
    assert model.of(Result(True, 36, 0, True)) == 5.0
    assert model.of(Result(False, 5, 5, False)) == pytest.approx(1 + 0.5 - 0.25)


@there
def test_satisfaction_is_fitted_to_the_published_answers():
    path = DATA / "casino_valid.json.gz"
    model = Satisfaction.fit(path)
    answers = told(path)
    assert model.people == len(answers) == 60
    left = [answer - sum(w * x for w, x in zip(model.weights, features(end), strict=True)) for end, answer in answers]
    assert np.mean(left) == pytest.approx(0, abs=1e-9)  # least squares with a constant
    assert 1 - np.var(left) / np.var([answer for _, answer in answers]) == pytest.approx(model.explained)
    task = CaSiNo(satisfaction=path)
    _, dialogue = made()
    parts = advance(task, [dialogue], ["<select> food=2 water=0 firewood=0"]).parts
    assert parts["signals"]["satisfaction"] == [pytest.approx(model.of(Result(True, 10, 30, True)), abs=1e-5)]
    assert advance(task, [dialogue], ["hello"]).parts["signals"]["satisfaction"] == [0.0]


@there
def test_published_scenarios_and_recorded_dialogues():
    path = DATA / "casino_valid.json.gz"
    task = CaSiNo(scenarios=path)
    assert len(task.pool) == 30
    assert play(task, TABLE["oracle"][1], 1).stop_reason
    for episode in read_corpus("casino", path, side="second"):
        chat = task.messages(episode.dialogue, "second")
        assert chat[0]["content"].startswith("camp : food value ")
        final = [m["content"] for m in chat if m["content"].startswith("<")]
        assert final[-1] == "<accept>"
        assert outcome(episode.dialogue, 5).agent == episode.total
