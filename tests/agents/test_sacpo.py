"""SACPO: how stages are named, what each begins from, what is trained again, and what is refused."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dialog_gym.agent import load_agent
from dialog_gym.agents import dpo, sacpo
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.agents.sacpo import SACPO, Args, Stage, chains, folder_of, parse_stage, stage_args
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.lm.merge import merge
from dialog_gym.runs import RunFolderError
from tests.agents.graph import walker
from tests.agents.test_preferences import chat

QUICK: dict[str, Any] = {
    "env": "",
    "max_tokens": 8,
    "batch": 8,
    "epochs": 0.5,
    "eval_every": 0,
    "track": "none",
    "progress": False,
    "device": "cpu",
    "rows": 4,
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm", width=16, layers=1)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranked") / "r"
    rng = random.Random(0)
    with Rankings.writing(folder) as writer:
        for _ in range(16):
            node, other = rng.sample(range(12), 2)
            texts = (f"n{node}", f"n{other} n{node}", f"n{other}")
            writer.add(Ranking(chat("from n1 .", f"at n{node}"), texts, (1.0, 0.5, 0.0), {"cost": (1.0, 0.5, 0.0)}))
    return str(folder)


@pytest.fixture
def args(ranked, spec, tmp_path):
    return Args(data=(ranked,), lm=spec, out=str(tmp_path / "run"), **QUICK)


def weights(policy):
    return {name: value.detach().clone() for name, value in policy.network.named_parameters()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_stages_are_named_and_parted():
    assert parse_stage("dpo:score:0.1") == [Stage("dpo", "score", 0.1)]
    assert parse_stage("kto:-cost:0.1,0.05?lr=0.001&sample=50") == [
        Stage("kto", "-cost", beta, 50, (("lr", "0.001"),)) for beta in (0.1, 0.05)
    ]
    found = chains(["dpo:score:0.1", "dpo:-cost:0.1,0.05"])
    assert [folder_of("o", chain).as_posix() for chain in found] == [
        "o/stages/dpo_score_0.1+dpo_-cost_0.1",
        "o/stages/dpo_score_0.1+dpo_-cost_0.05",
    ]
    for text in ("dpo", "dpo:score", "dpo:score:x", "dpo::1", "dpo:score:1?sample=x", "dpo:score:1?lr="):
        with pytest.raises(ValueError, match=r"a stage looks like dpo:score:0\.1 or"):
            parse_stage(text)
    with pytest.raises(KeyError, match="dpo"):
        parse_stage("dop:score:0.1")
    with pytest.raises(ValueError, match="from data or from what it samples, not from both"):
        parse_stage("dpo:score:0.1?data=a&sample=9")


def test_the_settings_of_a_stage():
    """What nobody gave is the algorithm's own; what the run was given holds for all, unless the stage has its own."""
    plain = Args(data=("d",), lm="tiny", epochs=2.0)
    (stage,) = parse_stage("kto:-cost:0.05?threshold=-0.2&lr=0.003&balance=false&data=a,b")
    made = stage_args(plain, (Stage("dpo", "score", 0.1), stage), "start")
    assert (made.lm, made.metric, made.beta, made.data) == ("start", "-cost", 0.05, ("a", "b"))
    assert (made.threshold, made.lr, made.balance, made.epochs) == (-0.2, 0.003, False, 2.0)
    assert stage_args(plain, (Stage("kto", "score", 0.1),), "s").lr == 1e-3
    assert stage_args(plain, (Stage("dpo", "score", 0.1),), "s").lr == 5e-4
    assert stage_args(replace(plain, lr=7.0), (Stage("dpo", "score", 0.1),), "s").lr == 7.0
    given: Any = {"lr": 1e-3, "epochs": 1.0}  # what is the default of others is given too
    assert stage_args(replace(plain, **given), (Stage("dpo", "score", 0.1),), "s").lr == 1e-3
    with pytest.raises(KeyError, match="pairs"):
        stage_args(plain, (Stage("dpo", "score", 0.1, 0, (("pair", "best"),)),), "s")
    with pytest.raises(ValueError, match="margin of a stage must be a number, got 'x'"):
        stage_args(plain, (Stage("dpo", "score", 0.1, 0, (("margin", "x"),)),), "s")


def test_each_stage_begins_from_the_one_before_and_is_kept_near_it(args, monkeypatch):
    begun = []
    make = dpo.Training.__init__

    def watched(self, policy, told):
        make(self, policy, told)
        asked = next(row for row in self.train_rows if row.reference)
        begun.append((told.lm, told.metric, weights(self.agent), asked))

    monkeypatch.setattr(dpo.Training, "__init__", watched)
    args = replace(args, stages=("dpo:score:0.1", "dpo:-cost:0.2,0.1"))
    last = sacpo.train(args)
    first = load_agent(folder_of(args.out, chains(args.stages)[0][:1]))
    assert isinstance(first, dpo.DPO)
    assert [metric for _, metric, *_ in begun] == ["score", "-cost", "-cost"]  # the first stage once
    for _, _, start, row in begun[1:]:
        assert same(start, weights(first))
        tokens = torch.tensor([[*row.prompt.tolist(), *row.chosen.tolist()]])
        logps = first.network.model(tokens).logits.log_softmax(-1)[0, len(row.prompt) - 1 : -1]
        logp = logps.gather(1, torch.tensor(row.chosen.tolist())[:, None]).sum().item()
        assert row.reference[0] == pytest.approx(logp, abs=1e-4)
    loaded = load_agent(args.out)
    assert isinstance(loaded, SACPO)
    assert same(weights(loaded), weights(last))
    assert [stage["beta"] for stage in loaded.more["stages"]] == [0.1, 0.1]
    assert not same(weights(first), weights(last))

    begun.clear()
    again = sacpo.train(replace(args, stages=("dpo:score:0.1", "dpo:-cost:0.1,0.05")))
    assert len(begun) == 1  # the new beta alone
    assert not same(weights(again), weights(last))
    with pytest.raises(RunFolderError, match=r"holds another run, which differs in args\.seed"):
        sacpo.train(replace(args, seed=5))
    merged = merge(Path(args.out) / "m", {folder_of(args.out, chains(args.stages)[0][:1]): 1, args.out: 3})
    assert isinstance(load_agent(merged), dpo.DPO)


def test_adapters_of_stages_add_up(args):
    stages = ("dpo:score:0.1", "kto:-cost:0.1", "dpo:-cost:0.1?steps=1&epochs=0")
    told = replace(args, lora=2, stages=stages, lr=0.02)
    last = sacpo.train(told)
    parts = [load_agent(folder_of(told.out, chains(stages)[0][:count])) for count in (1, 2, 3)]
    name = "model.layers.0.mlp.up_proj.weight"
    plain = sacpo.SACPO.build(args).network.model.state_dict()[name]
    steps = [plain]
    for part in parts:
        assert isinstance(part, LMPolicy)
        layer = part.network.plain.get_submodule(name.removesuffix(".weight"))
        torch.testing.assert_close(layer.base_layer.weight, steps[-1])  # what the stage began with
        steps.append(layer.base_layer.weight + layer.get_delta_weight("default"))
        assert not torch.allclose(steps[-1], steps[-2], atol=1e-6)
    loaded = load_agent(told.out)
    assert isinstance(loaded, SACPO)
    layer = loaded.network.plain.get_submodule(name.removesuffix(".weight"))
    torch.testing.assert_close(layer.base_layer.weight + layer.get_delta_weight("default"), steps[-1])
    assert same(weights(loaded), weights(last))


def test_a_stage_can_sample_its_rankings_from_the_one_before(args, tmp_path):
    out, env = tmp_path / "on", "dialog_gym/Advice-v0"
    stages = ("dpo:score:0.1?sample=6", "kto:score:0.1?sample=6")
    told = replace(args, env=env, lm="tiny-advice", data=(), max_tokens=32, stages=stages, sample_k=3, out=str(out))
    told = replace(told, epochs=0.0, steps=1, held_out=0.0)
    sacpo.train(told)
    first, second = (list(Rankings.load(out / "sampled" / name)) for name in ("start-6", "dpo_score_0.1_on6-6"))
    assert first[0].meta["lm"] == "tiny-advice"
    assert str(second[0].meta["lm"]).endswith("stages/dpo_score_0.1_on6/agent/model")
    assert {row.meta["seed"] for row in first}.isdisjoint(row.meta["seed"] for row in second)
    config = json.loads((out / "stages/dpo_score_0.1_on6+kto_score_0.1_on6/config.json").read_text())
    assert list(config["data"]) == [str(out / "sampled" / "dpo_score_0.1_on6-6")]
    other = replace(told, sample_k=2, stages=("dpo:score:0.2?sample=6",))
    with pytest.raises(ValueError, match=r"start-6 was sampled with .*'k': 3.* choose another out"):
        sacpo.train(other)
    assert len(Rankings.load(out / "sampled" / "start-6")) == len(first)


def test_bad_stages_are_refused_before_anything_is_trained(args, tmp_path):
    def refused(match, error: type[Exception] = ValueError, **settings):
        with pytest.raises(error, match=match):
            sacpo.train(replace(args, **settings))
        assert not Path(args.out).exists()

    refused("stages must name at least one stage", stages=())
    refused("no number named 'harm'", DatasetError, stages=("dpo:score:0.1", "dpo:-harm:0.1"))
    refused("beta must be above 0", stages=("dpo:score:0.1", "dpo:-cost:0"))
    refused("expected data to learn from", DatasetError, data=())
    refused("there is no data", DatasetError, stages=("dpo:score:0.1", "dpo:-cost:0.1?data=/nowhere"))
    refused("which needs an environment", stages=("dpo:score:0.1?sample=5",))
    refused("pairs must be one of 'all', 'best', got 'bset'", stages=("dpo:score:0.1?pairs=bset",))
    refused("schedule must be one of .*, got 'cosin'", stages=("dpo:score:0.1", "kto:-cost:0.1?schedule=cosin"))


@pytest.mark.parametrize(
    "name", ["lora", "lora_alpha", "max_tokens", "max_length", "dtype", "device", "temperature", "env", "lm", "beta"]
)
def test_what_all_stages_share_is_refused_of_one(args, name):
    with pytest.raises(ValueError, match=f"{name} cannot be of one stage, got {name}=2: .* give it to the whole run"):
        sacpo.train(replace(args, stages=(f"dpo:score:0.1?{name}=2", "dpo:-cost:0.1")))
    assert not Path(args.out).exists()
