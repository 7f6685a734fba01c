"""The tiny models: what they learn from, that a branch sees what it will see in use, and a whole small build."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dialog_gym.env import begin
from dialog_gym.envs.bargain import TYPES, Bargain
from dialog_gym.lm import WEIGHTS
from dialog_gym.lm.build_tiny import Args, agreement, build
from dialog_gym.lm.prefix import PrefixMap
from dialog_gym.lm.state_map import load_state_map
from dialog_gym.lm.tiny_corpus import Chat, Layout, befores, encode, load_worlds, self_play
from dialog_gym.lm.tiny_steer import Branches, Replies, ReplyEncoder, kl_to_prior, standard
from dialog_gym.lm.transformers_lm import TransformersLM
from tests.test_chance import random_state

TASK = Bargain()
PLAYED = self_play([TASK], 6, seed=5)


@pytest.fixture(scope="module")
def lm():
    return TransformersLM.from_pretrained(WEIGHTS / "tiny")


@pytest.fixture(scope="module")
def chats(lm):
    return [chat for chat in encode(PLAYED, lm.tokenizer, Layout.of([TASK])) if chat.replies]


def test_a_chat_has_its_replies_and_what_was_known_before_each(lm, chats):
    for chat, (task, dialogue) in zip(chats, PLAYED, strict=True):
        texts = dialogue.texts("buyer")
        assert len(chat.replies) == len(chat.attributes) == len(chat.facts) == len(texts)
        said = [lm.tokenizer.decode(chat.ids[start : stop - 1]).strip() for start, stop in chat.replies]
        assert [task.utterance(dialogue, text) for text in said] == texts
        assert all(lm.is_stop[chat.ids[stop - 1]] for _, stop in chat.replies)
        assert [before.turn for before in befores(dialogue)] == list(range(len(texts)))


def test_facts_tell_nothing_hidden():
    dialogue = begin(TASK, 3)
    hidden = {**dialogue.scenario.hidden, "type": "none", "partner_limit": 0, "patience": 99, "deadline": 99}
    blind = replace(dialogue, scenario=replace(dialogue.scenario, hidden=hidden), state={})
    assert np.array_equal(TASK.facts(dialogue), TASK.facts(blind))


def test_facts_follow_the_dialogue():
    (_, dialogue), *_ = self_play([TASK], 1, seed=0)[:1]
    told = np.stack([TASK.facts(before) for before in befores(dialogue)])
    assert np.allclose(told[:, : len(TYPES)].sum(1), 1)
    assert np.allclose(told[:, 7] * TASK.max_turns, range(len(told)))
    assert told[0, 6] == 0, "no price was named before the first turn"


@torch.no_grad()
def test_a_branch_sees_the_chat_before_its_reply_the_prefix_and_itself(lm, chats):
    """Against one plain forward per reply: same loss, and the same states."""
    model, table = lm.model, lm.model.get_input_embeddings()
    batch = Branches(chats[:3], 2)
    prefixes = torch.randn((len(batch.replies), 2, lm.hidden_size), generator=torch.Generator().manual_seed(0))
    weight = torch.rand(model.config.vocab_size, generator=torch.Generator().manual_seed(1))
    reading = batch.read(model, prefixes, weight)
    total, count, states = 0.0, 0, []
    places = [(chat, start, stop) for chat in chats[:3] for start, stop in chat.replies]
    for (chat, start, stop), prefix in zip(places, prefixes, strict=True):
        ids = torch.tensor(chat.ids)
        inputs = torch.cat([table(ids[:start]), prefix, table(ids[start:stop])])[None]
        logits = model(inputs_embeds=inputs).logits[0, start + 1 : -1]
        losses = torch.nn.functional.cross_entropy(logits, ids[start:stop], weight, reduction="sum")
        total, count = total + losses.item(), count + stop - start
        hidden = model.model(input_ids=ids[None, :start]).last_hidden_state[0]
        states.append(torch.cat([hidden[-1], hidden.mean(0)]))
    assert reading.steered.item() == pytest.approx(total / count, rel=1e-4)
    assert torch.allclose(reading.states, torch.stack(states), atol=2e-4)
    plain = [model(input_ids=torch.tensor([c.ids]), labels=torch.tensor([c.ids])).loss.item() for c in chats[:3]]
    lengths = [len(chat.ids) - 1 for chat in chats[:3]]
    assert reading.plain.item() == pytest.approx(np.average(plain, weights=lengths), rel=1e-4)


def test_the_divergence_is_that_of_torch():
    mean, log_variance = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(2))
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(torch.zeros(4), torch.ones(4))
    ).sum(-1)
    assert torch.allclose(kl_to_prior(mean, log_variance), wanted, atol=1e-5)


def test_codes_begin_nearly_free_of_noise():
    attributes = torch.rand(50, 7, generator=torch.Generator().manual_seed(3))
    own = torch.ones_like(attributes, dtype=torch.bool)
    _, log_variance = ReplyEncoder(attributes, own, 4)(attributes, own)
    assert log_variance.shape == (50, 4)
    assert (log_variance < -3).all()


def test_agreement_compares_groups_yes_or_no_and_numbers():
    names = ("style:a", "style:b", "range:x", "range:y", "has_price", "price")
    wanted = np.array([[1, 0, 1, 0, 1, 0.5], [0, 1, 1, 0, 1, 0.7], [0, 1, 0, 1, 1, 0.9], [1, 0, 0, 0, 0, 0.0]])
    got = wanted.copy()
    got[0, :2] = 0, 1
    got[2, 4:] = 0, 0
    figures = agreement(names, got, wanted)
    # Two rows name a price in both, in the same order; a range that is absent in both is the same.
    assert figures == {
        "same_style": 0.75,
        "same_range": 1.0,
        "same_has_price": 0.75,
        "price_correlation": pytest.approx(1.0),
    }


def test_agreement_of_numbers_without_variety_is_0():
    wanted = np.array([[0.5], [0.5], [0.7]])
    assert agreement(("price",), np.array([[0.4], [0.6], [0.0]]), wanted) == {"price_correlation": 0.0}
    assert agreement(("price",), np.array([[0.4], [0.0], [0.0]]), wanted) == {"price_correlation": 0.0}


def test_every_world_has_columns_of_its_own():
    layout = Layout({"a": slice(0, 2), "b": slice(2, 5)}, {"a": slice(0, 1), "b": slice(1, 2)})
    wide = [np.zeros((n, 5), np.float32) for n in (2, 1)]
    wide[0][:, :2], wide[1][:, 2:] = [[1, 5], [3, 5]], [[7, 8, 9]]
    chats = [
        Chat("a", [], [(0, 1)] * 2, wide[0], np.zeros((2, 2), np.float32)),
        Chat("b", [], [(0, 1)], wide[1], np.zeros((1, 2), np.float32)),
    ]
    replies = Replies(chats, layout)
    assert replies.own_attributes.tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert replies.own_facts.tolist() == [[1, 0], [1, 0], [0, 1]]
    mean, scale = standard(replies.attributes, replies.own_attributes)
    assert mean.tolist() == [2, 5, 7, 8, 9]
    assert scale.tolist() == pytest.approx([1, 1e-3, 1e-3, 1e-3, 1e-3])


def test_an_encoder_does_not_see_the_columns_of_other_worlds():
    attributes = torch.rand(9, 5, generator=torch.Generator().manual_seed(3))
    own = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]] * 3, dtype=torch.bool)
    encoder = ReplyEncoder(attributes, own, 4)
    changed = torch.where(own, attributes, attributes + 7)
    assert torch.equal(encoder(attributes, own)[0], encoder(changed, own)[0])


def test_unknown_worlds_are_refused():
    with pytest.raises(KeyError, match="bargain"):
        load_worlds(["bargian"])


def test_a_small_build_makes_models_that_load_and_are_the_same_again(tmp_path):
    few = Args(tmp_path / "a", ("bargain",), dialogues=64, facts_dialogues=60, vocabulary=400)
    args = replace(few, batch=16, steer_batch=16, width=48, layers=1, heads=3, seed=3)
    state = random_state()
    figures = build(args)
    assert random_state() == state  # what others draw is left alone
    again = build(replace(args, out=tmp_path / "b"))
    assert {**figures, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}
    for name, width in (("tiny", 64), ("tiny-bargain", 48)):
        assert TransformersLM.from_pretrained(tmp_path / "a" / name).hidden_size == width
        perplexity = figures[name]["worlds"]["bargain"]["perplexity"]
        assert f"perplexity: {perplexity:.3f}" in (tmp_path / "a" / name / "README.md").read_text()
        assert (tmp_path / "a" / name / "model.safetensors").read_bytes() == (
            tmp_path / "b" / name / "model.safetensors"
        ).read_bytes()
    steerable = TransformersLM.from_pretrained(tmp_path / "a" / "tiny-bargain")
    steer = PrefixMap.load(tmp_path / "a" / "tiny-bargain" / "steer", steerable)
    assert load_state_map("facts-bargain", steerable).weight.shape == (96, 13)
    assert steer(np.zeros((2, 16), np.float32), np.zeros((2, 48), np.float32)).shape == (2, 2, 48)
