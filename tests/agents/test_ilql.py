"""ILQL: what it learns in a world whose optimum is known, what it says, and that it goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dialog_gym.agent import agent_spec, load_agent
from dialog_gym.agents.ilql import ILQL, Args, Training, rescaled, scale_of, train
from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_tokens import batch_of
from dialog_gym.agents.tf import TFAll
from dialog_gym.data.columns import DatasetError
from dialog_gym.rollout import evaluate, make_rows
from tests.agents.contract import numbers
from tests.agents.graph import GRAPH, random_walks, walker

STEPS = 400


@pytest.fixture(scope="module")
def args(tmp_path_factory: pytest.TempPathFactory) -> Args:
    """Settings for the graph: 1000 random walks, and a model that knows nothing."""
    folder = tmp_path_factory.mktemp("ilql")
    data = random_walks(folder / "data", 1000)
    quiet: dict[str, Any] = {"eval_every": 0, "track": "none", "progress": False}
    return Args(env=GRAPH, lm=walker(folder / "model"), data=(str(data),), out=str(folder / "run"), steps=STEPS,
                checkpoint_every=STEPS, lr=1e-2, alpha=0.05, max_tokens=6, **quiet)  # fmt: skip


@pytest.fixture(scope="module")
def trained(args: Args) -> ILQL:
    return train(args)


@pytest.fixture
def agent(trained: ILQL) -> ILQL:
    return trained.set(beta=2.0, top_k=0, floor=0.1, temperature=0.0, candidates=1, rank="q")


def short(args: Args, folder: Path, **settings: Any) -> Args:
    return replace(
        args,
        out=str(folder),
        **{"steps": 6, "checkpoint_every": 2, "batch": 8, "log_every": 1, "limit": 60} | settings,
    )


def returns(agent: ILQL, **settings: Any) -> Any:
    return evaluate(agent.set(**settings), GRAPH, episodes=128, seed=10**6, rows=64)


# --- the graph ---------------------------------------------------------------------------------


def test_it_finds_ways_that_nobody_walked(agent):
    behaviour = returns(agent, beta=0.0, temperature=1.0, floor=0.0)
    alone = returns(agent, beta=0.0, temperature=0.0, floor=0.1)
    steered = returns(agent, beta=2.0)
    assert steered.interval[0] > alone.interval[1]
    assert steered.interval[0] > behaviour.interval[1]
    assert steered.mean > 0.7
    assert behaviour.mean < 0.5


def test_the_best_of_some_candidates_earns_more_than_one(agent):
    one = returns(agent, beta=0.0, temperature=1.0)
    for rank in ("q", "v"):
        assert returns(agent, candidates=6, rank=rank).interval[0] > one.interval[1]


# --- speaking ----------------------------------------------------------------------------------


def test_without_beta_it_says_what_the_language_model_alone_says(agent):
    dialogues = make_rows(GRAPH, 16, {}).reset(seed=3)[1]["dialogue"]
    for temperature in (0.0, 1.0):
        agent.set(beta=0.0, floor=0.0, temperature=temperature)
        mine = agent.speak(dialogues)
        agent.forget()
        alone = TFAll.build(agent.args)
        alone.network.model.load_state_dict(agent.network.model.state_dict())
        theirs = alone.speak(dialogues)
        assert [(one.drawn.tokens, one.drawn.logprobs) for one in mine if one] == [
            (one.drawn.tokens, one.drawn.logprobs) for one in theirs if one
        ]


def test_scores_in_the_loop_are_those_of_the_formula(agent):
    (dialogue,) = make_rows(GRAPH, 1, {}).reset(seed=3)[1]["dialogue"]
    agent.set(beta=2.0, floor=0.02, temperature=0.7)
    (said,) = agent.speak([dialogue])
    assert said is not None
    tokens = torch.tensor([[*said.prompt, *said.drawn.tokens]])
    where = torch.arange(len(said.prompt) - 1, tokens.shape[1] - 1)
    with torch.no_grad():
        outputs = agent.network.eval()(tokens, torch.arange(tokens.shape[1])[None], where)
        heads, states = agent.network.heads, outputs.hidden
        q = [heads[f"target{k}"].all(states) + heads[f"target_base{k}"].all(states) for k in (0, 1)]
        least = torch.minimum(*q)
        scores = torch.log_softmax(outputs.logits, -1) + 2.0 * (least - heads["v"](states))
        scores[outputs.logits.softmax(-1) < 0.02] = -torch.inf
    wanted = scores.log_softmax(-1)[torch.arange(len(where)), torch.tensor(said.drawn.tokens)]
    np.testing.assert_allclose(said.drawn.logprobs, wanted.numpy(), rtol=0, atol=1e-4)


def test_settings_of_speaking_change_at_once_and_are_saved(agent, tmp_path):
    env = make_rows(GRAPH, 32, {})
    observations, infos = env.reset(seed=5)
    said = {beta: agent.set(beta=beta).act(observations, infos) for beta in (0.0, 2.0)}
    assert said[0.0] != said[2.0]
    agent.save(tmp_path)
    loaded = load_agent(tmp_path)
    assert isinstance(loaded, ILQL)
    assert loaded.args.beta == 2.0
    assert loaded.act(observations, infos) == said[2.0]
    assert not any(parameter.requires_grad for slow, _ in loaded.followers() for parameter in slow.parameters())
    with pytest.raises(ValueError, match="candidates above 1 are sampled: set temperature above 0"):
        agent.set(candidates=2)
    env.close()


def test_evaluations_try_further_betas(args, tmp_path):
    train(short(args, tmp_path, betas=(0.0, 9.0), eval_every=6, eval_episodes=8, samples=0))
    found = numbers(tmp_path)[-1]
    assert {"eval/return", "eval/return_beta_0", "eval/return_beta_9", "eval/q_error"} <= set(found)
    saved = load_agent(tmp_path)
    assert isinstance(saved, ILQL)
    assert saved.args.beta == args.beta


# --- training ----------------------------------------------------------------------------------


def test_targets_follow_by_the_formula_and_period(args, tmp_path):
    training = Training(ILQL, short(args, tmp_path, alpha=0.25, sync_every=3))
    heads = training.agent.network.heads
    before = [value.clone() for value in heads["target0"].parameters()]
    assert all(torch.equal(*pair) for pair in zip(before, heads["q0"].parameters(), strict=True))
    assert not training.agent.advantage(torch.randn(3, 32)).any()  # nothing is known, nothing is promised
    for step in range(6):
        training.advance()
        if step in (2, 5):
            wanted = [old + 0.25 * (new - old) for old, new in zip(before, heads["q0"].parameters(), strict=True)]
            before = [value.clone() for value in heads["target0"].parameters()]
        else:
            wanted = before
        torch.testing.assert_close(list(heads["target0"].parameters()), wanted)


@pytest.mark.parametrize("lora", [0, 2])
def test_frozen_parts_get_no_gradient_and_do_not_change(args, tmp_path, lora):
    training = Training(ILQL, short(args, tmp_path, lora=lora, awac_beta=1.0, alpha=1e-9))
    network = training.agent.network
    frozen = {name: p.clone() for name, p in network.named_parameters() if not p.requires_grad}
    assert sum("target" in name for name in frozen) == 16
    assert (len(frozen) > 16) == bool(lora)
    batch = batch_of(training.train_rows[:4])
    training.loss(network(batch.tokens, batch.positions, batch.where), batch)[0].backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name
    training = Training(ILQL, short(args, tmp_path, lora=lora, alpha=1e-9))
    for _ in range(3):
        training.advance()
    for name, parameter in training.agent.network.named_parameters():
        if name in frozen and "target" not in name:
            assert torch.equal(parameter, frozen[name]), name


def test_a_batch_in_parts_or_packed_is_the_same_batch(args, tmp_path):
    found = []
    for settings in ({}, {"micro": 4}, {"micro": 1}, {"packed": True}):
        training = Training(ILQL, short(args, tmp_path, lr=1e-3, awac_beta=0.5, monte_carlo=0.3, **settings))
        for _ in range(3):  # Monte-Carlo targets, then V's
            training.advance()
        found.append({name: value.detach().clone() for name, value in training.agent.network.named_parameters()})
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=0, atol=2e-5)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(args, tmp_path, monkeypatch):
    whole = train(short(args, tmp_path / "whole", lora=2, lora_dropout=0.1))
    stopped = short(args, tmp_path / "run", lora=2, lora_dropout=0.1)
    advance = Training.advance

    def crash(self):
        if self.step == 5:
            raise RuntimeError("killed")
        advance(self)

    monkeypatch.setattr(Training, "advance", crash)
    with pytest.raises(RuntimeError, match="killed"):
        train(stopped)
    monkeypatch.undo()
    again = train(stopped)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    assert any(not torch.equal(*pair) for pair in zip(
        whole.network.heads["q0"].parameters(), whole.network.heads["target0"].parameters(), strict=True))  # fmt: skip
    assert numbers(tmp_path / "run")[-1] == numbers(tmp_path / "whole")[-1]


def test_targets_of_the_first_updates_are_what_was_earned(args, tmp_path):
    training = Training(ILQL, short(args, tmp_path, gamma=0.5, monte_carlo=0.5))
    batch = batch_of(training.train_rows[:8])
    values = torch.arange(len(batch.actions), dtype=torch.float32)
    torch.testing.assert_close(training.target(values, batch), batch.returns)
    training.step = 3
    row = batch.row == 0
    ends = batch.ends_turn[row]
    mine = training.target(values, batch)[row]
    count = int(row.sum())
    wanted = batch.rewards[row] + torch.where(ends, 0.5, 1.0) * torch.arange(1, count + 1).where(
        torch.arange(count) < count - 1, 0
    )
    torch.testing.assert_close(mine, wanted)


# --- rewards, settings -------------------------------------------------------------------------


def test_rewards_are_scaled_by_the_spread_of_returns():
    assert scale_of([1.0, 3.0, 5.0, 7.0], "whiten") == pytest.approx((4.0, 5**0.5))
    told = Told(([], []), ("a", "b"), (1.0, 3.0))
    assert rescaled(told, 4.0, 2.0).rewards == (0.5, -0.5)
    assert rescaled(told, 0.0, 2.0).rewards == (0.5, 1.5)


def test_rewards_that_are_all_the_same_are_refused(args, tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match=r"all 2 dialogues have the return 0.3, so no token is worth more"):
        scale_of([0.3, 0.3], "std")
    rows = Training.rows

    def nothing_earned(self: Training, kept: list[Told], out: list[Told]) -> Any:
        return rows(self, [replace(one, rewards=(0.0,) * len(one.rewards)) for one in kept], out)

    monkeypatch.setattr(Training, "rows", nothing_earned)
    with pytest.raises(DatasetError, match="have the return 0"):
        train(replace(args, out=str(tmp_path), limit=20))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0.0}, "tau and alpha must be above 0"),
        ({"tau": 1.2}, "tau must be at most 1, got 1.2"),
        ({"floor": 2.0}, "floor must be at most 1"),
        ({"cql": -1.0}, "cql must be at least 0"),
        ({"per": "x"}, "per must be one of 'turn', 'token', got 'x'"),
        ({"rank": "x"}, "rank must be one of 'q', 'v', got 'x'"),
        ({"empty": "skp"}, "empty must be one of 'refuse', 'skip', 'keep', got 'skp'"),
        ({"best": "retrun"}, "best must be one of 'loss', 'return', 'none', got 'retrun'"),
        ({"candidates": 4, "temperature": 0.0}, "set temperature above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Args(**settings)


def test_it_is_registered():
    spec = agent_spec("ilql")
    assert (spec.cls, spec.args) == (ILQL, Args)
