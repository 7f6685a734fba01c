"""TD3: hand-worked losses, published shapes, learning, and runs that end the same however often they are killed."""

import copy
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.agent import load_agent, main
from dialog_gym.agents.collect import Collector
from dialog_gym.agents.replay import Batch, ReplayBuffer, Whole
from dialog_gym.agents.td3 import TD3, Args, Training, train
from dialog_gym.agents.td3_learner import Actor, Critics, Learner, actor_loss, critic_loss, td3_target
from dialog_gym.checkpoint import CheckpointError
from dialog_gym.runs import Interrupted
from dialog_gym.wrappers.vector import text_env
from tests.agents.contract import QUICK, check_agent, mean_return, numbers
from tests.agents.worlds import AIM

SHORT = Args(**QUICK, rows=4, steps=240, random_steps=40, batch=16, hidden=(16,), critic_hidden=(16,),
             log_every=40, checkpoint_every=80)  # fmt: skip
ROOT = Path(__file__).parents[2]


def tensor(*values):
    return torch.tensor(values)


# Losses


def test_target_by_hand():
    rewards, discounts, next_q = (
        tensor(1.0, 2.0, 0.5),
        tensor(0.5, 0.0, 0.5),
        tensor([4.0, 9.0, -1.0], [3.0, 8.0, 2.0]),
    )
    torch.testing.assert_close(td3_target(rewards, discounts, next_q), tensor(2.5, 2.0, 0.0))
    torch.testing.assert_close(td3_target(rewards, discounts, next_q, (0.25, 2.25)), tensor(2.25, 2.0, 0.25))


def test_critic_loss_by_hand():
    # Critic 1 is off by 1 and 0, critic 2 by 2 and 2: 1/2 + 8/2.
    torch.testing.assert_close(critic_loss(tensor([1.0, 2.0], [2.0, 4.0]), tensor(0.0, 2.0)), torch.tensor(4.5))


def test_actor_losses_by_hand():
    q1, actions, taken = tensor(1.0, -3.0), tensor([0.0, 1.0], [0.5, 0.5]), tensor([0.0, 0.0], [0.5, -0.5])
    torch.testing.assert_close(actor_loss(q1, actions, taken, alpha=0), torch.tensor(1.0))
    # lambda = 3 / mean(1, 3) = 1.5; -1.5 * -1 + (0 + 1 + 0 + 1) / 4
    torch.testing.assert_close(actor_loss(q1, actions, taken, alpha=3), torch.tensor(2.0))


def test_no_gradient_flows_through_lambda():
    q1 = tensor(1.0, -3.0).requires_grad_()
    actor_loss(q1, torch.zeros(2, 1), torch.zeros(2, 1), alpha=3).backward()
    torch.testing.assert_close(q1.grad, tensor(-0.75, -0.75))


# Networks


@pytest.mark.parametrize(("size", "actor", "critic"), [(64, 33_824_832, 18_092_545), (128, 34_087_040, 18_354_689)])
def test_published_parameter_counts(size, actor, critic):
    args = Args.published()
    with torch.device("meta"):
        assert sum(p.numel() for p in Actor(4096, size, args).parameters()) == actor
        assert sum(p.numel() for p in Critics(4096, size, args).parameters()) == 2 * critic


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), st.sampled_from([0.1, 0.6, 1.0]))
def test_actions_have_the_norm_that_is_asked_for(observation, act_norm):
    actor = Actor(3, 4, replace(SHORT, act_norm=act_norm), torch.Generator().manual_seed(0))
    assert actor(torch.tensor([observation])).norm().item() == pytest.approx(act_norm, rel=1e-5)


def test_half_critic_answers_half_of_one_more():
    plain, halved = (
        Critics(3, 2, replace(SHORT, half_critic=half), torch.Generator().manual_seed(0)) for half in (False, True)
    )
    observations, actions = torch.randn(5, 3), torch.randn(5, 2)
    torch.testing.assert_close(halved(observations, actions), (plain(observations, actions) + 1) / 2)


def test_critics_see_what_actions_say_and_the_actor_learns_through_it():
    _, learner = make(said_size=4)
    assert learner.critics.net.weights[0].shape[1] == 3 + 4
    before = snapshot(learner.actor)
    metrics = [learner.update(batch(said_size=4)) for _ in range(200)]
    assert metrics[-1]["loss/meaning"] < metrics[0]["loss/meaning"] / 2
    assert not torch.equal(snapshot(learner.actor), before)


def test_a_meaning_is_learned_that_the_actor_uses():
    # What is said is the sign of the first coordinate, and that is what is earned: the actor must find it.
    agent, learner = make(replace(SHORT, actor_lr=3e-3, critic_lr=3e-3, average=0.05), said_size=1)
    drawn = batch(256)
    said = drawn.actions[:, :1].sign()
    learner.meaning.norm.update(said)
    for _ in range(150):
        learner.update(drawn._replace(said=said, rewards=said[:, 0], discounts=torch.zeros(256)))
    seen = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    assert agent.act(seen)[:, 0].min() > 0


def test_a_return_is_decomposed_into_what_each_turn_adds():
    # Three turns, each adding .1 or -.1 by what is said, of which the sum alone is known.
    _, learner = make(replace(SHORT, decompose=True, critic_lr=3e-3), said_size=1)
    generator = torch.Generator().manual_seed(2)
    said = torch.randint(2, (64, 3, 1), generator=generator) * 2.0 - 1
    learner.meaning.norm.update(said.flatten(0, 1))
    used = torch.ones(64, 3)
    used[:32, 2] = 0  # the half of them has two turns
    seen = torch.randn(64, 3, 3, generator=generator)
    whole = Whole(seen, torch.zeros(64, 3, 2), said, used, (0.1 * said[..., 0] * used).sum(1))
    for _ in range(400):
        metrics = learner.update(batch(said_size=1), whole)
    assert metrics["loss/shares"] < 1e-3
    with torch.no_grad():
        found = learner._shares(learner.agent.norm(whole.observations), learner._understood(whole))
    torch.testing.assert_close(found[used > 0], 0.1 * said[..., 0][used > 0], atol=0.06, rtol=0)


def test_what_a_turn_adds_takes_the_place_of_rewards():
    _, learner = make(replace(SHORT, decompose=True, alpha=0.0))
    drawn = batch()
    other = copy.deepcopy(learner)
    learner.update(drawn)
    other.update(drawn._replace(rewards=drawn.rewards + 100))
    assert torch.equal(snapshot(learner.critics), snapshot(other.critics))


def test_it_learns_from_decomposed_returns(tmp_path):
    args = Args(**QUICK, out=str(tmp_path / "run"), rows=16, steps=1500, random_steps=320, batch=256, hidden=(32, 32),
                critic_hidden=(32, 32), critic_lr=3e-3, updates_per_step=0.75, decompose=True)  # fmt: skip
    assert mean_return(train(args)) > 0.65


def test_a_world_tells_what_actions_said_and_it_is_kept(tmp_path):
    rows = Collector("dialog_gym/AdvicePrefix-v0", 3, {"split": "train", "max_turns": 2}, 0, "task")
    rows.begin()
    step = rows.step(np.random.default_rng(0).uniform(-1, 1, (3, rows.action_size)).astype(np.float32))
    dialogues = text_env(rows.env).dialogues
    assert rows.world is not None
    expected = [rows.world.attributes(d, d.roles[0], d.texts(d.roles[0])[-1]) for d in dialogues]
    np.testing.assert_array_equal(step.said, expected)
    assert step.said.any()
    buffer = ReplayBuffer(9, rows.observation_size, rows.action_size, rows=3, said_size=rows.said_size)
    buffer.add(*step)
    drawn = buffer.sample(50, torch.Generator().manual_seed(0), gamma=0.9)
    for action, said in zip(drawn.actions, drawn.said, strict=True):
        row = int(np.abs(step.actions - action.numpy()).sum(1).argmin())
        np.testing.assert_array_equal(said, step.said[row])
    buffer.save(tmp_path / "b.safetensors")
    torch.testing.assert_close(ReplayBuffer.load(tmp_path / "b.safetensors").data, buffer.data[:3])
    assert Collector(AIM, 2, {}, 0).said_size == 0


def test_a_run_that_learns_meanings_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    args = replace(SHORT, env="dialog_gym/AdvicePrefix-v0", env_kwargs={"split": "train"}, budget="task", steps=120,
                   checkpoint_every=40)  # fmt: skip
    whole = train(replace(args, out=str(tmp_path / "whole")))
    crash_at(monkeypatch, 25)
    with pytest.raises(RuntimeError, match="killed"):
        train(replace(args, out=str(tmp_path / "killed")))
    monkeypatch.setattr(Collector, "step", COLLECT)
    ended = train(replace(args, out=str(tmp_path / "killed")))
    for a, b in zip(whole.actor.parameters(), ended.actor.parameters(), strict=True):
        assert torch.equal(a, b)
    lines = numbers(tmp_path / "whole")
    assert lines == numbers(tmp_path / "killed")
    assert any("loss/meaning" in line for line in lines)
    assert any("train/multiplier" in line for line in lines)


def test_residual_starts_at_the_clone_and_leaves_it():
    args = replace(SHORT, residual=True)
    agent, learner = make(args)
    observations = np.random.default_rng(0).normal(size=(8, 3))
    np.testing.assert_array_equal(agent.act(observations), np.zeros((8, 2)))
    for _ in range(4):
        learner.update(batch())
    assert np.abs(agent.act(observations)).min() > 0


# Updates


def make(args=SHORT, said_size=0):
    generator = torch.Generator().manual_seed(0)
    agent = TD3(3, 2, args, generator)
    return agent, Learner(agent, args, generator, said_size)


def batch(count=32, said_size=0):
    rng = torch.Generator().manual_seed(1)
    seen, following, actions = (torch.randn(count, size, generator=rng) for size in (3, 3, 2))
    rewards, said = torch.rand(count, generator=rng), torch.randn(count, said_size, generator=rng)
    return Batch(seen, following, actions.clamp(-1, 1), rewards, torch.full((count,), 0.9), said)


def snapshot(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_updates_fit_a_batch():
    _, learner = make()
    losses = [learner.update(batch())["loss/critic"].item() for _ in range(200)]
    assert losses[-1] < losses[0] / 2


def test_the_actor_waits_and_only_what_should_move_moves():
    agent, learner = make(replace(SHORT, delay=3))
    moving = (agent.actor, learner.critics, learner.target_actor, learner.target_critics)
    for expected in ((0, 1, 0, 0), (0, 1, 0, 0), (1, 1, 1, 1)):
        before = [snapshot(net) for net in moving]
        learner.update(batch())
        assert tuple(int(not torch.equal(b, snapshot(net))) for b, net in zip(before, moving, strict=True)) == expected


def test_targets_follow_by_tau():
    _, learner = make(replace(SHORT, delay=1, tau=0.25))
    before = snapshot(learner.target_critics)
    learner.update(batch())
    torch.testing.assert_close(snapshot(learner.target_critics), before + 0.25 * (snapshot(learner.critics) - before))


def test_who_acts_is_the_average_of_the_actors_in_training():
    agent, learner = make(replace(SHORT, delay=1, average=0.25))
    for number in range(1, 80):
        before = snapshot(agent.actor)
        learner.update(batch())
        rate = min(max(0.25, 10 / number), 1.0)
        torch.testing.assert_close(snapshot(agent.actor), before + rate * (snapshot(learner.actor) - before))
    assert not torch.equal(snapshot(agent.actor), snapshot(learner.actor))


def test_without_averaging_the_actor_in_training_acts():
    agent, learner = make(replace(SHORT, delay=1, average=1.0))
    for _ in range(30):
        learner.update(batch())
    assert torch.equal(snapshot(agent.actor), snapshot(learner.actor))


def test_a_batch_of_one():
    _, learner = make()
    for _ in range(2):
        metrics = learner.update(batch(1))
    assert all(torch.isfinite(value) for value in metrics.values())


# Training


@pytest.mark.parametrize("changes", [{}, {"act_norm": 0.6}, {"residual": True, "n_step": 3}, {"alpha": 2.5}])
def test_contract(tmp_path, changes):
    check_agent("td3", tmp_path, replace(SHORT, **changes))


def test_it_learns(tmp_path):
    args = Args(**QUICK, out=str(tmp_path / "run"), rows=16, steps=1500, random_steps=320, batch=64, hidden=(32, 32),
                critic_hidden=(32, 32), actor_lr=1e-3, critic_lr=3e-3, updates_per_step=0.75)  # fmt: skip
    assert mean_return(train(args)) > 0.9  # random .375, best constant .5, best 1


def test_it_keeps_a_budget(tmp_path):
    settings: Any = {
        "rows": 16,
        "steps": 3000,
        "random_steps": 320,
        "batch": 64,
        "hidden": (32, 32),
        "critic_lr": 3e-3,
    }
    args = Args(**QUICK, **settings, critic_hidden=(32, 32), updates_per_step=0.75, env_kwargs={"costly": True})
    for name, budget in (("free", None), ("kept", 0.5)):
        train(replace(args, out=str(tmp_path / name), budget=budget))
    # |action| .5 earns 1 and costs 1; with .25 it earns .75 at most. The price that tips it is .5.
    free, kept = (mean_return(load_agent(tmp_path / name)) for name in ("free", "kept"))
    assert free > 0.9
    assert 0.55 < kept < 0.85
    last = [line for line in numbers(tmp_path / "kept") if "train/cost" in line][-1]
    assert abs(last["train/cost"] - 0.5) < 0.2
    assert 0.2 < last["train/multiplier"] < 1
    assert not any("train/cost" in line for line in numbers(tmp_path / "free"))


def test_offline_learns_from_a_buffer_and_cloning_stays_with_it(tmp_path):
    collected = train(replace(SHORT, out=str(tmp_path / "c"), steps=2000, random_steps=2000, save_buffer=True))
    file = tmp_path / "c" / "buffer.safetensors"
    assert 0.2 < mean_return(collected) < 0.7
    assert len(ReplayBuffer.load(file)) == 2000
    settings = replace(SHORT, env="no/Env-v0", buffer=str(file), steps=800, batch=64, hidden=(32, 32), actor_lr=1e-3,
                       critic_hidden=(32, 32), critic_lr=3e-3, checkpoint_every=400)  # fmt: skip
    learned = train(replace(settings, out=str(tmp_path / "o"), alpha=2.5))
    assert mean_return(learned) > 0.7
    cloned = train(replace(settings, out=str(tmp_path / "b"), alpha=1e-6))
    observations = np.random.default_rng(0).normal(size=(64, 4))
    assert np.abs(cloned.act(observations)).mean() < np.abs(learned.act(observations)).mean()  # random actions: mean 0


def test_a_share_of_actions_is_uniform_and_falls():
    training = Training(replace(SHORT, rows=64, steps=6400, uniform=0.5, explore=0.0, explore_end=0.0))
    training.begin()
    training.step = 3200  # half of the way: a quarter
    moved = 0
    assert training.collector is not None
    for _ in range(10):
        seen = training.collector.observations
        expected = training.learner.actor(training.agent.norm(torch.from_numpy(seen))).detach().numpy()
        training._collect(training.collector)
        taken = training.buffer.data[training.buffer.position - 64 : training.buffer.position, 8:10].numpy()
        moved += int((np.abs(taken - expected) > 1e-5).any(axis=1).sum())
    assert 100 < moved < 210  # of 640
    training.close()


def test_training_can_start_from_a_planner(tmp_path):
    first = train(replace(SHORT, out=str(tmp_path / "a")))
    second = train(replace(SHORT, out=str(tmp_path / "b"), start=str(tmp_path / "a"), updates_per_step=0))
    assert all(torch.equal(a, b) for a, b in zip(first.actor.parameters(), second.actor.parameters(), strict=True))
    with pytest.raises(ValueError, match="no TD3 planner of this shape"):
        train(replace(SHORT, out=str(tmp_path / "c"), start=str(tmp_path / "a"), hidden=(8,)))


def test_a_broken_environment_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"toy/Aim-v0: the observation of row 1 has a NaN"):
        train(replace(SHORT, out=str(tmp_path), env_kwargs={"broken": "observation"}))


# Stop and go on

COLLECT = Collector.step


def crash_at(monkeypatch, call):
    """Let the step number ``call`` of the environment fail, as if the process died there."""
    left = iter(range(call))

    def step(self, actions):
        if next(left, None) is None:
            raise RuntimeError("killed")
        return COLLECT(self, actions)

    monkeypatch.setattr(Collector, "step", step)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"buffer_size": 90, "n_step": 2, "cut_ends": True, "env_kwargs": {"cut": True}},
        {"random_steps": 170, "budget": 0.2, "env_kwargs": {"costly": True}},
        {"uniform": 0.5, "decompose": True},
    ],
)
def test_a_run_killed_again_and_again_ends_like_one_that_was_not(tmp_path, monkeypatch, changes):
    args = replace(SHORT, out=str(tmp_path / "whole"), **changes)
    whole = train(args)
    for crash in (7, 35, 19, 30):  # before the first checkpoint, between, and after
        crash_at(monkeypatch, crash)
        with pytest.raises(RuntimeError, match="killed"):
            train(replace(args, out=str(tmp_path / "killed")))
    monkeypatch.setattr(Collector, "step", COLLECT)
    ended = train(replace(args, out=str(tmp_path / "killed")))
    assert_same_end(whole, ended, tmp_path / "whole", tmp_path / "killed")


def assert_same_end(one, other, folder, other_folder):
    for a, b in zip(one.modules().state_dict().values(), other.modules().state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert numbers(folder) == numbers(other_folder)
    last = "checkpoints/step-000000240/arrays.safetensors"
    assert (folder / last).read_bytes() == (other_folder / last).read_bytes()


def command(folder, **settings):
    flags = {**{k: v for k, v in asdict(SHORT).items() if v != getattr(Args(), k)}, "out": folder, **settings}
    words = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
    return [sys.executable, "-m", "dialog_gym.agents.td3", *words]


def test_sigkill_and_the_same_command_again(tmp_path):
    settings = {"env_kwargs": json.dumps({"turns": 2}), "steps": 1200}
    whole = train(replace(SHORT, out=str(tmp_path / "whole"), env_kwargs={"turns": 2}, steps=1200))
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(killed, **settings), cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list(killed.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline, "no checkpoint within a minute"
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "result.json").exists()
    subprocess.run(command(killed, **settings), cwd=ROOT, check=True, timeout=60)
    ended = TD3.load(killed / "agent")
    for a, b in zip(whole.actor.parameters(), ended.actor.parameters(), strict=True):
        assert torch.equal(a, b)
    assert numbers(tmp_path / "whole") == numbers(killed)


def test_ctrl_c_stops_at_a_checkpoint_and_says_how_to_go_on(tmp_path, monkeypatch):
    def step(self, actions):
        if self.lengths.sum() and not (tmp_path / "pressed").exists():
            (tmp_path / "pressed").touch()
            os.kill(os.getpid(), signal.SIGINT)
        return COLLECT(self, actions)

    monkeypatch.setattr(Collector, "step", step)
    args = replace(SHORT, out=str(tmp_path / "run"))
    with pytest.raises(Interrupted, match=r"stopped at step 80; everything is safe.*start the same command again"):
        train(args)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same_end(
        train(replace(SHORT, out=str(tmp_path / "whole"))), train(args), tmp_path / "whole", tmp_path / "run"
    )


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    def step(self, actions):
        signal.raise_signal(signal.SIGINT)
        return COLLECT(self, actions)

    monkeypatch.setattr(Collector, "step", step)
    with pytest.raises(KeyboardInterrupt, match="stopped at once"):
        train(replace(SHORT, out=str(tmp_path / "run")))


def test_training_works_outside_the_main_thread(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(train(replace(SHORT, out=str(tmp_path)))))
    thread.start()
    thread.join()
    assert isinstance(found[0], TD3)


def test_the_planner_of_an_unfinished_run_can_be_loaded(tmp_path, monkeypatch):
    crash_at(monkeypatch, 30)
    with pytest.raises(RuntimeError, match="killed"):
        train(replace(SHORT, out=str(tmp_path)))
    assert load_agent(tmp_path).act(np.zeros((1, 4))).shape == (1, 2)


def test_a_damaged_checkpoint_says_what_to_do(tmp_path, monkeypatch):
    crash_at(monkeypatch, 50)
    with pytest.raises(RuntimeError, match="killed"):
        train(replace(SHORT, out=str(tmp_path)))
    (last,) = tmp_path.glob("checkpoints/step-000000160")
    (last / "arrays.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"damaged.*Remove .*000160 .*go on from step 80"):
        train(replace(SHORT, out=str(tmp_path)))
    shutil.rmtree(last)
    monkeypatch.setattr(Collector, "step", COLLECT)
    whole = train(replace(SHORT, out=str(tmp_path / "whole")))
    assert_same_end(whole, train(replace(SHORT, out=str(tmp_path))), tmp_path / "whole", tmp_path)


def test_evaluations_are_logged_and_do_not_disturb(tmp_path):
    asked = []

    def evaluate(agent):
        asked.append(agent)
        return {"eval/return": 0.25}

    args = replace(SHORT, eval_every=100)
    agent = train(replace(args, out=str(tmp_path / "a")), evaluate=evaluate)
    assert len(asked) == 3  # at 100, 200 and the end
    found = [line["step"] for line in numbers(tmp_path / "a") if "eval/return" in line]
    assert found == [100, 200, 240]
    silent = train(replace(args, out=str(tmp_path / "b"), eval_every=0))
    assert torch.equal(agent.actor.net.weights[0], silent.actor.net.weights[0])


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"act_norm": 1.5}, r"act_norm must be in \(0, 1\].*got 1.5"),
        ({"act_norm": 0.5, "residual": True}, "give only one"),
        ({"value_range": (1.0, 0.0)}, "smallest and the largest return"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"explore": -0.1}, "explore must be at least 0, got -0.1"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"budget": -0.1}, "budget must be at least 0, got -0.1"),
        ({"decompose": True, "n_step": 2}, "give only one"),
        ({"uniform": 1.5}, "share of actions, 0 to 1, got 1.5"),
        ({"gamma": 1.1}, "gamma must be from 0 to 1, got 1.1"),
        ({"gamma": math.nan}, "gamma must be from 0 to 1, got nan"),
        ({"tau": 0.0}, "tau must be above 0, got 0"),
        ({"tau": 1.5}, "tau must be from 0 to 1, got 1.5"),
        ({"actor_lr": -1e-3}, "actor_lr must be above 0, got -0.001"),
        ({"critic_lr": 0.0}, "critic_lr must be above 0, got 0"),
        ({"target_clip": -0.1}, "target_clip must be at least 0, got -0.1"),
        ({"obs_clip": 0.0}, "obs_clip must be above 0, got 0"),
        ({"activation": "tanh"}, "activation must be one of 'relu', 'silu', got 'tanh'"),
        ({"track": "tensorbord"}, "track must be one of 'tensorboard', 'wandb', 'none', got 'tensorbord'"),
        ({"budget": "tsk"}, "budget must be one of 'task', float, None, got 'tsk'"),
        ({"hidden": (8, 0)}, "hidden must be widths of at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Args(**settings)


@pytest.mark.parametrize("budget", [None, 0, 0.5, np.float32(0.5), "task"])
def test_every_form_of_a_budget_is_a_choice(budget):
    assert Args(budget=budget).budget == budget


def test_settings_at_their_bounds_are_accepted():
    Args(gamma=0.0, tau=1.0, target_clip=0.0, obs_clip=math.inf)
    assert Args.published().obs_clip == math.inf


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    agent, _ = make()
    agent.save(tmp_path / "a")
    index = json.loads((tmp_path / "a" / "checkpoint.json").read_text())
    index["data"]["args"]["surprise"] = 1
    (tmp_path / "a" / "checkpoint.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="surprise"):
        TD3.load(tmp_path / "a")


def test_every_setting_is_explained(capsys):
    with pytest.raises(SystemExit):
        main("td3", ["--help"])
    words = " ".join(capsys.readouterr().out.split())
    for name in asdict(Args()):
        assert f"--{name.replace('_', '-')}" in words
