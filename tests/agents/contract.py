"""What every agent that learns in an environment keeps to. One call tests a new agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dialog_gym.agent import Agent, agent_spec, load_agent
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.runs import RunFolderError
from tests.agents.worlds import AIM, Aim
from tests.test_chance import random_state

QUICK: dict[str, Any] = {"env": AIM, "eval_every": 0, "track": "none", "progress": False}


def mean_return(agent: Agent, episodes: int = 256, **settings: Any) -> float:
    """Return what ``agent`` earns in ``Aim`` on seeds that no training uses."""
    env = Aim(episodes, **settings)
    observations, _ = env.reset(seed=10**6)
    for _ in range(env.turns):
        observations, rewards, *_ = env.step(agent.act(observations))
    return float(rewards.mean())


def numbers(folder: Path) -> list[dict[str, float]]:
    """Return the metrics of a run without those that depend on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines]


def check_agent(name: str, folder: Path, args: Any) -> None:
    """Check the agent ``name`` with settings ``args`` for ``Aim`` that make it learn for a moment."""
    spec = agent_spec(name)
    agent = spec.train(replace(args, out=str(folder / "a")))
    observations = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    check_actions(agent, observations)
    check_saving(agent, observations, folder)
    check_repeats(spec.train, args, agent, observations, folder)


def check_actions(agent: Agent, observations: np.ndarray[Any, Any]) -> None:
    actions = agent.act(observations)
    assert actions.shape == (5, 2)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    np.testing.assert_array_equal(agent.act(observations), actions)
    np.testing.assert_array_equal(agent(observations, {}), actions)
    np.testing.assert_allclose(agent.act(observations[2:3])[0], actions[2], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"expected observations of shape \(n, 4\).*got \(4,\)"):
        agent.act(observations[0])
    spoiled = observations.copy()
    spoiled[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3 has a NaN"):
        agent.act(spoiled)


def check_saving(agent: Agent, observations: np.ndarray[Any, Any], folder: Path) -> None:
    for place in (folder / "a", folder / "a" / "agent"):  # the run, and the agent in it
        loaded = load_agent(place)
        assert type(loaded) is type(agent)
        np.testing.assert_array_equal(loaded.act(observations), agent.act(observations))
    agent.save(folder / "saved")
    agent.save(folder / "saved")  # replaces itself
    np.testing.assert_array_equal(load_agent(folder / "saved").act(observations), agent.act(observations))
    assert {path.name for path in (folder / "saved").iterdir()} == {"arrays.safetensors", "checkpoint.json"}
    arrays = folder / "saved" / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_agent(folder / "saved")
    (folder / "other").mkdir()
    (folder / "other" / "mine.txt").write_text("keep")
    with pytest.raises(CheckpointError, match="choose another folder"):
        agent.save(folder / "other")


def check_repeats(
    train: Callable[..., Agent], args: Any, agent: Agent, observations: np.ndarray[Any, Any], folder: Path
) -> None:
    state = random_state()
    again = train(replace(args, out=str(folder / "b")))
    assert random_state() == state  # left alone
    np.testing.assert_array_equal(again.act(observations), agent.act(observations))
    assert numbers(folder / "a") == numbers(folder / "b")
    finished = train(replace(args, out=str(folder / "a")))  # at once
    np.testing.assert_array_equal(finished.act(observations), agent.act(observations))
    other = train(replace(args, out=str(folder / "c"), seed=args.seed + 1))
    assert not np.array_equal(other.act(observations), agent.act(observations))
    with pytest.raises(RunFolderError, match=r"args.seed \(there 2, now 1\)"):
        train(replace(args, out=str(folder / "c")))
