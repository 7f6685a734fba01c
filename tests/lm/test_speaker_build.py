"""``dialog-gym fit speaker``: built, found, the same again, gone on with, and steered."""

import json
from types import SimpleNamespace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import dialog_gym  # noqa: F401, registers the environments
from dialog_gym.cli import main
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.dialogue import Draws
from dialog_gym.env import begin
from dialog_gym.envs.bargain import Bargain
from dialog_gym.lm import load, speaker_steer
from dialog_gym.lm.base import Sampling
from dialog_gym.lm.speaker_build import Options, build
from dialog_gym.lm.speaker_corpus import Source
from dialog_gym.lm.speaker_training import Trainer
from dialog_gym.lm.tiny_steer import train_steer

SIZE = ["--width", "32", "--layers", "1", "--heads", "2", "--vocabulary", "420", "--batch", "16"]


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    folder, task = tmp_path_factory.mktemp("talks") / "set", Bargain()
    with Episodes.writing(folder) as writer:
        for k in range(80):
            played = task.self_play(Draws(0, "test", k))
            zeros = (0.0,) * played.turn
            writer.add(Recorded(k, played, rewards=zeros, costs=zeros))
    return folder


def options(talks, out, **more):
    shape = {"steps": 8, "width": 32, "layers": 1, "heads": 2, "vocabulary": 420, "batch": 16}
    source = Source("", str(talks))
    return Options(source, out, "dialog_gym/Bargain-v0", **{**shape, "progress": False, "save_every": 3, **more})


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DIALOG_GYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "speakers"


def test_a_speaker_is_built_into_the_cache_and_used_by_its_name(capsys, talks, cache):
    words = ["fit", "speaker", "--data", str(talks), "--env", "Bargain-v0", "--name", "dealer", "--steps", "8", *SIZE]
    main([*words, "--json"])
    report = json.loads(capsys.readouterr().out)[str(cache / "dealer")]
    assert 70 <= report["dialogues"] < 80
    assert report["steps"] == 8
    assert 1 < report["heldout"]["perplexity"] < 420
    card = (cache / "dealer" / "README.md").read_text()
    assert f"perplexity per token: {report['heldout']['perplexity']:.3f}" in card
    assert report["data"] in card
    task, lm = Bargain(), load("speaker:dealer")
    (said,) = lm.generate([task.messages(begin(task, 1), "buyer")], Sampling(5))
    assert len(said.tokens) <= 5
    model = AutoModelForCausalLM.from_pretrained(cache / "dealer")
    assert sum(p.numel() for p in model.parameters()) == report["parameters"]
    assert AutoTokenizer.from_pretrained(cache / "dealer").chat_template
    env = gym.make("dialog_gym/Bargain-v0", partner="speaker:dealer", partner_tokens=4)
    env.reset(seed=1)
    assert isinstance(env.step("i offer 50%")[0], str)
    began = report["cpu_seconds"]
    main(words)  # tells what is there, and builds nothing
    assert f"{began:.0f}" in capsys.readouterr().out


def test_the_same_settings_give_the_same_model_also_if_it_was_stopped(monkeypatch, talks, tmp_path):
    whole = build(options(talks, tmp_path / "whole"))
    update = Trainer.update

    def stopped(self, lessons):
        if self.step == 5:
            raise KeyboardInterrupt
        update(self, lessons)

    monkeypatch.setattr(Trainer, "update", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(options(talks, tmp_path / "again"))
    assert not (tmp_path / "again" / "config.json").exists()
    monkeypatch.setattr(Trainer, "update", update)
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        build(options(talks, tmp_path / "again", seed=1))
    with pytest.raises(ValueError, match="a training of 8 steps, not 9"):
        build(options(talks, tmp_path / "again", steps=9))
    again = build(options(talks, tmp_path / "again", steps=0, minutes=1.0))
    assert {**whole, "cpu_seconds": 0} == {**again, "cpu_seconds": 0}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "again" / "training").exists()


def test_a_finished_speaker_is_not_replaced_by_another(talks, tmp_path):
    build(options(talks, tmp_path / "out", steps=1))
    with pytest.raises(ValueError, match=r"width was 32, now 64.*--out"):
        build(options(talks, tmp_path / "out", width=64))


def test_minutes_become_a_number_of_updates(talks, tmp_path):
    report = build(options(talks, tmp_path / "out", steps=0, minutes=0.01))
    assert report["steps"] >= 1
    assert report["cpu_seconds"] < 10


def test_a_steerable_copy_comes_with_its_map(capsys, talks, cache):
    words = ["fit", "speaker", "--data", str(talks), "--env", "Bargain-v0", "--name", "d", "--epochs", "1", *SIZE]
    main([*words, "--steer", "--json"])
    report = json.loads(capsys.readouterr().out)[str(cache / "d-steer")]
    assert 0 <= report["control"]["same_style"] <= 1
    weights = [(cache / name / "model.safetensors").read_bytes() for name in ("d", "d-steer")]
    assert weights[0] != weights[1]
    with pytest.raises(SystemExit):
        main([*words, "--steer", "--steer-epochs", "2"])  # another tuning does not replace it
    assert "steer_epochs was 1.0, now 2.0" in capsys.readouterr().err
    env = gym.make("dialog_gym/BargainPrefix-v0", lm="speaker:d-steer", prefix="steer")
    state, _ = env.reset(seed=0)
    assert state.shape == (13,)  # the facts of the world, read off its states
    env.step(env.action_space.sample())
    assert set(report["facts"]) <= set(Bargain.fact_names)
    assert max(report["facts"].values()) <= 1


def test_tuning_in_half_precision_sees_its_own_updates(monkeypatch, talks, tmp_path):
    told: list[Any] = []

    def watched(tuning, model, *rest):
        linear, x = model.model.layers[0].mlp.up_proj, torch.ones(1, 32)
        before = linear(x)
        with torch.no_grad():
            linear.weight.mul_(2)
        told.extend([before, linear(x)])
        return train_steer(tuning, model, *rest)

    monkeypatch.setattr(speaker_steer, "train_steer", watched)
    build(options(talks, tmp_path / "d", steps=2))
    speaker_steer.build(options(talks, tmp_path / "d", steps=2))
    assert told[0].dtype == torch.bfloat16
    assert torch.equal(told[1], 2 * told[0]), "the weights of before the update were used"


def test_facts_that_never_vary_are_left_out(monkeypatch):
    rng = np.random.default_rng(0)
    states = rng.normal(size=(200, 4))
    facts = np.stack([states[:, 0], np.full(200, 0.5), -states[:, 2]], 1)
    monkeypatch.setattr(speaker_steer, "known", lambda lm, played: (states, facts))
    lm, played = SimpleNamespace(fingerprint=dict), [(SimpleNamespace(fact_names=("a", "same", "b")), None)]
    state_map, names = speaker_steer.varied_facts(cast(Any, lm), cast(Any, played))
    assert names == ["a", "b"]
    assert state_map(states).shape == (200, 2)
    shares = speaker_steer.explained(cast(Any, lm), state_map, names, cast(Any, played))
    assert shares == pytest.approx({"a": 1.0, "b": 1.0}, abs=1e-3)
    facts[:, 2] = 1.0  # elsewhere b is always the same: nobody knows how much of it is told
    assert list(speaker_steer.explained(cast(Any, lm), state_map, names, cast(Any, played))) == ["a"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "either --corpus FORMAT PATH or --data FOLDER"),
        (["--corpus", "deal_or_no_deel", "x"], "deal_or_no_deal"),
        (["--corpus", "casino", "no-such-file.json"], "no-such-file.json"),
        (["--data", "x", "--name", "../x"], "named by letters"),
        (["--data", "x", "--env", "CartPole-v1"], "not an environment of dialogues"),
    ],
)
def test_mistakes_are_told(capsys, cache, words, told):
    with pytest.raises(SystemExit) as left:
        main(["fit", "speaker", *words])
    assert left.value.code == 2
    assert told in capsys.readouterr().err
    assert not cache.exists()


def test_a_map_needs_to_know_what_a_reply_says(capsys, talks, cache):
    with pytest.raises(SystemExit):
        main(["fit", "speaker", "--data", str(talks), "--name", "d", "--steps", "1", *SIZE, "--steer"])
    assert "World.attributes" in capsys.readouterr().err
    assert not cache.exists(), "told before anything is built"
