"""Teacher forcing: what is imitated, the loss, and the strings of the original."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from dialog_gym.agents import lm_lines, tf
from dialog_gym.agents.lm_data import Told
from dialog_gym.agents.lm_training import cross_entropy
from dialog_gym.data.columns import DatasetError
from dialog_gym.data.rankings import Ranking, Rankings
from dialog_gym.dialogue import Turn
from dialog_gym.rollout import make_rows, play
from tests.agents.graph import GRAPH, random_walks, walker

QUICK: dict[str, Any] = {
    "env": GRAPH,
    "max_tokens": 4,
    "eval_every": 0,
    "track": "none",
    "progress": False,
    "device": "cpu",
}


def test_the_loss_by_hand():
    """-log softmax: logits (0, log 3) give 1/4 and 3/4, equal logits 1/2."""
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)], [5.0, 5.0]])
    losses = cross_entropy(logits, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(losses, torch.tensor([math.log(4), math.log(4 / 3), math.log(2)]))


def test_the_best_are_those_with_the_highest_returns_ties_included():
    returns = [0.0, 0.5, 0.5, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.0]
    assert tf.bar_of(returns, 10, None) == 0.9
    assert tf.bar_of(returns, 20, None) == 0.5  # four of ten then pass
    assert tf.bar_of(returns, 1, None) == 0.9  # at least one
    assert tf.bar_of(returns, 100, None) == 0.0
    assert tf.bar_of(returns, 10, 0.25) == 0.25
    with pytest.raises(DatasetError, match="all 3 dialogues have the return 1, so none is better"):
        tf.bar_of([1.0] * 3, 10, None)
    with pytest.raises(ValueError, match="top must be above 0 and at most 100 percent, got 0"):
        tf.TopArgs(top=0)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return walker(tmp_path_factory.mktemp("walker") / "lm")


@pytest.fixture
def answers(tmp_path):
    with Rankings.writing(tmp_path / "r") as writer:
        for number in range(8):
            context = ({"role": "system", "content": f"from n{number} ."},)
            writer.add(Ranking(context, (f"n{number} n1", "n5", "n7"), (1.0, 0.6, 0.59)))
    return str(tmp_path / "r")


def test_of_responses_those_are_imitated_that_reach_the_threshold(answers, spec):
    args = tf.TopArgs(data=(answers,), lm=spec, threshold=0.6, held_out=0.0, **QUICK)
    training = tf.Training(tf.TFTop, args)
    assert len(training.train_rows) == 16  # reaching it is enough
    every = tf.Training(tf.TFAll, tf.AllArgs(data=(answers,), lm=spec, held_out=0.25, **QUICK))
    assert len(every.train_rows) == 18
    assert len(every.held_rows) == 6  # whole contexts
    with pytest.raises(DatasetError, match="no dialogue has a return of at least 2; lower the threshold"):
        tf.Training(tf.TFTop, replace(args, threshold=2.0))


def test_only_tf_learns_what_the_agent_did_not_say(answers, spec):
    base = tf.Training(tf.TF, tf.Args(data=(answers,), lm=spec, **QUICK)).train_rows[0]
    own = tf.Training(tf.TFAll, tf.AllArgs(data=(answers,), lm=spec, **QUICK)).train_rows[0]
    assert base.tokens.tolist() == own.tokens.tolist()
    assert len(base.said) == len(base) - 1
    assert len(own.said) == 3  # two nodes and the end of the turn
    assert own.said.tolist() == [len(own) - 3, len(own) - 2, len(own) - 1]


def test_the_best_walks_teach_the_shortest_way(tmp_path, spec):
    data = str(random_walks(tmp_path / "walks", 800))
    shared = {"data": (data,), "lm": spec, "steps": 100, "batch": 64, "lr": 5e-3, **QUICK}
    top = tf.train_top(tf.TopArgs(out=str(tmp_path / "top"), **shared))
    scores = [episode.total for _, episode in play(top, make_rows(GRAPH, 32), 64, seed=10**6)]
    assert sum(scores) / 64 > 0.6  # walks at random: .29


def test_told_dialogues_know_their_return():
    assert Told((), (), (0.5, 2.0)).total == 2.5


class TestLinesOfTheOriginal:
    context = lm_lines.base_line([Turn("customer", "hi")], "agent")

    def test_byte_for_byte(self):
        assert self.context == "<_soc_><_cus_start_>hi<_cus_end_>"
        assert lm_lines.base_line([Turn("customer", "hi"), Turn("agent", "hello!")], "agent") == (
            "<_soc_><_cus_start_>hi<_cus_end_><_rep_start_>hello!<_rep_end_>"
        )
        assert lm_lines.tf_line(self.context, "hello!") == (
            "<_soc_><_cus_start_>hi<_cus_end_><_rep_start_>hello!<_rep_end_>"
        )
        assert lm_lines.dt_line(self.context, "I am sorry", 0.0) == (
            "<_soc_><_cus_start_>hi<_cus_end_><_reward_zero_><_rep_start_>I am sorry<_rep_end_>"
        )
        assert lm_lines.ilql_line(self.context, "hello!") == (
            "<_soc_><_cus_start_>hi<_cus_end_><_rep_start_><|endoftext|>hello!<_rep_end_>"
        )
        assert len(set(lm_lines.SPECIAL)) == 15

    def test_earlier_replies_are_marked_one_whatever_the_reward(self):
        context = lm_lines.base_line([Turn("agent", "yes?"), Turn("customer", "no")], "agent")
        line = lm_lines.dt_line(context, "bye", 1.0)
        assert line == (
            "<_soc_><_reward_one_><_rep_start_>yes?<_rep_end_><_cus_start_>no<_cus_end_>"
            "<_reward_one_><_rep_start_>bye<_rep_end_>"
        )
        assert lm_lines.dt_line(context, "bye", 0.99).count(lm_lines.ONE) == 1
        assert lm_lines.prompt(context, wanted=True).endswith("<_cus_end_><_reward_one_><_rep_start_>")

    def test_a_prompt_has_no_spaces_next_to_special_tokens(self):
        assert lm_lines.prompt("<_soc_> <_cus_start_> hi there <_cus_end_>") == (
            "<_soc_><_cus_start_>hi there<_cus_end_><_rep_start_>"
        )

    def test_an_utterance_of_two_lines_is_refused(self):
        with pytest.raises(ValueError, match="must be one line in this format"):
            lm_lines.tf_line(self.context, "a\nb")
