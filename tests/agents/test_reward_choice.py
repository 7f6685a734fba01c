"""Agents train on another reward than they are evaluated on."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dialog_gym.agent import load_agent
from dialog_gym.agents import ppo, sb3, td3
from dialog_gym.agents.loop import mean_return
from dialog_gym.agents.ppo import Args
from dialog_gym.rewards.decomposition.encoders import load_encoder
from dialog_gym.rewards.decomposition.model import HeadSpec, Reading, Scale, TurnModel
from dialog_gym.runs import Interrupted, RunFolder, RunFolderError
from dialog_gym.wrappers.rewards import dialogue_env

QUICK = {"lm": "tiny", "episodes": 4, "batch": 4, "rows": 4, "steps": 4, "epochs": 1, "max_tokens": 8, "lora": 2}


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("ppo") / "run")
    more = {"track": "none", "progress": False, "eval_every": 4, "eval_episodes": 4, "env_kwargs": {"max_turns": 2}}
    return Args(env="dialog_gym/Chat-v0", out=out, **QUICK, **more)  # type: ignore[arg-type]


def test_ppo_earns_it_in_training_and_is_evaluated_on_the_environments_own(args):
    agent = ppo.train(replace(args, reward="none"))
    with open(f"{args.out}/metrics.jsonl", encoding="utf-8") as file:
        text = file.read()
    assert '"train/return": 0.0' in text
    assert 0 < mean_return(args)(agent)["eval/return"] <= 1  # a survey
    assert isinstance(load_agent(args.out), ppo.PPO)


def test_ppo_refuses_an_unknown_reward(args):
    with pytest.raises(ValueError, match="no reward named 'tru'; did you mean 'true'"):
        ppo.Training(replace(args, reward="tru"))


def test_td3_earns_it_by_vectors():
    settings = td3.Args(env="dialog_gym/ChatPrefix-v0", rows=2, steps=4, reward="true", env_kwargs={"max_turns": 2})
    with closing(td3.Training(settings)) as training:
        training.begin()
        collector = training.collector
        assert collector is not None
        step = collector.step(np.zeros((2, collector.action_size), np.float32))
        dialogues = dialogue_env(collector.env).dialogues  # type: ignore[union-attr]
        np.testing.assert_allclose(step.rewards, [dialogue.state["moves"][-1] for dialogue in dialogues], rtol=1e-6)


# --- what a run notes of a learned reward --------------------------------------------------------------


def learned(folder, seed):
    """Write a reward that ``fit reward`` might have learned; what it says depends on ``seed``."""
    encoder = load_encoder("bag:8")
    spec = HeadSpec("mlp", hidden=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = spec.make(encoder.size)
    plain = torch.zeros(encoder.size), torch.ones(encoder.size)
    TurnModel(head, spec, encoder.size, Reading("bag:8"), Scale(), *plain).save(folder)
    return str(folder)


@pytest.mark.parametrize("inside", ["", "reward"])
def test_a_run_does_not_go_on_with_a_reward_that_was_learned_anew(tmp_path, inside):
    folder = tmp_path / "learned"
    learned(folder / inside, 1)
    settings = td3.Args(
        env="dialog_gym/ChatPrefix-v0", env_kwargs={"max_turns": 2}, rows=2, steps=8, checkpoint_every=2, eval_every=0,
        out=str(tmp_path / "run"), reward=f"{folder}?weight=2", track="none", progress=False, random_steps=100,
    )  # fmt: skip
    stop_at(settings, 4)
    noted = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))["data"]
    assert sorted(Path(path).name for path in noted) == ["arrays.safetensors", "checkpoint.json"]
    learned(folder / inside, 2)
    with pytest.raises(RunFolderError, match=r"differs in .*arrays.safetensors"):
        td3.train(settings)
    learned(folder / inside, 1)
    assert isinstance(td3.train(settings), td3.TD3)  # the same again, so it goes on


def stop_at(settings, step):
    save = RunFolder.save

    def stopping(self, at, *args, **kwargs):
        save(self, at, *args, **kwargs)
        self.interrupted = at == step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "save", stopping)
        with pytest.raises(Interrupted):
            td3.train(settings)


def test_every_agent_that_takes_a_reward_notes_its_files(tmp_path, args):
    folder = learned(tmp_path / "learned", 1)
    assert len(replace(args, reward=folder).data_used) == 2
    assert len(sb3.Args(reward=folder).data_used) == 2
    assert sb3.Args(reward="true").data_used == sb3.Args().data_used == sb3.Args(reward=str(tmp_path)).data_used == ()


def test_a_stored_buffer_has_its_own_rewards():
    with pytest.raises(ValueError, match=r"learns from the rewards stored in it.*leave it out"):
        td3.Args(buffer="buffer.safetensors", reward="true")
