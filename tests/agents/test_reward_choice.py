"""Agents train on another reward than they are evaluated on."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from dialog_gym.agent import load_agent
from dialog_gym.agents import ppo, td3
from dialog_gym.agents.loop import mean_return
from dialog_gym.agents.ppo import Args
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
