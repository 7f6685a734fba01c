"""The decision transformer on words: return tokens, targets, and what they do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.agent import load_agent
from dialog_gym.agents import dt
from dialog_gym.agents.lm_data import read_data
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.episodes import Episodes, Recorded
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.dialogue import Dialogue, Scenario, Turn
from dialog_gym.env import advance
from dialog_gym.rollout import make_rows, play
from tests.agents.graph import GRAPH, Walk, random_walks, walker

QUICK: dict[str, Any] = {
    "env": GRAPH,
    "max_tokens": 4,
    "eval_every": 0,
    "track": "none",
    "progress": False,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm")


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    return str(random_walks(tmp_path_factory.mktemp("walks") / "data", 800))


@pytest.fixture
def training(walks, spec):
    return dt.Training(dt.DT, dt.Args(data=(walks,), lm=spec, limit=60, edges=(0.5, 1.0), gamma=0.5, **QUICK))


def test_edges_by_hand():
    assert dt.edges_of([0.0, 1.0, 2.0, 3.0, 4.0], 4, "quantiles") == [1.0, 2.0, 3.0]
    assert dt.edges_of([0.0] * 9 + [1.0], 10, "quantiles") == [1.0]  # most share a token
    assert dt.edges_of([0.0] * 9 + [1.0], 4, "range") == [0.25, 0.5, 0.75]
    with pytest.raises(DatasetError, match="all returns-to-go are 1, so no reply is better"):
        dt.edges_of([1.0, 1.0], 4, "range")


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=30).filter(lambda v: len(set(v)) > 1), st.integers(2, 12))
def test_a_better_return_never_gets_a_worse_token(returns, buckets):
    for by in ("quantiles", "range"):
        edges = dt.edges_of(returns, buckets, by)
        assert len(edges) < buckets
        found = [dt.bucket(value, edges) for value in sorted(returns)]
        assert found == sorted(found)
        assert found[0] == 0 < found[-1]


def test_the_two_tokens_of_the_paper():
    assert [dt.bucket(reward, [1.0]) for reward in (0.0, 0.99, 1.0)] == [0, 0, 1]


def test_each_reply_stands_behind_the_token_of_its_return_to_go(training):
    policy = training.agent
    for row in training.train_rows:
        for turn in np.unique(row.turns):
            first = row.said[row.turns == turn][0]
            to_go = float(row.returns[row.turns == turn][0])
            assert row.tokens[first - 1] == policy.tokens[sum(to_go >= edge for edge in (0.5, 1.0))]
        assert not set(row.tokens[row.said]) & set(policy.tokens)
        assert sum(token in policy.tokens for token in row.tokens) == len(np.unique(row.turns))
    returns = [float(value) for row in training.train_rows for value in row.returns]
    assert max(returns) == 1.0 == policy.more["best"]


def test_the_prompt_is_what_was_learned(training, walks):
    policy, task = training.agent, training.agent.task
    one = next(one for one in read_data([walks], policy.lm) if len(one.replies) > 2 and not one.total)
    (row,) = training.tokens([one], mark=policy.mark)
    dialogue = Dialogue(Scenario(one.prompts[0][0]["content"]), task.roles, 7, state={"at": 1, "steps": 0})
    policy.args = replace(policy.args, target=0.0)
    for turn, (prompt, reply) in enumerate(zip(one.prompts, one.replies, strict=True)):
        turns = [Turn("walker" if m["role"] == "assistant" else "guide", m["content"]) for m in prompt[1:]]
        (ids,) = policy.prompt_ids([replace(dialogue, turns=tuple(turns), turn=-1)])
        assert ids == row.tokens[: row.said[row.turns == turn][0]].tolist()
        assert reply


@pytest.fixture(scope="module")
def rankings(tmp_path_factory):
    """Rankings in the graph, one of two candidates reaching the goal, behind no turn, one and two."""
    folder = tmp_path_factory.mktemp("rankings") / "data"
    with Rankings.writing(folder) as file:
        for number, past in enumerate(((), ("n1", "at n1"), ("n1", "at n1", "n2", "at n2"))):
            turns = tuple(Turn(who, text) for who, text in zip(("walker", "guide") * 2, past, strict=False))
            context = Dialogue(Scenario("from n3 ."), ("walker", "guide"), number, turns, state={"at": 3, "steps": 0})
            file.add(Ranking((), ("n0", "n4"), (1.0, 0.0), dialogue=context, meta={"env": GRAPH}))
    return str(folder)


def ranked(rankings, spec, **settings):
    args = dt.Args(data=(rankings,), lm=spec, edges=(1.0,), held_out=0.0, **{**QUICK, **settings})
    return dt.Training(dt.DT, args)


@pytest.mark.parametrize("env", [GRAPH, ""])
def test_of_rankings_only_the_reply_is_marked_and_prompted_so(rankings, spec, env):
    made = ranked(rankings, spec, env=env)
    policy, contexts = made.agent, [row.dialogue for row in Rankings.load(rankings)]
    for target, first in ((1.0, 0), (0.0, 1)):
        policy.args = replace(policy.args, target=target)
        asked = policy.prompt_ids(contexts)
        assert asked == [row.tokens[: row.said[0]].tolist() for row in made.train_rows[first::2]]
        assert [ids[-1] for ids in asked] == [policy.tokens[int(target)]] * 3
        assert all(sum(token in policy.tokens for token in ids) == 1 for ids in asked)


def test_a_policy_of_rankings_speaks_and_is_saved_as_one(rankings, spec, tmp_path):
    agent = ranked(rankings, spec).agent
    agent.save(tmp_path / "a")
    rows = make_rows(GRAPH, 3).reset(seed=1)[1]
    assert load_agent(tmp_path / "a").act(None, rows) == agent.act(None, rows)


def test_of_a_corpus_each_turn_is_marked_and_prompted_so(spec, tmp_path):
    said = (Turn("guide", "from n3"), Turn("walker", "n1"), Turn("guide", "at n1"), Turn("walker", "n0"))
    dialogue = Dialogue(Scenario("a walk"), ("walker", "guide"), 5, said, stop_reason="end")
    with Episodes.writing(tmp_path / "people") as file:
        for number, last in enumerate((1.0, 0.0)):
            file.add(Recorded(number, dialogue, (0.0, last), (0.0, 0.0), policy="human"))
    args = dt.Args(data=(str(tmp_path / "people"),), lm=spec, edges=(1.0,), held_out=0.0, **{**QUICK, "env": ""})
    made = dt.Training(dt.DT, args)
    policy, row = made.agent, made.train_rows[0]
    assert policy.more["ranked"] is False
    for turn, place in enumerate((1, 3)):
        (ids,) = policy.prompt_ids([replace(dialogue, turns=said[:place], turn=-1, stop_reason="")])
        assert ids == row.tokens[: row.said[row.turns == turn][0]].tolist()
    assert sum(token in policy.tokens for token in row.tokens) == 2


def test_dialogues_and_rankings_together_are_refused(rankings, walks, spec):
    with pytest.raises(DatasetError, match=r"dt learns from dialogues.* or from rankings.* got both"):
        dt.Training(dt.DT, dt.Args(data=(walks, rankings), lm=spec, **QUICK))


def test_targets_fall_by_what_was_received(training):
    policy = training.agent  # gamma .5
    policy.args = replace(policy.args, target=2.0)
    start = Dialogue(Scenario("s"), ("walker", "guide"), 3)
    first = start.said("walker", "a").said("guide", "b")
    second = first.said("walker", "c")
    assert policy.targets(start, 0.0) == [2.0]
    assert policy.targets(first, 0.5) == [2.0, 3.0]  # (2 - .5) / .5
    assert policy.targets(second, 1.0) == [2.0, 3.0, 4.0]
    assert policy.targets(replace(second, seed=4), 1.0) == [2.0, 2.0, 2.0]  # taken up in its middle
    policy.args = replace(policy.args, decrease=False)
    assert policy.targets(first, 0.5) == [2.0, 2.0]


def test_rewards_come_from_the_task(training):
    task = Walk()
    policy, opened = training.agent, make_rows(GRAPH, 4).reset(seed=1)[1]["dialogue"]
    after = advance(task, opened, [task.oracle(d) for d in opened])
    assert policy._rewards([*opened, *after.dialogues]) == [0.0] * 4 + [pytest.approx(r) for r in after.rewards]


def test_settings_that_contradict_themselves_are_refused(walks, spec):
    for settings, message in (
        ({"buckets": 1}, "buckets must be at least 2"),
        ({"edges": (1.0, 0.5)}, "edges must ascend"),
        ({"gamma": 0.0}, "gamma must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            dt.Args(**settings)


def test_asked_for_more_it_earns_more_than_its_data(walks, spec, tmp_path):
    args = dt.Args(
        data=(walks,), lm=spec, out=str(tmp_path / "a"), gamma=0.9, by="range", steps=150, batch=64, lr=8e-3, **QUICK
    )
    agent = dt.train(args)

    def score(target):
        agent.args = replace(args, target=target)
        agent.forget()
        agent._targets.clear()
        return np.mean([episode.total for _, episode in play(agent, make_rows(GRAPH, 32), 64, seed=10**6)])

    best, worst = score(None), score(0.0)
    assert best > 0.4  # walks at random: .29
    assert worst < 0.15
    loaded = load_agent(tmp_path / "a")
    _, infos = make_rows(GRAPH, 5).reset(seed=3)
    agent.args = args
    agent.forget()
    assert loaded.act(None, infos) == agent.act(None, infos)
