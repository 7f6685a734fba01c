"""A language model as a policy: acting, adapters, saving, and what it refuses."""

import json
import shutil
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from dialog_gym.agent import args_from_json
from dialog_gym.agents.lm_data import task_of
from dialog_gym.agents.lm_network import add_tokens, load_model
from dialog_gym.agents.lm_policy import LMArgs, LMPolicy
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.rollout import language_model_policy, make_rows, play
from tests.agents.graph import GRAPH, walker

BARGAIN = "dialog_gym/Bargain-v0"


@dataclass(frozen=True)
class Args(LMArgs):
    """A policy with a head and two tokens."""


class Speaker(LMPolicy):
    name = "speaker"
    args_class: ClassVar[type[LMArgs]] = Args

    @classmethod
    def head_sizes(cls, args):
        return {"value": 1, "q": 0}

    @classmethod
    def new_tokens(cls, args):
        return ["<|low|>", "<|high|>"]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm")


@pytest.fixture
def plain(spec):
    return Speaker.build(Args(env=GRAPH, lm=spec, max_tokens=4, threads=0))


def states(rows=5, seed=3):
    _, infos = make_rows(GRAPH, rows).reset(seed=seed)
    return infos


class TestActing:
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_it_plays_as_the_model_does_that_it_begins_with(self, temperature):
        class TF(LMPolicy):
            name = "as-it-is"

        policy = TF.build(LMArgs(temperature=temperature))
        env = make_rows(BARGAIN, 4)
        ours = {k: episode.dialogue for k, episode in play(policy, env, 6, seed=700_000)}
        model = language_model_policy(env, "tiny", temperature=temperature)
        theirs = {k: episode.dialogue for k, episode in play(model, env, 6, seed=700_000)}
        assert ours == theirs

    def test_a_row_does_not_depend_on_the_others_and_rows_that_are_over_say_nothing(self, plain):
        infos = states()
        said = plain.act(None, infos)
        assert plain.act(None, infos) == said == plain(None, infos)
        assert plain.act(None, {"dialogue": infos["dialogue"][2:3]}) == said[2:3]
        over = [replace(infos["dialogue"][0], stop_reason="lost"), *infos["dialogue"][1:]]
        assert plain.act(None, {"dialogue": over}) == ["", *said[1:]]

    def test_it_never_says_a_token_of_its_own(self, plain):
        with torch.no_grad():
            plain.network.plain.get_output_embeddings().weight[plain.tokens] *= 1e4
        drawn = [one.drawn.tokens for seed in range(4) for one in plain.speak(states(8, seed)["dialogue"])]
        assert not {token for tokens in drawn for token in tokens} & set(plain.tokens)

    def test_what_it_cannot_play_is_refused(self, plain):
        with pytest.raises(ValueError, match=r"speaker acts on the dialogues in infos\['dialogue'\]"):
            plain.act(["hello"], {"turn": 3})
        _, infos = make_rows(BARGAIN, 2).reset(seed=1)
        with pytest.raises(ValueError, match=r"this policy plays .*Walk-v0 as 'walker' to 'guide', got a"):
            plain.act(None, infos)
        plain.args = replace(plain.args, env="")
        plain._task = None
        with pytest.raises(ValueError, match=r"trained without an environment: set policy.task"):
            plain.act(None, states())
        with pytest.raises(ValueError, match="expected actions that are text, got Box"):
            task_of("dialog_gym/BargainPrefix-v0", {}, by_text=True)

    def test_another_sample_is_another_name_of_chance(self, plain):
        plain.args = replace(plain.args, temperature=1.0)
        dialogues = states()["dialogue"]
        first, again, other = (plain.speak(dialogues, draw=name) for name in ("a", "a", "b"))
        assert first == again != other


class TestNewTokens:
    def test_they_are_one_token_each_in_their_order_and_cannot_be_typed(self, plain):
        ids, lm = plain.tokens, plain.lm
        assert lm.tokenizer.convert_tokens_to_ids(["<|low|>", "<|high|>"]) == ids
        assert len(lm.tokenizer) == lm.vocabulary == max(ids) + 1
        assert {"<|system|>", "<|user|>", "<|assistant|>"} < set(lm.tokenizer.all_special_tokens)  # still there
        (typed,) = lm.encode([[{"role": "user", "content": "<|high|>"}]])
        assert not set(ids) & set(typed)
        embeddings, output = plain.network.plain.get_input_embeddings(), plain.network.plain.get_output_embeddings()
        assert embeddings.weight is output.weight
        assert plain.network.plain.config.vocab_size == len(embeddings.weight)

    def test_their_embeddings_lie_on_a_line_and_the_others_are_left_alone(self, spec):
        model, tokenizer = load_model(spec, "float32", "cpu")
        before = model.get_input_embeddings().weight.clone()
        ids = add_tokens(model, tokenizer, ["<|a|>", "<|b|>", "<|c|>"], torch.Generator().manual_seed(0))
        after = model.get_input_embeddings().weight
        assert torch.equal(after[: len(before)], before)
        torch.testing.assert_close(after[ids[1]], (after[ids[0]] + after[ids[2]]) / 2)
        with pytest.raises(ValueError, match=r"has the token '<\|a\|>' already"):
            add_tokens(model, tokenizer, ["<|a|>"], torch.Generator())


class TestAdapters:
    def test_only_adapter_heads_and_new_tokens_are_trained(self, spec):
        policy = Speaker.build(Args(env=GRAPH, lm=spec, lora=4))
        trained = [name for name in policy.network.trainable() if not name.startswith("heads.")]
        assert trained
        assert all("lora_" in name or "trainable_tokens_delta" in name for name in trained)
        frozen = {n: p.detach().clone() for n, p in policy.network.named_parameters() if not p.requires_grad}
        optimizer = torch.optim.AdamW(policy.network.trainable().values(), lr=0.1, weight_decay=0.1)
        for _ in range(2):
            found = policy.network(torch.tensor([[3, 300, *policy.tokens]]), torch.arange(4)[None], torch.arange(4))
            (found.logits.logsumexp(-1).sum() + sum(head.sum() for head in found.heads.values())).backward()
            optimizer.step()
        now = dict(policy.network.named_parameters())
        assert all(now[name].grad is None and torch.equal(now[name], value) for name, value in frozen.items())
        assert all(p.grad is not None for p in policy.network.trainable().values())
        with torch.no_grad(), policy.network.without_adapter():
            off = policy.network(torch.tensor([[3, 300]]), torch.arange(2)[None], torch.arange(2)).logits
        model, _ = load_model(spec, "float32", "cpu")
        torch.testing.assert_close(off[:, : model.config.vocab_size], model(torch.tensor([[3, 300]])).logits[0])

    def test_a_whole_model_has_no_reference(self, plain):
        with pytest.raises(ValueError, match="only a copy made before training"), plain.network.without_adapter():
            pass

    def test_half_precision_is_for_frozen_weights(self, spec):
        with pytest.raises(ValueError, match=r"dtype='bfloat16' is for frozen weights: train an adapter"):
            Args(lm=spec, dtype="bfloat16")
        with pytest.raises(ValueError, match=r"weights that are all trained must be float32, got torch.float16"):
            Speaker.build(Args(lm=f"{spec}?dtype=float16"))
        policy = Speaker.build(Args(env=GRAPH, lm=spec, dtype="bfloat16", lora=2))
        assert {parameter.dtype for parameter in policy.network.trainable().values()} == {torch.float32}
        assert len(policy.act(None, states())) == 5


class TestSaving:
    @pytest.mark.parametrize("lora", [0, 4])
    def test_what_is_loaded_says_the_same(self, spec, tmp_path, lora):
        policy = Speaker.build(Args(env=GRAPH, lm=spec, max_tokens=4, lora=lora))
        with torch.no_grad():
            for parameter in policy.network.trainable().values():
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        policy.more["edges"] = [0.5]
        policy.forget()
        said = policy.speak(states()["dialogue"])
        policy.save(tmp_path / "a")
        policy.save(tmp_path / "a")  # replaces itself
        loaded = Speaker.load(tmp_path / "a")
        assert loaded.speak(states()["dialogue"]) == said
        assert loaded.more == {"edges": [0.5]}
        assert loaded.tokens == policy.tokens
        assert set(loaded.network.trainable()) == set(policy.network.trainable())
        for name, value in policy.network.heads.state_dict().items():
            assert torch.equal(loaded.network.heads.state_dict()[name], value)

    def test_a_model_that_was_tuned_as_a_whole_is_a_model_for_everybody(self, plain, tmp_path):
        plain.save(tmp_path / "a")
        model, tokenizer = load_model(f"hf:{tmp_path / 'a' / 'model'}", "float32", "cpu")
        assert len(tokenizer) == model.config.vocab_size == plain.lm.vocabulary

    def test_damage_and_other_kinds_are_told(self, plain, spec, tmp_path):
        plain.save(tmp_path / "a")
        weights = tmp_path / "a" / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"!")
        with pytest.raises(CheckpointError, match=r"model.safetensors is damaged; take another copy"):
            Speaker.load(tmp_path / "a")
        shutil.rmtree(tmp_path / "a" / "model")
        with pytest.raises(CheckpointError, match="cannot be read"):
            Speaker.load(tmp_path / "a")
        with pytest.raises(CheckpointError, match="no checkpoint"):
            Speaker.load(tmp_path)

    def test_an_adapter_for_another_vocabulary_is_refused(self, spec, tmp_path):
        Speaker.build(Args(env=GRAPH, lm=spec, lora=2)).save(tmp_path / "a")
        index = tmp_path / "a" / "checkpoint.json"
        told = json.loads(index.read_text())
        told["data"]["base"]["spec"] = "tiny-bargain"
        index.write_text(json.dumps(told))
        with pytest.raises(CheckpointError, match="for a model of 302 tokens, and 'tiny-bargain' has 1200"):
            Speaker.load(tmp_path / "a")

    def test_a_tokenizer_of_another_model_is_refused(self, spec, tmp_path):
        shutil.copytree(spec.removeprefix("hf:"), tmp_path / "m")
        _, tokenizer = load_model("tiny", "float32", "cpu")
        tokenizer.save_pretrained(tmp_path / "m")
        with pytest.raises(ValueError, match=r"has 1600 tokens and the model embeddings for \d+; they are not of one"):
            Speaker.build(Args(lm=f"hf:{tmp_path / 'm'}"))


def test_models_elsewhere_and_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="is not in this process and cannot be trained"):
        load_model("openai:x@http://localhost/v1", "float32", None)
    with pytest.raises(ValueError, match="takes the options dtype, device and adapter, got 'memory'"):
        load_model("tiny?memory=3", "float32", None)
    with pytest.raises(ValueError, match="max_tokens must be at least 1, got 0"):
        LMArgs(max_tokens=0)
    assert args_from_json(LMArgs, json.loads(json.dumps({"lora_targets": ["q_proj"]}))).lora_targets == ("q_proj",)
