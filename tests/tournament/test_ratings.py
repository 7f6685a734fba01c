"""Ratings against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialog_gym.tournament.length_control import bounded, controlled, fit_logistic
from dialog_gym.tournament.matches import Judgement, Match, TournamentError
from dialog_gym.tournament.ratings import (
    Games,
    bradley_terry,
    draws,
    elo,
    expected,
    fit_strengths,
    plain,
    win_rate,
)


def said(question, first, second, scores, scoring=0):
    return Judgement(Match(question, "c", first, second, scoring), scores)


def games_of(results, players=("base", "a")):
    """Games from triples (question, points of ``a`` against the base, in which order)."""
    rows = []
    for question, points, order in results:
        own, other = {1.0: (2, 1), 0.0: (1, 2), 0.5: (1, 1)}[points]
        pair = ("a", "base", (own, other)) if order == 0 else ("base", "a", (other, own))
        rows.append(said(question, *pair))
    return Games.of(rows, players)


def test_win_rate_is_wins_and_half_the_ties_over_both_positions():
    games = games_of([("q", 1.0, 0), ("q", 0.5, 1), ("r", 1.0, 0), ("r", 0.0, 1)])
    found = win_rate(games, "a", "base")
    assert (found.mean, found.sd, found.ties, found.games) == (0.625, 0.0, 0.25, 4)
    assert win_rate(games, "base", "base").mean == 0.5


def test_mean_and_sd_are_over_scorings():
    rows = [said("q", "a", "base", (1, 0), scoring=s) for s in (0, 1)]
    rows += [said("q", "base", "a", scores, scoring=s) for s, scores in enumerate([(0, 1), (1, 0)])]
    found = win_rate(Games.of(rows, ("a", "base")), "a", "base")
    assert (found.mean, found.sd) == (0.75, 0.25)  # 1 in the first scoring, .5 in the second


def test_a_failure_is_counted_and_left_out_and_is_no_tie():
    rows = [said("q", "a", "base", (9, 1)), said("q", "base", "a", None)]
    games = Games.of(rows, ("a", "base", "b"))
    found = win_rate(games, "a", "base")
    assert (found.mean, found.ties, found.games) == (1.0, 0.0, 1)
    assert games.failed.tolist() == [1, 1, 0]
    assert math.isnan(win_rate(games, "b", "base").mean)
    assert plain(win_rate(games, "b", "base"))["mean"] is None


def test_the_interval_is_that_of_whole_questions():
    """Ten questions, in half of which ``a`` wins 100 times over: as good as ten matches, not a thousand."""
    rows = [(f"q{q}", float(q % 2), order) for q in range(10) for order in (0, 1) for _ in range(50)]
    low, high = win_rate(games_of(rows), "a", "base").interval
    assert low <= 0.3
    assert high >= 0.7


def test_the_same_questions_are_drawn_for_everybody():
    assert draws(7, 5, seed=3).tolist() == draws(7, 5, seed=3).tolist()
    assert (draws(7, 5).sum(axis=1) == 7).all()


# --- Elo ----------------------------------------------------------------------------------------


def test_one_win_between_equals_moves_half_of_k():
    found = elo(games_of([("q", 1.0, 0)]), "base", np.random.default_rng(0), trials=1, epochs=1)
    assert found["base"].mean == 1000
    assert found["a"].mean == pytest.approx(1216 / 1184 * 1000)  # 1200 + 16 and 1200 - 16, then scaled


def test_two_wins_by_hand():
    first = 16.0
    second = 32 * (1 - 1 / (1 + 10 ** ((1184 - 1216) / 400)))
    a, base = 1200 + first + second, 1200 - first - second
    found = elo(games_of([("q", 1.0, 0), ("r", 1.0, 1)]), "base", np.random.default_rng(0), trials=3, epochs=1)
    assert found["a"].mean == pytest.approx(1000 * a / base)
    assert found["a"].sd == pytest.approx(0)


def test_a_tie_in_both_positions_leaves_equals_equal():
    found = elo(games_of([("q", 0.5, 0), ("q", 0.5, 1)]), "base", np.random.default_rng(0))
    assert found["a"] == found["base"] == (1000, 0)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=6), st.integers(0, 5))
def test_without_scaling_points_move_and_are_not_made(points, seed):
    games = games_of([(f"q{i}", p, i % 2) for i, p in enumerate(points)])
    found = elo(games, "base", np.random.default_rng(seed), trials=1, epochs=2)
    scale = 2400 / (found["a"].mean + found["base"].mean)  # the sum was 2400 before the base was set to 1000
    assert found["base"].mean * scale + found["a"].mean * scale == pytest.approx(2400)
    assert elo(games, "base", np.random.default_rng(seed), trials=1, epochs=2) == found


def test_elo_agrees_with_a_plain_loop():
    rng = np.random.default_rng(4)
    rows = [
        said(f"q{i}", *pair, (float(rng.integers(3)), float(rng.integers(3))))
        for i in range(8)
        for pair in (("a", "b"), ("b", "base"), ("base", "a"))
    ]
    games = Games.of(rows, ("base", "a", "b"))
    found = elo(games, "base", np.random.default_rng(9), trials=2, epochs=3)
    chance, ends = np.random.default_rng(9), []
    orders = [chance.permuted(np.tile(np.arange(24), (2, 1)), axis=1) for _ in range(3)]
    for trial in range(2):
        rating = dict.fromkeys(("base", "a", "b"), 1200.0)
        for order in orders:
            for i in order[trial]:
                first, second, points = rows[i].match.first, rows[i].match.second, rows[i].points
                gain = 32 * (points - float(expected(rating[first], rating[second])))
                rating[first] += gain
                rating[second] -= gain
        ends.append(rating["a"] * 1000 / rating["base"])
    assert found["a"].mean == pytest.approx(np.mean(ends))
    assert found["a"].sd == pytest.approx(np.std(ends))


# --- Bradley-Terry ------------------------------------------------------------------------------


def test_two_players_have_the_log_odds_of_their_points():
    games = games_of([(f"q{i}", float(i < 3), i % 2) for i in range(4)])  # three of four
    found = bradley_terry(games, "base", added=0.0)
    assert found["base"].mean == 1000
    assert found["a"].mean == pytest.approx(1000 + 400 * math.log10(3))
    assert bradley_terry(games, "base")["a"].mean == pytest.approx(1000 + 400 * math.log10(3.5 / 1.5))


def test_strengths_that_made_the_table_are_found():
    truth = np.array([0.0, 1.0, -0.5])
    chance = 1 / (1 + np.exp(truth[None] - truth[:, None]))
    table = 10 * chance * (1 - np.eye(3))
    assert fit_strengths(table[None], 0)[0] == pytest.approx(truth, abs=1e-8)
    assert fit_strengths(table[None], 1)[0] == pytest.approx(truth - 1, abs=1e-8)


def test_who_always_wins_has_no_finite_maximum_without_added_points():
    games = games_of([("q", 1.0, 0), ("r", 1.0, 1)])
    with pytest.raises(TournamentError, match="added points"):
        bradley_terry(games, "base", added=0.0)
    assert bradley_terry(games, "base")["a"].mean == pytest.approx(1000 + 400 * math.log10(2.5 / 0.5))


def test_who_never_met_cannot_be_compared():
    games = Games.of([said("q", "a", "base", (1, 0))], ("a", "base", "b"))
    with pytest.raises(TournamentError, match="'b'"):
        bradley_terry(games, "base")


def test_the_interval_of_strengths_shrinks_with_questions():
    width = []
    for count in (40, 640):
        games = games_of([(f"q{i}", float(i % 4 > 0), i % 2) for i in range(count)])
        low, high = bradley_terry(games, "base", resamples=300)["a"].interval
        assert low < 1000 + 400 * math.log10(3) < high
        width.append(high - low)
    assert width[1] == pytest.approx(width[0] / 4, rel=0.2)


# --- length ----------------------------------------------------------------------------------------


def logit(p):
    return math.log(p / (1 - p))


def test_with_equal_lengths_it_is_the_plain_win_rate():
    games = games_of([(f"q{i}", float(i < 3), 0) for i in range(4)])
    assert controlled(games, "a", "base", np.full(4, 7.0)).mean == pytest.approx(0.75, abs=0.005)  # a ridge
    assert controlled(games, "base", "base", np.zeros(4)).mean == 0.5


def test_two_lengths_have_a_closed_form():
    """Longer answers win 8 of 10, equally much shorter ones 4 of 10: at equal length the log-odds are their mean."""
    x = np.array([0.6, -0.6])
    found = fit_logistic(x, np.array([[8.0, 4.0]]), np.array([[10.0, 10.0]]), ridge=0.0)[0]
    assert found[0] == pytest.approx((logit(0.8) + logit(0.4)) / 2)
    assert found[1] == pytest.approx((logit(0.8) - logit(0.4)) / 2 / 0.6)


def test_what_length_alone_has_won_is_taken_away():
    """Longer answers win 8 of 10 and shorter ones 2 of 10; ``a`` is longer on 30 of 40 questions."""
    won = [i % 10 < 8 if i < 30 else i % 10 < 2 for i in range(40)]
    games = games_of([(f"q{i}", float(win), order) for i, win in enumerate(won) for order in (0, 1)])
    longer = np.array([100.0 if i < 30 else -100.0 for i in range(40)])
    found = controlled(games, "a", "base", longer)
    assert win_rate(games, "a", "base").mean == pytest.approx(0.65)
    assert found.mean == pytest.approx(0.5, abs=1e-3)
    assert found.interval.low < 0.5 < found.interval.high < 0.8
    assert found.slope == pytest.approx(logit(0.8) / math.tanh(100 / longer.std()), abs=0.01)


def test_exchanging_both_sides_gives_one_less_it():
    rng = np.random.default_rng(2)
    results = [(f"q{i}", float(rng.integers(3)) / 2, 0) for i in range(30)]
    longer = rng.normal(size=30) * 20
    one = controlled(games_of(results), "a", "base", longer)
    other = controlled(games_of([(q, 1 - p, o) for q, p, o in results]), "a", "base", -longer)
    assert one.mean + other.mean == pytest.approx(1)
    assert one.slope == pytest.approx(other.slope)


def test_differences_are_measured_by_their_spread():
    assert bounded(np.array([1.0, -1.0])).tolist() == pytest.approx([math.tanh(1), -math.tanh(1)])
    assert bounded(np.array([5.0, 5.0])).tolist() == [0, 0]
