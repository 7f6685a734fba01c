"""The exact checks of GELI's and RRD's losses, by hand and by enumeration."""

from itertools import combinations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.rewards.decomposition.losses import (
    correction_weight,
    draw_turns,
    geli_loss,
    ircr_loss,
    ircr_targets,
    local_loss,
    masked_mean,
    regression_loss,
    rrd_loss,
    rudder_loss,
)

REWARDS = torch.tensor([0.5, -1.0, 2.0, 0.25, 0.75], dtype=torch.float64)
SCORE = torch.tensor(1.5, dtype=torch.float64)


def over_all_samples(count, replacement, unbiased, rewards=REWARDS, score=SCORE):
    """Return the mean of the loss over every sample that can be drawn, all equally likely."""
    turns = len(rewards)
    places = product(range(turns), repeat=count) if replacement else combinations(range(turns), count)
    sampled = torch.stack([rewards[list(sample)] for sample in places])
    return rrd_loss(
        sampled,
        torch.ones_like(sampled, dtype=torch.bool),
        torch.full((len(sampled),), turns),
        score.expand(len(sampled)),
        unbiased=unbiased,
        replacement=replacement,
    ).mean()


def plain(rewards=REWARDS, score=SCORE):
    return regression_loss(rewards, torch.ones_like(rewards, dtype=torch.bool), score)


def test_regression_by_hand_and_padding_does_not_count():
    rewards = torch.tensor([[1.0, 2.0, 99.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    torch.testing.assert_close(regression_loss(rewards, mask, torch.tensor([5.0, 1.0])), torch.tensor([4.0, 4.0]))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_rrd_is_too_high_by_the_variance_of_the_sample_mean(count):
    means = torch.stack([REWARDS[list(sample)].mean() for sample in combinations(range(5), count)])
    excess = over_all_samples(count, False, False) - plain()
    torch.testing.assert_close(excess, 25 * means.var(correction=0))


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_rrd_corrected_has_the_plain_loss_as_its_mean_without_replacement(count):
    torch.testing.assert_close(over_all_samples(count, False, True), plain())


@pytest.mark.parametrize("count", [2, 3, 4])
def test_rrd_corrected_has_the_plain_loss_as_its_mean_with_replacement(count):
    assert over_all_samples(count, True, False) > plain() + 1
    torch.testing.assert_close(over_all_samples(count, True, True), plain())


def test_correction_for_more_draws_than_turns_is_that_of_draws_with_replacement():
    rewards = REWARDS[:2]
    torch.testing.assert_close(over_all_samples(3, True, True, rewards), plain(rewards))


def test_rrd_of_every_turn_once_is_the_plain_loss_and_160_of_160_has_the_factor_1():
    torch.testing.assert_close(over_all_samples(5, False, False), plain())
    rewards = torch.linspace(-1, 1, 160, dtype=torch.float64)
    mask = torch.ones(160, dtype=torch.bool)
    torch.testing.assert_close(rrd_loss(rewards, mask, torch.tensor(160), SCORE), plain(rewards))


def test_weight_of_the_correction():
    turns, sampled = torch.tensor([1.0, 8.0, 8.0, 3.0]), torch.tensor([4.0, 4.0, 8.0, 4.0])
    assert correction_weight(turns, sampled, False).tolist() == [0, 0.5, 0, 1]
    assert correction_weight(turns, sampled, True).tolist() == [0, 1, 1, 1]


def test_ircr_gives_every_turn_its_share_and_the_shares_sum_to_the_score():
    turns, score = torch.tensor([4.0]), torch.tensor([6.0])
    assert ircr_targets(turns, score).tolist() == [1.5]
    assert float(4 * ircr_targets(turns, score)) == 6.0
    rewards, mask = torch.tensor([[1.5, 2.5, 0.5, 1.5, 7.0]]), torch.tensor([[True] * 4 + [False]])
    assert ircr_loss(rewards, mask, turns, score).tolist() == [0.5]  # (0 + 1 + 1 + 0) / 4


def test_rudder_averages_squares_not_errors():
    rewards, mask = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[True, True, False]])
    # predictions 1 and 3, score 2: last error 1; squares 1 and 1, whose mean is 1 though the mean error is 0
    assert rudder_loss(rewards, mask, torch.tensor([2.0])).tolist() == [1.5]
    assert rudder_loss(rewards, mask, torch.tensor([2.0]), auxiliary=0.0).tolist() == [1.0]


def test_local_loss_leaves_out_missing_signals_and_their_gradient():
    rewards = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    local = torch.tensor([[0.0, float("nan"), 1.0]])
    loss = local_loss(rewards, torch.tensor([[True, True, True]]), local)
    assert loss.tolist() == [2.5]  # (1 + 4) / 2
    loss.sum().backward()
    assert rewards.grad is not None
    assert rewards.grad.tolist() == [[1.0, 0.0, 2.0]]


def test_local_loss_is_0_where_there_is_no_signal_at_all():
    rewards = torch.tensor([[1.0, 2.0]], requires_grad=True)
    loss = local_loss(rewards, torch.ones(1, 2, dtype=torch.bool), torch.full((1, 2), float("nan")))
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert rewards.grad is not None
    assert rewards.grad.tolist() == [[0.0, 0.0]]


def test_geli_is_the_weighted_sum():
    both = torch.tensor([4.0]), torch.tensor([1.0])
    assert [float(geli_loss(*both, weight)) for weight in (1.0, 0.0, 0.5)] == [4.0, 1.0, 2.5]


@given(st.integers(1, 9), st.integers(0, 12), st.booleans(), st.integers(0, 99))
def test_draws_are_turns_in_order_and_none_comes_twice_without_replacement(turns, count, replacement, seed):
    generator = torch.Generator().manual_seed(seed)
    places, mask = draw_turns(torch.tensor([turns, 9]), count, replacement, generator)
    drawn = places[0][mask[0]].tolist()
    assert drawn == sorted(drawn)
    assert all(0 <= place < turns for place in drawn)
    if not count:
        assert drawn == list(range(turns))
    else:
        assert len(drawn) == count
    if 0 < count <= turns and not replacement:
        assert len(set(drawn)) == count


def test_draws_are_even():
    generator = torch.Generator().manual_seed(1)
    places, _ = draw_turns(torch.full((6000,), 4), 2, False, generator)
    shares = torch.bincount(places.flatten(), minlength=4) / 6000
    assert (shares - 0.5).abs().max() < 0.03


@given(st.integers(1, 4), st.integers(0, 5))
def test_padding_changes_no_loss(turns, padding):
    rewards, score = REWARDS[:turns], SCORE
    longer = torch.cat([rewards, torch.full((padding,), 7.0, dtype=torch.float64)])
    mask = torch.arange(turns + padding) < turns
    everywhere = torch.ones(turns, dtype=torch.bool)
    count = torch.tensor(turns)
    for loss in (
        lambda r, m: regression_loss(r, m, score),
        lambda r, m: rrd_loss(r, m, count, score, unbiased=True),
        lambda r, m: ircr_loss(r, m, count, score),
        lambda r, m: rudder_loss(r, m, score),
        lambda r, m: local_loss(r, m, r.detach() + 1),
        masked_mean,
    ):
        torch.testing.assert_close(loss(longer, mask), loss(rewards, everywhere))
