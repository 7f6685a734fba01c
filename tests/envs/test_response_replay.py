"""Recorded corpora as environments: the partner replays, the answers are compared with those of people."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dialog_gym.checks import check_task
from dialog_gym.dialogue import Dialogue, Turn
from dialog_gym.env import advance, begin
from dialog_gym.envs.response import response
from dialog_gym.envs.response_replay import Replay
from dialog_gym.rewards.base import reward

DATA = Path(__file__).parents[3] / "shared/data"
ABCD = DATA / "abcd/abcd_train_first50.json.gz"
needs_abcd = pytest.mark.skipif(not ABCD.exists(), reason="the ABCD sample is not here")


def conversation(number, *turns):
    scenario = {"flow": "a", "subflow": "b", "personal": {}, "order": {}, "product": {}}
    return {"convo_id": number, "scenario": scenario, "original": [list(turn) for turn in turns]}


@pytest.fixture
def file(tmp_path):
    """Write two conversations in ABCD's format: of three answers, and of one that comes first."""
    long = conversation(
        1,
        ("customer", "hi"),
        ("customer", "my shirt is late"),
        ("agent", "what is your name"),
        ("customer", "joe"),
        ("agent", "thanks joe"),
        ("agent", "it comes on monday"),
        ("customer", "great"),
        ("agent", "bye"),
        ("customer", "bye bye"),
    )
    short = conversation(2, ("agent", "good morning"), ("customer", "no thanks"))
    path = tmp_path / "abcd.json"
    path.write_text(json.dumps({"train": [long, short], "dev": [], "test": []}))
    return path


def made(file, **settings):
    return response("abcd", file, **{"metric": "overlap", **settings})


def opened(task, key):
    """Return a dialogue of the record that ``key`` ends."""
    return next(d for d in (begin(task, seed) for seed in range(200)) if d.scenario.hidden["id"].endswith(key))


def step(task, dialogue, text):
    (after,), (earned,), *_ = advance(task, [dialogue], [text])
    return after, earned


def test_the_partner_says_what_was_recorded_whatever_is_said(file):
    task = made(file)
    dialogue = opened(task, "1")
    assert dialogue.turns == (Turn("customer", "hi\nmy shirt is late"),)
    dialogue, first = step(task, dialogue, "what is your name")
    assert dialogue.turns[-1] == Turn("customer", "joe")
    dialogue, second = step(task, dialogue, "thanks a lot")
    assert dialogue.turns[-1] == Turn("customer", "great")
    assert not dialogue.stop_reason
    dialogue, third = step(task, dialogue, "something else")
    assert dialogue.turns[-1] == Turn("customer", "bye bye")
    assert (dialogue.stop_reason, dialogue.success) == ("end", False)
    # "thanks joe\nit comes on monday" has six words, "thanks a lot" three, and they share one
    assert (first, second, third) == pytest.approx((1, 2 / 9, 0))


def test_a_dialogue_that_the_agent_opens(file):
    task = made(file)
    dialogue = opened(task, "2")
    assert dialogue.turns == ()
    after, earned = step(task, dialogue, "good evening")
    assert earned == pytest.approx(0.5)
    assert (after.stop_reason, after.turns[-1].text) == ("end", "no thanks")


def test_max_turns_and_context(file):
    task = made(file, max_turns=1, context=0)
    dialogue = opened(task, "1")
    assert dialogue.turns == ()
    assert step(task, dialogue, "x")[0].stop_reason == "max_turns"


def test_one_response_to_a_random_context(file):
    task = made(file, episode="response")
    starts: dict[tuple[str, int], list[Dialogue]] = {}
    for seed in range(400):
        dialogue = begin(task, seed)
        starts.setdefault((dialogue.scenario.hidden["id"], len(dialogue.turns)), []).append(dialogue)
    assert sorted(place for _, place in starts) == [0, 1, 3, 5]  # of four answers, equally often
    assert all(70 < len(found) < 130 for found in starts.values())
    (dialogue, *_) = next(found for (_, place), found in starts.items() if place == 5)
    assert [turn.text for turn in dialogue.turns][1::2] == ["what is your name", "thanks joe\nit comes on monday"]
    after, earned = step(task, Dialogue.from_json(json.dumps(dialogue.to_json())), "bye")
    assert (earned, after.stop_reason, len(after.turns)) == (1, "answered", 6)
    short = begin(made(file, episode="response", context=2), dialogue.seed)
    assert short.turns == dialogue.turns[-2:]


def test_teacher_forcing_is_what_language_models_read(file):
    said, forced = made(file), made(file, history="recorded")
    dialogue = opened(said, "1")
    for text in ("one", "two"):
        dialogue, _ = step(said, dialogue, text)
    contents = [[m["content"] for m in task.messages(dialogue, "agent")] for task in (said, forced)]
    assert contents[0][2::2] == ["one", "two"]
    assert contents[1][2::2] == ["what is your name", "thanks joe\nit comes on monday"]
    assert contents[0][1::2] == contents[1][1::2]
    assert [m["role"] for m in forced.messages(dialogue, "agent")] == [
        "system", "user", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    assert forced.messages(dialogue, "customer")[2]["content"] == "one"


def test_a_model_as_the_partner_goes_on_and_ends_with_the_recording(file):
    task = made(file)
    dialogue = opened(task, "1").said("agent", "what is your name")
    assert task.settled(dialogue) is None
    heard = task.heard(dialogue, "I am Ann")
    assert (heard.text, heard.state["references"], heard.stop_reason) == ("I am Ann", ["what is your name"], "")
    last = opened(task, "2").said("agent", "hello")
    assert task.settled(last).stop_reason == "end"


def test_any_reward_finds_the_recorded_answer(file):
    @reward(0, 1)
    def same(dialogue):
        return float(dialogue.texts("agent")[-1] in dialogue.state["references"])

    task = made(file, metric=same)
    dialogue = opened(task, "2")
    assert task.recorded(dialogue) == "good morning"
    assert [step(task, dialogue, text)[1] for text in ("good morning", "hi")] == [1, 0]


def test_who_says_what_was_recorded_earns_all(file):
    task = made(file)
    for seed in range(6):
        dialogue, earned = begin(task, seed), []
        while not dialogue.stop_reason:
            dialogue, got = step(task, dialogue, task.oracle(dialogue))
            earned.append(got)
        assert earned == [1] * dialogue.turn
        assert task.recorded(dialogue) == ""


def test_the_contract_of_tasks(file):
    check_task(made(file))  # under episode="response" the agent has spoken before, of which the check knows nothing


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episode": "turn"}, "episode must be one of 'dialogue', 'response', got 'turn'"),
        ({"history": "forced"}, "history must be one of"),
        ({"context": -1}, "context must be at least 0"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"split": "dev"}, "split must be one of"),
        ({"metric": "blue"}, "no metric named 'blue'"),
    ],
)
def test_bad_settings_are_refused(file, settings, message):
    with pytest.raises(ValueError, match=message):
        made(file, **settings)


def test_damaged_files_and_preferences_are_refused(tmp_path):
    (tmp_path / "bad.json").write_text('{"train": [{"convo_id": 1}]}')
    with pytest.raises(ValueError, match=r"bad\.json"):
        response("abcd", tmp_path / "bad.json")
    pair = {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"}
    (tmp_path / "hh.jsonl").write_text(json.dumps(pair) + "\n")
    with pytest.raises(ValueError, match="which holds preferences"):
        response("hh_rlhf", tmp_path / "hh.jsonl")
    with pytest.raises(KeyError, match="did you mean 'abcd'"):
        response("abdc", tmp_path / "bad.json")


# --- real corpora ------------------------------------------------------------------------------


@needs_abcd
def test_the_environment_plays_abcd():
    env = gym.make("dialog_gym/Response-v0", corpus="abcd", scenarios=str(ABCD), metric="chrf", split="heldout")
    env.reset(seed=1)
    _, earned, *_, info = env.step("How can I help you?")
    assert 0 <= float(earned) <= 1
    assert info["reward_terms"].keys() == {"chrf"}


@needs_abcd
def test_what_people_say_is_compared_and_not_the_buttons_they_press():
    task, pressing = (Replay("abcd", ABCD, metric="overlap", options=o) for o in (None, {"actions": True}))
    said = [[text for role, text in t.records[0].turns if role == "agent"] for t in (task, pressing)]
    pressed = "Account has been pulled up for Crystal Minh."
    assert [any(pressed in text for text in texts) for texts in said] == [False, True]


@needs_abcd
def test_rows_do_not_matter_on_abcd():
    settings: dict[str, Any] = {"corpus": "abcd", "scenarios": str(ABCD), "metric": "overlap"}
    rows = gym.make_vec("dialog_gym/Response-v0", num_envs=4, **settings)
    one = gym.make("dialog_gym/Response-v0", **settings)
    seen, _ = rows.reset(seed=5)
    assert [one.reset(seed=5 + k)[0] for k in range(4)] == list(seen)
    told = rows.step(["Sure, let me look."] * 4)
    one.reset(seed=8)
    alone = one.step("Sure, let me look.")
    assert told[0][3] == alone[0]
    assert told[1][3] == pytest.approx(alone[1])


@needs_abcd
def test_splits_part_the_dialogues():
    keys = [
        {record.key for record in Replay("abcd", ABCD, split=split, metric="overlap").records}
        for split in ("all", "train", "heldout")
    ]
    assert len(keys[0]) == 50
    assert keys[1] | keys[2] == keys[0]
    assert not keys[1] & keys[2]
    assert len(Replay("abcd", ABCD, limit=7, metric="overlap").records) == 7


@pytest.mark.parametrize(
    ("corpus", "path"),
    [
        ("multiwoz21", "multiwoz/2.1"),
        ("sgd", "sgd"),
        ("camrest", "camrest/data.zip"),
        ("taskmaster", "taskmaster/TM-4"),
    ],
)
def test_other_corpora_can_be_answered_in(corpus, path):
    if not (DATA / path).exists():
        pytest.skip(f"{path} is not here")
    task = Replay(corpus, DATA / path, metric="overlap", limit=20)
    dialogue = begin(task, 3)
    said = np.array([step(task, dialogue, text)[1] for text in (task.recorded(dialogue), "xyzzy")])
    assert said.tolist() == [1, 0]
