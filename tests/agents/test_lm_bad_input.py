"""What agents that are language models refuse before they train, and what is safe where they have to stop."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from dialog_gym.agent import agent_spec, load_agent
from dialog_gym.agents.lm_policy import LMPolicy
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.rollout import make_rows
from dialog_gym.runs import RunFolderError
from tests.agents.graph import GRAPH, random_walks, walker

METHODS = ("tf", "tf_all", "tf_top", "dt", "ilql")
QUICK: dict[str, Any] = {
    "env": GRAPH,
    "max_tokens": 4,
    "batch": 8,
    "steps": 4,
    "eval_every": 2,
    "checkpoint_every": 2,
    "eval_episodes": 2,
    "track": "none",
    "progress": False,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    return str(random_walks(tmp_path_factory.mktemp("walks") / "data", 60))


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm", width=16, layers=1)


def trained(method, out, **settings):
    made = agent_spec(method)
    return made.train(made.args(out=str(out), **{**QUICK, **settings}))


def talks(folder, rewards, said="n1", public="from n3 ."):
    """Write dialogues of one turn that earned ``rewards``, and return their folder."""
    with Episodes.writing(folder) as file:
        for number, reward in enumerate(rewards):
            talk = Dialogue(Scenario(public), ("walker", "guide"), number, (Turn("walker", said),), stop_reason="end")
            file.add(Recorded(number, talk, (reward,), (0.0,), policy="human"))
    return str(folder)


def refused(method, tmp_path, match, **settings):
    with pytest.raises(ValueError, match=match):
        trained(method, tmp_path / "run", **settings)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.parametrize("method", METHODS)
class TestData:
    def test_an_empty_data_set(self, method, tmp_path, spec):
        refused(method, tmp_path, "no dialogue has a turn of the agent", lm=spec, data=(talks(tmp_path / "data", []),))

    def test_a_reward_that_is_no_number(self, method, tmp_path, spec):
        said = [{"role": "user", "content": "from n3 ."}]
        line = {"messages": said, "candidates": ["n1", "n2"], "scores": [1.0, float("nan")]}
        path = tmp_path / "data.jsonl"
        path.write_text(json.dumps(line) + "\n")
        refused(method, tmp_path, "finite numbers.* nan", lm=spec, data=(str(path),), env="")

    def test_a_context_longer_than_the_model(self, method, tmp_path, spec):
        data = talks(tmp_path / "data", [0.0, 1.0] * 8, public="from n3 . " * 60)
        refused(method, tmp_path, r"row \d+ of .*longer than the 128 positions", lm=spec, data=(data,), env="")

    def test_a_response_that_is_empty_when_it_is_cut(self, method, tmp_path, spec):
        data = talks(tmp_path / "data", [0.0, 1.0] * 8, said="  ")
        refused(method, tmp_path, "agent turn 1 has no words to learn", lm=spec, data=(data,), env="")

    def test_actions_that_are_no_text(self, method, tmp_path, spec, walks):
        env = "dialog_gym/BargainPrefix-v0"
        refused(method, tmp_path, "expected actions that are text, got Box", lm=spec, data=(walks,), env=env)


@pytest.mark.parametrize(
    ("method", "match", "settings"),
    [
        ("tf_top", "so none is better than another", {}),
        ("dt", "so no reply is better than another", {}),
        ("dt", "all returns-to-go, from 1 to 1, have the same token", {"edges": (0.5,)}),
        ("ilql", "so no token is worth more than another", {}),
    ],
)
def test_one_reward_is_refused_by_whom_it_teaches_nothing(tmp_path, spec, method, match, settings):
    refused(method, tmp_path, match, lm=spec, data=(talks(tmp_path / "data", [1.0] * 9),), env="", **settings)


@pytest.mark.parametrize("method", METHODS)
def test_a_tokenizer_without_a_pad_token_serves(method, tmp_path, spec, walks):
    tokenizer = AutoTokenizer.from_pretrained(spec.removeprefix("hf:"))
    bare = Path(walker(tmp_path / "lm", width=16, layers=1).removeprefix("hf:"))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(bare)
    agent: Any = trained(method, tmp_path / "run", lm=f"hf:{bare}", data=(walks,))
    assert agent.lm.tokenizer.pad_token is None
    infos = make_rows(GRAPH, 3).reset(seed=1)[1]
    assert load_agent(tmp_path / "run").act(None, infos) == agent.act(None, infos)


def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path, walks):
    folder = tmp_path / "lm"
    lm, calls = walker(folder, width=16, layers=1), []
    made = agent_spec("tf_all")
    args = made.args(out=str(tmp_path / "run"), lm=lm, data=(walks,), **QUICK)

    def stopped(agent):
        calls.append(agent)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        made.train(args, evaluate=stopped)
    walker(folder, width=32, layers=1)
    with pytest.raises(ValueError, match=r"the checkpoint is of another model: its .* is \(\d+, 16\), that of"):
        made.train(args)


@pytest.mark.parametrize("what", ["best", "samples"])
def test_a_disk_that_fills_up_between_checkpoints_keeps_the_last(tmp_path, spec, walks, monkeypatch, what):
    saving, writing = LMPolicy.save, Path.write_text

    def save(self, folder):
        if what == "best" and Path(folder).name == "best" and (tmp_path / "run" / "checkpoints").exists():
            full(folder)
        saving(self, folder)

    def write(self, *args, **more):
        if what == "samples" and self.name == "step-000000004.jsonl":
            full(self)
        return writing(self, *args, **more)

    def full(path):
        if list((tmp_path / "run" / "checkpoints").glob("step-*")):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(LMPolicy, "save", save)
    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(RunFolderError, match=r"samples, or the best policy, .*The checkpoint of step 2 is safe"):
        trained("tf_all", tmp_path / "run", lm=spec, data=(walks,))
    monkeypatch.undo()
    again: Any = trained("tf_all", tmp_path / "run", lm=spec, data=(walks,))
    assert all(np.isfinite(p.detach().numpy()).all() for p in again.network.parameters())


def test_roll_outs_refuse_actions_that_are_no_text(tmp_path):
    made = agent_spec("rollouts")
    args = made.args(env="dialog_gym/BargainPrefix-v0", out=str(tmp_path / "run"), eval_episodes=1, track="none")
    with pytest.raises(ValueError, match="expected actions that are text, got Box"):
        made.train(replace(args, k=2, plays=1))
