import gzip
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.data.corpora import read_corpus
from dialog_gym.data.corpora.deal_or_no_deal import scenario
from dialog_gym.dialogue import Dialogue, Draws
from dialog_gym.env import advance, begin
from dialog_gym.envs.deal_or_no_deal import DealOrNoDeal, allowed, generated, read_scenarios
from dialog_gym.envs.division import Result, deals, points
from dialog_gym.envs.division_partner import KINDS, prospect
from dialog_gym.envs.division_policies import TABLE, main, play, random_decision, spoken
from dialog_gym.envs.division_task import outcome, pot_of
from dialog_gym.partner import PartnerTask

DATA = Path(__file__).parents[3] / "shared/data/deal_or_no_deal"
there = pytest.mark.skipif(not DATA.exists(), reason="the published corpus is not here")
SIDES = ("first", "second")


def made(side="first", kind="steady", floor=0.5, start=0.9, patience=6, seed=3):
    """Return a task and a dialogue: 1 book, 4 hats, 1 ball, worth 4, 1, 2 to the agent and 0, 2, 2 to its partner."""
    task = DealOrNoDeal(side)
    values = {side: (4, 1, 2), {"first": "second", "second": "first"}[side]: (0, 2, 2)}
    hidden = {"kind": kind, "floor": floor, "start": start, "patience": patience}
    return task, begin(task, seed, scenario((1, 4, 1), values, **hidden))


def step(task, dialogue, text):
    (after,), (reward,), *_ = advance(task, [dialogue], [text])
    return after, reward


# --- how it ends -------------------------------------------------------------------------------


def test_a_deal_by_hand():
    task, dialogue = made()
    talked, reward = step(task, dialogue, "i'd like the book, you can have the rest")  # worth 10 of 10 to the partner
    assert (talked.state["agreed"], reward, talked.stop_reason) == ([1, 0, 0], 0.0, "")
    outcome_ = advance(task, [talked], ["<select> book=1 hat=0 ball=0"])
    (ended,) = outcome_.dialogues
    assert (ended.stop_reason, ended.success, outcome_.rewards) == ("agreed", True, [4.0])
    terms = {name: values[0] for name, values in outcome_.parts["reward_terms"].items()}
    assert terms == {"points": 4, "partner_points": 10, "joint": 14, "agreed": 1, "pareto": 1}
    assert ended.turns[-1].text == "<select> book=0 hat=4 ball=1"


@pytest.mark.parametrize(
    ("selection", "stop"),
    [
        ("<select> book=1 hat=1 ball=0", "disagreed"),
        ("i choose the moon: 9 books", "disagreed"),
        ("<select> none", "no deal"),
        ("<select> book=0 hat=0 ball=0", "disagreed"),
    ],
)
def test_another_selection_than_agreed_is_worth_nothing(selection, stop):
    task, dialogue = made()
    talked, _ = step(task, dialogue, "i'd like the book, you can have the rest")
    ended, reward = step(task, talked, selection)
    assert (ended.stop_reason, ended.success, reward) == (stop if "moon" not in selection else "", False, 0.0)


def test_selecting_without_talk_is_no_deal():
    task, dialogue = made()
    ended, reward = step(task, dialogue, "<select> book=1 hat=4 ball=1")
    assert (ended.stop_reason, reward) == ("no deal", 0.0)  # its partner has agreed to nothing and offered nothing


def test_agreeing_lets_the_partner_end_the_talk_unseen():
    task, dialogue = made()
    countered, _ = step(task, dialogue, "what would you like?")
    offer = countered.state["offer"]
    sealed, reward = step(task, countered, "deal")
    assert (sealed.turns[-1].text, sealed.stop_reason, reward) == ("<selection>", "", 0.0)
    share = dict(zip(("book", "hat", "ball"), offer, strict=True))
    ended, reward = step(task, sealed, "<select> " + " ".join(f"{k}={v}" for k, v in share.items()))
    assert (ended.stop_reason, reward) == ("agreed", points((4, 1, 2), offer))
    for other in ("i changed my mind", "<select> none"):
        assert step(task, sealed, other)[0].stop_reason == "no deal"


def test_patience_ends_and_turns_truncate():
    task, dialogue = made(patience=2)
    after, _ = step(task, dialogue, "hm")
    ended, reward = step(task, after, "hm")
    assert (ended.stop_reason, reward, ended.success) == ("no deal", 0.0, False)
    task.max_turns = 2
    talked, _ = step(task, dialogue, "i'd like the book, you can have the rest")
    ended, reward = step(task, talked, "great")
    assert (ended.stop_reason, reward) == ("max_turns", 0.0)


def test_the_joint_objective_by_hand():
    task = DealOrNoDeal(objective="joint")
    _, dialogue = made()
    talked, _ = step(task, dialogue, "i'd like the book, you can have the rest")
    assert step(task, talked, "<select> book=1 hat=0 ball=0")[1] == 14.0


# --- the partner -------------------------------------------------------------------------------


def test_a_mirror_moves_for_concessions_alone():
    falls = {kind: {"same": 0, "better": 0} for kind in KINDS}
    for kind in KINDS:
        for seed in range(200):
            task, dialogue = made(kind=kind, floor=0.5, seed=seed)
            once, _ = step(task, dialogue, "i need the book, the ball and 3 hats, you get 1 hat")
            for name, text in (("same", "i need the book, the ball and 3 hats, you get 1 hat"),
                               ("better", "i need the book, the ball and 2 hats, you get 2 hats")):  # fmt: skip
                falls[kind][name] += step(task, once, text)[0].state["level"] < once.state["level"]
    assert falls["mirror"]["same"] < 30 < 170 < falls["mirror"]["better"]
    assert falls["steady"]["same"] > 80


@pytest.mark.parametrize("side", SIDES)
def test_the_partner_keeps_to_its_demand_and_its_word(side):
    task = DealOrNoDeal(side)
    for seed in range(60):
        dialogue = begin(task, seed)
        while not dialogue.stop_reason:
            dialogue, _ = step(task, dialogue, spoken(task, random_decision, dialogue))
            hidden, state = dialogue.scenario.hidden, dialogue.state
            if state["agreed"] or dialogue.stop_reason == "agreed":
                end = outcome(replace(dialogue, state={**state, "selections": _chosen(dialogue)}), 0)
                assert end.partner >= 10 * hidden["floor"] - 1e-9
            assert not task.contradicts(dialogue)


def _chosen(dialogue):
    counts, deal = dialogue.scenario.hidden["counts"], dialogue.state["agreed"]
    agent, partner = dialogue.roles
    return {agent: deal, partner: [c - d for c, d in zip(counts, deal, strict=True)]}


def test_who_is_second_hears_an_offer_first():
    task, dialogue = made("second")
    assert [turn.role for turn in dialogue.turns] == ["first"]
    act = task.act(dialogue, dialogue.turns[0].text)
    assert tuple(4 - n for n in act.share[1:2]) == tuple(dialogue.state["offer"][1:2])


def test_the_best_play_by_hand():
    _, dialogue = made()
    game = prospect(pot_of(dialogue), "steady", 0.5, 0.9, 0)
    # At level 0 the partner demands 5 of 10. Book, ball and hat leave it 6 and are 4 + 2 + 1; 3 hats instead leave 4.
    assert game.best(0, 1, 0.0) == (7.0, (1, 1, 1))
    # At level 5 it demands 8.33, after one fall (.5 + .35) 7.67: book and ball leave it 8 and are 6 points, if so.
    worth, deal = game.best(5, 1, 0.0)
    assert (worth, *deal) == pytest.approx((0.85 * 6, 1, 0, 1))
    # At level 6, two falls (.35) would be needed for these: better the book alone, 4 points for sure.
    assert game.best(6, 1, 0.0) == (4.0, (1, 0, 0))


# --- laws --------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**53), st.sampled_from(SIDES))
def test_batch_order_and_json_do_not_matter(seed, side):
    task = DealOrNoDeal(side)
    dialogues = [begin(task, seed + i) for i in range(3)]
    while dialogues:
        texts = [spoken(task, random_decision, d) for d in dialogues]
        together = advance(task, dialogues, texts).dialogues
        alone = [step(task, Dialogue.from_json(json.loads(json.dumps(d.to_json()))), t)[0]
                 for d, t in zip(dialogues, texts, strict=True)]  # fmt: skip
        assert alone == together
        dialogues = [d for d in together if not d.stop_reason]


def test_a_fork_goes_its_own_way():
    task, dialogue = made()
    left, right = step(task, dialogue, "i want the book")[0], step(task, dialogue, "no")[0]
    assert left != right
    assert step(task, dialogue, "i want the book")[0] == left


@given(st.text(max_size=200), st.integers(0, 1000), st.sampled_from(SIDES))
@settings(max_examples=60, deadline=None)
def test_any_text_gets_an_answer(text, seed, side):
    task = DealOrNoDeal(side)
    after, reward = step(task, begin(task, seed), text)
    assert 0 <= reward <= 10
    assert after.stop_reason or after.turns[-1].role == task.roles[1]


def test_gymnasium_and_rows():
    check_env(gym.make("dialog_gym/DealOrNoDeal-v0", disable_env_checker=True).unwrapped, skip_render_check=True)
    rows = gym.make_vec("dialog_gym/DealOrNoDeal-v0", num_envs=3, autoreset_mode="disabled")
    single = gym.make("dialog_gym/DealOrNoDeal-v0")
    seen, _ = rows.reset(seed=5)
    assert [single.reset(seed=5 + i)[0] for i in range(3)] == list(seen)
    seen, *_ = rows.step(["i want the hats"] * 3)
    for i in range(3):
        single.reset(seed=5 + i)
        assert single.step("i want the hats")[0] == seen[i]


# --- what a world tells ------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_value_is_what_the_oracle_earns(side):
    task = DealOrNoDeal(side)
    told = np.mean([task.value(begin(task, seed)) for seed in range(200)])
    earned = np.mean([outcome(play(task, TABLE["oracle"][1], seed), 0).agent for seed in range(200)])
    assert abs(told - earned) < 0.4


def test_policies_differ_in_the_right_order():
    task = DealOrNoDeal()
    mean = {
        name: np.mean([outcome(play(task, policy, seed), 0).agent for seed in range(150)])
        for name, (_, policy) in TABLE.items()
    }
    assert mean["oracle"] > 6.5
    assert mean["oracle"] - 0.5 > mean["infers"] > mean["constant"] + 0.4
    assert mean["random"] < 3.5
    assert max(mean[name] for name in ("constant", "hard-headed", "greedy", "fair", "accepts-first")) < 5


@pytest.mark.parametrize("side", SIDES)
def test_self_play_is_finished_varied_and_repeatable(side):
    task = DealOrNoDeal(side)
    played = [task.self_play(Draws(seed, "corpus")) for seed in range(150)]
    assert played[4] == task.self_play(Draws(4, "corpus"))
    assert all(d.stop_reason for d in played)
    assert {"agreed", "no deal"} <= {d.stop_reason for d in played}
    assert 0.3 < np.mean([d.success for d in played]) < 0.95
    words = {w for d in played for role in SIDES for m in task.messages(d, role) for w in m["content"].split()}
    assert len(words) < 250


def test_the_table_is_printed(capsys):
    main(DealOrNoDeal, ["--episodes", "3", "--side", "second"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "DealOrNoDeal-v0, second, heldout, 3 episodes, seeds from 1000000"
    assert len(lines) == 2 + len(TABLE)


# --- notation ----------------------------------------------------------------------------------


def test_what_models_read():
    task, dialogue = made()
    talked, _ = step(task, dialogue, "I'd like the book, you can have the rest!")
    ended, _ = step(task, talked, "I choose 1 book")
    mine, theirs = (task.messages(ended, role) for role in SIDES)
    assert mine[0]["content"] == "divide : book 1 value 4 , hat 4 value 1 , ball 1 value 2 ."
    assert theirs[0]["content"] == "divide : book 1 value 0 , hat 4 value 2 , ball 1 value 2 ."
    assert mine[1] == {"role": "assistant", "content": "i'd like the book , you can have the rest !"}
    assert mine[-2:] == [
        {"role": "assistant", "content": "<select> book=1 hat=0 ball=0"},
        {"role": "user", "content": "<selection>"},
    ]
    assert theirs[-2:] == [
        {"role": "user", "content": "<selection>"},
        {"role": "assistant", "content": "<select> book=0 hat=4 ball=1"},
    ]
    assert task.utterance(dialogue, " i'd like the book , ok ? ") == "i'd like the book, ok?"


def test_large_models_read_plain_words_and_no_selection_of_the_other():
    task, (_, dialogue) = DealOrNoDeal(notation="plain"), made()
    ended, _ = step(task, step(task, dialogue, "I'd like the book, you take the rest!")[0], "I choose 1 book")
    chat = task.messages(ended, "second")
    assert "Divide 1 book, 4 hats and 1 ball between you." in chat[0]["content"]
    assert "a hat is worth 2" in chat[0]["content"]
    assert chat[1]["content"] == "I'd like the book, you take the rest!"
    assert [m["content"] for m in chat[-2:]] == ["<selection>", "<select> book=0 hat=4 ball=1"]
    assert task.utterance(dialogue, " Fine , ok . ") == "Fine , ok ."


def test_a_partner_who_ended_the_talk_sees_its_own_selection():
    task, dialogue = made()
    sealed, _ = step(task, step(task, dialogue, "what would you like?")[0], "deal")
    assert task.messages(sealed, "first")[-1]["content"] == "<selection>"
    assert task.messages(sealed, "second")[-1]["content"].startswith("<select> book=")


# --- choices of models -------------------------------------------------------------------------

TAKEN, LEFT = "<select> book=1 hat=0 ball=0", "<select> book=0 hat=4 ball=1"


@pytest.mark.parametrize(
    ("talk", "agent", "partner"),
    [
        (["i'd like the book, you can have the rest", "deal"], TAKEN, LEFT),
        (["i'd like the book, you can have the rest", "deal", "great"], TAKEN, LEFT),
        (["hi", "you get the book, i take the rest"], TAKEN, ""),  # the agent ends the talk on it: it accepts
        (["hi", "you get the book, i take the rest", "no way, no deal"], "", "<select> none"),  # it was refused
        (["hi", "you get the book, i take the rest", "hm"], "", "<select> none"),  # its own offer, nobody agreed
        (["i'd like the book, you can have the rest"], "", LEFT),
        ([], "<select> none", ""),
    ],
)
def test_a_choice_of_a_model_is_what_was_agreed(talk, agent, partner):
    task, dialogue = DealOrNoDeal(choices="tracked"), made()[1]
    for i, text in enumerate(talk):
        dialogue = dialogue.said(SIDES[i % 2], text)
    expected = partner if len(talk) % 2 else agent
    for written in ("<select> book=0 hat=0 ball=0", "<selection>", "<select> none", "<select> book=9 hat=9 ball=9"):
        assert task.utterance(dialogue, written) == expected
        assert DealOrNoDeal().utterance(dialogue, written) == written
    assert task.utterance(dialogue, "i want the hats , too .") == "i want the hats, too."


def test_who_answers_a_choice_chooses_whatever_it_writes():
    task, dialogue = DealOrNoDeal(choices="tracked"), made()[1]
    offered = dialogue.said("first", "hi").said("second", "you get the book, i take the rest")
    assert task.utterance(offered.said("first", TAKEN), "what ?") == LEFT  # the agent ended the talk on this offer
    over = offered.said("first", "hm").said("second", "<selection>")  # the partner ended it on its own offer
    assert task.utterance(over, "<select> book=1 hat=0 ball=0") == "<select> none"


def test_what_a_person_types_is_taken_at_its_word():
    task, dialogue = DealOrNoDeal(choices="tracked"), made()[1]
    talked, _ = step(task, dialogue, "i'd like the book, you can have the rest")
    assert talked.state["agreed"] == [1, 0, 0]
    ended, reward = step(task, talked, "<select> book=1 hat=1 ball=0")
    assert (ended.stop_reason, reward) == ("disagreed", 0.0)


@pytest.mark.parametrize("side", SIDES)
def test_models_on_both_sides_choose_what_was_agreed(side):
    class Says:  # a partner who agrees and then chooses nonsense
        name, tokenizer = "says", None

        def generate(self, chats, sampling, **_):
            talked = [m for m in chats[0] if m["role"] != "system"]
            said = "deal" if len(talked) == (1 if side == "first" else 2) else "<select> book=0 hat=0 ball=0"
            return [SimpleNamespace(text=said)] * len(chats)

    task = PartnerTask(DealOrNoDeal(side, choices="tracked"), cast(Any, Says()))
    dialogue = replace(made(side)[1], turns=(), turn=0)
    if side == "second":
        dialogue = dialogue.said("first", "hello")
    talked, _ = step(task, dialogue, "i'd like the book, you can have the rest")
    ended, reward = step(task, talked, task.utterance(talked, "<selection>"))
    assert (ended.stop_reason, reward) == ("agreed", 4.0)
    assert [turn.text for turn in ended.turns[-2:]] == [TAKEN, LEFT]


@there
def test_tracked_choices_of_people():
    task = DealOrNoDeal(choices="tracked")
    found: dict[str, list[bool]] = {"agreed": [], "no deal": []}
    for one in read_corpus("deal_or_no_deal", DATA, split="validation"):
        talk, last = one.dialogue.turns[:-2], one.dialogue.turns[-2]
        if one.dialogue.stop_reason in found:
            before = replace(one.dialogue, turns=talk, turn=-1)
            if task.act(before, last.text).select is not None and (not talk or talk[-1].role != last.role):
                found[one.dialogue.stop_reason].append(task.utterance(before, "<selection>") == last.text)
    right = {stop: (np.mean(hits), len(hits)) for stop, hits in found.items()}
    assert right["agreed"][0] > 0.85
    assert right["no deal"][0] > 0.7
    assert min(count for _, count in right.values()) >= 50


# --- a model as the partner --------------------------------------------------------------------


def test_a_model_selects_unseen():
    task, dialogue = made()
    asked = dialogue.said("first", "<select> book=1 hat=0 ball=0")
    assert task.settled(asked) is None
    assert task.messages(asked, "second")[-1] == {"role": "user", "content": "<selection>"}
    for text, stop in [
        ("<select> book=0 hat=4 ball=1", "agreed"),
        ("<select> book=0 hat=4 ball=0", "disagreed"),
        ("well", "no deal"),
    ]:
        reply = task.heard(asked, text)
        assert (reply.stop_reason, reply.success) == (stop, stop == "agreed")


def test_a_model_may_end_the_talk():
    task, dialogue = made()
    reply = task.heard(dialogue.said("first", "i want the book"), "<select> book=0 hat=4 ball=1")
    assert (reply.text, reply.stop_reason) == ("<selection>", "")
    sealed = replace(dialogue, state=reply.state).said("first", "i want the book").said("second", reply.text)
    ended = task.settled(sealed.said("first", "<select> book=1 hat=0 ball=0"))
    assert (ended.stop_reason, ended.success) == ("agreed", True)
    assert task.heard(dialogue.said("first", "hi"), "hello").text == "hello"


# --- scenarios ---------------------------------------------------------------------------------


def test_the_rules_of_scenarios():
    assert allowed((1, 4, 1), (4, 1, 2), (0, 2, 2))
    assert not allowed((1, 4, 1), (4, 1, 2), (0, 2, 1))  # worth 9
    assert not allowed((1, 4, 1), (4, 1, 2), (10, 0, 1))  # worth 11
    assert not allowed((2, 2, 1), (0, 0, 10), (0, 5, 0))  # the book is nothing to both
    assert not allowed((2, 2, 1), (5, 0, 0), (0, 0, 10))
    assert not allowed((4, 3, 1), (1, 1, 3), (1, 1, 3))  # eight items
    pool = generated()
    assert len(pool) == 5295
    for one in pool[::50]:
        values = one.hidden["values"]
        assert allowed(tuple(one.hidden["counts"]), tuple(values["first"]), tuple(values["second"]))


def test_splits_part_the_scenarios():
    keys = [{one.hidden["key"] for one in DealOrNoDeal(split=split).pool} for split in ("all", "train", "heldout")]
    assert keys[1] | keys[2] == keys[0]
    assert not keys[1] & keys[2]
    assert 0.6 < len(keys[1]) / len(keys[0]) < 0.8


def test_files_of_both_formats(tmp_path):
    (tmp_path / "a.txt").write_text("1 4 4 1 1 2\n1 0 4 2 1 2\n1 0 4 2 1 2\n1 4 4 1 1 2\n")
    pool = read_scenarios(tmp_path / "a.txt")
    assert [one.hidden["values"]["first"] for one in pool] == [[4, 1, 2], [0, 2, 2]]
    line = (
        "<input> 1 4 4 1 1 2 </input> <dialogue> THEM: hi <eos> YOU: <selection> </dialogue> "
        "<output> <disagree> <disagree> <disagree> <disagree> <disagree> <disagree> </output> "
        "<partner_input> 1 0 4 2 1 2 </partner_input>\n"
    )
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write(line)
    (one,) = DealOrNoDeal(scenarios=tmp_path / "b.txt.gz").pool
    assert one.hidden["values"] == {"first": [0, 2, 2], "second": [4, 1, 2]}  # who speaks first


@pytest.mark.parametrize("text", ["1 2 3\n1 2 3\n", "1 4 4 1 1 2\n1 0 3 2 1 2\n", "hello\n", ""])
def test_other_formats_are_refused(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(ValueError, match=r"a\.txt.*expected Deal or No Deal"):
        DealOrNoDeal(scenarios=tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"side": "left"}, "side must be one of 'first', 'second', got 'left'"),
        ({"objective": "fun"}, "objective must be one of"),
        ({"max_turns": 1}, "max_turns must be at least 2"),
        ({"split": "dev"}, "split must be one of"),
        ({"notation": "long"}, "notation must be one of 'corpus', 'plain', got 'long'"),
        ({"choices": "best"}, "choices must be one of 'said', 'tracked', got 'best'"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        DealOrNoDeal(**setting)


@there
def test_published_scenarios_keep_the_rules_and_can_be_played():
    known = {one.hidden["key"] for one in generated()}
    task = DealOrNoDeal(scenarios=DATA / "selfplay.txt.gz")
    assert len(task.pool) == 4086
    assert {one.hidden["key"] for one in task.pool} <= known
    assert np.mean([outcome(play(task, TABLE["oracle"][1], seed), 0).agent for seed in range(60)]) > 6


@there
def test_recorded_dialogues_are_text_to_learn_from():
    task = DealOrNoDeal()
    agreed = 0
    for episode in read_corpus("deal_or_no_deal", DATA / "val.txt.gz"):
        dialogue = episode.dialogue
        for role in SIDES:
            chat = task.messages(dialogue, role)
            assert chat[0]["content"].startswith("divide : book ")
            last = [message["content"] for message in chat if message["role"] == "assistant"][-1]
            if dialogue.success:
                share = dialogue.state["selections"][role]
                assert last == f"<select> book={share[0]} hat={share[1]} ball={share[2]}"
        if dialogue.success:
            agreed += 1
            assert outcome(dialogue, 0) == Result(True, int(episode.total), *outcome(dialogue, 0)[2:])
            assert tuple(dialogue.state["selections"]["first"]) in deals(tuple(dialogue.scenario.hidden["counts"]))
    assert agreed == 422
