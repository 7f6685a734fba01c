"""Roll-outs: the candidate that does best is said, and what that costs is told."""

import json

import numpy as np
import pytest

from dialog_gym.agents import rollouts
from dialog_gym.agents.rollouts import Args, Rollouts
from dialog_gym.rollout import make_rows, play
from tests.agents.graph import GRAPH, walker


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm")


def mean(agent, episodes=32):
    return np.mean([episode.total for _, episode in play(agent, make_rows(GRAPH, 16), episodes, seed=10**6)])


def planner(monkeypatch, **settings):
    """Return a planner whose candidates are walks at random."""
    agent = Rollouts(Args(env=GRAPH, by="wander", **settings))
    wander = agent.imagined.wander  # type: ignore[attr-defined]
    monkeypatch.setitem(agent.__dict__, "_proposes", lambda dialogues: [wander(d) for d in dialogues])
    return agent


def test_more_roll_outs_say_better_things(monkeypatch):
    few, many = planner(monkeypatch, k=3, plays=1), planner(monkeypatch, k=6, plays=12)
    assert mean(many) > mean(few) > 0.29  # walks at random
    assert mean(many) > 0.65


def test_it_plays_out_by_the_oracle_too(monkeypatch):
    agent = planner(monkeypatch, k=6, plays=1)
    monkeypatch.setitem(agent.__dict__, "_goes_on", lambda ds: [agent.imagined.oracle(d) for d in ds])
    assert mean(agent) > 0.9


def test_the_same_dialogues_get_the_same_words_in_any_row(spec):
    agent = Rollouts(Args(env=GRAPH, lm=spec, k=3, plays=2, max_tokens=4))
    _, infos = make_rows(GRAPH, 4).reset(seed=5)
    said = agent.act(None, infos)
    assert agent.act(None, {"dialogue": infos["dialogue"][::-1]}) == said[::-1]
    with pytest.raises(ValueError, match=r"fork the dialogues in infos\['dialogue'\]"):
        agent.act(None, {})


def test_what_a_turn_costs_is_told_in_tokens(spec, tmp_path):
    args = Args(env=GRAPH, lm=spec, k=2, plays=3, max_tokens=4, eval_episodes=4, out=str(tmp_path / "a"), track="none")
    agent = rollouts.train(args)
    assert agent.turns >= 4
    assert agent.cost["plays"] <= 6
    assert 2 * 1 <= agent.cost["generated"] <= 4 * (8 + 6 * 8)  # two candidates, and six plays of up to 8 turns
    assert agent.cost["prefilled"] > 0
    told = json.loads((tmp_path / "a" / "result.json").read_text())
    assert told["cost/generated_per_turn"] == agent.cost["generated"]
    assert told["eval/return"] >= 0
    assert Rollouts.load(tmp_path / "a" / "agent").args == args
    assert rollouts.train(args).args == args  # finished


def test_settings_that_make_no_plan_are_refused():
    with pytest.raises(ValueError, match="k must be at least 2, got 1"):
        Args(k=1)
    with pytest.raises(ValueError, match="temperature must be above 0 for candidates to differ"):
        Args(temperature=0.0)
    with pytest.raises(ValueError, match="expected actions that are text"):
        _ = Rollouts(Args(env="dialog_gym/BargainPrefix-v0")).imagined
    with pytest.raises(KeyError, match="no policy named 'wonder'; did you mean 'wander'"):
        _ = Rollouts(Args(env=GRAPH, by="wonder"))._goes_on
