import gzip
import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import advance, begin
from dialog_gym.envs.bargain import ATTRIBUTES, TYPES, Bargain, DealValue, utility
from dialog_gym.envs.bargain_language import REASONS, Act
from dialog_gym.envs.bargain_policies import (
    TABLE,
    constant,
    main,
    mean_return,
    oracle_act,
    play,
    random_act,
    speak,
)

CORPUS = Path(__file__).parents[3] / "shared/data/craigslist_bargain/dev.json.gz"
SIDES = ("buyer", "seller")


def made(side="buyer", kind="warm", patience=8, deadline=8, seed=3):
    """Return a task and a dialogue over $1,000: the buyer agent's limit is 90%, the seller's 60%; or 60% and 90%."""
    task = Bargain(side)
    agent, partner = (90, 60) if side == "buyer" else (60, 90)
    hidden = {
        "title": "red bike",
        "category": "bike",
        "list_price": 1000,
        "agent_limit": agent,
        "partner_limit": partner,
    }
    hidden |= {"ask": 100 if side == "buyer" else 54, "type": kind, "deadline": deadline, "patience": patience}
    return task, begin(task, seed, Scenario("Item: red bike.", {}, hidden))


def step(task, dialogue, text):
    (after,), (reward,), *_ = advance(task, [dialogue], [text])
    return after, reward


RIGHT = {"warm": "please", "tough": "that is final", "analyst": "it looks worn"}
WRONG = {"warm": "that is final", "tough": "please", "analyst": "please"}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("side", "offer"), [("buyer", "$640"), ("seller", "$860")])
def test_the_right_style_moves_the_partner_and_the_wrong_one_does_not(kind, side, offer):
    task, dialogue = made(side, kind)
    moved, _ = step(task, dialogue, f"{RIGHT[kind]}, {offer}")
    stuck, _ = step(task, dialogue, f"{WRONG[kind]}, {offer}")
    assert moved.state["willing"] > 10
    assert stuck.state["willing"] == 0
    assert stuck.state["patience"] < moved.state["patience"]
    assert abs(moved.state["ask"] - dialogue.state["ask"]) >= 4
    assert stuck.state["ask"] == dialogue.state["ask"]


def test_a_reason_counts_once():
    task, dialogue = made(kind="analyst")
    once, _ = step(task, dialogue, "it looks worn, $560")
    twice, _ = step(task, once, "it looks worn, $580")
    other, _ = step(task, once, "my budget is small, $580")
    assert once.state["heard"] == ["condition"]
    assert other.state["willing"] - once.state["willing"] > 3 * (twice.state["willing"] - once.state["willing"])


def test_the_same_price_again_and_no_price_earn_little():
    task, dialogue = made()
    once, _ = step(task, dialogue, "please, $540")
    gains = [step(task, once, text)[0].state["willing"] for text in ("$560", "$540", "hm", "$520")]
    new, same, none, harder = [gain - once.state["willing"] for gain in gains]
    assert 0 < same == none < harder < new
    assert new > 2 * same


def test_an_absurd_price_moves_nothing_and_is_called_an_insult():
    task, dialogue = made()
    after, _ = step(task, dialogue, "please, $300")
    assert after.state["willing"] == 0
    assert after.state["patience"] == dialogue.state["patience"] - 2


def test_agreement_takes_the_standing_price_and_an_offer_its_own():
    task, dialogue = made()
    moved, _ = step(task, dialogue, "please, $640")
    agreed, reward = step(task, moved, "deal")
    assert agreed.stop_reason == "deal"
    assert agreed.state["price"] == moved.state["ask"]
    assert reward == pytest.approx((90 - moved.state["ask"]) / 30 * 0.95)
    generous, reward = step(task, moved, "$840 is a deal")
    assert (generous.stop_reason, generous.state["price"]) == ("deal", 84)
    assert reward == pytest.approx(6 / 30 * 0.95)
    assert utility(generous) == pytest.approx(0.2)


@pytest.mark.parametrize(("side", "price", "share"), [("buyer", 75, 0.5), ("seller", 75, 0.5), ("buyer", 100, 0.0)])
def test_the_value_of_a_deal_by_hand(side, price, share):
    _, dialogue = made(side)
    done = Dialogue(dialogue.scenario, dialogue.roles, 0, (), {"price": price}, "deal", True, 3)
    left = Dialogue(dialogue.scenario, dialogue.roles, 0, (), {"price": None}, "left", False, 3)
    scores = DealValue()([done, left])
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([share * 0.9025, 0.0])


def test_agreeing_at_once_is_worth_nothing():
    for side in SIDES:
        task, dialogue = made(side)
        after, reward = step(task, dialogue, "deal")
        assert (after.stop_reason, after.success, reward) == ("deal", False, 0.0)


def test_patience_and_deadline_end_it():
    task, dialogue = made(patience=2)
    after, reward = step(task, dialogue, "")
    assert (after.stop_reason, reward) == ("left", 0.0)
    task, dialogue = made(deadline=4)
    for turn in range(4):
        assert dialogue.stop_reason == ""
        dialogue, _ = step(task, dialogue, f"please, ${620 + 2 * turn}") if not turn else step(task, dialogue, "hm")
    assert dialogue.stop_reason == "left"


def test_goodbye_leaves_and_max_turns_truncate():
    task, dialogue = made()
    assert step(task, dialogue, "goodbye")[0].stop_reason == "left"
    task.max_turns = 1
    assert step(task, dialogue, "please, $620")[0].stop_reason == "max_turns"


def test_the_agent_who_sells_is_spoken_to_first():
    dialogue = begin(Bargain("seller"), 1)
    assert [turn.role for turn in dialogue.turns] == ["buyer"]
    assert dialogue.turn == 0
    assert begin(Bargain("buyer"), 1).turns == ()


@pytest.mark.parametrize("side", SIDES)
def test_limits_lie_in_the_stated_ranges(side):
    task = Bargain(side)
    for seed in range(300):
        hidden = task.scenario(Draws(seed, "scenario")).hidden
        gap = hidden["agent_limit"] - hidden["partner_limit"]
        assert 16 <= abs(gap) <= 40
        assert (gap > 0) == (side == "buyer")
        assert all(hidden[name] % 2 == 0 for name in ("agent_limit", "partner_limit", "ask"))
        assert (hidden["agent_limit"] - hidden["ask"]) * gap < 0  # the first standing price is beyond the limit


def test_each_role_sees_its_own_limit_alone():
    task, dialogue = Bargain(), begin(Bargain(), 5)
    hidden = dialogue.scenario.hidden
    for role, own, other in [("buyer", "agent_limit", "partner_limit"), ("seller", "partner_limit", "agent_limit")]:
        system = task.messages(dialogue, role)[0]["content"]
        assert f"limit <p{hidden[own]}>" in system
        assert f"<p{hidden[other]}>" not in system
        assert system.startswith(f"you are the {role} . item : {hidden['title']} . list <p100> .")
    assert hidden["type"] not in dialogue.transcript("buyer").split()


@pytest.mark.parametrize("side", SIDES)
def test_phrases_of_the_type_are_noisy_and_the_type_changes_sometimes(side):
    from dialog_gym.envs.bargain_policies import _CUE_TYPES

    task, right, shown, changed, total = Bargain(side), 0, 0, 0, 0
    for seed in range(700):
        dialogue = begin(task, seed)
        for _ in range(2):
            before = dialogue.state["type"]
            dialogue, _ = step(task, dialogue, "please, tell me more")
            changed += dialogue.state["type"] != before
            total += 1
            if dialogue.stop_reason:
                break
            cues = [kind for cue, kind in _CUE_TYPES.items() if cue in dialogue.turns[-1].text]
            shown += len(cues) == 1
            right += cues == [dialogue.state["type"]]
    assert shown / total > 0.8  # the rest is misspelled, or left
    assert 0.75 < right / shown < 0.85
    assert 0.02 < changed / total < 0.06


@settings(max_examples=30)
@given(st.integers(0, 2**53), st.sampled_from(SIDES))
def test_batch_order_and_json_do_not_matter(seed, side):
    task = Bargain(side)
    dialogues = [begin(task, seed + i) for i in range(3)]
    for _ in range(3):
        texts = [speak(task, d, random_act(task, d, d.draws("a")), d.draws("b")) for d in dialogues]
        together = advance(task, dialogues, texts).dialogues
        alone = [step(task, Dialogue.from_json(json.loads(json.dumps(d.to_json()))), t)[0]
                 for d, t in zip(dialogues, texts, strict=True)]  # fmt: skip
        assert alone == together
        dialogues = [d for d in together if not d.stop_reason]
        if not dialogues:
            break


@given(st.text(max_size=300), st.integers(0, 1000))
@settings(max_examples=100)
def test_any_text_gets_an_answer(text, seed):
    task = Bargain()
    after, reward = step(task, begin(task, seed), text)
    assert 0 <= reward <= 1
    assert after.turns[-1].role == "seller"


def test_old_turns_keep_their_tokens():
    task, dialogue = Bargain(), begin(Bargain(), 11)
    before = task.messages(dialogue, "buyer")
    while not dialogue.stop_reason:
        dialogue, _ = step(task, dialogue, "how about $20?")
        chat = task.messages(dialogue, "buyer")
        assert chat[: len(before)] == before
        assert {m["role"] for m in chat[1::2]} == {"assistant"}
        before = chat


def test_what_a_model_writes_is_said_in_money():
    task, dialogue = made()
    assert task.utterance(dialogue, " how about <p62>? ") == "how about $620?"
    assert task.utterance(dialogue, "<p63> <p7> <p999>") == "$640 $100 $1,300"


def test_attributes_in_either_notation():
    task, dialogue = made()
    for text in ("please, it looks worn, how about $620", "please, it looks worn, how about <p62>"):
        numbers = dict(zip(ATTRIBUTES, task.attributes(dialogue, "buyer", text).tolist(), strict=True))
        on = {name for name, number in numbers.items() if number == 1}
        assert on == {"style:polite", "reason:condition", "has_price", "price_range:50_to_64"}
        assert numbers["price"] == pytest.approx(0.62)
    assert task.attributes(dialogue, "buyer", "deal")[ATTRIBUTES.index("accept")] == 1


def test_parsed_tells_what_was_understood():
    task, dialogue = made()
    dialogue, _ = step(task, dialogue, "blah")
    dialogue, _ = step(task, dialogue, "please")
    assert [act.understood for act in task.parsed(dialogue)] == [False, True]


# --- policies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_what_how_and_when_all_matter(side):
    task = Bargain(side)
    mean = {name: mean_return(task, policy, range(300))[0] for name, (_, policy) in TABLE.items()}
    assert mean["oracle"] > 0.8
    assert 0.75 < mean["infers"] < mean["oracle"] - 0.02
    for name, value in mean.items():
        if name.startswith(("constant", "random")):
            assert value < 0.5, name
    for name in ("bland-stall", "polite-repeat", "knowing-stall"):
        assert mean[name] < 0.25, name
    assert mean["constant"] > max(value for name, value in mean.items() if name.startswith("constant")) - 0.03
    assert mean["wrong-style"] < 0.02
    assert mean["accept-first"] == 0


def test_no_tuned_price_saves_a_constant_style():
    from dialog_gym.envs.bargain_policies import Schedule

    task = Bargain()
    for style, reason in [("polite", True), ("firm", False), ("neutral", True)]:
        for start in (14, 22, 30):
            policy = constant(style, reason, Schedule(start, 2, 6, 2))
            assert mean_return(task, policy, range(120))[0] < 0.5, (style, start)


@pytest.mark.parametrize("side", SIDES)
def test_the_oracle_speaks_its_act(side):
    task = Bargain(side)
    for seed in range(50):
        dialogue = begin(task, seed)
        while not dialogue.stop_reason:
            act, text = oracle_act(task, dialogue), task.oracle(dialogue)
            assert text == task.oracle(dialogue)
            dialogue, _ = step(task, dialogue, text)
            assert task.parsed(dialogue)[-1] == act


def test_play_repeats():
    task = Bargain()
    assert play(task, random_act, 9) == play(task, random_act, 9)


@pytest.mark.parametrize("side", SIDES)
def test_self_play_is_finished_varied_and_repeatable(side):
    task = Bargain(side)
    dialogues = [task.self_play(Draws(seed, "corpus")) for seed in range(400)]
    assert dialogues[7] == task.self_play(Draws(7, "corpus"))
    assert all(d.stop_reason for d in dialogues)
    acts = [act for d in dialogues for act in task.parsed(d)]
    assert all(act.understood or act == Act() for act in acts)
    assert {act.style for act in acts} == {"polite", "neutral", "firm"}
    assert {act.reason for act in acts} == {"", *REASONS}
    assert len({act.price for act in acts}) > 20
    assert statistics.fmean(len(t.text.split()) for d in dialogues for t in d.turns) < 13


def test_the_table_is_printed(capsys):
    main(["--episodes", "3", "--side", "seller"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Bargain-v0, seller, 3 episodes, seeds from 0"
    assert len(lines) == 1 + len(TABLE)


def test_every_policy_is_named_and_speaks_from_the_dialogue_alone():
    task, dialogue = Bargain("seller"), begin(Bargain("seller"), 4)
    policies = task.policies()
    assert {"oracle", "infers", "constant", "random"} <= set(policies) == set(TABLE)
    assert policies["oracle"](dialogue) == task.oracle(dialogue)
    for policy in policies.values():
        assert policy(dialogue) == policy(Dialogue.from_json(dialogue.to_json())) != ""


# --- what a world tells --------------------------------------------------------------------------


def test_names_of_attributes_and_facts():
    task, dialogue = made()
    assert len(task.attribute_names) == len(task.attributes(dialogue, "buyer", "hi")) == 16
    groups = [name.partition(":")[0] for name in task.attribute_names]
    assert [groups.count(group) for group in ("style", "reason", "price_range")] == [3, 6, 4]
    after, _ = step(task, dialogue, "please, it looks worn, how about $620")
    known = dict(zip(task.fact_names, task.facts(after).tolist(), strict=True))
    assert known["limit"] == pytest.approx(0.9)
    assert known["offered"] == pytest.approx(0.28)
    assert (known["has_offered"], known["turn"]) == (1.0, pytest.approx(1 / 8))
    assert [known[f"gave_{reason}"] for reason in REASONS] == [reason == "condition" for reason in REASONS]
    assert known["believed_warm"] > 0.5


def test_understood_looks_at_the_newest_turn_of_the_agent():
    task, dialogue = made()
    assert not task.understood(dialogue)
    said, _ = step(task, dialogue, "please, $620")
    assert task.understood(said)
    assert not task.understood(step(task, said, "blah")[0])


@pytest.mark.parametrize("side", SIDES)
def test_the_scripted_partner_never_contradicts_itself(side):
    task = Bargain(side)
    for seed in range(150):
        dialogue = begin(task, seed)
        while not dialogue.stop_reason:
            text = speak(task, dialogue, random_act(task, dialogue, dialogue.draws("a")), dialogue.draws("b"))
            dialogue, _ = step(task, dialogue, text)
            assert task.contradicts(dialogue) is False, dialogue.turns


@pytest.mark.parametrize(
    ("said", "broken"),
    [
        (["I can do $800"], False),
        (["I can do $580"], True),  # the seller's limit is $600
        (["I can do $800", "make it $860"], True),
        (["I can do $800", "$800 it is, no less"], False),
        (["lovely weather"], False),
        ([], False),
    ],
)
def test_a_price_beyond_the_limit_and_one_taken_back_are_contradictions(said, broken):
    task, dialogue = made()
    for text in said:
        dialogue = dialogue.said("buyer", "hm").said("seller", text)
    assert task.contradicts(dialogue) is broken


def test_a_deal_beyond_the_limit_is_a_contradiction():
    task, dialogue = made()
    asked = dialogue.said("buyer", "$560?")
    closed = task.heard(asked, "deal!")
    assert closed.stop_reason == "deal"
    ended = Dialogue(asked.scenario, asked.roles, 0, asked.said("seller", "deal!").turns, closed.state, "deal")
    assert task.contradicts(ended)


CANDIDATES = ("oracle", "infers", "random", "constant", "random-price")


def branches(task, states, plays):
    """Return the world's and the Monte-Carlo worth of utterances in random states, both (states, candidates)."""
    told, played = np.zeros((2, states, len(CANDIDATES)))
    for k in range(states):
        dialogue = begin(task, k)
        for _ in range(k % 4):  # states of an agent that is good only sometimes
            policy = oracle_act if dialogue.draws("mix").uniform() < 0.4 else random_act
            after, _ = step(task, dialogue, speak(task, dialogue, policy(task, dialogue, dialogue.draws("a")),
                                                  dialogue.draws("b")))  # fmt: skip
            if after.stop_reason:
                break
            dialogue = after
        for j, name in enumerate(CANDIDATES):
            text = task.policies()[name](dialogue)
            for play_ in range(plays):
                after, reward = step(task, replace(dialogue, seed=10**6 + play_), text)
                told[k, j] += (reward + task.value(after)) / plays
                while not after.stop_reason:
                    after, more = step(task, after, task.oracle(after))
                    reward += more
                played[k, j] += reward / plays
    return told, played


@pytest.mark.parametrize("side", SIDES)
def test_value_agrees_with_playing_it_out(side):
    told, played = branches(Bargain(side), states=30, plays=16)
    centred = [worth - worth.mean(axis=1, keepdims=True) for worth in (told, played)]
    assert np.corrcoef(told.ravel(), played.ravel())[0, 1] > 0.95
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.95
    assert abs(told.mean() - played.mean()) < 0.02


def test_value_by_hand():
    task, dialogue = made(patience=1)  # one turn left: warm, zone 30, nothing gained yet
    # 0.75 of the mean gain, 0.75 * 0.6 * 39 = 17.55, is asked for as 16: luck of 16 / 23.4 = 0.684 does, 0.7 comes.
    assert task.value(dialogue) == pytest.approx(16 / 30)
    state = {**dialogue.state, "offer": 30, "willing": 20.0}
    later = Dialogue(dialogue.scenario, dialogue.roles, 3, (), state, turn=2)
    # 20 + 0.45 * 19 = 28.55 -> 28; luck of 8 / 11.4 = 0.7018 is missed by 0.0018 / 0.6.
    assert task.value(later) == pytest.approx(28 / 30 * (1 - (8 / 11.4 - 0.7) / 0.6) * 0.95**2)
    assert task.value(Dialogue(dialogue.scenario, dialogue.roles, 3, (), state, "deal")) == 0


# --- settings and listings ---------------------------------------------------------------------


def record(price=100, title="Red <b>bike</b>\n\x1b[31m", target=60, post="1"):
    item = {"Title": title, "Price": price, "Category": "bike"}
    kbs = [{"personal": {"Role": role, "Target": target}, "item": item} for role in SIDES]
    return {"scenario": {"post_id": post, "kbs": kbs}, "events": []}


def written(path, data):
    text = json.dumps(data).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_listings_are_read_once_each(tmp_path, name):
    data = [record(), record(price=120), record(price=0, post="2"), record(price=None, post="3"), record(post="4")]
    task = Bargain(scenarios=written(tmp_path / name, data))
    assert [listing.key for listing in task.listings] == ["1", "4"]
    assert task.listings[0].title == "Red <b>bike</b> [31m"
    assert task.listings[0].target == 60
    dialogue = begin(task, 3)
    assert "red b bike b 31m" in task.messages(dialogue, "buyer")[0]["content"]
    assert step(task, dialogue, "please, $70")[0].turns


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": 1}, "expected a list of records"),
        ([{}], r"record 0: expected a record of .*KeyError"),
        ([record(), record(price="cheap")], r"record 1: .*finite number, got 'cheap'"),
        ([record(price=float("nan"))], "record 0: .*finite"),
        ([record(price=1e300)], "record 0: .*at most 1e12"),
        ([record(title=None)], "record 0: .*must be text"),
        ([record(), "text"], "record 1"),
        ([record(price=0)], "price of at least"),
        ([], "price of at least"),
    ],
)
def test_other_formats_are_refused(tmp_path, data, message):
    path = written(tmp_path / "a.json", data)
    with pytest.raises(ValueError, match=message) as caught:
        Bargain(scenarios=path)
    assert str(path) in str(caught.value)


def test_damaged_and_missing_files_are_refused(tmp_path):
    whole = written(tmp_path / "a.json.gz", [record(post=str(i)) for i in range(50)])
    for name, data in [
        ("b.json.gz", whole.read_bytes()[:-20]),
        ("c.json", b'[{"scenario":'),
        ("d.json", b"\xff\xfe\x00"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: expected JSON"):
            Bargain(scenarios=tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Bargain(scenarios=tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"side": "agent"}, "side must be"), ({"max_turns": 0}, "max_turns"), ({"split": "dev"}, "split must be one of")],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Bargain(**setting)


@pytest.mark.parametrize("scenarios", [None, pytest.param(CORPUS, marks=pytest.mark.skipif(
    not CORPUS.exists(), reason="the CraigslistBargain development split is not here"))])  # fmt: skip
def test_splits_part_the_listings(scenarios):
    keys = [
        {x.key for x in Bargain(scenarios=scenarios, split=split).listings} for split in ("all", "train", "heldout")
    ]
    assert keys[1] | keys[2] == keys[0]
    assert not keys[1] & keys[2]
    assert 0.6 < len(keys[1]) / len(keys[0]) < 0.8


@pytest.mark.skipif(not CORPUS.exists(), reason="the CraigslistBargain development split is not here")
@pytest.mark.parametrize("side", SIDES)
def test_real_listings_can_be_played(side):
    task = Bargain(side, scenarios=CORPUS)
    assert len(task.listings) == 508
    assert mean_return(task, oracle_act, range(100))[0] > 0.75
    for seed in range(20):
        for message in task.messages(play(task, random_act, seed)[0], side):
            assert "$" not in message["content"]
