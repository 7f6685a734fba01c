import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.envs import division
from dialog_gym.envs.division import Pot, Result, deals, largest_sum, nash, pareto_optimal, points, rest, result

POT = Pot((1, 4, 1), (4, 1, 2), (0, 2, 2))  # book, hat, ball of the first line of the published training file
small = st.integers(0, 5)
pots = st.integers(1, 3).flatmap(
    lambda n: st.builds(
        Pot, *(st.tuples(*[numbers] * n) for numbers in (st.integers(0, 4), small, small))
    )
)  # fmt: skip


def test_examples_in_the_docstrings():
    assert doctest.testmod(division).failed == 0


def test_points_and_deals_by_hand():
    assert points((4, 1, 2), (1, 0, 1)) == 6
    assert rest((1, 4, 1), (1, 0, 1)) == (0, 4, 0)
    assert len(deals((1, 4, 1))) == 2 * 5 * 2
    assert POT.worth((1, 0, 1)) == (6, 8)
    with pytest.raises(ValueError, match="as many values as items"):
        points((1, 2), (1, 1, 1))


def test_pareto_by_hand():
    # Hats are worth 1 to the agent and 2 to its partner, the ball 2 to both, the book 4 and 0: the book is the
    # agent's in each, and a ball for two hats leaves the agent where it was and costs the partner 2.
    assert (1, 0, 1) in pareto_optimal(POT)
    assert (1, 2, 0) not in pareto_optimal(POT)  # (6, 6): dominated by (1, 0, 1) with (6, 8)
    assert (0, 0, 0) not in pareto_optimal(POT)  # the partner has no use for the book
    assert (1, 0, 0) in pareto_optimal(POT)
    assert largest_sum(POT) == 4 + 8 + 2
    assert nash(POT) == (1, 0, 1)  # 6 * 8 = 48; next (1, 1, 1): 7 * 6


def test_results_by_hand():
    assert result(POT, (1, 0, 1), (0, 4, 0)) == Result(True, 6, 8, True)
    assert result(POT, (1, 2, 0), (0, 2, 1)) == Result(True, 6, 6, False)
    assert result(POT, (1, 0, 1), (0, 4, 0)).joint == 14
    for mine, theirs in [((1, 0, 1), (0, 3, 0)), (None, (0, 4, 0)), ((1, 0, 1), None), ((2, 0, 1), (-1, 4, 0))]:
        assert result(POT, mine, theirs, 5) == Result(False, 5, 5, False)


@given(pots)
def test_pareto_is_what_the_definition_says(pot):
    front = pareto_optimal(pot)
    for deal in deals(pot.counts):
        agent, partner = pot.worth(deal)
        others = [pot.worth(other) for other in deals(pot.counts)]
        dominated = any(a >= agent and p >= partner and a + p > agent + partner for a, p in others)
        assert (deal in front) is not dominated


@given(pots)
def test_sums_and_sides(pot):
    worth = [pot.worth(deal) for deal in deals(pot.counts)]
    assert largest_sum(pot) == max(a + p for a, p in worth)
    assert largest_sum(pot) == largest_sum(pot.swapped)
    assert {rest(pot.counts, deal) for deal in pareto_optimal(pot)} == pareto_optimal(pot.swapped)
    best = pot.worth(nash(pot))
    assert best[0] * best[1] == max(a * p for a, p in worth)
    assert nash(pot) in pareto_optimal(pot)
