"""Statistics of few runs: against closed forms, against scipy, and what they promise on simulated runs."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dialog_gym.benchmarks.paired import crossed_interval, paired_difference, smallest_difference
from dialog_gym.benchmarks.statistics import (
    band,
    common_grid,
    earned,
    efficiency,
    estimate,
    iqm,
    mean,
    median,
    optimality_gap,
    over_runs,
    probability_of_improvement,
    run_profile,
    runs_or_episodes,
    t_interval,
    t_quantile,
)
from dialog_gym.rollout import bootstrap

RAGGED = [np.array([0.1, 0.5, 0.9]), np.array([0.4, 0.8, 1.2, 0.2, 0.6])]
scores = st.integers(-8, 8).map(lambda n: n / 4)  # exact in binary, so that ties stay ties
worlds = st.lists(st.lists(scores, min_size=1, max_size=6).map(np.array), min_size=1, max_size=4)


stats = pytest.importorskip("scipy.stats")


def ends(found):
    low, high = found[-2:]
    assert low is not None
    return low, high


def rng(seed=0):
    return np.random.default_rng(seed)


class TestAggregates:
    def test_by_hand(self):
        # sorted: .1 .2 .4 .5 .6 .8 .9 1.2; those of the first world weigh 1/6, those of the second 1/10. A quarter of
        # the weight lies below all but a sixtieth of .2, and above all but a sixtieth of .9
        assert iqm(RAGGED) == pytest.approx(((0.2 + 0.9) / 60 + (0.4 + 0.6 + 0.8) / 10 + 0.5 / 6) / 0.5)
        assert mean(RAGGED) == pytest.approx((0.5 + 0.64) / 2)
        assert median([*RAGGED, np.array([9.0])]) == pytest.approx(0.64)
        # of the first world .9, .5 and .1 are missing; of the second .6, .2, 0, .8 and .4
        assert optimality_gap(RAGGED) == pytest.approx((1.5 / 3 + 2.0 / 5) / 2)
        assert optimality_gap(RAGGED, target=0.0) == 0.0

    @given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e3, 1e3)))
    def test_iqm_is_the_trimmed_mean_of_scipy(self, values):
        assert iqm([values]) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-9)

    @given(arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 6)), elements=st.floats(-1e3, 1e3)))
    def test_iqm_pools_worlds_of_as_many_runs(self, table):
        assert iqm(list(table)) == pytest.approx(stats.trim_mean(table, 0.25, axis=None), abs=1e-9)

    @given(worlds, st.integers(2, 3))
    def test_iqm_weighs_worlds_alike(self, runs, times):
        """Every run of one world several times over changes its number of runs, and nothing else."""
        fours = [np.tile(world, 4) for world in runs]  # so that the quarter that is left out is a quarter
        assert iqm([np.tile(fours[0], times), *fours[1:]]) == pytest.approx(iqm(fours))

    @given(worlds, worlds)
    def test_probability_of_improvement_is_mann_whitney(self, one, other):
        count = min(len(one), len(other))
        pairs = list(zip(one[:count], other[:count], strict=True))
        known = [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in pairs]
        assert probability_of_improvement(one[:count], other[:count]) == pytest.approx(np.mean(known))

    @given(worlds, worlds)
    def test_one_of_two_is_better_or_they_tie(self, one, other):
        count = min(len(one), len(other))
        forth, back = (probability_of_improvement(a[:count], b[:count]) for a, b in ((one, other), (other, one)))
        assert forth + back == pytest.approx(1)

    @given(worlds, st.randoms(use_true_random=False), st.sampled_from([iqm, mean, median, optimality_gap]))
    def test_order_does_not_matter(self, runs, random, aggregate):
        shuffled = [np.array(random.sample(list(world), len(world))) for world in random.sample(runs, len(runs))]
        assert aggregate(shuffled) == pytest.approx(aggregate(runs))

    @given(worlds, st.sampled_from([0.25, 2.0, 3.0]), scores, st.sampled_from([iqm, mean, median]))
    def test_they_move_with_the_scale(self, runs, factor, shift, aggregate):
        moved = [factor * world + shift for world in runs]
        assert aggregate(moved) == pytest.approx(factor * aggregate(runs) + shift)

    @given(worlds)
    def test_a_gap_is_what_the_clipped_mean_misses(self, runs):
        assert optimality_gap(runs) == pytest.approx(1 - mean([np.minimum(world, 1) for world in runs]))


class TestIntervals:
    @pytest.mark.parametrize("count", [1, 3])
    def test_it_is_the_stratified_bootstrap_of_scipy(self, count):
        runs = [rng(k).exponential(size=12) + k for k in range(count)]
        theirs = stats.bootstrap(
            tuple(runs),
            lambda *worlds, axis: np.mean([world.mean(axis) for world in worlds], axis=0),
            method="percentile",
            n_resamples=20_000,
            rng=1,
        ).confidence_interval
        ours = estimate(mean, runs, rng=rng(), resamples=20_000, fewer=0)
        assert ours.value == pytest.approx(np.mean([world.mean() for world in runs]))
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)

    @pytest.mark.parametrize("aggregate", [iqm, mean, median, optimality_gap])
    def test_the_value_is_in_its_interval_where_runs_are_lost(self, aggregate):
        """Runs of sb3-sac in six worlds, some lost: pooled, their interquartile mean was .50 in .51 to .61."""
        runs = [[0.73, 0.83, 0.86], [0.79, 0.79, 0.74], [-0.81, -0.81], [0.03, 0.05], [0.39, 0.59, 0.57], [0.32, 0.29]]
        found = estimate(aggregate, runs, rng=rng())
        low, high = ends(found)
        assert low < found.value < high

    def test_one_run_fewer_sees_the_right_variance(self):
        runs = [rng(k).normal(size=4) for k in range(9)]
        low, high = ends(estimate(mean, runs, rng=rng(), resamples=20_000))
        error = math.sqrt(sum(world.var(ddof=1) / 4 for world in runs)) / 9
        assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.03)

    def test_two_agents_are_drawn_apart(self):
        low, high = ends(estimate(probability_of_improvement, RAGGED, RAGGED, rng=rng()))
        assert low < 0.5 < high
        assert estimate(probability_of_improvement, RAGGED, [world - 9 for world in RAGGED], rng=rng()) == (1, 1, 1)

    def test_one_run_has_no_interval(self):
        assert estimate(iqm, [[0.5]], rng=rng()) == (0.5, None, None)
        assert estimate(mean, [[0.5, 0.7], [0.2]], rng=rng())[1:] == (None, None)
        assert band(mean, [[[0.5], [0.25]]], rng=rng()).low is None
        assert over_runs([0.5]) == (0.5, None, None)
        with pytest.raises(ValueError, match="at least two"):
            t_interval([0.5])

    @pytest.mark.parametrize("aggregate", [iqm, mean])
    def test_they_hold_the_truth_as_often_as_they_say(self, aggregate):
        held = []
        for k in range(300):
            made = rng(k)
            low, high = ends(estimate(aggregate, list(made.normal(size=(7, 10))), rng=made, resamples=400))
            held.append(low <= 0 <= high)
        # measured for 400 tries: 94%; four standard deviations of 300 tries at 94% are 5.5 points
        assert 0.885 <= np.mean(held) <= 0.995

    def test_students_t_holds_the_truth_as_often_as_it_says(self):
        ends = [t_interval(rng(k).normal(size=5)) for k in range(1000)]
        assert np.mean([low <= 0 <= high for low, high in ends]) == pytest.approx(0.95, abs=4 * 0.0069)

    @settings(max_examples=20)
    @given(st.integers(0, 99), st.sampled_from([0.5, 4.0]), scores)
    def test_they_move_with_the_scale(self, seed, factor, shift):
        runs = [rng(seed).normal(size=5), rng(seed + 1).normal(size=3)]
        moved = [factor * world + shift for world in runs]
        before, after = (estimate(iqm, one, rng=rng(seed), resamples=200) for one in (runs, moved))
        assert after == pytest.approx([factor * value + shift for value in before])

    def test_the_generator_decides(self):
        one, two, other = (estimate(iqm, RAGGED, rng=rng(seed), resamples=99) for seed in (0, 0, 1))
        assert one == two != other

    @pytest.mark.parametrize(
        ("runs", "words"),
        [
            ([], "at least one world"),
            ([[]], "at least one run"),
            ([[0.1], [[0.1]]], r"world 1: .* got shape \(1, 1\)"),
            ([[0.1, math.nan]], "finite scores, got nan"),
        ],
    )
    def test_bad_runs_are_refused(self, runs, words):
        with pytest.raises(ValueError, match=words):
            estimate(mean, runs, rng=rng())

    def test_bad_levels_are_refused(self):
        with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
            estimate(mean, RAGGED, rng=rng(), level=95)


class TestStudent:
    @pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 31, 200, 5001])
    @pytest.mark.parametrize("share", [0.01, 0.5, 0.8, 0.95, 0.975, 0.9995])
    def test_quantiles_are_those_of_scipy(self, freedom, share):
        assert t_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-8, abs=1e-8)

    @given(st.lists(st.floats(-100, 100), min_size=2, max_size=9), st.sampled_from([0.5, 0.9, 0.95]))
    def test_interval_is_that_of_scipy(self, values, level):
        spread = stats.sem(values)
        known = stats.t.interval(level, len(values) - 1, np.mean(values), spread) if spread else 2 * [np.mean(values)]
        assert t_interval(values, level) == pytest.approx(tuple(known), abs=1e-9)

    def test_interval_by_hand(self):
        assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((-0.4843, 4.4843), abs=1e-3)  # 2 -+ 4.303 * 1 / sqrt(3)

    def test_runs_or_episodes(self):
        assert runs_or_episodes([[0.0, 1.0, 1.0]]) == bootstrap([0.0, 1.0, 1.0])
        assert runs_or_episodes([[0.0, 2.0], [3.0], [4.0, 0.0]]) == t_interval([1.0, 3.0, 2.0])

    @pytest.mark.parametrize(("share", "freedom"), [(0.0, 3), (1.0, 3), (0.5, 0)])
    def test_there_are_no_other_quantiles(self, share, freedom):
        with pytest.raises(ValueError, match="at least 1 degree of freedom"):
            t_quantile(share, freedom)


def test_what_cells_earned_by_hand():
    cells = [
        {"result": {"mean": m, "returns": [m, m], "turns": 2 * m, "success_rate": m / 4}, "cpu_seconds": 10 * m}
        for m in (1.0, 3.0)
    ]
    found = earned("td3", cells, {"lm": 0.0, "oracle": 4.0})
    low, high = t_interval([1.0, 3.0])
    assert found == ("td3", 2, 2.0, low, high, 0.5, low / 4, high / 4, 4.0, 0.5, 20.0)
    assert earned("td3", cells[:1], {"lm": 0.0})[:8] == ("td3", 1, 1.0, 1.0, 1.0, None, None, None)


class TestProfiles:
    def test_by_hand(self):
        found = run_profile(RAGGED, [0.0, 0.5, 1.0], rng=rng())
        assert found.value.tolist() == pytest.approx([1, (1 / 3 + 3 / 5) / 2, (0 + 1 / 5) / 2])

    def test_its_integral_is_the_mean(self):
        runs = [rng(k).random(6) for k in range(3)]
        taus = np.linspace(0, 1, 2001)
        assert np.trapezoid(run_profile(runs, taus, rng=rng(), resamples=2).value, taus) == pytest.approx(
            mean(runs), abs=1e-3
        )

    @settings(max_examples=25)
    @given(worlds.filter(lambda runs: all(len(world) > 1 for world in runs)))
    def test_they_fall_from_one_to_zero_within_their_bands(self, runs):
        value, low, high = run_profile(runs, np.linspace(-3, 3, 13), rng=rng(), resamples=50)
        assert low is not None
        assert high is not None
        assert value[0] == 1
        assert value[-1] == 0
        for line in (value, low, high):
            assert (np.diff(line) <= 0).all()
        assert (low <= high).all()
        assert value.shape == low.shape == high.shape == (13,)

    def test_a_point_is_the_interval_of_its_share(self):
        low, high = ends(run_profile(RAGGED, [0.5], rng=rng(3)))
        assert (low[0], high[0]) == estimate(mean, [(world > 0.5) for world in RAGGED], rng=rng(3))[1:]


class TestCurves:
    CURVES = (([(0, 0.0), (10, 1.0)], [(0, 0.0), (20, 1.0)]), ([(5, 0.5), (15, 0.5)],))

    def test_they_are_straight_between_points(self):
        grid = common_grid(self.CURVES, points=3)
        assert grid.tolist() == [5, 7.5, 10]
        found = efficiency(self.CURVES, grid, rng=rng())
        # at 5: .5 .25 and .5, at 7.5: .75 .375 and .5, at 10: 1 .5 and .5; of three runs none is trimmed
        assert found.value.tolist() == pytest.approx([(0.375 + 0.5) / 2, (0.5625 + 0.5) / 2, (0.75 + 0.5) / 2])
        assert found.low is None, "the second world has one run"

    def test_a_run_is_drawn_with_all_its_points(self):
        up, flat = [(0, 0.0), (1, 1.0)], [(0, 0.5), (1, 0.5)]
        found = efficiency([[up, flat]], [0.0, 1.0], rng=rng())
        low, high = ends(found)
        assert low.tolist() == [0.0, 0.5]
        assert high.tolist() == [0.5, 1.0]

    def test_curves_without_a_common_range_are_refused(self):
        with pytest.raises(ValueError, match="one begins at 7, another ends at 5"):
            common_grid([[[(0, 1.0), (5, 1.0)]], [[(7, 1.0)]]])
        with pytest.raises(ValueError, match="at least one point"):
            common_grid([[[]]])

    def test_curves_of_one_point_in_common(self):
        assert common_grid([[[(5, 1.0)]], [[(0, 1.0), (5, 2.0)]]]).tolist() == [5]


class TestPaired:
    def test_by_hand(self):
        found = paired_difference([[1.0, 3.0], [2.0, 2.0], [0.0, 4.0]], rng=rng())
        assert (found.mean, found.runs, found.episodes) == (2, 3, 2)
        assert found.over_episodes == (1, 3), "the first episode gains 1, the second 3"
        # variance of runs 0; of episodes 2 / 2; what is left (0 0, 1 -1, -1 1) has 4 / 2, of which a sixth is in both
        half = 4.30265 * math.sqrt(0 + 1 - 2 / 6)
        assert found.over_both == pytest.approx((2 - half, 2 + half), abs=1e-4)
        assert found.told_apart is False, "all runs gain 2 in the mean, but other episodes may be of the first kind"
        assert paired_difference([[1.0, 1.5], [1.5, 1.0], [1.25, 1.25]], rng=rng()).told_apart is True

    def test_of_runs_alone_it_is_the_paired_t_of_scipy(self):
        one, other = rng(1).normal(size=(5, 1)), rng(2).normal(size=(5, 1))
        known = stats.ttest_rel(one[:, 0], other[:, 0]).confidence_interval()
        same = np.repeat(one - other, 40, axis=1)  # every episode of a run gains the same
        assert paired_difference(same, rng=rng()).over_both == pytest.approx((known.low, known.high))

    def test_over_episodes_is_the_bootstrap_of_scipy(self):
        gains = rng(1).exponential(size=(3, 50))
        theirs = stats.bootstrap((gains.mean(0),), np.mean, method="percentile", rng=1).confidence_interval
        assert paired_difference(gains, rng=rng(), resamples=9999).over_episodes == pytest.approx(
            (theirs.low, theirs.high), abs=0.01
        )

    def test_what_is_hard_for_all_runs_counts_for_new_episodes_only(self):
        gains = np.tile(rng(0).normal(size=30), (4, 1))
        found = paired_difference(gains, rng=rng())
        assert t_interval(gains.mean(axis=1)) == pytest.approx((gains.mean(), gains.mean()))
        assert found.over_both is not None
        low, high = found.over_both
        assert high - low > 0.4

    def test_what_differs_between_runs_counts_for_new_runs(self):
        gains = np.tile([[0.0], [1.0], [2.0], [3.0]], 30)
        found = paired_difference(gains, rng=rng())
        assert found.over_episodes == pytest.approx((1.5, 1.5))
        low, high = ends(found.over_both)
        assert high - low > 1.5

    @pytest.mark.parametrize(("runs", "between", "hard"), [(2, 1.0, 0.0), (3, 0.3, 1.0), (5, 0.3, 0.0)])
    def test_new_runs_on_new_episodes_hold_the_truth(self, runs, between, hard):
        draws = rng(3)
        held = 0
        for _ in range(400):
            gains = draws.normal(size=(runs, 30)) + hard * draws.normal(size=30)
            gains += between * draws.normal(size=(runs, 1))
            low, high = crossed_interval(gains)
            alone = t_interval(gains.mean(axis=1))
            assert low - 1e-9 <= alone[0] <= alone[1] <= high + 1e-9
            held += low <= 0 <= high
        assert held >= 0.92 * 400, "95% less three standard errors"

    def test_one_run_or_one_episode_has_no_such_interval(self):
        assert paired_difference([[0.5], [0.7]], rng=rng()).over_both is None
        with pytest.raises(ValueError, match="two runs and two episodes"):
            crossed_interval([[1.0, 2.0]])

    def test_one_run_speaks_of_its_episodes_alone(self):
        found = paired_difference([[0.5, 1.5, 1.0]], rng=rng())
        assert (found.over_both, found.resolvable, found.told_apart) == (None, None, None)
        low, high = ends(found.over_episodes)
        assert low < 1 < high
        assert paired_difference([[0.5], [0.7]], rng=rng()).over_episodes is None

    @pytest.mark.parametrize("gains", [[0.5], [[]], [[math.nan]]])
    def test_bad_gains_are_refused(self, gains):
        with pytest.raises(ValueError, match="finite gains"):
            paired_difference(gains, rng=rng())


class TestSmallestDifference:
    def test_parts_of_variance_by_hand(self):
        # two runs of two episodes: means 0 and 2 (variance 2), nothing left beside runs and episodes
        gains = [[-1.0, 1.0], [1.0, 3.0]]
        quantiles = t_quantile(0.975, 1) + t_quantile(0.8, 1)
        assert smallest_difference(gains) == pytest.approx(quantiles * 1.0)
        assert smallest_difference(gains, episodes=1000) == smallest_difference(gains), "all lies between runs"
        quantiles = t_quantile(0.975, 7) + t_quantile(0.8, 7)
        assert smallest_difference(gains, runs=8) == pytest.approx(quantiles * 0.5)

    def test_more_episodes_help_where_chance_is_in_them(self):
        gains = rng(0).normal(size=(6, 20))  # the runs themselves do not differ
        halved = smallest_difference(gains, episodes=80) / smallest_difference(gains, episodes=20)
        assert halved == pytest.approx(0.5, abs=0.1)

    def test_it_is_found_four_times_in_five(self):
        for runs in (3, 5, 10):
            shift = t_quantile(0.975, runs - 1) + t_quantile(0.8, runs - 1)
            power = 1 - stats.nct.cdf(stats.t.ppf(0.975, runs - 1), runs - 1, shift)
            assert power == pytest.approx(0.8, abs=0.04)

    def test_one_run_tells_nothing(self):
        with pytest.raises(ValueError, match="at least two runs"):
            smallest_difference([[1.0, 2.0]])


def test_no_torch_and_no_scipy_at_run_time():
    code = "import sys, dialog_gym.benchmarks.paired; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
