"""What is read of a turn, and that every distinct one is encoded once."""

import json
from typing import Any

import numpy as np
import pytest

from dialog_gym.dialogue import Dialogue, Scenario
from dialog_gym.rewards.decomposition.cache import EncodingCache, TextFile
from dialog_gym.rewards.decomposition.encoders import BagEncoder, ModelEncoder, batches, load_encoder
from dialog_gym.rewards.decomposition.turns import beginning, beginnings, written

CHAT = "dialog_gym/Chat-v0"


def talk(turns=6, roles=("agent", "partner")):
    dialogue = Dialogue(Scenario("A talk.", {"agent": "Listen."}), roles, state={"mood": 1.0})
    for number in range(turns):
        dialogue = dialogue.said(roles[number % 2 == 0], f"word{number}")
    return dialogue


class Lengths:
    """An encoder that counts: the length of a text, and its first letter."""

    name, size, dtype, passes = "lengths", 2, "float32", 0

    def words(self, heard):
        return written(heard, "|")

    def __call__(self, texts):
        self.passes += len(texts)
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

    def fingerprint(self):
        return "0" * 16


def test_only_the_agents_turns_are_responses_and_nothing_hidden_is_read():
    heard = list(beginnings(talk()))
    assert [one.turns[-1].text for one in heard] == ["word1", "word3", "word5"]
    assert all(not one.state for one in heard)


def test_changed_roles_give_the_other_turns():
    dialogue = talk()
    other = Dialogue(dialogue.scenario, ("partner", "agent"), turns=dialogue.turns)
    assert [one.turns[-1].text for one in beginnings(other)] == ["word0", "word2", "word4"]
    assert written(next(beginnings(other)), "|") == "| AI: word0"


@pytest.mark.parametrize("utterances", [1, 2, 3, 20])
def test_at_most_so_many_utterances_are_read_the_response_among_them(utterances):
    last = list(beginnings(talk(), utterances))[-1]
    assert len(last.turns) == min(utterances, 6)
    assert last.turns[-1].text == "word5"


def test_an_answer_comes_on_top():
    heard = list(beginnings(talk(5), 1, answer=True))
    assert [[turn.text for turn in one.turns] for one in heard] == [["word1", "word2"], ["word3", "word4"]]


def test_no_utterance_at_all_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        beginning(talk(), 1, 0)


def test_text_has_the_separator_before_the_response():
    assert written(list(beginnings(talk(4)))[-1], "</s>") == "User: word0 AI: word1 User: word2 </s> AI: word3"


def test_every_distinct_text_is_encoded_once_whoever_asks(tmp_path):
    encoder = Lengths()
    cache = EncodingCache(tmp_path, encoder)
    assert cache.rows(["one", "three", "one"]).tolist() == [0, 1, 0]
    assert cache.rows(["three", "two"]).tolist() == [1, 2]
    assert encoder.passes == 3
    again = EncodingCache(tmp_path, Lengths())
    assert again.rows(["two", "one"]).tolist() == [2, 0]
    assert again.encoder.passes == 0
    assert again.vectors.tolist() == [[3, ord("o")], [5, ord("t")], [3, ord("t")]]


def test_a_kill_between_vectors_and_keys_loses_nothing(tmp_path):
    cache = EncodingCache(tmp_path, Lengths())
    cache.rows(["one", "two"])
    with open(cache.folder / "vectors", "ab") as file:
        file.write(b"half of it")
    with open(cache.folder / "keys", "ab") as file:
        file.write(b"half")
    again = EncodingCache(tmp_path, Lengths())
    assert again.rows(["one", "two", "three"]).tolist() == [0, 1, 2]
    assert EncodingCache(tmp_path, Lengths()).vectors[:, 0].tolist() == [3, 3, 5]


def test_two_caches_of_one_folder_agree(tmp_path):
    one, two = EncodingCache(tmp_path, Lengths()), EncodingCache(tmp_path, Lengths())
    one.rows(["one"])
    two.rows(["two", "one"])
    assert one.rows(["two", "four"]).tolist() == [1, 2]
    assert one.vectors[:, 0].tolist() == [3, 3, 4]


def test_texts_on_disk_come_back(tmp_path):
    store = TextFile(tmp_path / "texts", Lengths())
    assert store.rows(["one", "näh 🙂", "one"]).tolist() == [0, 1, 0]
    assert store.texts([1, 0]) == ["näh 🙂", "one"]


def test_batches_hold_every_row_once_and_little_padding():
    lengths = [3, 9000, 4, 9000, 5] + [1] * 300
    found = batches(lengths)
    assert sorted(row for rows in found for row in rows) == list(range(305))
    assert all(len(rows) * max(lengths[row] for row in rows) <= 16_384 or len(rows) == 1 for rows in found)


def test_bag_tells_parts_and_orders_apart():
    encoder = BagEncoder(64)
    texts = [encoder.words(one) for one in beginnings(talk())]
    vectors = encoder(texts)
    assert vectors.shape == (3, 5 * 64 + 2)
    counts = vectors[:, :-2].reshape(3, 5, 64).sum(-1)
    # response, what it answers, the agent's turn before, earlier turns of the partner, of the agent
    assert counts.round(4).tolist()[0] == [1, 1, 0, 0, 0]
    np.testing.assert_allclose(counts[2], [1, 1, 1, 2 * np.log(2), np.log(2)], rtol=1e-5)


def test_bag_of_the_notation_of_a_world_and_of_answers():
    encoder = load_encoder("bag:32", notation=CHAT)
    heard = next(beginnings(talk(3, ("listener", "speaker")), answer=True))
    place, said = json.loads(encoder.words(heard))
    assert (place, [role for role, _ in said]) == (1, ["user", "assistant", "user"])
    assert encoder([encoder.words(heard)])[0, 32:64].sum() == 2  # what it answers, and the answer


@pytest.mark.parametrize("spec", ["bag:0", "bag:x"])
def test_a_bag_of_no_places_is_refused(spec):
    with pytest.raises(ValueError, match="1 to 65536 places"):
        load_encoder(spec)


def test_facts_need_a_world():
    with pytest.raises(ValueError, match="embedded world"):
        load_encoder("facts")


def test_states_of_the_tiny_model_are_those_of_the_language_model():
    encoder = load_encoder("tiny-chat", notation=CHAT, pool="both")
    assert isinstance(encoder, ModelEncoder)
    heard = list(beginnings(talk(6, ("listener", "speaker"))))
    texts = [encoder.words(one) for one in heard]
    vectors = encoder(texts)
    assert vectors.shape == (3, encoder.size)
    chats = [json.loads(text) for text in texts]
    session = encoder.lm.session(3, mean=True)
    np.testing.assert_allclose(vectors, session.read(range(3), chats), atol=2e-5)
    np.testing.assert_allclose(vectors[:, : encoder.size // 2], encoder.lm.embed(chats), atol=2e-5)


def test_a_tuned_copy_leaves_the_frozen_model_alone():
    frozen = load_encoder("tiny-chat", notation=CHAT)
    assert isinstance(frozen, ModelEncoder)
    tuned = frozen.tuned_copy()
    texts = [frozen.words(one) for one in beginnings(talk(4, ("listener", "speaker")))]
    before = frozen(texts)
    tuned.states(tuned.tokens(texts)).sum().backward()
    weight = next(tuned.model.parameters())
    weight.data += 0.1
    np.testing.assert_array_equal(frozen(texts), before)
    assert all(not parameter.requires_grad for parameter in frozen.model.parameters())


def bart(folder):
    """Write an encoder-decoder of random weights whose tokenizer ends every text with </s>."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartModel, PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", "AI", "User", ":", *(f"word{n}" for n in range(40))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    size: dict[str, Any] = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 64}
    heads: dict[str, Any] = {
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }
    config = BartConfig(vocab_size=len(words), pad_token_id=0, bos_token_id=1, eos_token_id=2, **size, **heads)
    BartModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def test_an_encoder_decoder_is_read_at_the_last_end_token_and_keeps_the_response(tmp_path):
    bart(tmp_path)
    encoder = load_encoder(str(tmp_path), max_tokens=12)
    assert isinstance(encoder, ModelEncoder)
    assert encoder.lm is None
    texts = [encoder.words(one) for one in beginnings(talk(30))]
    tokens = encoder.tokens(texts)
    assert max(map(len, tokens)) == 12
    for ids, heard in zip(tokens, beginnings(talk(30)), strict=True):
        assert ids[-1] == 2, "the state is read at the last </s>"
        assert ids[-2] == 7 + int(heard.turns[-1].text.removeprefix("word")), "the response is kept"
        assert ids.count(2) == 2
    alone = np.concatenate([encoder([text]) for text in texts])
    np.testing.assert_allclose(encoder(texts), alone, atol=1e-5)  # padding changes nothing
