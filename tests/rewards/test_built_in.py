"""The rewards that come with the package, against numbers worked out by hand."""

import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification, BertModel, pipeline

from dialog_gym.checks.reward import check_reward
from dialog_gym.dialogue import Dialogue, Turn
from dialog_gym.env import begin
from dialog_gym.envs.bargain import Bargain
from dialog_gym.errors import LanguageModelError, UnsupportedError
from dialog_gym.lm import Sampling, load
from dialog_gym.lm.transformers_lm import TransformersLM
from dialog_gym.rewards import Affect, Length, Perplexity, Repetition, Similarity, Success, potential
from dialog_gym.rewards.base import checked
from dialog_gym.rewards.utterance import Memory, newest
from tests.lm.models import llama, lm, tokenizer
from tests.rewards.judges import Scripted
from tests.rewards.tables import DIALOGUES, talk


def said(*texts):
    """Return a dialogue in which the agent says ``texts``."""
    return talk(*((text, "hm") for text in texts))


class TestUtterance:
    def test_the_newest_exchange(self):
        one = talk(("a", "b"), ("c", "d"))
        assert [newest(one, who) for who in ("agent", "partner")] == ["c", "d"]
        named = Dialogue(one.scenario, ("buyer", "seller"), 0, (Turn("buyer", "a"), Turn("seller", "b")))
        assert [newest(named, who) for who in ("buyer", "seller", "agent", "partner")] == ["a", "b", "a", "b"]
        assert newest(talk(("a", "b"), ("c", "")), "partner") is None  # it left without a word
        assert newest(Dialogue(one.scenario, one.roles).said("partner", "Well?"), "partner") is None
        with pytest.raises(ValueError, match=r"expected 'agent', 'partner' or one of the roles .* got 'judge'"):
            newest(one, "judge")

    def test_a_memory_asks_once_and_forgets_the_oldest(self):
        asked: list[list[str]] = []

        def compute(keys: list[str]) -> list[int]:
            asked.append(keys)
            return [len(key) for key in keys]

        memory = Memory(compute, 2)
        assert memory(["aa", "b", "aa"]) == [2, 1, 2]
        assert memory(["b"]) == [1]
        assert memory(["ccc"]) == [3]  # "aa" is forgotten, as "b" was asked for since
        assert memory(["b", "aa"]) == [1, 2]
        assert memory(["d", "e", "f"]) == [1, 1, 1]
        assert asked == [["aa", "b"], ["ccc"], ["aa"], ["d", "e", "f"]]
        assert memory([]) == []


def test_success_is_told_at_the_end():
    assert checked(Success(), DIALOGUES) == [0, 0, 0, 1, 0, 0]
    assert checked(Success(), [talk(("a", "b"), success=True)]) == [0]


@pytest.mark.parametrize(
    "made",
    [
        lambda: Success(),
        lambda: Length(2, 6),
        lambda: Repetition(2),
        lambda: Affect(),
        lambda: Similarity(letters, "ab"),
        lambda: Similarity(letters, role="partner"),
        lambda: Perplexity(TransformersLM(llama(positions=2048), tokenizer())),  # the check has long turns
        lambda: 0.7 * Success() + 0.3 * Affect().at_end() - (Repetition(2) * Length(2, 6)).clip(0.1, 0.5),
        lambda: potential(Length(2, 6), 0.9) + Affect().normalise(-1, 2).named("glad").per_turn(start=0.5),
    ],
)
def test_the_contract_of_rewards(made):
    check_reward(made())


class TestLength:
    @pytest.mark.parametrize(
        ("words", "fit"), [(0, 0), (1, 0.25), (3, 0.75), (4, 1), (8, 1), (10, 0.8), (16, 0.5), (80, 0.1)]
    )
    def test_by_hand(self, words, fit):
        assert checked(Length(4, 8), [said("x " * 9, "w " * words)]) == [pytest.approx(fit)]

    def test_edges(self):
        assert checked(Length(0, 1), [said("")]) == [1]
        assert checked(Length(0, 1), [talk()]) == [1]
        with pytest.raises(ValueError, match="expected 0 <= least <= most and most >= 1 words, got 3 and 2"):
            Length(3, 2)

    @given(st.lists(st.text(), min_size=1, max_size=3), st.integers(0, 9), st.integers(1, 9))
    def test_the_range_is_never_left(self, texts, least, more):
        checked(Length(least, least + more), [said(*texts)])
        checked(Repetition(more), [said(*texts)])


class TestRepetition:
    @pytest.mark.parametrize(
        ("texts", "n", "share"),
        [
            (["would you take ten"], 3, 0),
            (["would you take ten", "would you take five"], 3, 1 / 2),  # "would you take" of two trigrams
            (["Would you, take ten!", "would YOU take ten"], 3, 1),
            (["a b c", "x", "b c a"], 2, 1 / 2),  # "b c"; "c a" is new
            (["please please please"], 1, 2 / 3),  # earlier in the same turn
            (["please please please"], 3, 0),
            (["ok fine", "ok"], 3, 1),  # a short turn counts at its own length
            (["", ""], 3, 0),
            (["don't", "don"], 1, 0),
            (["ten", "ten"], 5, 1),
        ],
    )
    def test_by_hand(self, texts, n, share):
        assert checked(Repetition(n), [said(*texts)]) == [pytest.approx(share)]

    def test_the_partners_words_are_its_own(self):
        assert checked(Repetition(1), [talk(("hello", "ten dollars"), ("ten dollars", "yes"))]) == [0]
        assert checked(Repetition(), [talk()]) == [0]
        with pytest.raises(ValueError, match="n must be at least 1 word, got 0"):
            Repetition(0)


def classifier():
    """A random classifier of three labels, and its probabilities by hand."""
    torch.manual_seed(0)
    words = tokenizer(None)
    words.pad_token = "</s>"
    config = BertConfig(
        vocab_size=320,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        id2label={0: "joy", 1: "anger", 2: "calm"},
        label2id={"joy": 0, "anger": 1, "calm": 2},
        initializer_range=1.0,
    )
    return BertForSequenceClassification(config).eval(), words


class TestAffect:
    def test_vader_knows_a_glad_answer(self):
        glad, flat, cross = (talk(("so?", text)) for text in ("I love it, wonderful!", "It is a chair.", "I hate it."))
        scores = checked(Affect(), [glad, flat, cross])
        assert scores[0] > 0.6
        assert scores[1] == 0
        assert scores[2] < -0.4
        mine = checked(Affect("agent", name="own"), [talk(("I love it!", "hm")), glad])
        assert mine[0] > 0.5
        assert mine[1] == 0

    def test_who_said_nothing_has_none(self):
        gone = talk(("hello", "great!"), ("so?", ""), stop="left")
        assert checked(Affect(), [gone]) == [0]
        assert checked(Affect(silent=-1), [gone]) == [-1]
        assert checked(Affect(), []) == []

    def test_every_text_is_scored_once(self):
        affect = Affect()
        batch = [talk(("a", "good"), seed=seed) for seed in range(5)] + [talk(("a", "bad"))]
        affect(batch)
        affect(batch)
        assert affect.memory.asked == 2

    def test_a_classifier_counts_by_the_value_of_its_labels(self):
        model, words = classifier()
        pipe: Any = pipeline("text-classification", model=model, tokenizer=words, device="cpu")
        affect = Affect("agent", pipe, {"joy": 1.0, "anger": -2.0, "calm": 0.25}, batch_size=2)
        texts = ["hello there", "you have a deal", "no way, I will not go below", "hello there"]
        with torch.no_grad():
            shares = [model(**words(text, return_tensors="pt")).logits[0].softmax(0).tolist() for text in texts]
        expected = [p[0] - 2 * p[1] + 0.25 * p[2] for p in shares]
        assert checked(affect, [said(text) for text in texts]) == pytest.approx(expected, abs=1e-5)
        assert len({round(score, 4) for score in expected}) == 3
        assert affect.memory.asked == 3
        assert (affect.low, affect.high) == (-2, 1)

    def test_a_classifier_from_a_folder(self, tmp_path):
        model, words = classifier()
        model.save_pretrained(tmp_path)
        words.save_pretrained(tmp_path)
        values = {"joy": 1.0, "anger": -1.0, "calm": 0.0}
        affect = Affect(classifier=str(tmp_path), values=values, device="cpu")
        assert -1 <= checked(affect, [talk(("a", "you have a deal"))])[0] <= 1
        wrong = Affect(classifier=str(tmp_path), values={"joy": 1.0}, device="cpu")
        with pytest.raises(ValueError, match=r"must name the labels \['anger', 'calm', 'joy'\].* got \['joy'\]"):
            wrong([talk(("a", "b"))])

    def test_what_is_missing(self, monkeypatch):
        with pytest.raises(ValueError, match="a classifier and values go together"):
            Affect(classifier="somewhere")
        monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'dialog-gym\[affect\]'"):
            Affect()


def letters(texts):
    """Embed a text by how often it has a, b and c."""
    return np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)


class TestSimilarity:
    def test_by_hand(self):
        assert checked(Similarity(letters, "ab"), [said("a"), said("ab"), said("c"), said("zzz")]) == pytest.approx(
            [0.5**0.5, 1, 0, 0]
        )
        # the agent's turn and what the partner had said before it; the partner's answer and what it answers
        both = talk(("c", "a"), ("ab", "b"))
        assert checked(Similarity(letters), [both]) == pytest.approx([0.5**0.5])
        assert checked(Similarity(letters, role="partner"), [both]) == pytest.approx([0.5**0.5])
        assert checked(Similarity(letters), [said("a"), talk()]) == [0, 0]  # nothing was said before
        assert checked(Similarity(letters), []) == []

    def test_every_text_is_embedded_once(self):
        similar = Similarity(letters, "ab")
        similar([said("a"), said("b"), said("a")])
        similar([said("b")])
        assert similar.memory.asked == 3

    def test_a_language_model_embeds(self):
        similar = Similarity(lm(), "you have a deal")
        same, other = checked(similar, [said("you have a deal"), said("no way, sorry")])
        assert same == pytest.approx(1, abs=1e-5)
        assert other < 0.99
        states = lm().embed([[{"role": "user", "content": text}] for text in ("you have a deal", "no way, sorry")])
        one, two = states / np.linalg.norm(states, axis=1, keepdims=True)
        assert other == pytest.approx(float(one @ two), abs=1e-5)
        with pytest.raises(UnsupportedError, match="the similarity of texts needs 'state'"):
            Similarity(Scripted(lambda messages: ""), "x")

    def test_an_encoder_from_a_folder(self, tmp_path):
        torch.manual_seed(0)
        words = tokenizer(None)
        words.pad_token = "</s>"
        config = BertConfig(
            vocab_size=320,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            initializer_range=1.0,
        )
        model = BertModel(config).eval()
        model.save_pretrained(tmp_path)
        words.save_pretrained(tmp_path)
        texts = ["you have a deal", "no"]
        with torch.no_grad():
            means = [model(**words(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy() for text in texts]
        one, two = (mean / np.linalg.norm(mean) for mean in means)
        found = checked(Similarity(str(tmp_path), texts[0]), [said(text) for text in texts])  # padded in one batch
        assert found == pytest.approx([1, float(one @ two)], abs=1e-5)

    def test_a_bad_encoder_is_refused(self):
        with pytest.raises(ValueError, match=r"an encoder returns one finite vector per text, 2 here; got \(1, 3\)"):
            Similarity(lambda texts: letters(texts)[:1], "ab")([said("a")])


class TestPerplexity:
    def test_it_is_minus_the_mean_log_probability_in_context(self):
        one, two = said("hello there", "you have a deal"), said("no way, sorry")
        found = checked(Perplexity(lm(), high=100), [one, two])
        context = [*said("hello there").messages("agent")]
        (by_hand,) = lm().logprobs([context], ["you have a deal"])
        assert found[0] == pytest.approx(-float(by_hand.mean()), abs=1e-4)
        assert checked(Perplexity(lm(), high=100), [two]) == pytest.approx([found[1]], abs=1e-4)
        assert checked(Perplexity(lm(), low=0.5, high=2.0), [one, two])[0] == 2.0

    def test_what_the_model_would_say_is_less_surprising(self):
        task, model = Bargain(), load("tiny")
        opened = begin(task, 3)
        agent = task.roles[0]
        (reply,) = model.generate([task.messages(opened, agent)], Sampling())
        likely = task.utterance(opened, reply.text)
        strange = " ".join(reversed(likely.split()))
        scores = checked(Perplexity(model, task=task), [opened.said(agent, text) for text in (likely, strange)])
        assert scores[0] == pytest.approx(-np.mean(reply.logprobs[:-1]), abs=1e-3)  # without the end of the turn
        assert scores[0] + 2 < scores[1]

    def test_edges(self):
        assert checked(Perplexity(lm()), [said(""), said(" ")]) == [10, 10]
        assert checked(Perplexity(lm()), []) == []
        with pytest.raises(ValueError, match="the agent has said nothing yet in the dialogue of seed 0"):
            Perplexity(lm())([talk()])
        with pytest.raises(ValueError, match="expected 0 <= low < high nats per token, got 2 and 1"):
            Perplexity(lm(), low=2, high=1)
        with pytest.raises(UnsupportedError, match="perplexity needs 'logprobs'"):
            Perplexity(Scripted(lambda messages: ""))

    def test_a_model_that_fails_is_no_score(self):
        class Down(Scripted):
            def logprobs(self, prompts, continuations):
                raise LanguageModelError("no connection", prompt=1)

        down = Down(lambda messages: "")
        down.supports = frozenset({"logprobs"})
        with pytest.raises(LanguageModelError, match="could not read 2 turns with scripted, 'b': no connection"):
            Perplexity(down)([said("a"), said("b")])
