"""A planner learns by steering a model that runs in vLLM, while another model observes."""

from dataclasses import replace

import pytest
import torch

from dialog_gym.agents.collect import Collector
from dialog_gym.agents.td3 import TD3, Args, train
from dialog_gym.lm import load
from dialog_gym.rollout import evaluate

SHORT = Args(env="dialog_gym/BargainPrefix-v0", rows=8, steps=160, random_steps=48, batch=16, hidden=(16,),
             critic_hidden=(16,), eval_every=0, log_every=40, checkpoint_every=80, track="none",
             progress=False)  # fmt: skip


@pytest.fixture(params=["in process", "server"])
def spec(request, folder):
    if request.param == "in process":
        return request.getfixturevalue("engine").name
    return f"openai:steerable@{request.getfixturevalue('server')}?prefix={folder}&dtype=float32"


def test_training_changes_the_planner_and_a_killed_run_goes_on_to_the_same_end(spec, tmp_path, monkeypatch):
    lm = load(spec)
    args = replace(SHORT, env_kwargs={"lm": spec, "observer": "tiny", "prefix": "steer"})
    whole = train(replace(args, out=str(tmp_path / "whole")))
    assert lm.counts.generated > SHORT.steps, "every step is a reply of the model"
    first = TD3(whole.observation_size, whole.action_size, args, _stream(args)).actor
    for mine, drawn in zip(whole.actor.parameters(), first.parameters(), strict=True):
        assert not torch.equal(mine, drawn)

    step, steps = Collector.step, []

    def until_killed(self, actions):
        steps.append(len(actions))
        if len(steps) == 14:
            raise RuntimeError("killed")
        return step(self, actions)

    monkeypatch.setattr(Collector, "step", until_killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(replace(args, out=str(tmp_path / "killed")))
    ended = train(replace(args, out=str(tmp_path / "killed")))
    assert len(steps) == 14 + (SHORT.steps - 80) // SHORT.rows, "it went on from its checkpoint"
    for mine, other in zip(whole.actor.parameters(), ended.actor.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_planner_plays_the_same_through_transformers_and_through_vllm(spec, folder, tmp_path):
    """What was trained on one backend is of use on another: same dialogues, same scores."""
    planner = TD3(2 * load("tiny").hidden_size, 16, SHORT, torch.Generator().manual_seed(5))
    scores = {
        name: evaluate(planner, SHORT.env, episodes=16, seed=4, rows=8, env_kwargs={"lm": lm, "observer": "tiny"})
        for name, lm in {"vllm": spec, "transformers": f"hf:{folder}"}.items()
    }
    said = {name: [episode.dialogue.turns for episode in found.episodes] for name, found in scores.items()}
    assert said["vllm"] == said["transformers"]
    assert scores["vllm"].returns.tolist() == scores["transformers"].returns.tolist()


def _stream(args):
    """Return the random stream that the networks of a run are drawn from, at its start."""
    import numpy as np

    return torch.Generator().manual_seed(np.random.SeedSequence(args.seed).generate_state(3).tolist()[0])
