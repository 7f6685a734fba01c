"""The arithmetic of ``ppo``, by numbers worked out by hand, and the laws that it keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.agents.ppo_losses import (
    adapted,
    discounted,
    explained_variance,
    gae,
    group_normalised,
    leave_one_out,
    log_probabilities,
    moved,
    policy_loss,
    turn_ends,
    value_loss,
    whitened,
)

# Two turns: tokens 0 and 1, and token 2. What is said to be worth: 1, 2, 3.
REWARDS, VALUES, ENDS = [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [False, True, True]
numbers = st.floats(-3, 3, allow_nan=False, width=32)


class TestGae:
    def test_across_turns_by_hand(self):
        # delta: 2 = 2 - 3 = -1;  1 = 1 + .5 * 3 - 2 = .5;  0 = 0 + 2 - 1 = 1 (no discount within the turn)
        # A2 = -1;  A1 = .5 + .5 * .5 * -1 = .25;  A0 = 1 + .25 = 1.25
        assert gae(REWARDS, VALUES, ENDS, gamma=0.5, lam=0.5).tolist() == [1.25, 0.25, -1.0]

    def test_per_token_by_hand(self):
        # delta: 2 = -1;  1 = .5;  0 = 0 + .5 * 2 - 1 = 0;  A1 = .25;  A0 = 0 + .25 * .25 = .0625
        assert gae(REWARDS, VALUES, ENDS, gamma=0.5, lam=0.5, per="token").tolist() == [0.0625, 0.25, -1.0]

    def test_what_comes_behind_is_discounted_as_a_turn_is(self):
        # delta 2 = 2 + .5 * 4 - 3 = 1;  A1 = .5 + .25;  A0 = 1 + .75
        assert gae(REWARDS, VALUES, ENDS, gamma=0.5, lam=0.5, after=4.0).tolist() == [1.75, 0.75, 1.0]

    def test_a_penalty_on_a_token_reaches_the_tokens_before_it_alone(self):
        less = np.array(REWARDS) - np.array([0.0, 0.5, 0.0])
        change = gae(less, VALUES, ENDS, gamma=0.5, lam=0.5) - gae(REWARDS, VALUES, ENDS, gamma=0.5, lam=0.5)
        assert change.tolist() == [-0.5, -0.5, 0.0]

    @given(st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=9), st.sampled_from([0.5, 1.0]))
    def test_with_lambda_1_it_is_the_return_less_the_value(self, tokens, gamma):
        rewards, values, ends = map(np.array, zip(*tokens, strict=True))
        ends[-1] = True
        for per in ("turn", "token"):
            found = gae(rewards, values, ends, gamma=gamma, lam=1.0, per=per)
            to_go = [discounted(rewards[t:], ends[t:], gamma, per) for t in range(len(tokens))]
            np.testing.assert_allclose(found, np.array(to_go) - values, atol=1e-6)

    @given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9))
    def test_a_turn_of_many_tokens_is_worth_what_one_of_one_token_is(self, turns):
        """Tokens without reward, of the same value, put before the last of each turn change nothing."""
        rewards, values = map(np.array, zip(*turns, strict=True))
        alone = gae(rewards, values, np.ones(len(turns)), gamma=0.9, lam=0.8)
        longer = gae(
            np.stack([0 * rewards, rewards], 1).ravel(), np.repeat(values, 2), [False, True] * len(turns), gamma=0.9,
            lam=0.8,
        )  # fmt: skip
        np.testing.assert_allclose(longer[::2], alone, atol=1e-6)
        np.testing.assert_allclose(longer[1::2], alone, atol=1e-6)


class TestGroups:
    def test_by_hand(self):
        returns = [1.0, 0.0, 0.5, 3.0, 1.0, 2.0]
        assert leave_one_out(returns, 3).tolist() == [0.75, -0.75, 0.0, 1.5, -1.5, 0.0]
        # the standard deviation of 3, 1, 2 is sqrt(2/3)
        assert group_normalised(returns, 3)[3:].tolist() == pytest.approx([1.5**0.5, -(1.5**0.5), 0.0])
        assert group_normalised([0.3] * 4, 2).tolist() == [0.0] * 4

    @given(st.lists(numbers, min_size=6, max_size=6), numbers)
    def test_what_a_start_is_worth_does_not_matter(self, returns, more):
        shifted = np.array(returns) + np.repeat([more, -more], 3)
        np.testing.assert_allclose(leave_one_out(shifted, 3), leave_one_out(returns, 3), atol=1e-5)
        np.testing.assert_allclose(leave_one_out(returns, 3).reshape(2, 3).sum(1), 0, atol=1e-9)

    @pytest.mark.parametrize("group", [1, 4])
    def test_groups_must_be_whole(self, group):
        with pytest.raises(ValueError, match=f"got 6 dialogues in groups of {group}"):
            leave_one_out(np.zeros(6), group)


def test_discounts_by_hand():
    ends = turn_ends(np.array([0, 0, 3, 4, 4]))
    assert ends.tolist() == [False, True, True, False, True]
    # per turn the five tokens are discounted by 1, 1, .5, .25, .25
    assert discounted([1, 1, 2, 4, 8], ends, 0.5) == 1 + 1 + 1 + 1 + 2
    assert discounted([1, 1, 2, 4, 8], ends, 0.5, "token") == 1 + 0.5 + 0.5 + 0.5 + 0.5


def test_the_ratio_is_clipped_where_that_takes_less_and_never_where_it_takes_more():
    ratio, advantages = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.0]), torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0])
    new = ratio.log().requires_grad_(True)
    loss = policy_loss(new, torch.zeros(5), advantages, 0.2)
    torch.testing.assert_close(loss, torch.tensor([-2.4, 3.0, -1.0, 1.6, -3.0]))
    loss.sum().backward()
    # the gradient is -ratio * advantage where nothing is clipped
    torch.testing.assert_close(new.grad, torch.tensor([0.0, 3.0, -1.0, 0.0, -3.0]))


def test_the_value_is_clipped_near_the_old_one():
    values, old, targets = torch.tensor([1.0, 0.1, -1.0]), torch.zeros(3), torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(value_loss(values, old, targets), torch.tensor([0.0, 0.405, 0.5]))
    torch.testing.assert_close(value_loss(values, old, targets, 0.2), torch.tensor([0.32, 0.405, 0.5]))


def test_log_probabilities_and_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]], dtype=torch.float64)
    new, entropy = log_probabilities(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(new.exp(), torch.tensor([0.5, 0.75], dtype=torch.float64))
    wanted = [np.log(2), -0.75 * np.log(0.75) - 0.25 * np.log(0.25)]
    torch.testing.assert_close(entropy, torch.tensor(wanted, dtype=torch.float64))


def test_how_far_it_moved_is_the_kl_on_average():
    old, new = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.8, 0.2]).double().log()
    kl = (old.exp() * (old - new)).sum()
    torch.testing.assert_close((old.exp() * moved(new, old)).sum(), kl)
    assert moved(old, old).tolist() == [0.0, 0.0]


def test_the_rest_by_hand():
    assert adapted(0.2, 100.0, 5.0) == pytest.approx(0.2 * 1.02)
    assert adapted(0.2, -1.0, 5.0) == pytest.approx(0.2 * 0.98)
    assert adapted(0.2, 5.5, 5.0, rate=0.5) == pytest.approx(0.2 * 1.05)
    assert explained_variance([0.0, 1.0, 2.0], [0.0, 1.0, 2.0]) == 1.0
    assert explained_variance([0.0, 1.0, 2.0], [5.0, 5.0, 5.0]) == 0.0
    assert explained_variance([0.0, 2.0], [2.0, 0.0]) == -3.0
    assert explained_variance([1.0, 1.0], [0.0, 1.0]) == 0.0
    one, other = whitened([np.array([1.0, 3.0]), np.array([5.0])])
    # mean 3, standard deviation sqrt(8/3)
    np.testing.assert_allclose([*one, *other], np.array([-2, 0, 2]) / (8 / 3) ** 0.5, rtol=1e-6)
