"""Training on the replies of chats: what is learned, and that a stopped training goes on as if it had not been."""

import math
from types import SimpleNamespace

import pytest
import torch

from dialog_gym.checkpoint import CheckpointError
from dialog_gym.lm.speaker_training import Lesson, Likelihood, Settings, Trainer, likelihood, reply_nats
from dialog_gym.lm.tiny_corpus import chat_text, reply_spans, train_tokenizer
from dialog_gym.lm.tiny_training import new_llama

CHATS = [
    [
        {"role": "system", "content": "divide 3 hats ."},
        {"role": "user", "content": f"i want {n} of them"},
        {"role": "assistant", "content": "then i take the rest" if n < 2 else "no way , that is too much"},
        {"role": "user", "content": "deal"},
        {"role": "assistant", "content": "deal"},
    ]
    for n in range(4)
]
TOKENIZER = train_tokenizer(map(chat_text, CHATS), [], 320)


def lessons():
    rows = [TOKENIZER(chat_text(chat), add_special_tokens=False)["input_ids"] for chat in CHATS]
    return [Lesson(ids, reply_spans(ids, TOKENIZER)) for ids in rows]


def model(seed=0):
    return new_llama(TOKENIZER, 32, 1, 2, seed=seed)


@torch.no_grad()
def test_what_is_learned_are_the_replies_and_their_ends_of_turn():
    network, some = model(), lessons()
    found = reply_nats(network, some).tolist()
    wanted = []
    for ids, replies in some:
        log_p = network(torch.tensor([ids])).logits[0].log_softmax(-1)
        wanted += [-log_p[at - 1, ids[at]].item() for start, stop in replies for at in range(start, stop)]
    assert found == pytest.approx(wanted, abs=1e-4)
    said = [TOKENIZER.decode(ids[start:stop]) for ids, replies in some for start, stop in replies]
    assert said[:2] == [" then i take the rest<|end|>", " deal<|end|>"]


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    settings = Settings(6, batch=2, learning_rate=1e-2, seed=3)
    whole = Trainer(model(), lessons(), settings)
    whole.run(progress=False)
    begun = Trainer(model(), lessons(), settings)

    def stop():
        begun.save(tmp_path / "training", {"for": "a test"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begun.run(save=stop, every=4, progress=False)
    later = Trainer(model(seed=9), lessons(), settings)
    later.load(tmp_path / "training")
    assert later.step == 4
    later.run(progress=False)
    assert later.losses == whole.losses
    assert len(whole.losses) == 6
    assert whole.losses[-1] < whole.losses[0]
    for one, other in zip(whole.model.parameters(), later.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_damaged_checkpoint_is_told(tmp_path):
    trainer = Trainer(model(), lessons(), Settings(1))
    trainer.save(tmp_path / "training", {})
    arrays = tmp_path / "training" / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        trainer.load(tmp_path / "training")


def test_perplexity_per_word_counts_what_stands_between_spaces_and_each_end():
    network = model()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()  # all tokens are as probable
    found = likelihood(network, TOKENIZER, lessons())
    # Two chats with 5 and 1 words in replies, two with 7 and 1, and two ends in each.
    assert found.words == 2 * (5 + 1) + 2 * (7 + 1) + 4 * 2
    assert found.per_token == pytest.approx(len(TOKENIZER), rel=1e-4)
    assert Likelihood(math.log(4) * 3, 3, 6).per_word == pytest.approx(2)


@pytest.mark.parametrize(
    ("wrong", "told"), [({"steps": 0}, "got 0 and 16"), ({"steps": 1, "batch": 0}, "got 1 and 0")]
)
def test_impossible_settings_are_refused(wrong, told):
    with pytest.raises(ValueError, match=told):
        Settings(**wrong)


def test_nothing_to_learn_and_nothing_to_measure_are_told():
    with pytest.raises(ValueError, match="at least one chat"):
        Trainer(model(), [], Settings(1))
    with pytest.raises(ValueError, match="at least one reply"):
        likelihood(model(), SimpleNamespace(), [])
