"""Stable Alignment: what it learns from, what it refuses, equivalences, resuming."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from dialog_gym.agent import load_agent
from dialog_gym.agents import stable_alignment as sa
from dialog_gym.agents.lm_tokens import batch_of
from dialog_gym.agents.lm_training import cross_entropy
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.rollout import make_rows, play
from tests.agents.contract import numbers
from tests.agents.graph import GRAPH, walker
from tests.agents.test_lm_training import same, weights

QUICK: dict[str, Any] = {
    "env": GRAPH,
    "max_tokens": 4,
    "batch": 4,
    "steps": 4,
    "eval_every": 2,
    "checkpoint_every": 3,
    "log_every": 1,
    "eval_episodes": 2,
    "samples": 2,
    "track": "none",
    "progress": False,
    "device": "cpu",
}


def context(number):
    return ({"role": "system", "content": f"from n{number % 12} ."},)


def written(folder, rows):
    with Rankings.writing(folder) as writer:
        writer.extend(rows)
    return str(folder)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm", width=16, layers=1)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    rows = [Ranking(context(n), (f"n{n} n1", "n5", "n7 n8", "n2"), (3.0, 7.0, 5.0, 5.0)) for n in range(9)]
    return written(tmp_path_factory.mktemp("answers") / "rankings", rows)


@pytest.fixture
def args(answers, spec, tmp_path):
    return sa.Args(data=(answers,), lm=spec, out=str(tmp_path / "a"), **QUICK)


def made(args, **settings):
    return sa.Training(sa.StableAlignment, replace(args, **settings))


def means_of(training, question):
    """Return the mean cross-entropy of each candidate, one at a time."""
    found = []
    for row in question.candidates:
        batch = batch_of([row])
        logits = training.agent.network(batch.tokens, batch.positions, batch.where).logits
        found.append(cross_entropy(logits, batch.actions).mean().item())
    return found


def parts_loss(training, rows):
    part = training.in_parts(rows)
    return sum(training._loss_of(one)[0] for one in part)


def test_the_loss_of_a_batch_is_the_margin_loss_of_its_questions_one_by_one(args):
    training = made(args, num_comp=3, ratio=0.5, margin=2.0, held_out=0.0)
    rows = training.train_rows[:5]
    expected = 0.0
    for row in rows:
        question = row.drawn(3, (args.seed, 5, 0))
        losses, ratings = means_of(training, question), [one.total for one in question.candidates]
        best = ratings.index(max(ratings))
        apart = [losses[best] - losses[i] + (ratings[best] - ratings[i]) / 7 * 2 for i in range(3) if i != best]
        expected += losses[best] + 0.5 * max(sum(apart) / 2, 0)
    assert parts_loss(training, rows).item() == pytest.approx(expected, rel=1e-5)
    assert training.weight(rows) == 5  # so the loss is the mean over questions


def test_candidates_are_drawn_anew_at_every_update_and_follow_from_the_seed(args):
    training = made(args)

    def drawn():
        parts = training.in_parts(training.train_rows)
        return [[row.tokens.tobytes() for row in question.candidates] for part in parts for question in part]

    first = drawn()
    assert first == drawn()
    assert all(len(one) == len(set(one)) == 3 for one in first)
    training.step = 1
    assert first != drawn()


def test_each_type_of_data_has_its_loss(tmp_path, spec, args):
    kinds = ("imitation", "self-critic", "realignment", "")
    rows = [Ranking(context(1), ("n1", "n5 n6"), (2.0, 6.0), meta={"type": kind}) for kind in kinds]
    data = written(tmp_path / "kinds", rows)
    training = made(args, data=(data,), held_out=0.0, realignment="best", ratio=1.0, margin=50.0)
    found = [parts_loss(training, [row]).item() for row in training.train_rows]
    worse, best = means_of(training, training.train_rows[0])
    margin = best + best - worse + 4 / 7 * 50
    assert found == pytest.approx([margin, (worse + best) / 2, best, margin], rel=1e-5)


def test_the_end_of_an_answer_is_learned_and_prompts_are_those_of_use(args):
    training = made(args, held_out=0.0)
    lm, question = training.agent.lm, training.train_rows[2]
    for row, text in zip(question.candidates, ("n2 n1", "n5", "n7 n8", "n2"), strict=True):
        prompt, said = row.tokens[: row.said[0]].tolist(), row.tokens[row.said[0] :].tolist()
        assert said[-1] in lm.chat.stop_ids
        assert lm.chat.decode([said]) == [text]
        assert prompt == lm.encode([list(context(2))], 4)[0]
    assert question.total == 7.0
    assert question.tokens.tolist() == question.candidates[1].tokens.tolist()


def test_a_batch_of_8_is_2_of_4_accumulated_packed_or_not(args, tmp_path):
    shared: dict[str, Any] = {"batch": 8, "eval_every": 0, "steps": 2}
    whole = sa.train(replace(args, **shared))
    for name, more in (("b", {"micro": 4}), ("c", {"packed": True}), ("d", {"micro": 2, "packed": True})):
        other = sa.train(replace(args, **shared, **more, out=str(tmp_path / name)))
        for one, two in zip(numbers(tmp_path / "a"), numbers(tmp_path / name), strict=True):
            assert one == pytest.approx(two, rel=1e-3, abs=1e-5)
        for value, theirs in zip(whole.network.parameters(), other.network.parameters(), strict=True):
            torch.testing.assert_close(value, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("lora", [0, 4])
def test_a_run_that_is_stopped_goes_on_to_the_same_numbers(args, tmp_path, lora):
    args = replace(args, lora=lora)
    whole = sa.train(args)
    calls = []

    def killed(agent):
        calls.append(agent)
        if len(calls) == 2:  # at step 4, the checkpoint is of step 3
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        sa.train(replace(args, out=str(tmp_path / "c")), evaluate=killed)
    resumed = sa.train(replace(args, out=str(tmp_path / "c")))
    assert same(weights(whole), weights(resumed))
    assert numbers(tmp_path / "a")[3:] == numbers(tmp_path / "c")[3:]
    assert same(weights(load_agent(tmp_path / "a")), weights(whole))
    assert {"train/loss", "train/penalty", "train/ranked", "eval/best", "eval/ranked", "eval/perplexity"} <= {
        name for one in numbers(tmp_path / "a") for name in one
    }


def test_it_learns_to_say_what_is_rated_best(tmp_path, spec):
    """Of every node the next one on the shortest way is rated 7, other edges less: the walks become short."""
    task = make_rows(GRAPH, 1).unwrapped.task  # type: ignore[attr-defined]
    rows = []
    for start in task.starts:
        chat = ({"role": "system", "content": f"from n{start} ."},)
        ends = sorted(task.edges[start], key=lambda n: task.far[n])
        rows.append(Ranking(chat, tuple(f"n{n}" for n in ends), (7.0, 3.0, 2.0)))
    args = sa.Args(
        data=(written(tmp_path / "r", rows),),
        lm=spec,
        out=str(tmp_path / "run"),
        **{**QUICK, "steps": 120, "batch": 16, "eval_every": 0, "log_every": 1000, "checkpoint_every": 1000},
        lr=1e-2,
        held_out=0.0,
    )
    agent = sa.train(args)
    episodes = [one for _, one in play(agent, make_rows(GRAPH, 16), 32, seed=10**6)]
    right = [
        task.far[int(e.dialogue.turns[0].text[1:])] == e.dialogue.scenario.hidden["shortest"] - 1 for e in episodes
    ]
    assert sum(right) >= 30


def test_the_scale_can_be_that_of_the_data_and_the_rating_another_number(tmp_path, args):
    rows = [Ranking(context(n), ("n1", "n5"), (0.2, 0.2), {"cost": (0.5, 0.1)}) for n in range(3)]
    data = written(tmp_path / "cost", rows)
    training = made(args, data=(data,), metric="-cost", rating_scale=0.0, held_out=0.0)
    assert training.scale == pytest.approx(0.4)
    assert [row.total for row in training.train_rows] == pytest.approx([-0.1] * 3)
    with pytest.raises(DatasetError, match=r"row 0 of .*no number named 'harm'.*choose another metric"):
        made(args, data=(data,), metric="harm")


ONE = Ranking(context(1), ("n1",), (5.0,))
EQUAL = Ranking(context(1), ("n1", "n2"), (5.0, 5.0))
GOOD = Ranking(context(2), ("n1", "n2"), (5.0, 6.0))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ONE, "1 of 1 questions have nothing to compare.*got one candidate; set lone to 'skip'"),
        (EQUAL, "got 2 candidates, all rated 5; set lone"),
        (Ranking(context(1), ("n1 n2 n3 n4", "n2"), (5.0, 6.0)), "at most 4 tokens with the end.*raise max_tokens"),
        (Ranking(context(1), ("n1", "n2"), (-1.0, 6.0), meta={"type": "imitation"}), "ratings from 1 to 7, got -1"),
        (Ranking(context(1), ("n1", "n2"), (3.0, 8.0), meta={"type": "self-critic"}), "ratings from 1 to 7, got 8"),
        (Ranking(({"role": "user", "content": "n1 " * 300},), ("n1", "n2"), (3.0, 6.0)), "row 0 of .*tokens"),
        (Ranking(context(1), ("n1", " "), (3.0, 6.0)), "has no words to learn"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_training(tmp_path, args, row, message):
    data = written(tmp_path / "bad", [row])
    with pytest.raises(DatasetError, match=message):
        sa.train(replace(args, data=(data,), held_out=0.0))
    assert not [*(tmp_path / "a").rglob("step-*")]


def test_what_has_nothing_to_compare_is_left_out_or_learned_plainly(tmp_path, args):
    data = written(tmp_path / "lone", [ONE, EQUAL, GOOD])
    args = replace(args, data=(data,), held_out=0.0)
    with pytest.raises(DatasetError, match="2 of 3 questions have nothing to compare"):
        made(args)
    assert len(made(args, lone="skip").train_rows) == 1
    assert [row.loss for row in made(args, lone="plain").train_rows] == ["plain", "plain", "contrastive"]
    assert len(made(args, others="plain").train_rows) == 3  # where nothing is compared


def test_candidates_that_are_too_long_can_be_left_out_or_cut(tmp_path, args):
    row = Ranking(context(1), ("n1 n2 n3 n4", "n2", "n3"), (5.0, 6.0, 7.0))
    data = written(tmp_path / "long", [row])
    args = replace(args, data=(data,), held_out=0.0)
    assert len(made(args, too_long="skip").train_rows[0].candidates) == 2
    assert [len(one.said) for one in made(args, too_long="cut").train_rows[0].candidates] == [4, 2, 2]


def test_dialogues_are_no_rankings(tmp_path, args):
    from tests.agents.graph import random_walks

    data = str(random_walks(tmp_path / "walks", 4))
    with pytest.raises(DatasetError, match=r"expected a ranking .*got a dialogue; `dialog-gym branch` makes"):
        made(args, data=(data,))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="num_comp must be at least 1, got 0"):
        sa.Args(num_comp=0)
    with pytest.raises(ValueError, match="ratio must be at least 0"):
        sa.Args(ratio=-0.1)
