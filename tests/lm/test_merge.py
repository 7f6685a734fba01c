"""Merging: endpoints bit for bit, means to rounding, adapters exactly, and what is refused before it is written."""

import json
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from dialog_gym.agent import load_agent
from dialog_gym.agents import tf
from dialog_gym.agents.lm_network import load_model
from dialog_gym.lm.choose import choose
from dialog_gym.lm.merge import MergeError, merge, merge_grid
from dialog_gym.lm.merge_adapters import sum_adapters, with_adapter, without_adapter
from dialog_gym.lm.merge_command import run
from dialog_gym.lm.merge_tensors import Source
from tests.agents.graph import walker
from tests.lm.models import llama, tokenizer


def model_of(folder: Path, seed: int, *, shards: str = "1GB", dtype: str = "float32", **settings: Any) -> Path:
    """Write a model with random weights."""
    model = llama(dtype=dtype, **settings)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    model.save_pretrained(folder, max_shard_size=shards)
    tokenizer().save_pretrained(folder)
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return model_of(folder / "a", 1), model_of(folder / "b", 2)


# --- models -------------------------------------------------------------------------------------


def test_the_ends_are_the_models_bit_for_bit(two, tmp_path):
    found = merge_grid(tmp_path / "grid", two[0], two[1], [0.0, 0.25, 1.0])
    assert contents(found[0.0]) == contents(two[0])
    assert contents(found[1.0]) == contents(two[1])
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {"q-0", "q-0.25", "q-1", "grid.json"}


def test_the_mean_by_hand_and_weights_are_normalised(two, tmp_path):
    a, b = map(tensors, two)
    made = tensors(merge(tmp_path / "m", {two[0]: 0.5, two[1]: 1.5}))
    assert made.keys() == a.keys()
    for name, value in made.items():
        expected = 0.25 * a[name].double() + 0.75 * b[name].double()
        assert torch.equal(value, expected.float())
    model, _ = load_model(f"hf:{tmp_path / 'm'}", "float32", "cpu")  # a model like others
    assert torch.equal(model.get_input_embeddings().weight, made["model.embed_tokens.weight"])


def test_shards_and_short_floats(two, tmp_path):
    sharded = model_of(tmp_path / "s", 3, shards="20KB")
    short = model_of(tmp_path / "h", 4, dtype="bfloat16")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    a, b, h = map(tensors, (sharded, two[0], short))
    one = tensors(merge(tmp_path / "m0", {sharded: 1, two[0]: 1}))
    other = tensors(merge(tmp_path / "m1", {short: 1, sharded: 3}))
    assert (tmp_path / "m0" / "model.safetensors.index.json").exists()
    for name in a:
        assert torch.equal(one[name], (a[name].double() / 2 + b[name].double() / 2).float())
        assert other[name].dtype == torch.float32  # the wider
        assert torch.equal(other[name], (h[name].double() / 4 + a[name].double() * 0.75).float())
    halves = tensors(merge(tmp_path / "hh", {short: 1, model_of(tmp_path / "h2", 5, dtype="bfloat16"): 1}))
    assert halves["model.norm.weight"].dtype == torch.bfloat16


def test_one_tensor_of_each_source_at_most_is_in_memory(two, tmp_path, monkeypatch):
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    read, most = Source.__getitem__, []

    def watched(self, name):
        tensor = read(self, name)
        alive.add(tensor)  # until its last reference goes: nothing here is left to the garbage collector
        most.append(len(alive))
        return tensor

    monkeypatch.setattr(Source, "__getitem__", watched)
    merge(tmp_path / "m", {two[0]: 1, two[1]: 1})
    assert len(most) == 2 * len(tensors(two[0]))
    assert max(most) <= 2


@given(st.lists(st.floats(0.01, 5), min_size=2, max_size=3), st.integers(0, 99))
def test_merging_is_linear(tmp_path_factory, weights, seed):
    folder = tmp_path_factory.mktemp("linear")
    rng, values = np.random.default_rng(seed), []
    for number in range(len(weights)):
        values.append(rng.normal(size=(2, 3)).astype(np.float32))
        (folder / str(number)).mkdir()
        save_file(
            {"w": torch.from_numpy(values[-1]), "n": torch.tensor(7)}, folder / str(number) / "model.safetensors"
        )
    made = load_file(merge(folder / "m", {folder / str(k): w for k, w in enumerate(weights)}) / "model.safetensors")
    np.testing.assert_allclose(made["w"], np.average(np.stack(values).astype(float), 0, weights), atol=1e-6)
    assert made["n"].item() == 7


def test_what_cannot_be_merged_is_refused_and_nothing_written(two, tmp_path):
    a, b = two
    wide, more = model_of(tmp_path / "wide", 1, head_dim=16), model_of(tmp_path / "more", 1, attention_bias=True)
    (tmp_path / "empty").mkdir()
    other = model_of(tmp_path / "words", 1)
    told = json.loads((other / "tokenizer.json").read_text())
    told["model"]["vocab"] = {word: (number + 1) % 320 for word, number in told["model"]["vocab"].items()}
    (other / "tokenizer.json").write_text(json.dumps(told))
    for parts, match in (
        ({a: 1, wide: 1}, r"k_proj.weight' has the shape \(16, 32\) in .*a and \(32, 32\) in .*wide"),
        ({a: 1, more: 1}, r"only .*more has 'model.layers.0.self_attn.k_proj.bias' \(8 such names\)"),
        ({a: 1, other: 1}, "the tokenizers of .*a and .*words differ"),
        ({a: 1, tmp_path / "empty": 1}, "empty holds no weights that can be merged: expected model.safetensors"),
        ({a: 1, tmp_path / "nowhere": 0}, "there is no folder .*nowhere"),
        ({a: 1, b: -1}, "weights must be numbers of at least 0, got -1"),
        ({a: 0, b: 0}, "expected at least one source with a weight above 0"),
    ):
        with pytest.raises(MergeError, match=match):
            merge(tmp_path / "m", parts)
        assert not (tmp_path / "m").exists()
        assert not (tmp_path / ".partial-m").exists()
    before = contents(b)
    with pytest.raises(MergeError, match="b is there already: choose a new folder"):
        merge(b, {a: 1, b: 1})
    assert contents(b) == before
    with pytest.raises(MergeError, match=r"q must be in \[0, 1\], got 1.5"):
        merge_grid(tmp_path / "grid", a, b, [1.5])
    with pytest.raises(MergeError, match="a grid needs two models"):
        merge_grid(tmp_path / "grid", a, a, [0.5])
    with pytest.raises(MergeError, match="has the shape"):
        merge_grid(tmp_path / "grid", a, wide, [0.0, 0.5])
    assert not list((tmp_path / "grid").glob("*"))  # not even the end, which is a copy


def test_a_grid_is_of_two_models(two, tmp_path):
    (two[0] / "optimizer.pt").write_bytes(b"its own")
    found = merge_grid(tmp_path / "grid", two[0], two[1], [0.5])
    assert not (found[0.5] / "optimizer.pt").exists()
    (two[0] / "optimizer.pt").unlink()
    assert set(merge_grid(tmp_path / "grid", two[0], two[1], [0.5, 1.0])) == {0.5, 1.0}
    with pytest.raises(MergeError, match=r"grid holds merges of .*a.*b.* now .*b.*a.* choose a new folder"):
        merge_grid(tmp_path / "grid", two[1], two[0], [0.25])


# --- adapters -----------------------------------------------------------------------------------


def adapter_of(folder: Path, seed: int, rank: int, **settings: Any) -> Path:
    """Write an adapter with random matrices for the model ``llama()``."""
    config = LoraConfig(
        r=rank, lora_alpha=3 * rank + seed, target_modules="all-linear", task_type="CAUSAL_LM", **settings
    )
    model = get_peft_model(llama(), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(str(folder))
    return folder


def with_weights(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a model with an adapter put into them."""
    return dict(load_model(f"hf:{base}?adapter={adapter}", "float32", "cpu")[0].state_dict())


def test_adapters_are_merged_as_the_weights_that_they_make(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    one, other = adapter_of(tmp_path / "one", 1, 4), adapter_of(tmp_path / "other", 2, 6, use_rslora=True)
    made = merge(tmp_path / "m", {one: 0.25, other: 0.75})
    assert json.loads((made / "adapter_config.json").read_text())["r"] == 10
    a, b, m = (with_weights(tmp_path / "base", adapter) for adapter in (one, other, made))
    plain = dict(load_model(f"hf:{tmp_path / 'base'}", "float32", "cpu")[0].state_dict())
    for name in plain:
        torch.testing.assert_close(m[name], 0.25 * a[name] + 0.75 * b[name], atol=1e-6, rtol=1e-5)
    assert not torch.equal(m["model.layers.0.mlp.up_proj.weight"], plain["model.layers.0.mlp.up_proj.weight"])
    assert contents(merge(tmp_path / "end", {one: 0.0, other: 2.0})) == contents(other)
    for bad, match in (
        (adapter_of(tmp_path / "dora", 1, 4, use_dora=True), r"no plain LoRA adapter \(use_dora\)"),
        (adapter_of(tmp_path / "bias", 1, 4, bias="all"), r"no plain LoRA adapter \(bias\)"),
    ):
        with pytest.raises(MergeError, match=match):
            merge(tmp_path / "bad", {one: 1, bad: 1})
    with pytest.raises(MergeError, match=r"only one kind can be merged, got .*base \(a model\) and .*an adapter"):
        merge(tmp_path / "bad", {tmp_path / "base": 1, one: 1})
    assert not (tmp_path / "bad").exists()


def test_specs_with_and_without_adapters():
    assert without_adapter("tiny") == ("tiny", None)
    told = with_adapter("hf:NAME?dtype=bfloat16", Path("runs/a b&c"))
    assert without_adapter(told) == ("hf:NAME?dtype=bfloat16", Path("runs/a b&c"))
    with pytest.raises(ValueError, match="has an adapter already"):
        with_adapter("tiny?adapter=x", Path("y"))


# --- policies -----------------------------------------------------------------------------------


def policy_of(folder: Path, spec: str, seed: int, lora: int = 0, cls: Any = tf.TF) -> Path:
    """Write a policy whose trained weights are drawn at random."""
    policy = cls.build(cls.args_class(lm=spec, lora=lora, env="", device="cpu", seed=seed))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.network.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    policy.save(folder / "agent")
    return folder


def state_of(folder: Path, name: str = "lm_head.weight") -> torch.Tensor:
    policy: Any = load_agent(folder)
    model = policy.network.model
    model = model.merge_and_unload() if policy.network.has_adapter else model
    found: torch.Tensor = model.state_dict()[name]
    return found


def test_policies_merge_to_a_policy(tmp_path):
    spec = walker(tmp_path / "lm", width=16, layers=1)
    one, other = policy_of(tmp_path / "one", spec, 1), policy_of(tmp_path / "other", spec, 2)
    made = merge(tmp_path / "m", {one: 1, other: 3})
    assert torch.equal(state_of(made), (state_of(one).double() * 0.25 + state_of(other).double() * 0.75).float())
    assert load_agent(made).more["merged"] == {str(one / "agent"): 0.25, str(other / "agent"): 0.75}  # type: ignore[attr-defined]
    assert contents(merge(tmp_path / "end", {one: 1, other: 0})) == contents(one / "agent")


def test_stages_with_adapters_share_what_they_have_in_common(tmp_path):
    """The second stage begins from the first: their mean is the first, and a part of the second's own adapter."""
    spec = walker(tmp_path / "lm", width=16, layers=1)
    first = policy_of(tmp_path / "first", spec, 1, lora=2)
    second = policy_of(tmp_path / "second", f"{spec}?adapter={first}/agent/model", 2, lora=3)
    made = merge(tmp_path / "m", {first: 0.75, second: 0.25})
    name = "model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(state_of(made, name), 0.75 * state_of(first, name) + 0.25 * state_of(second, name))
    assert json.loads((made / "model" / "adapter_config.json").read_text())["r"] == 5
    whole = policy_of(tmp_path / "whole", spec, 3)
    with pytest.raises(MergeError, match="are not alike: both must have an adapter or none"):
        merge(tmp_path / "bad", {first: 1, whole: 1})


def test_adapters_of_different_models_are_refused(tmp_path):
    one, other = (
        policy_of(tmp_path / f"p{seed}", walker(tmp_path / f"lm{seed}", width=16, layers=1), seed, lora=2)
        for seed in (1, 2)
    )
    with pytest.raises(MergeError, match=r"goes back to the model .*lm1' and .*lm2'"):
        merge(tmp_path / "bad", {one: 1, other: 1})
    assert not (tmp_path / "bad").exists()


def test_sums_of_adapters_need_not_have_weights_of_one(tmp_path):
    one = adapter_of(tmp_path / "one", 1, 2)
    sum_adapters(tmp_path / "twice", [(one, 1.0), (one, 1.0)])
    llama().save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    name = "model.layers.1.mlp.down_proj.weight"
    plain = dict(llama().state_dict())[name]
    once, twice = (with_weights(tmp_path / "base", folder)[name] for folder in (one, tmp_path / "twice"))
    torch.testing.assert_close(twice - plain, 2 * (once - plain), atol=1e-6, rtol=1e-5)


# --- choosing -----------------------------------------------------------------------------------


def test_the_best_within_the_budget_is_chosen():
    names, reward, cost = ["a", "b", "c", "d"], [0.9, 0.7, 0.7, 0.2], [0.5, 0.2, 0.1, 0.0]
    assert choose(names, reward, cost, 1.0).name == "a"
    assert choose(names, reward, cost, 0.2) == ("c", 0.7, 0.1, True)  # of equals the one that costs less
    assert choose(names, reward, cost, 0.05).name == "d"
    assert choose(names[:2], reward[:2], cost[:2], 0.1) == ("b", 0.7, 0.2, False)  # none: the cheapest
    with pytest.raises(ValueError, match="expected finite numbers, got others for 'b'"):
        choose(names, [1, float("nan"), 1, 1], cost, 0.1)
    with pytest.raises(ValueError, match="got 2 candidates, 1 rewards and 2 costs"):
        choose(["a", "b"], [1.0], [1.0, 1.0], 0.1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0, 1))
def test_nothing_within_the_budget_is_better(numbers, budget):
    rewards, costs = zip(*numbers, strict=True)
    found = choose([str(k) for k in range(len(numbers))], rewards, costs, budget)
    assert found.within == any(cost <= budget for cost in costs)
    if found.within:
        assert found.cost <= budget
        assert all(reward <= found.reward for reward, cost in numbers if cost <= budget)


def test_the_commands(two, tmp_path, capsys, monkeypatch):
    run(["merge", str(tmp_path / "m"), f"{two[0]}=1", f"{two[1]}=3", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["folder"] == str(tmp_path / "m")
    run(["merge", str(tmp_path / "g"), str(two[0]), str(two[1]), "--q", "0.25", "0.5", "--json"])
    assert [row["q"] for row in json.loads(capsys.readouterr().out)] == [0.25, 0.5]
    for words, match in (
        (["merge", "o", str(two[0])], "at least two sources, got 1"),
        (["merge", "o", f"{two[0]}=1", str(two[1])], "all of them a weight"),
        (["merge", "o", f"{two[0]}=x", str(two[1])], "a source is FOLDER or FOLDER=WEIGHT with a number"),
        (["merge", "o", f"{two[0]}=1", f"{two[1]}=1", "--q", "0.5"], "--q is for two sources without weights"),
    ):
        with pytest.raises(ValueError, match=match):
            run(words)
    told = {"a": (0.9, 0.3), "b": (0.6, 0.04)}
    monkeypatch.setattr("dialog_gym.agent.load_agent", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(
        "dialog_gym.rollout.evaluate",
        lambda agent, *_, **__: SimpleNamespace(mean=told[agent.name][0], cost=told[agent.name][1]),
    )
    run(["choose", "a", "b", "--env", "Advice-v0", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["budget"] == 0.05  # the environment's
    assert found["chosen"]["name"] == "b"
    with monkeypatch.context() as patch:
        patch.setattr("dialog_gym.rollout.evaluate", lambda *_, **__: pytest.fail("a run was played"))
        with pytest.raises(ValueError, match="no budget of its own; give one"):
            run(["choose", "a", "b", "--env", "Bargain-v0"])
    run(["choose", "a", "b", "--env", "Advice-v0", "--budget", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["chosen"]["name"] == "a"
    envs = {"a": "dialog_gym/Advice-v0", "b": "dialog_gym/Chat-v0"}
    monkeypatch.setattr(
        "dialog_gym.agent.load_agent", lambda run: SimpleNamespace(args=SimpleNamespace(env=envs[run], env_kwargs={}))
    )
    with pytest.raises(ValueError, match=r"got a \(dialog_gym/Advice-v0\) and b \(dialog_gym/Chat-v0\): name one"):
        run(["choose", "a", "b"])
