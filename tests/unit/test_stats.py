"""Each statistic against one example worked by hand or published, then what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import stats

numbers = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400)


# --- percentiles


def test_percentile_by_nearest_rank():
    # Hyndman and Fan 1996, definition 1: rank ⌈np⌉. For n = 5: p50 → ⌈2.5⌉ = 3rd, p40 → 2nd, p90 → 5th
    values = [15, 20, 35, 40, 50]
    assert [stats.percentile(values, p) for p in (0, 5, 30, 40, 50, 90, 100)] == [15, 15, 20, 20, 35, 50, 50]


@pytest.mark.parametrize(("n", "p", "rank"), [(100, 99, 99), (1000, 99.9, 999), (10, 70, 7), (300, 7, 21)])
def test_a_whole_rank_is_not_pushed_up_by_binary_fractions(n, p, rank):
    assert stats.percentile(range(1, n + 1), p) == rank


def test_median_of_an_even_count_is_the_lower_middle():
    assert stats.median([4, 1, 3, 2]) == 2


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf]])
def test_percentile_refuses_what_it_cant_order(bad):
    with pytest.raises(ValueError, match=r"no values|finite"):
        stats.percentile(bad, 50)


def test_percentile_refuses_a_p_outside_its_range():
    with pytest.raises(ValueError, match="0 to 100"):
        stats.percentile([1], 101)


@given(numbers, st.floats(0, 100), st.floats(0, 100))
def test_percentiles_are_ordered_bounded_and_occurred(values, p, q):
    low, high = stats.percentile(values, min(p, q)), stats.percentile(values, max(p, q))
    assert min(values) <= low <= high <= max(values)
    assert low in values


@given(numbers, st.floats(0, 100))
def test_percentile_is_numpys_inverted_cdf(values, p):
    p = round(p, 3)
    mine = stats.percentile(values, p)
    ordered = np.sort(values)
    # at a whole rank numpy's own rounding may go either way by one
    expected = np.percentile(ordered, p, method="inverted_cdf")
    rank = int(np.searchsorted(ordered, mine))
    assert mine == expected or math.isclose(p / 100 * len(values) % 1, 0, abs_tol=1e-6) or rank == 0


# --- intervals of a percentile


def test_median_interval_of_ten():
    # B ~ Bin(10, ½): P(B ≤ 1) = 11/1024 = 1.07%, P(B ≤ 2) = 56/1024 = 5.47%. At most 5% a side: X(2), X(9)
    assert stats.percentile_interval(range(1, 11), 50, 0.9) == (2, 9)


def test_median_interval_of_five_is_the_whole_range():
    # 0.5^5 = 3.1% ≤ 5%: five samples are the fewest that bound a median at 90%
    assert stats.percentile_interval([3, 1, 5, 2, 4], 50) == (1, 5)
    assert stats.percentile_interval([3, 1, 2, 4], 50) == (None, None)
    assert stats.samples_needed(50) == 5


def test_median_interval_of_forty_at_95_percent():
    # B ~ Bin(40, ½): P(B ≤ 13) = 1.92%, P(B ≤ 14) = 4.03%. At most 2.5% a side: X(14) and X(27), in truth
    # 96.2% (the method: Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2)
    assert sum(math.comb(40, k) for k in range(14)) / 2**40 == pytest.approx(0.0192, abs=5e-5)
    assert stats.percentile_interval(range(1, 41), 50, 0.95) == (14, 27)


def test_p99_needs_299_samples_for_an_upper_bound():
    # 0.99^298 = 5.003%, 0.99^299 = 4.953%
    assert stats.samples_needed(99) == 299
    assert stats.percentile_interval(range(298), 99)[1] is None
    assert stats.percentile_interval(range(299), 99)[1] == 298


@pytest.mark.parametrize("p", [1, 10, 50, 90, 95, 97, 99, 99.9])
def test_samples_needed_is_the_first_count_with_both_bounds(p):
    n = stats.samples_needed(p)
    assert None not in stats.percentile_interval(range(n), p)
    assert None in stats.percentile_interval(range(n - 1), p)


@given(numbers, st.sampled_from([1, 10, 50, 90, 95, 99]), st.floats(0.5, 0.99))
def test_an_interval_holds_its_percentile_and_widens_with_confidence(values, p, confidence):
    low, high = stats.percentile_interval(values, p, confidence)
    wide_low, wide_high = stats.percentile_interval(values, p, 0.995)
    point = stats.percentile(values, p)
    assert low is None or low <= point
    assert high is None or high >= point
    assert wide_low is None or (low is not None and wide_low <= low)
    assert wide_high is None or (high is not None and wide_high >= high)


@pytest.mark.parametrize("p", [50, 90, 99])
def test_an_interval_misses_as_rarely_as_it_says(p):
    rng = np.random.default_rng(7)
    truth = -math.log(1 - p / 100)  # of the exponential distribution
    missed = 0
    for _ in range(600):
        low, high = stats.percentile_interval(rng.exponential(size=400), p)
        assert low is not None
        assert high is not None
        missed += not low <= truth <= high
    # 10% of 600 are 60; four standard deviations are 29
    assert missed <= 89


@pytest.mark.parametrize("p", [0, 100])
def test_no_count_of_samples_bounds_the_extremes(p):
    with pytest.raises(ValueError, match="no count of samples"):
        stats.samples_needed(p)
    with pytest.raises(ValueError, match="no count of samples"):
        stats.loadgen_samples_needed(p)


def test_loadgens_minimum_counts():
    # MLPerf inference rules, "Early stopping": the least queries for which one slow query is still allowed
    assert [stats.loadgen_samples_needed(p) for p in (90, 95, 97, 99, 99.9)] == [64, 130, 219, 662, 6636]


def test_loadgens_minimum_is_the_first_that_does():
    # by hand for p90: P(B ≤ 1), B ~ Bin(n, 0.1): n = 63 → 1.05%, n = 64 → 0.96%
    def at_most_one(n):
        return 0.9**n + n * 0.1 * 0.9 ** (n - 1)

    assert at_most_one(63) > 0.01 >= at_most_one(64)
    with pytest.raises(ValueError, match="more than"):
        stats.loadgen_samples_needed(99.99999)


# --- autocorrelation


def test_lag1_autocorrelation_by_hand():
    # x = 1 2 3 4, mean 2.5: Σ dᵢdᵢ₊₁ = 0.75 − 0.25 + 0.75 = 1.25, Σ dᵢ² = 5
    assert stats.lag1_autocorrelation([1, 2, 3, 4]) == pytest.approx(0.25)
    # x = 1 2 4, mean 7/3: Σ dᵢdᵢ₊₁ = 4/9 − 5/9 = −1/9, Σ dᵢ² = 42/9
    assert stats.lag1_autocorrelation([1, 2, 4]) == pytest.approx(-1 / 42)
    # alternating: every neighbour is opposite, −5/6 for n = 6
    assert stats.lag1_autocorrelation([1, -1, 1, -1, 1, -1]) == pytest.approx(-5 / 6)


@pytest.mark.parametrize("values", [[], [1], [1, 2], [7, 7, 7, 7], [0.1] * 9])
def test_lag1_autocorrelation_says_none_where_there_is_none(values):
    assert stats.lag1_autocorrelation(values) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=100))
def test_lag1_autocorrelation_is_within_one(values):
    r = stats.lag1_autocorrelation(values)
    assert r is None or -1.0000001 <= r <= 1.0000001


# --- proportions


def test_clopper_pearson_without_a_failure_is_the_rule_of_three():
    # 0 of n: upper bound 1 − tail^(1/n); n = 10 at 95%: 1 − 0.025^0.1 = 0.3085 (Clopper and Pearson 1934)
    low, high = stats.clopper_pearson(0, 10, 0.95)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert stats.clopper_pearson(10, 10, 0.95) == (pytest.approx(0.025**0.1), 1.0)


def test_clopper_pearson_by_its_definition():
    # The lower bound is the proportion under which 5 or more of 10 have a chance of just 2.5%: 0.187;
    # by symmetry the upper one is 0.813 (Clopper and Pearson 1934)
    low, high = stats.clopper_pearson(5, 10, 0.95)
    chance = sum(math.comb(10, k) * low**k * (1 - low) ** (10 - k) for k in range(5, 11))
    assert chance == pytest.approx(0.025)
    assert (round(low, 3), round(high, 3)) == (0.187, 0.813)


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_clopper_pearson_refuses_impossible_counts(k, n):
    with pytest.raises(ValueError, match="successes"):
        stats.clopper_pearson(k, n)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_holds_its_proportion(counts):
    k, n = counts
    low, high = stats.clopper_pearson(k, n)
    assert 0 <= low <= k / n <= high <= 1


# --- processes


def test_process_medians_keep_processes_apart():
    values, process = [1, 10, 2, 20, 3, 30], [0, 1, 0, 1, 0, 1]
    assert stats.process_medians(values, process).tolist() == [2, 20]
    with pytest.raises(ValueError, match="process numbers"):
        stats.process_medians([1, 2], [0])


def test_bootstrap_of_the_median_by_hand():
    # Of five figures, the resampled median is the smallest with probability P(B ≥ 3), B ~ Bin(5, 1/5) = 5.8%,
    # and the 5th percentile of all medians is therefore the smallest; by symmetry 95th is the largest
    assert stats.bootstrap_median_interval([5, 1, 4, 2, 3]) == (1, 5)


def test_bootstrap_is_the_same_for_the_same_seed_and_needs_five_processes():
    figures = np.random.default_rng(1).normal(100, 5, 12)
    assert stats.bootstrap_median_interval(figures) == stats.bootstrap_median_interval(figures)
    assert stats.bootstrap_median_interval(figures[:4]) == (None, None)


@settings(max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=40))
def test_bootstrap_interval_is_ordered_and_within_the_data(figures):
    low, high = stats.bootstrap_median_interval(figures, resamples=500)
    assert min(figures) <= low <= stats.median(figures) <= high <= max(figures)


def test_t_half_width_by_hand():
    # logarithms 0, 0.1, 0.2: s = 0.1, t(2, 95%) = 2.920 (Student's table), so 2.920 × 0.1 / √3 = 0.16858
    ratio = stats.t_half_width_ratio(np.exp([0.0, 0.1, 0.2]))
    assert ratio == pytest.approx(np.exp(0.16858), rel=1e-4)
    assert stats.t_half_width_ratio([5.0, 5.0]) == 1.0
    with pytest.raises(ValueError, match="expected at least 2"):
        stats.t_half_width_ratio([5.0])
