"""Collecting: every policy, any number of rows, killed and started again: the same rows."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from dialog_gym import baselines
from dialog_gym.agents.td3 import TD3, Args
from dialog_gym.data import Episodes
from dialog_gym.data.collect import AGENTS, actor, collect
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import transitions
from dialog_gym.data.rank import Options, collect_rankings
from dialog_gym.env import DialogueEnv
from dialog_gym.envs.bargain import Bargain
from dialog_gym.lm import load
from dialog_gym.rollout import make_rows

TEXT, PREFIX = "dialog_gym/Bargain-v0", "dialog_gym/BargainPrefix-v0"


@pytest.fixture(scope="module", autouse=True)
def _models():
    held = load("tiny"), load("tiny-bargain")  # so that every environment shares them
    yield
    del held


@pytest.mark.parametrize("policy", ["oracle", "constant", "random", "lm-sampled"])
def test_the_number_of_rows_changes_nothing(tmp_path, policy):
    one = collect(TEXT, policy, 10, tmp_path / "1", rows=1, seed=4)
    many = collect(TEXT, policy, 10, tmp_path / "4", rows=4, seed=4)
    assert one.content_hash == many.content_hash
    assert [episode.seed for episode in many] == list(range(4, 14))


def test_what_is_written_is_what_was_played(tmp_path):
    found = collect(TEXT, "oracle", 5, tmp_path, seed=7, env_kwargs={"side": "seller"})
    task = Bargain("seller")
    env = DialogueEnv(task)
    for episode in found:
        _, info = env.reset(seed=episode.seed)
        rewards, over = [], False
        while not over:
            _, reward, terminated, truncated, info = env.step(task.oracle(info["dialogue"]))
            rewards.append(reward)
            over = terminated or truncated
        assert (episode.dialogue, episode.rewards) == (info["dialogue"], tuple(rewards))
        assert (episode.env, episode.env_kwargs, episode.policy) == (TEXT, {"side": "seller"}, "oracle")
        assert episode.terms == {"deal": episode.rewards}
    assert found.path == tmp_path


def test_started_again_it_goes_on(tmp_path):
    whole = collect(TEXT, "oracle", 12, tmp_path / "whole", rows=4, shard_rows=5)
    collect(TEXT, "oracle", 5, tmp_path / "parts", rows=2, shard_rows=3)
    assert collect(TEXT, "oracle", 12, tmp_path / "parts", rows=4).content_hash == whole.content_hash
    assert collect(TEXT, "oracle", 12, tmp_path / "parts").content_hash == whole.content_hash, "nothing to do"


def test_what_is_left_is_played_alone(tmp_path, monkeypatch):
    collect(TEXT, "oracle", 4, tmp_path, rows=4)
    answer, asked = Bargain.reply, []

    def counting(self, dialogues):
        asked.append(len(dialogues))
        return answer(self, dialogues)

    monkeypatch.setattr(Bargain, "reply", counting)
    *_, last = collect(TEXT, "oracle", 5, tmp_path, rows=4)
    assert asked == [1] * last.dialogue.turn


def test_killed_in_the_middle_it_goes_on(tmp_path, monkeypatch):
    whole = collect(TEXT, "oracle", 12, tmp_path / "whole")
    act = Bargain.oracle
    said = []

    def dying(self, dialogue):
        said.append(dialogue)
        if len(said) == 15:
            raise KeyboardInterrupt
        return act(self, dialogue)

    with monkeypatch.context() as patch:
        patch.setattr(Bargain, "policies", lambda self: {})
        patch.setattr(Bargain, "oracle", dying)
        with pytest.raises(KeyboardInterrupt):
            collect(TEXT, "oracle", 12, tmp_path / "killed", rows=3)
    assert 0 < len(Episodes.load(tmp_path / "killed")) < 12
    assert collect(TEXT, "oracle", 12, tmp_path / "killed", rows=3).content_hash == whole.content_hash


def test_several_policies_and_gaps_in_one_folder(tmp_path):
    collect(TEXT, "oracle", 2, tmp_path, seed=3)
    collect(TEXT, "accept-first", 2, tmp_path, seed=3)
    collect(TEXT, "oracle", 2, tmp_path, seed=3, env_kwargs={"side": "seller"})
    found = collect(TEXT, "oracle", 6, tmp_path, seed=1)
    mine = [e.seed for e in found if e.policy == "oracle" and not e.env_kwargs]
    assert mine == [3, 4, 1, 2, 5, 6]
    assert len(found) == 10


class TestPrefix:
    def test_vectors_come_along_and_become_transitions(self, tmp_path):
        found = list(collect(PREFIX, "random", 4, tmp_path, rows=2))
        arrays = transitions(found)
        turns = [episode.dialogue.turn for episode in found]
        assert arrays["actions"].shape == (sum(turns), 16)
        assert arrays["rewards"].sum() == pytest.approx(sum(episode.total for episode in found), abs=1e-6)
        assert np.flatnonzero(arrays["terminals"] + arrays["truncations"]).tolist() == (np.cumsum(turns) - 1).tolist()
        inner = np.flatnonzero((arrays["terminals"] + arrays["truncations"])[:-1] == 0)
        assert np.array_equal(arrays["next_observations"][inner], arrays["observations"][inner + 1])

    def test_who_speaks_itself_has_no_vectors(self, tmp_path):
        (episode,) = collect(PREFIX, "oracle", 1, tmp_path)
        assert episode.actions is None
        with pytest.raises(ValueError, match=r"episode 0 \(seed 0\) has no vectors"):
            transitions([episode])
        with pytest.raises(ValueError, match="at least one episode"):
            transitions([])

    def test_the_language_model_of_the_environment_speaks(self):
        assert actor("lm", PREFIX, {}, 2).name == "lm"
        assert actor("lm", TEXT, {}, 2, lm="tiny").name == "lm(tiny)"
        assert actor("lm", TEXT, {}, 2).name == "lm(tiny-bargain)", "the model of the world"

    def test_a_trained_agent(self, tmp_path):
        from dialog_gym.agents.td3 import Args, train

        small: dict[str, Any] = {
            "steps": 64,
            "rows": 8,
            "random_steps": 16,
            "eval_every": 0,
            "hidden": (8,),
            "track": "none",
        }
        train(Args(env=PREFIX, out=str(tmp_path / "run"), progress=False, batch=8, **small))
        found = list(collect(PREFIX, str(tmp_path / "run"), 3, tmp_path / "data"))
        assert len(found) == 3
        assert all(e.actions is not None and e.policy.endswith("run") for e in found)


class TestAnotherAgentInTheSamePlace:
    @staticmethod
    def save(folder, seed):
        seen: Any = make_rows(PREFIX, 1).single_observation_space.shape
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            agent = TD3(seen[0], 16, Args(hidden=(8,), critic_hidden=(8,)))
        agent.save(folder)

    def test_it_does_not_go_on_with_the_episodes(self, tmp_path):
        agent, out = str(tmp_path / "agent"), tmp_path / "data"
        self.save(agent, 1)
        before = collect(PREFIX, agent, 2, out).content_hash
        self.save(agent, 2)
        with pytest.raises(DatasetError, match=r"the agent in .*agent has changed since it played .*another out"):
            collect(PREFIX, agent, 4, out)
        assert Episodes.load(out).content_hash == before
        assert len(collect(PREFIX, "oracle", 2, out)) == 4, "others may play"
        self.save(agent, 1)
        assert len(collect(PREFIX, agent, 3, out)) == 5, "it is back"

    def test_nor_with_the_states_it_reached(self, tmp_path):
        agent, out = str(tmp_path / "agent"), tmp_path / "data"
        self.save(agent, 1)
        options = Options(PREFIX, reach=agent, candidates=("oracle", "random"), k=2, plays=1)
        collect_rankings(options, 1, out)
        self.save(agent, 2)
        with pytest.raises(DatasetError, match="has changed since"):
            collect_rankings(options, 2, out)

    def test_of_what_older_versions_collected_nobody_knows_who_played(self, tmp_path):
        agent, out = str(tmp_path / "agent"), tmp_path / "data"
        self.save(agent, 1)
        whole = collect(PREFIX, agent, 3, tmp_path / "whole", rows=1)
        collect(PREFIX, agent, 2, out, rows=1)
        (out / AGENTS).unlink()
        assert collect(PREFIX, agent, 3, out, rows=1).content_hash == whole.content_hash


@pytest.mark.parametrize(
    ("policy", "env", "settings", "told"),
    [
        ("orakle", TEXT, {}, "did you mean 'oracle'"),
        ("oracle", TEXT, {"episodes": 0}, "episodes must be at least 1, got 0"),
        ("oracle", TEXT, {"rows": 0}, "rows must be at least 1, got 0"),
        ("oracle", TEXT, {"env_kwargs": {"colour": "red"}}, "cannot be made with"),
        ("oracle", "CartPole-v1", {}, "CartPole-v1 cannot be made with"),
    ],
)
def test_mistakes(tmp_path, policy, env, settings, told):
    given = {"episodes": 2, **settings}
    with pytest.raises((ValueError, KeyError), match=told):
        collect(env, policy, given.pop("episodes"), tmp_path / "new", **given)
    assert not (tmp_path / "new").exists(), "nothing is made for a mistake"


def test_every_baseline_has_a_way(tmp_path):
    for name in baselines.POLICIES:
        if name != "constant":  # takes a search
            assert len(collect(PREFIX, name, 1, tmp_path / name)) == 1
    json.dumps([episode.to_json() for episode in Episodes.load(tmp_path / "lm")])
