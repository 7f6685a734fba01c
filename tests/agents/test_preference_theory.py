"""The theorems behind stepwise alignment, on random tables of 3 contexts and 3 answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.agents.preference_theory import best_lambda, kl_optimum, kl_value

tables = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))
prices = st.floats(0.05, 20.0)


def drawn(rng):
    return rng.dirichlet(np.ones(3), size=3), rng.normal(size=(3, 3)), rng.normal(size=(3, 3))


def test_by_hand():
    """Reference 1/2 and 1/2, beta 1: reward log 3 makes it 3 to 1; an answer that is never said stays unsaid."""
    np.testing.assert_allclose(kl_optimum([0.5, 0.5], [np.log(3), 0], 1.0), [0.75, 0.25])
    np.testing.assert_allclose(kl_optimum([0.5, 0.5], [np.log(3), 0], 0.5), [0.9, 0.1])
    np.testing.assert_allclose(kl_optimum([1.0, 0.0], [0.0, 99.0], 1.0), [1.0, 0.0])
    value = 0.75 * (np.log(3) - np.log(1.5)) + 0.25 * (0 - np.log(0.5))
    assert kl_value([0.75, 0.25], [0.5, 0.5], [np.log(3), 0], 1.0) == pytest.approx(value)
    assert value == pytest.approx(np.log(2))  # beta log Z


@given(tables, prices, prices)
def test_two_steps_are_one_and_order_does_not_matter(rng, beta, price):
    reference, reward, safety = drawn(rng)
    direct = kl_optimum(reference, reward + price * safety, beta)
    reward_first = kl_optimum(kl_optimum(reference, reward, beta), safety, beta / price)
    safety_first = kl_optimum(kl_optimum(reference, safety, beta / price), reward, beta)
    np.testing.assert_allclose(reward_first, direct, atol=1e-8)
    np.testing.assert_allclose(safety_first, direct, atol=1e-8)


@given(tables, prices, st.lists(prices, min_size=1, max_size=4))
def test_any_number_of_metrics_one_after_another(rng, beta, many):
    reference, reward, _ = drawn(rng)
    metrics = rng.normal(size=(len(many), 3, 3))
    direct = kl_optimum(reference, reward + sum(p * g for p, g in zip(many, metrics, strict=True)), beta)
    policy = kl_optimum(reference, reward, beta)
    for place in rng.permutation(len(many)):
        policy = kl_optimum(policy, metrics[place], beta / many[place])
    np.testing.assert_allclose(policy, direct, atol=1e-8)


@given(tables, prices)
def test_nothing_is_better_than_the_optimum(rng, beta):
    reference, reward, _ = drawn(rng)
    best = kl_value(kl_optimum(reference, reward, beta), reference, reward, beta)
    for other in rng.dirichlet(np.ones(3), size=(20, 3)):
        assert (kl_value(other, reference, reward, beta) <= best + 1e-9).all()


@given(tables)
def test_the_price_at_which_the_budget_is_kept(rng):
    reference, reward, cost = drawn(rng)
    free = (kl_optimum(reference, reward, 1.0) * cost).sum(-1).mean()
    cheapest = cost.min(-1).mean()
    budget = (free + cheapest) / 2
    price = best_lambda(reference, reward, cost, 1.0, budget)
    stepwise = kl_optimum(kl_optimum(reference, reward, 1.0), -cost, 1.0 / price) if price else reference
    assert (stepwise * cost).sum(-1).mean() == pytest.approx(budget, abs=1e-8)
    assert best_lambda(reference, reward, cost, 1.0, free + 0.1) == 0
    with pytest.raises(ValueError, match="no price of cost leads to a mean cost of"):
        best_lambda(reference, reward, cost, 1.0, cheapest - 0.1)


@pytest.mark.parametrize("beta", [0.0, -0.1, float("nan")])
def test_a_distance_weight_is_above_0(beta):
    with pytest.raises(ValueError, match="beta must be above 0"):
        kl_optimum([0.5, 0.5], [1.0, 0.0], beta)
