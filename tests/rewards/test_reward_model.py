"""A learned reward learns a simple preference, is saved whole, and is a reward like any other."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, LlamaForSequenceClassification

from dialog_gym.checks.reward import check_reward
from dialog_gym.dialogue import Dialogue, Draws, Scenario, Turn
from dialog_gym.rewards import RewardModel, Success, train_reward_model
from dialog_gym.rewards.base import checked
from dialog_gym.rewards.reward_model import SETTINGS
from tests.lm.models import llama, tokenizer
from tests.rewards.judges import dialogue
from tests.test_chance import random_state

GOOD = ["thank you so much", "fine, you have a deal", "it is in very good shape", "thank you, that is fine"]
BAD = ["no way, sorry", "that is too much", "I will not", "no, not below that, sorry"]


def pairs(count, start=0):
    """Friendly answers are preferred to unfriendly ones, whatever was asked."""
    found = []
    for number in range(start, start + count):
        draws = Draws(number, "pair")
        prompt = [
            {"role": "system", "content": "A bicycle."},
            {"role": "user", "content": f"how much, {draws.integer(0, 1000)}?"},
        ]
        extra = f" {draws.integer(10, 99)}"
        found.append(
            {
                "prompt": prompt,
                "chosen": [{"role": "assistant", "content": draws.choice(GOOD) + extra}],
                "rejected": draws.choice(BAD) + extra,
            }
        )
    return found


def base(folder, kind):
    words = tokenizer()
    torch.manual_seed(0)
    if kind != "llama":
        words.pad_token = "</s>"
        words.chat_template = None
        config = BertConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
        (BertModel(config) if kind == "bert" else BertForSequenceClassification(config)).save_pretrained(folder)
    else:
        llama().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    model = train_reward_model(
        pairs(320), base(folder / "base", "llama"), folder / "out", epochs=2, learning_rate=3e-3
    )
    return model, folder


def accuracy(model, examples):
    chats = {
        side: [
            p["prompt"] + (p[side] if isinstance(p[side], list) else [{"role": "assistant", "content": p[side]}])
            for p in examples
        ]
        for side in ("chosen", "rejected")
    }
    return float((model.scores(chats["chosen"]) > model.scores(chats["rejected"])).mean())


def test_it_learns_a_simple_preference(trained):
    model, folder = trained
    fresh = pairs(200, start=10_000)
    assert accuracy(model, fresh) > 0.9
    settings = json.loads((folder / "out" / SETTINGS).read_text())
    assert settings == model.settings
    assert settings["accuracy"] > 0.9
    assert settings["pairs"] + settings["held_out_pairs"] == 320
    assert settings["held_out_pairs"] > 20
    untrained = RewardModel(folder / "base", limit=100)
    assert accuracy(untrained, fresh) < 0.8


def test_an_encoder_learns_too(tmp_path, capsys):
    begun = base(tmp_path / "base", "bert")
    capsys.readouterr()
    state = random_state()
    model = train_reward_model(pairs(320), begun, tmp_path / "out", epochs=3, learning_rate=3e-3, held_out=0)
    assert random_state() == state  # what others draw is left alone
    assert accuracy(model, pairs(200, start=10_000)) > 0.9
    assert model.settings["accuracy"] is None
    assert "".join(capsys.readouterr()) == ""  # a library that talks while it works is a nuisance
    assert isinstance(model.model, BertForSequenceClassification)


def test_it_is_saved_whole_and_normalised(trained):
    model, folder = trained
    names = {file.name for file in (folder / "out").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", SETTINGS} <= names
    again = RewardModel(folder / "out")
    chats = [[*p["prompt"], *p["chosen"]] for p in pairs(50, start=500)]
    assert again.scores(chats).tolist() == model.scores(chats).tolist()
    assert isinstance(again.model, LlamaForSequenceClassification)
    assert again.model.config.use_cache
    seen = pairs(320)
    both = [*([*p["prompt"], *p["chosen"]] for p in seen)]
    both += [[*p["prompt"], {"role": "assistant", "content": p["rejected"]}] for p in seen]
    scores = again.scores(both)
    assert abs(scores.mean()) < 0.1
    assert abs(scores.std() - 1) < 0.1


def answered(text, reply="hm"):
    turns = (Turn("seller", "how much, 500?"), Turn("buyer", text), Turn("seller", reply))
    return Dialogue(Scenario("A bicycle."), ("buyer", "seller"), 7, turns, stop_reason="deal")


def test_it_is_a_reward_like_any_other(trained):
    model, folder = trained
    glad, sad = answered("thank you so much 44"), answered("no way, sorry 44")
    made = 0.5 * model.normalise() + Success()
    better, worse = checked(made, [glad, sad])
    assert better > worse + 0.1
    assert made.terms == ("reward_model", "success")
    assert (made.low, made.high) == (0, 1.5)
    before = model.memory.asked
    said = [
        glad,
        sad,
        Dialogue.from_json(glad.to_json()),
        answered("thank you so much 44", "other"),
    ]
    assert len(set(model(said).tolist())) == 2  # the partner's answer is not shown
    assert model.memory.asked == before
    check_reward(model)
    small = RewardModel(folder / "out", limit=0.01)
    assert sorted(small([glad, sad]).tolist()) == pytest.approx([-0.01, 0.01])


def test_rows_do_not_see_each_other(trained):
    _, folder = trained
    texts = ["no", "thank you so much for this, it is in very good shape and I am glad", "fine"]
    said = [dialogue("hello", "how much?", text) for text in texts]
    together, alone = RewardModel(folder / "out")(said), [RewardModel(folder / "out")([one])[0] for one in said]
    assert together.tolist() == pytest.approx(np.array(alone).tolist(), abs=1e-5)


def test_what_is_refused(trained, tmp_path):
    _, folder = trained
    with pytest.raises(ValueError, match="holds a reward model already; remove it or choose another"):
        train_reward_model(pairs(2), folder / "base", folder / "out")
    with pytest.raises(ValueError, match=r"pair 1: expected 'prompt' \(messages\).*KeyError 'rejected'"):
        train_reward_model([*pairs(1), {"prompt": [], "chosen": "a"}], folder / "base", tmp_path / "x")
    with pytest.raises(ValueError, match="expected at least one pair to train on, got none"):
        train_reward_model([], folder / "base", tmp_path / "x")
    with pytest.raises(ValueError, match="held_out must be at least 0 and below 1, got 1"):
        train_reward_model(pairs(2), folder / "base", tmp_path / "x", held_out=1)
    with pytest.raises(ValueError, match="cannot load a model with one output from"):
        train_reward_model(pairs(2), tmp_path / "none", tmp_path / "x")
    with pytest.raises(ValueError, match="cannot load a model with one output from"):
        RewardModel(base(tmp_path / "two labels", "two labels"), limit=1)
    with pytest.raises(ValueError, match=r"train_reward_model writes it; for another model give limit="):
        RewardModel(folder / "base")
    with pytest.raises(ValueError, match="the agent has said nothing yet in the dialogue of seed 7"):
        RewardModel(folder / "out")([dialogue()])
