"""Dialogues as tokens: what is learned, behind what, in rows and in batches."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from dialog_gym.agents.lm_data import Told, agent_turns, read_data, returns_to_go
from dialog_gym.agents.lm_network import LMNetwork
from dialog_gym.agents.lm_policy import LMArgs
from dialog_gym.agents.lm_tokens import TokenRow, batch_of, join_turns, learn_everything, pack, token_rows
from dialog_gym.agents.lm_training import cross_entropy
from dialog_gym.agents.tf import TF
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.rollout import make_rows
from tests.lm.models import llama, tokenizer

CHAT = [{"role": "system", "content": "Sell it."}, {"role": "user", "content": "hello there"}]
AGAIN = [*CHAT, {"role": "assistant", "content": "ninety dollars"}, {"role": "user", "content": "too much"}]


@pytest.fixture(scope="module")
def lm():
    return TransformersLM(llama(), tokenizer())


def told(prompts=(CHAT, AGAIN), replies=("ninety dollars", "seventy?"), rewards=(0.5, 2.0), **more):
    return Told(tuple(prompts), tuple(replies), tuple(rewards), origin="row 3 of x", **more)


def said(lm, row, turn):
    return row.tokens[row.said[row.turns == turn]].tolist()


def test_a_dialogue_is_one_row_in_which_the_agents_words_and_their_ends_are_learned(lm):
    (row,) = token_rows([told()], lm, gamma=0.5)
    end = lm.chat.end_of_turn[0]
    assert said(lm, row, 0) == [*lm.chat.encode_reply("ninety dollars", CHAT), end]
    assert said(lm, row, 1) == [*lm.chat.encode_reply("seventy?", AGAIN), end]
    whole = lm.tokenizer.decode(row.tokens)
    assert whole.count("<|end|>") == 5  # system, twice each, the last one said
    first, last = row.said[row.turns == 0][0], row.said[row.turns == 0][-1]
    assert row.tokens[:first].tolist() == lm.encode([CHAT])[0]
    assert row.rewards[row.said == last].tolist() == [0.5]  # at the last token of the turn
    assert row.rewards.sum() == 2.5
    assert set(row.returns[row.turns == 0]) == {1.5}  # .5 + .5 * 2
    assert set(row.returns[row.turns == 1]) == {2.0}
    assert (row.total, row.after, row.truncated) == (2.5, 0.0, False)


def test_what_is_learned_is_what_a_model_would_have_drawn():
    policy = TF.build(LMArgs(temperature=1.0, top_p=0.95))  # without the tail, in which it may say a special token
    env = make_rows("dialog_gym/Bargain-v0", 6)
    _, infos = env.reset(seed=700_000)
    heard: list[list[tuple[list[int], tuple[int, ...]]]] = [[] for _ in range(6)]
    ended: dict[int, Dialogue] = {}
    for _ in range(8):
        spoken = policy.speak(infos["dialogue"])
        for row, one in enumerate(spoken):
            if one is not None:
                heard[row].append((one.prompt, one.drawn.tokens))
        *_, infos = env.step(["" if one is None else one.text for one in spoken])
        ended |= {row: d for row, d in enumerate(infos["dialogue"]) if d.stop_reason}
        if len(ended) == 6:
            break
        policy.forget()
    turns = 0
    for number, dialogue in ended.items():
        prompts, replies = agent_turns(dialogue, lambda part: policy.task.messages(part, "buyer"))
        whole = Told(tuple(prompts), tuple(replies), (0.0,) * len(replies), played=True)
        (learned,) = token_rows([whole], policy.lm)
        for turn, (prompt, drawn) in enumerate(heard[number]):
            first = learned.said[learned.turns == turn][0]
            assert learned.tokens[:first].tolist() == prompt
            assert tuple(said(policy.lm, learned, turn)) == drawn
            turns += 1
    assert turns > 10


def test_a_reply_is_cut_where_a_model_would_be_cut_and_then_has_no_end(lm):
    (row,) = token_rows([told()], lm, max_tokens=3)
    whole = lm.chat.encode_reply("ninety dollars", CHAT)
    assert len(whole) > 3
    assert said(lm, row, 0) == whole[:3]
    first = row.said[row.turns == 1][0]
    assert row.tokens[:first].tolist() == lm.encode([AGAIN])[0]  # the context has all of it


def long_chat(turns):
    chat = [{"role": "system", "content": "Sell the old bicycle."}]
    prompts, replies = [], []
    for turn in range(turns):
        chat = [*chat, {"role": "user", "content": f"no {turn}, too much for me"}]
        prompts.append(chat)
        replies.append(f"seventy {turn}")
        chat = [*chat, {"role": "assistant", "content": replies[-1]}]
    return told(prompts, replies, range(turns))


def test_long_dialogues_lose_whole_turns_and_never_the_scenario():
    lm = TransformersLM(llama(positions=128), tokenizer())
    one = long_chat(9)
    rows = list(token_rows([one], lm, max_tokens=16))
    assert len(rows) > 1
    learned = [(int(turn), row) for row in rows for turn in np.unique(row.turns)]
    assert [turn for turn, _ in learned] == list(range(9))  # each once, in order
    start = lm.encode([one.prompts[0][:1] + one.prompts[0][:0]])[0][:-1]
    for turn, row in learned:
        first = int(row.said[row.turns == turn][0])
        assert row.tokens[:first].tolist() == lm.encode([one.prompts[turn]], 16)[0]
        assert row.tokens[: len(start)].tolist() == start
        assert len(row) <= 128
    assert [row.after for row in rows] == [sum(range(int(row.turns[-1]) + 1, 9)) for row in rows]


def test_a_context_that_cannot_be_shortened_is_refused():
    lm = TransformersLM(llama(positions=128), tokenizer())
    chat = [{"role": "system", "content": "hello there, " * 60}, *CHAT[1:]]
    with pytest.raises(DatasetError, match=r"row 3 of x: a prompt of \d+ tokens.*longer than the 128 positions"):
        list(token_rows([told(), told([chat], ["no"], [1.0])], lm))


def test_replies_without_words_are_refused_left_out_or_learned(lm):
    silent = told([CHAT], ["  "], [1.0])
    with pytest.raises(DatasetError, match="row 3 of x: agent turn 1 has no words to learn, got '  '; set empty to"):
        list(token_rows([told(), silent], lm))
    assert len(list(token_rows([told(), silent], lm, empty="skip"))) == 1
    *_, row = token_rows([silent], lm, empty="keep")
    assert said(lm, row, 0) == lm.chat.end_of_turn
    (row,) = token_rows([replace(silent, played=True)], lm)  # in an environment it is a turn
    assert said(lm, row, 0) == lm.chat.end_of_turn


def test_a_reply_that_begins_with_what_ends_a_turn_is_empty_when_it_is_cut():
    plain = TransformersLM(llama(), tokenizer(None))
    with pytest.raises(DatasetError, match="has no words to learn"):
        list(token_rows([told([CHAT], ["\nhello"], [1.0], played=True)], plain))
    (row,) = token_rows([told([CHAT], ["hello\nthere"], [1.0])], plain)
    assert plain.chat.decode([row.tokens[row.said].tolist()]) == ["hello"]


def test_a_tokenizer_that_ends_no_turn_is_refused():
    lm = TransformersLM(llama(), tokenizer())
    lm.chat.end_of_turn = []
    with pytest.raises(ValueError, match="no token ends a turn of"):
        list(token_rows([told()], lm))


def test_marks_stand_before_replies_and_are_not_learned(lm):
    (plain,), (row,) = token_rows([told()], lm), token_rows([told()], lm, mark=lambda value: 5 + round(value))
    assert len(row) == len(plain) + 2
    assert row.tokens[row.said].tolist() == plain.tokens[plain.said].tolist()
    assert [int(row.tokens[row.said[row.turns == turn][0] - 1]) for turn in (0, 1)] == [5 + 2, 5 + 2]  # 2.5, 2
    assert row.tokens[: row.said[0] - 1].tolist() == plain.tokens[: plain.said[0]].tolist()


def test_turns_that_do_not_follow_on_each_other_are_parted():
    assert join_turns([[1], [1, 8, 3]], [[8], [9]], [[], []], 2) == [([1, 8], [(0, 1)]), ([1, 8, 3, 9], [(1, 3)])]


def test_everything_can_be_learned(lm):
    (row,) = token_rows([told()], lm)
    every = learn_everything(row)
    assert every.said.tolist() == list(range(1, len(row)))
    assert (every.turns >= 0).sum() == len(row.said)
    assert every.rewards.sum() == row.rewards.sum()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0, 1))
def test_returns_to_go_obey_bellman(rewards, gamma):
    found = returns_to_go(rewards, gamma)
    for reward, now, later in zip(rewards, found, [*found[1:], 0.0], strict=True):
        assert now == pytest.approx(reward + gamma * later)


# --- sources ---------------------------------------------------------------------------------


def talk(*texts):
    turns = tuple(Turn(("you", "me")[i % 2], text) for i, text in enumerate(texts))
    return Dialogue(Scenario("A talk."), ("you", "me"), turns=turns)


def test_a_candidate_of_a_ranking_is_a_dialogue_of_one_turn(tmp_path, lm):
    with Rankings.writing(tmp_path / "r") as writer:
        writer.add(Ranking(tuple(CHAT), ("hello", "no way"), (1.0, 0.25)))
    first, second = read_data([tmp_path / "r"], lm)
    assert (first.replies, first.rewards, first.group) == (("hello",), (1.0,), 0)
    assert (second.replies, second.rewards, second.group) == (("no way",), (0.25,), 0)
    assert [dict(message) for message in first.prompts[0]] == CHAT


def test_episodes_and_json_lines_are_read_alike(tmp_path, lm):
    with Episodes.writing(tmp_path / "e") as writer:
        writer.add(Recorded(4, talk("hello", "no", "", "fine"), (0.0, 1.0), (0.0, 0.0)))
    (one,) = read_data([tmp_path / "e"], lm)
    assert (one.replies, one.rewards, one.played) == (("hello", ""), (0.0, 1.0), False)
    line = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "no"}], "reward": %s}\n'
    (tmp_path / "a.jsonl").write_text(line % "2.5")
    (one,) = read_data([str(tmp_path / "a.jsonl")], lm)
    assert (one.replies, one.rewards, one.prompts[0][-1]["content"]) == (("no",), (2.5,), "hi")
    (tmp_path / "b.jsonl").write_text(line % "NaN")
    with pytest.raises(DatasetError, match=r"(?i)nan"):
        list(read_data([str(tmp_path / "b.jsonl")], lm))


def test_data_that_are_not_there_are_refused(tmp_path, lm):
    with pytest.raises(DatasetError, match=r"there is no data .*nowhere.*dialog-gym collect"):
        list(read_data([tmp_path / "nowhere"], lm))
    with pytest.raises(DatasetError, match=r"a corpus is named corpus:NAME:PATH\?OPTION=VALUE"):
        list(read_data(["corpus:abcd"], lm))


# --- batches ---------------------------------------------------------------------------------


def row_of(tokens, said, turns, reward=1.0):
    rewards = [reward if i + 1 == len(said) else 0.0 for i in range(len(said))]
    return TokenRow(
        np.array(tokens, np.int32), np.array(said, np.int32), np.array(turns, np.int32),
        np.array(rewards, np.float32), np.full(len(said), reward, np.float32),
    )  # fmt: skip


def test_a_batch_tells_of_every_token_said():
    rows = [row_of([7, 8, 9], [1, 2], [0, 0]), row_of([5, 6, 7, 8, 9], [2, 4], [0, 1])]
    batch = batch_of(rows)
    assert batch.tokens.tolist() == [[7, 8, 9, 0, 0], [5, 6, 7, 8, 9]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert batch.where.tolist() == [0, 1, 6, 8]
    assert batch.actions.tolist() == [8, 9, 7, 9]
    assert batch.row.tolist() == [0, 0, 1, 1]
    assert batch.following.tolist() == [1, -1, 3, -1]
    assert batch.ends_turn.tolist() == [False, True, True, True]
    packed = batch_of([*rows, row_of([3, 4], [1], [0])], packed=True)
    assert packed.tokens.tolist() == [[5, 6, 7, 8, 9], [7, 8, 9, 3, 4]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 1]]
    assert packed.where.tolist() == [5, 6, 1, 3, 8]  # still in the order of the rows
    assert packed.actions.tolist() == [8, 9, 7, 9, 4]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_packing_puts_each_row_into_one_line_that_holds_it(lengths):
    lines = pack(lengths)
    assert sorted(row for line in lines for row in line) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in line) <= max(lengths) for line in lines)


@pytest.mark.parametrize("make", [llama, lambda: llama(sliding_window=6, layer_types=["sliding_attention"] * 2)])
def test_a_packed_batch_has_the_loss_and_gradient_of_a_padded_one(make):
    network = LMNetwork(make().double(), {"v": 1})
    network.heads.double()
    rng = np.random.default_rng(0)
    rows = [
        row_of(rng.integers(2, 300, n), sorted(rng.choice(np.arange(1, n), n // 2, False)), [0] * (n // 2))
        for n in (9, 30, 17, 12, 4)
    ]
    losses, gradients = [], []
    for packed in (False, True):
        batch = batch_of(rows, packed=packed)
        assert len(batch.tokens) == (3 if packed else 5)
        network.zero_grad()
        found = network(batch.tokens, batch.positions, batch.where)
        loss = cross_entropy(found.logits, batch.actions).sum()
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in network.model.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
