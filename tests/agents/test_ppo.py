"""PPO on text: what it learns from is what was said, what it must leave alone, and that it learns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from dialog_gym.agent import agent_spec, load_agent
from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_policy import LMArgs
from dialog_gym.agents.lm_tokens import batch_of, token_rows
from dialog_gym.agents.lm_training import cross_entropy
from dialog_gym.agents.ppo import PPO, Args, Training, train, without_dropout
from dialog_gym.agents.ppo_losses import gae, log_probabilities, turn_ends
from dialog_gym.agents.ppo_play import Played, opening, rows_of
from dialog_gym.agents.tf import TFAll
from dialog_gym.dialogue import Dialogue, Draws, Scenario
from dialog_gym.env import DialogueEnv, DialogueVectorEnv, begin
from dialog_gym.rewards.base import Reward
from dialog_gym.rollout import evaluate
from dialog_gym.runs import RunFolderError
from dialog_gym.task import Reply, Task
from tests.agents.contract import numbers
from tests.agents.graph import walker

ECHO = "tests.agents.test_ppo:toy/Echo-v0"
QUIET: dict[str, Any] = {"eval_every": 0, "track": "none", "progress": False, "device": "cpu"}


class Heard(Reward):
    """The share of the words that are the one asked for."""

    name, low, high = "heard", 0.0, 1.0

    def __call__(self, dialogues):
        return np.array([self.one(d) for d in dialogues], np.float32)

    def one(self, d: Dialogue) -> float:
        words = d.texts("agent")[-1].split()
        wanted = f"n{d.scenario.hidden['node']}"
        return float(words.count(wanted) / max(len(words), 1))


class Loud(Reward):
    """1 for a turn that says n3."""

    name, low, high = "loud", 0.0, 1.0

    def __call__(self, dialogues):
        return np.array(["n3" in d.texts("agent")[-1].split() for d in dialogues], np.float32)


class Echo(Task):
    """Say one word, which the partner asks for before each of two turns; it hangs up by chance."""

    max_turns, max_chars = 2, 200
    model_tokens = tuple(f"n{node}" for node in range(12))
    reward, cost, budget = Heard(), Loud(), 0.1

    def __init__(self, choices: int = 2, leaves: float = 0.4, broken: bool = False) -> None:
        self.roles = ("agent", "partner")
        self.choices, self.leaves, self.broken = choices, leaves, broken

    def scenario(self, draws: Draws) -> Scenario:
        node = draws.integer(0, self.choices)
        return Scenario(f"from n{node} .", {}, {"node": node})

    def opening(self, dialogue: Dialogue) -> Dialogue:
        return dialogue.said("partner", f"at n{dialogue.scenario.hidden['node']}")

    def reply(self, dialogues):
        return [
            Reply("", None, "left") if d.draws("mood").uniform() < self.leaves else Reply(d.turns[0].text)
            for d in dialogues
        ]


def _rows(num_envs: int, **settings: Any) -> DialogueVectorEnv:
    ours = {name: settings.pop(name) for name in ("autoreset_mode", "render_mode") if name in settings}
    return DialogueVectorEnv(Echo(**settings), num_envs, **ours)


if "toy/Echo-v0" not in gym.registry:
    gym.register("toy/Echo-v0", entry_point=lambda **s: DialogueEnv(Echo(**s)), vector_entry_point=_rows)  # type: ignore[arg-type]


def talker(folder: Path) -> str:
    """Write a model that says one to three nodes at random, and return its spec."""
    spec = walker(folder, width=16, layers=1)
    policy, task, rng = TFAll.build(LMArgs(env=ECHO, lm=spec)), Echo(choices=12), np.random.default_rng(0)
    told = []
    for number in range(256):
        dialogue, prompts, words = begin(task, number), [], []
        for _ in range(2):
            prompts.append(task.messages(dialogue, "agent"))
            words.append(" ".join(f"n{node}" for node in rng.integers(0, 12, rng.integers(1, 4))))
            dialogue = dialogue.said("agent", words[-1]).said("partner", dialogue.turns[0].text)
        told.append(Told(tuple(prompts), tuple(words), (0.0, 0.0)))
    rows = list(token_rows(told, policy.lm))
    optimizer = torch.optim.AdamW(policy.network.parameters(), lr=2e-2)
    for step in range(60):
        batch = batch_of(rows[32 * (step % 8) : 32 * (step % 8 + 1)])
        outputs = policy.network(batch.tokens, batch.positions, batch.where)
        cross_entropy(outputs.logits, batch.actions).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    policy.network.plain.save_pretrained(folder)
    return spec


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return talker(tmp_path_factory.mktemp("echo") / "lm")


@pytest.fixture
def args(spec: str, tmp_path: Path) -> Args:
    return Args(env=ECHO, lm=spec, out=str(tmp_path / "a"), max_tokens=3, steps=24, episodes=8, batch=4, rows=4,
                log_every=8, checkpoint_every=8, lr=1e-2, **QUIET)  # fmt: skip


@pytest.fixture
def training(args: Args) -> Iterator[Training]:
    found = Training(args)
    yield found
    found.close()


def played_rows(training: Training) -> tuple[list[Played], list[list[Any]]]:
    played = training.player.play(range(training.args.episodes))
    return played, [rows_of(one, training.agent) for one in played]


def now(training: Training, rows: list[Any]) -> Any:
    """Return the log-probabilities that an update computes, before it has changed anything."""
    batch = batch_of(rows)
    without_dropout(training.agent.network)
    outputs = training.stepper.network(batch.tokens, batch.positions, batch.where)
    return log_probabilities(outputs.logits, batch.actions)[0], batch


# --- what is learned from ------------------------------------------------------------------------


class TestWhatWasSaid:
    def test_tokens_are_those_drawn_each_behind_what_was_read(self, training):
        played, dialogues = played_rows(training)
        stops = training.agent.lm.chat.stop_ids
        for one, rows in zip(played, dialogues, strict=True):
            said = [token for row in rows for token in row.tokens[row.said].tolist()]
            assert said == [token for turn in one.said for token in turn.drawn.tokens]
            for row in rows:
                for turn in np.unique(row.turns):
                    mine = row.said[row.turns == turn]
                    assert mine.tolist() == list(range(mine[0], mine[-1] + 1))
                    assert row.tokens[: mine[0]].tolist() == one.said[turn].prompt
                    drawn = one.said[turn].drawn
                    assert (drawn.tokens[-1] in stops) == (drawn.stop == "end")
        kinds = {turn.drawn.stop for one in played for turn in one.said}
        assert kinds == {"end", "length"}  # both were seen

    def test_the_end_that_the_prompt_puts_behind_a_cut_reply_is_not_learned(self, training):
        played, dialogues = played_rows(training)
        cut = [
            (one, rows[0])
            for one, rows in zip(played, dialogues, strict=True)
            if one.said[0].drawn.stop == "length" and len(one.said) == 2 and len(rows) == 1
        ]
        assert cut
        for one, row in cut:
            behind = len(one.said[0].prompt) + len(one.said[0].drawn.tokens)
            assert row.tokens[behind] in training.agent.lm.chat.stop_ids
            assert behind not in row.said

    def test_rewards_are_at_the_last_token_of_their_turn(self, training):
        played, dialogues = played_rows(training)
        for one, rows in zip(played, dialogues, strict=True):
            rewards, turns = (np.concatenate([getattr(row, name) for row in rows]) for name in ("rewards", "turns"))
            ends = turn_ends(turns)
            np.testing.assert_allclose(rewards[ends], one.rewards)
            assert not rewards[~ends].any()
            assert len(one.rewards) == one.dialogue.turn

    def test_a_prompt_that_does_not_go_on_makes_a_second_row_and_one_dialogue(self, training):
        (one, *_), _ = played_rows(training)
        first, second = (one.said[0]._replace(prompt=prompt) for prompt in ([5, 6, 7], [5, 9, 9]))
        two = replace(one, said=[first, second], rewards=[0.5, 1.0])
        rows = rows_of(two, training.agent)
        assert [row.turns.tolist() for row in rows] == [[turn] * len(first.drawn.tokens) for turn in (0, 1)]
        assert {row.group for row in rows} == {one.number}
        ((judged,), _) = training.judge.judge([two], [rows], 0.0)
        values = np.concatenate([row.more["value"] for row in judged]).astype(float)
        wanted = gae(
            np.concatenate([row.rewards for row in rows]), values, turn_ends(np.repeat([0, 1], len(values) // 2))
        )
        np.testing.assert_allclose(np.concatenate([row.returns for row in judged]), wanted + values, atol=1e-5)


@pytest.mark.parametrize("lora", [0, 4])
class TestBeginning:
    @pytest.fixture
    def training(self, args: Args, lora: int) -> Iterator[Training]:
        found = Training(replace(args, lora=lora))
        yield found
        found.close()

    def test_the_ratio_begins_at_1(self, training):
        _, dialogues = played_rows(training)
        for packed in (False, True):
            batch = batch_of([row for rows in dialogues for row in rows], packed=packed)
            outputs = training.stepper.network(batch.tokens, batch.positions, batch.where)
            new = log_probabilities(outputs.logits, batch.actions)[0]
            torch.testing.assert_close(new, batch.more["old"], rtol=1e-5, atol=1e-5)

    def test_and_again_after_an_update(self, training):
        training.advance()
        training.advance()
        played = training.player.play(range(16, 24))
        new, batch = now(training, [row for one in played for row in rows_of(one, training.agent)])
        torch.testing.assert_close(new, batch.more["old"], rtol=1e-5, atol=1e-4)

    def test_the_kl_begins_at_0_and_then_is_what_the_reference_makes_it(self, training, spec):
        training.advance()
        told = training.pop_metrics()
        assert abs(told["kl/dialogue"]) < 1e-5
        training.advance()
        told = training.pop_metrics()
        began = PPO.build(replace(training.args, lora=0))
        with torch.no_grad():
            kl = []
            for one in training._last:
                batch = batch_of(rows_of(one, training.agent))
                outputs = began.network(batch.tokens, batch.positions, batch.where)
                kl.append(float((batch.more["old"] - log_probabilities(outputs.logits, batch.actions)[0]).sum()))
        assert told["kl/dialogue"] == pytest.approx(np.mean(kl), abs=1e-4)
        assert abs(told["kl/dialogue"]) > 1e-3

    def test_gradients_reach_what_is_trained_alone(self, training, lora):
        frozen = [p for p in training.agent.network.parameters() if not p.requires_grad]
        if training.judge.reference is not None:
            frozen += list(training.judge.reference.parameters())
        assert bool(lora) == (training.judge.reference is None)
        before = [parameter.detach().clone() for parameter in frozen]
        trained = {name: p.detach().clone() for name, p in training.agent.network.trainable().items()}
        training.advance()
        training.advance()
        assert all(parameter.grad is None for parameter in frozen)
        assert all(torch.equal(*pair) for pair in zip(before, frozen, strict=True))
        after = training.agent.network.trainable()
        changed = {name for name, value in trained.items() if not torch.equal(value, after[name])}
        assert changed == set(trained)


def test_the_gradient_of_the_value_stops_at_its_head_unless_it_is_to_pass(args):
    for alone in (True, False):
        training = Training(replace(args, value_alone=alone))
        _, (rows, *_) = played_rows(training)
        batch = batch_of(rows)
        training.stepper.network(batch.tokens, batch.positions, batch.where).heads["value"].sum().backward()
        reached = {name for name, p in training.agent.network.named_parameters() if p.grad is not None}
        assert {name.split(".")[0] for name in reached} == ({"heads"} if alone else {"heads", "model"})
        training.close()


# --- starts, groups, lengths -----------------------------------------------------------------------


def test_every_episode_begins_afresh_and_groups_alike():
    task = Echo(choices=12)
    alone = [opening(task, 1, number) for number in range(64)]
    assert len({d.seed for d in alone}) == 64
    assert {d.scenario.hidden["node"] for d in alone} == set(range(12))
    assert alone[:8] != [opening(task, 2, number) for number in range(8)]
    grouped = [opening(task, 1, number, 4) for number in range(64)]
    assert len({d.seed for d in grouped}) == 64
    assert all(len({d.turns for d in grouped[at : at + 4]}) == 1 for at in range(0, 64, 4))
    assert len({d.turns for d in grouped}) > 8


def test_what_is_played_does_not_depend_on_the_number_of_rows(args):
    found = []
    for rows in (1, 3, 8):
        training = Training(replace(args, rows=rows))
        found.append([(one.number, one.dialogue, one.rewards) for one in training.player.play(range(8))])
        training.close()
    assert found[0] == found[1] == found[2]
    assert {one.turn for _, one, _ in found[0]} == {1, 2}


@pytest.mark.parametrize("advantage", ["rloo", "grpo"])
def test_against_others_of_the_start(args, advantage):
    training = Training(replace(args, advantage=advantage, group=4, kl_weight=0.0))
    assert not training.agent.network.heads
    played, dialogues = played_rows(training)
    judged, _ = training.judge.judge(played, dialogues, training.kl_weight)
    earned = np.array([one.earned for one in played]).reshape(2, 4)
    if advantage == "rloo":
        wanted = earned - (earned.sum(1, keepdims=True) - earned) / 3
    else:
        wanted = (earned - earned.mean(1, keepdims=True)) / np.maximum(earned.std(1, keepdims=True), 1e-9)
    for rows, one in zip(judged, wanted.ravel(), strict=True):
        np.testing.assert_allclose(np.concatenate([row.more["advantage"] for row in rows]), one, atol=1e-5)
    training.close()


def test_the_penalty_is_in_the_reward(args):
    """With all weight on drifting from a reference that thinks otherwise, what counts is the log-ratio."""
    training = Training(replace(args, lora=0, kl_weight=2.0, advantage="rloo", group=8))
    training.advance()
    training.pop_metrics()
    played = training.player.play(range(8))
    dialogues = [rows_of(one, training.agent) for one in played]
    likely = training.judge.likely(dialogues)
    assert all(len(rows) == 1 for rows in dialogues)
    drift = [rows[0].more["old"].sum() for rows in dialogues]
    paid = np.array([one.earned for one in played]) - 2.0 * (np.array(drift) - [one.sum() for one in likely])
    wanted = (paid - paid.mean()) * 8 / 7
    judged, _ = training.judge.judge(played, dialogues, training.kl_weight)
    np.testing.assert_allclose([rows[0].more["advantage"][0] for rows in judged], wanted, atol=1e-4)
    training.close()


def test_a_dialogue_that_is_cut_can_go_on_in_its_value(args):
    over, on = (Training(replace(args, cut_ends=ends)) for ends in (True, False))
    played, dialogues = played_rows(on)
    assert {one.truncated for one in played} == {True, False}
    behind = on.judge.values_behind(played)
    for one, value in zip(played, behind, strict=True):
        if not one.truncated:
            assert value == 0.0
            continue
        (prompt,) = on.agent.prompt_ids([one.dialogue])
        tokens = torch.tensor([prompt])
        with torch.no_grad():
            found = on.agent.network(tokens, torch.arange(len(prompt))[None], torch.tensor([len(prompt) - 1]))
        assert value == pytest.approx(float(found.heads["value"]), abs=1e-5)
    assert over.judge.values_behind(played) == [0.0] * len(played)
    with_end, without = (one.judge.judge(played, dialogues, 0.01)[0] for one in (over, on))
    for one, ended, went_on, value in zip(played, with_end, without, behind, strict=True):
        last = went_on[-1].returns[-1] - ended[-1].returns[-1]
        assert last == pytest.approx(value, abs=1e-5), one.truncated
    over.close()
    on.close()


# --- updates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [{"micro": 2}, {"packed": False}, {"micro": 1, "packed": False}, {"recompute": True}]
)
def test_how_a_batch_is_parted_does_not_matter(args, other):
    found = []
    plain: dict[str, Any] = {}
    for settings in (plain, other):
        training = Training(replace(args, steps=8, **settings))
        training.advance()
        found.append({name: p.detach().clone() for name, p in training.agent.network.trainable().items()})
        training.close()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=2e-4)


def test_updates_stop_where_the_policy_has_moved_far_enough(args):
    training = Training(replace(args, epochs=8, lr=0.05, stop_kl=1e-3, schedule="linear"))
    training.advance()
    told = training.pop_metrics()
    assert 1 < told["train/updates"] < 16
    assert training.stepper.steps == told["train/updates"]
    training.advance()
    assert training.stepper.steps > 16  # the rate falls as if all had been made
    free = Training(replace(args, epochs=8, lr=0.05, stop_kl=0.0))
    free.advance()
    assert free.pop_metrics()["train/updates"] == 16
    training.close()
    free.close()


def test_the_weight_of_the_penalty_adapts(args):
    training = Training(replace(args, kl_target=0.5, kl_rate=0.5))
    training.advance()
    assert training.kl_weight == pytest.approx(0.01 * 0.9)  # there was no drift yet
    fixed = Training(args)
    fixed.advance()
    assert fixed.kl_weight == 0.01
    training.close()
    fixed.close()


def test_costs_are_paid_for_and_told(args):
    training = Training(replace(args, budget="task", kl_weight=0.0))
    assert training.player.lagrangian is not None
    training.player.lagrangian.multiplier = 3.0
    played = training.player.play(range(16))
    assert any(one.costs for one in played)
    for one in played[:4]:  # the price changes after ten episodes
        assert sum(one.rewards) == pytest.approx(one.earned - 3.0 * one.costs)
    training.close()


# --- the whole -----------------------------------------------------------------------------------------


def weights(agent: PPO) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in agent.network.named_parameters()}


@pytest.mark.parametrize("settings", [{"lora": 2, "kl_target": 1.0}, {"advantage": "rloo", "group": 4, "budget": 0.1}])
def test_a_run_goes_on_bit_for_bit_and_is_repeated(args, tmp_path, settings):
    args = replace(args, **settings)
    whole = train(args)
    stopped = Training(replace(args, out=str(tmp_path / "b")))

    def stop(agent: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # killed in the second round, behind the first checkpoint
        train(replace(args, out=str(tmp_path / "b"), eval_every=16), evaluate=stop)
    stopped.close()
    config = tmp_path / "b" / "config.json"
    config.write_text(config.read_text().replace('"eval_every": 16', '"eval_every": 0'))
    again = train(replace(args, out=str(tmp_path / "b")))
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    loaded = load_agent(tmp_path / "a")
    assert isinstance(loaded, PPO)
    assert all(torch.equal(value, weights(loaded)[name]) for name, value in weights(whole).items())
    with pytest.raises(RunFolderError, match="seed"):
        train(replace(args, seed=2))


@pytest.mark.parametrize("advantage", ["gae", "grpo"])
def test_it_learns_to_say_what_is_asked_for(args, advantage):
    args = replace(args, steps=1024, episodes=64, rows=64, batch=32, lr=1e-2, advantage=advantage, kl_weight=0.0,
                   log_every=64, checkpoint_every=1024, stop_kl=0.0)  # fmt: skip
    agent = train(args)
    before = evaluate(PPO.build(replace(args, temperature=1.0)), ECHO, episodes=128, seed=10**6, rows=128)
    agent.args = replace(args, temperature=1.0)
    after = evaluate(agent, ECHO, episodes=128, seed=10**6, rows=128)
    assert before.interval[1] < 0.3
    assert after.interval[0] > 3 * before.interval[1]


def test_the_best_is_kept_if_asked_for_and_samples_are_written(args):
    scores = iter([0.5, 0.9, 0.1])
    seen = []

    def evaluate(agent: Any) -> dict[str, float]:
        seen.append(weights(agent))
        return {"eval/return": next(scores)}

    agent = train(replace(args, eval_every=8, best="return"), evaluate=evaluate)
    assert all(torch.equal(value, seen[1][name]) for name, value in weights(agent).items())
    samples = sorted((Path(args.out) / "samples").iterdir())
    assert [place.name for place in samples] == [f"step-{step:09d}.jsonl" for step in (8, 16, 24)]
    assert "agent: " in samples[0].read_text()


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 3}, "batch must divide episodes, got batch=3 and episodes=8"),
        ({"advantage": "rloo", "group": 3}, "rloo compares dialogues of one start: .* got group=3 and episodes=8"),
        ({"advantage": "grpo", "group": 1}, "group must be at least 2"),
        ({"lora": 2, "lora_dropout": 0.1}, "with dropout the policy that learns is not the one that spoke"),
        ({"env": ""}, "needs an environment"),
        ({"gamma": 1.5}, "gamma must be from 0 to 1, got 1.5"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"kl_weight": -1.0}, "kl_weight must be at least 0, got -1.0"),
        ({"budget": -1.0}, "budget must be at least 0"),
        ({"kl_weight": float("nan")}, "kl_weight must be at least 0, got nan"),
    ],
)
def test_settings_that_cannot_be_run(args, settings, message):
    with pytest.raises(ValueError, match=message):
        replace(args, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env": "dialog_gym/BargainPrefix-v0"}, "expected actions that are text"),
        ({"env": "CartPole-v1"}, "CartPole"),
        ({"env_kwargs": {"choice": 2}}, "choice"),
        ({"budget": "task", "env": "dialog_gym/Bargain-v0", "lm": "tiny"}, "the task has no budget"),
        ({"lm": "openai:x@http://localhost/v1"}, "is not in this process and cannot be trained"),
    ],
)
def test_what_cannot_be_played_is_refused_before_training(args, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Training(replace(args, **settings))


def test_a_reward_that_is_no_number_stops_the_run(args, monkeypatch):
    monkeypatch.setattr(Heard, "one", lambda self, d: float("nan"))
    with pytest.raises(ValueError, match="heard"):
        train(args)


def test_it_is_registered():
    spec = agent_spec("ppo")
    assert spec.cls is PPO
    assert spec.args is Args
