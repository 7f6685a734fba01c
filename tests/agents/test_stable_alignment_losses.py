"""The margin loss, worked out by hand: all orders of three rated candidates, both aggregations, batches, gradients."""

from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dialog_gym.agents.stable_alignment_losses import best_rated, margin_loss, margins, mean_loss

LOSS = {3: 1.0, 7: 2.0, 5: 3.0}  # cross-entropy of the candidate with this rating
SCALE: Any = {"scale": 7.0, "margin": 10.0}

# Of ratings 3, 5, 7 on a scale of 7 with margin 10: (7 - 3) / 7 * 10 = 40/7, (7 - 5) / 7 * 10 = 20/7.
# d of the candidate rated 3: 2 - 1 + 40/7 = 47/7; rated 5: 2 - 3 + 20/7 = 13/7. Mean 30/7, largest 47/7.
MEAN, LARGEST = 30 / 7, 47 / 7


def tensors(ratings):
    losses = torch.tensor([[LOSS[rating] for rating in ratings]])
    return losses, torch.tensor([ratings], dtype=torch.float32), torch.ones(1, len(ratings), dtype=torch.bool)


@pytest.mark.parametrize("ratings", list(permutations((3, 5, 7))))
def test_all_orders_of_three_candidates_have_the_same_loss(ratings):
    mean = margin_loss(*tensors(ratings), **SCALE, ratio=0.2)
    most = margin_loss(*tensors(ratings), **SCALE, ratio=0.5, max_flow=True)
    assert mean.best.item() == 2.0
    assert mean.penalty.item() == pytest.approx(MEAN)
    assert mean.loss.item() == pytest.approx(2 + 0.2 * 30 / 7)
    assert most.loss.item() == pytest.approx(2 + 0.5 * 47 / 7)


# With the published code's margins: candidate i has that of the i-th best of (7, 5, 3): 0, 20/7, 40/7.
# (3,5,7): d = 2-1+0 = 1 and 2-3+20/7 = 13/7, mean 10/7.        (3,7,5): 1 and 2-3+40/7 = 33/7, mean 20/7.
# (5,3,7): 2-3+0 = -1 and 2-1+20/7 = 27/7, mean 10/7.           (5,7,3): -1 and 2-1+40/7 = 47/7, mean 20/7.
# (7,3,5): 2-1+20/7 = 27/7 and 2-3+40/7 = 33/7, mean 30/7.      (7,5,3): 13/7 and 47/7, mean 30/7.
LEGACY = {
    (3, 5, 7): ((0, 20, 0), 10 / 7),
    (3, 7, 5): ((0, 0, 40), 20 / 7),
    (5, 3, 7): ((0, 20, 0), 10 / 7),
    (5, 7, 3): ((0, 0, 40), 20 / 7),
    (7, 3, 5): ((0, 20, 40), 30 / 7),
    (7, 5, 3): ((0, 20, 40), 30 / 7),
}


@pytest.mark.parametrize("ratings", list(LEGACY))
def test_the_legacy_switch_repeats_the_error_of_the_published_code(ratings):
    sevenths, penalty = LEGACY[ratings]
    _, rated, present = tensors(ratings)
    found = margins(rated, present, **SCALE, legacy=True)[0]
    torch.testing.assert_close(found, torch.tensor(sevenths) / 7)
    assert margin_loss(*tensors(ratings), **SCALE, legacy=True).penalty.item() == pytest.approx(penalty)


def test_legacy_margins_are_right_for_one_order_of_six():
    right = []
    for ratings in permutations((3, 5, 7)):
        _, rated, present = tensors(ratings)
        if torch.equal(margins(rated, present, **SCALE), margins(rated, present, **SCALE, legacy=True)):
            right.append(ratings)
    assert right == [(7, 5, 3)]


def test_the_margins_of_the_published_example():
    _, rated, present = tensors((3, 7, 5))
    true, wrong = margins(rated, present, **SCALE)[0], margins(rated, present, **SCALE, legacy=True)[0]
    assert [round(m, 2) for m in true.tolist()] == [5.71, 0.0, 2.86]
    assert [round(m, 2) for m in wrong.tolist()] == [0.0, 0.0, 5.71]


def test_the_penalty_is_cut_at_zero_after_the_candidates_are_taken_together():
    losses = torch.tensor([[1.0, 5.0, 0.5]])
    ratings, present = torch.tensor([[7.0, 1.0, 6.0]]), torch.ones(1, 3, dtype=torch.bool)
    # margin 7: d = 1 - 5 + 6 = 2 and 1 - .5 + 1 = 1.5: mean 1.75
    assert margin_loss(losses, ratings, present, margin=7.0).penalty.item() == pytest.approx(1.75)
    # margin 0: d = -4 and .5: the mean -1.75 is cut; a cut of each would leave .25
    assert margin_loss(losses, ratings, present, margin=0.0).penalty.item() == 0
    assert margin_loss(losses, ratings, present, margin=0.0, max_flow=True).penalty.item() == 0.5


@pytest.mark.parametrize("max_flow", [False, True])
def test_one_candidate_has_no_penalty(max_flow):
    one = margin_loss(torch.tensor([[2.5]]), torch.tensor([[4.0]]), torch.tensor([[True]]), max_flow=max_flow)
    assert (one.loss.item(), one.best.item(), one.penalty.item()) == (2.5, 2.5, 0.0)


def test_of_equal_ratings_the_first_counts_as_best():
    present = torch.ones(2, 3, dtype=torch.bool)
    assert best_rated(torch.tensor([[5.0, 5.0, 1.0], [1.0, 6.0, 6.0]]), present).tolist() == [0, 1]


def test_the_gradient_flows_through_the_best_candidate_twice():
    losses, ratings, present = tensors((3, 7, 5))
    losses.requires_grad_(True)
    margin_loss(losses, ratings, present, **SCALE, ratio=0.2).loss.sum().backward()
    # L = l_b + .2 * mean(l_b - l_1 + .., l_b - l_3 + ..)
    torch.testing.assert_close(losses.grad, torch.tensor([[-0.1, 1.2, -0.1]]))


def test_plain_loss_is_the_mean_of_the_candidates_that_there_are():
    losses, present = torch.tensor([[1.0, 3.0], [4.0, 100.0]]), torch.tensor([[True, True], [True, False]])
    assert mean_loss(losses, present).tolist() == [2.0, 4.0]


QUESTION = st.lists(st.tuples(st.floats(0, 9, width=32), st.integers(1, 7)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.lists(QUESTION, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_questions_of_a_batch_do_not_touch_each_other(batch, max_flow, legacy):
    wide = max(map(len, batch))
    losses, ratings = torch.full((len(batch), wide), 50.0), torch.full((len(batch), wide), 99.0)
    present = torch.zeros(len(batch), wide, dtype=torch.bool)
    for row, question in enumerate(batch):
        for place, (loss, rating) in enumerate(question):
            losses[row, place], ratings[row, place], present[row, place] = loss, rating, True
    how = {"max_flow": max_flow, "legacy": legacy, "margin": 3.0}
    together = margin_loss(losses, ratings, present, **how).loss
    alone = [
        margin_loss(losses[i : i + 1, : len(q)], ratings[i : i + 1, : len(q)], present[i : i + 1, : len(q)], **how)
        for i, q in enumerate(batch)
    ]
    torch.testing.assert_close(together, torch.cat([one.loss for one in alone]))
