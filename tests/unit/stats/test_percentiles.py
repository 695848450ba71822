"""Each statistic against one example worked by hand or published, then what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
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
