"""Samples that are not independent, by hand and for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import stats


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


@pytest.mark.parametrize(("n", "bound"), [(100, 0.195996), (400, 0.097998), (10_000, 0.05)])
def test_what_independence_explains(n, bound):
    # NIST/SEMATECH e-Handbook 1.3.3.1: ±1.96 / √n, no less than what is negligible
    assert stats.independent_lag1(n) == pytest.approx(bound, abs=1e-5)


# --- effective samples


def test_effective_samples_by_hand():
    # x = 1 2 3 4: autocovariances × 4 are 5, 1.25, −1.5, −2.25. Pairs of lags: 6.25, then −3.75, where the
    # sum ends: 1 + 2 Σ r = −1 + 2 × 6.25 / 5 = 1.5, so 4 / 1.5
    assert stats.effective_sample_size([1, 2, 3, 4]) == pytest.approx(4 / 1.5)


def test_effective_samples_of_a_known_process():
    # AR(1) of φ is worth n (1 − φ) / (1 + φ): φ = 0.5 a third, 0.9 one in 19
    for phi, worth in ((0.0, 1.0), (0.5, 1 / 3), (0.9, 1 / 19)):
        x = ar1(phi, 40_000, 1)
        assert stats.effective_sample_size(x) / x.size == pytest.approx(worth, rel=0.15)


@pytest.mark.parametrize("values", [[5], [5, 5], [7.0] * 20])
def test_effective_samples_of_a_constant_are_all(values):
    assert stats.effective_sample_size(values) == len(values)
    with pytest.raises(ValueError, match="no values"):
        stats.effective_sample_size([])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=100))
def test_effective_samples_are_between_one_and_all(values):
    assert 1 <= stats.effective_sample_size(values) <= len(values)


# --- thinning and maxima


def ar1(phi: float, n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(n)
    for i in range(1, n):
        x[i] = phi * x[i - 1] + math.sqrt(1 - phi * phi) * x[i]
    return x


def test_independent_samples_are_not_thinned():
    found = stats.thin(np.random.default_rng(2).normal(size=500))
    assert found.factor == 1
    assert found.values.size == 500
    assert found.lag1 == found.lag1_after


def test_thinning_stops_at_the_first_factor_that_does():
    x = ar1(0.6, 4000, 3)
    found = stats.thin(x, max_lag1=0.1)
    assert found.values.tolist() == x[:: found.factor].tolist()
    assert abs(found.lag1_after) <= 0.1 < abs(stats.lag1_autocorrelation(x[:: found.factor - 1]))
    # 0.6^k ≤ 0.1 from k = 5 (0.078) on; sampling error may take it one further or nearer
    assert 4 <= found.factor <= 6


def test_a_level_that_steps_leaves_nothing_independent():
    found = stats.thin([0.0] * 50 + [1.0] * 50, max_lag1=0.1)
    assert found.lag1 > 0.9
    assert found.values.size <= 3


def test_block_maxima_by_hand():
    assert stats.block_maxima([3, 1, 4, 1, 5, 9, 2], 3).tolist() == [4, 9]
    assert stats.block_maxima([3, 1], 3).size == 0
    with pytest.raises(ValueError, match="at least 1"):
        stats.block_maxima([1], 0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 10), st.sampled_from([50, 90]))
def test_percentiles_of_maxima_bound_those_of_values(values, size, p):
    kept = values[: len(values) // size * size]
    if kept:
        assert stats.percentile(stats.block_maxima(kept, size), p) >= stats.percentile(kept, p)


# --- intervals that allow for it


def test_independent_samples_have_the_interval_of_order_statistics():
    x = np.random.default_rng(4).normal(size=400)
    found = stats.percentile_interval_autocorrelated(x, 90)
    assert (found.low, found.high) == stats.percentile_interval(x, 90)
    assert (found.factor, found.said, found.needed) == (1, "", stats.samples_needed(90))


def test_correlated_samples_say_what_was_done():
    found = stats.percentile_interval_autocorrelated(ar1(0.6, 4000, 3), 50)
    assert found.factor > 1
    assert found.said == f"thinned by {found.factor}: lag-1 {found.lag1:.2f} → {found.lag1_after:.2f}"
    assert found.said.startswith(f"thinned by {found.factor}: lag-1 0.")
    assert found.needed == 5 * found.factor


def test_thinned_ranks_by_hand():
    # ramp of 10 with neighbours in pairs, thinned by 2: 5 samples bound a median by their 1st and 5th, which
    # stand for ranks 1 and 10 of all; order statistics of 10 alone gave the 2nd and 9th
    x = [5, 5, 1, 1, 4, 4, 2, 2, 3, 3]
    assert stats.percentile_interval(x, 50) == (1, 5)
    from harness.stats.samples import _thinned_bounds

    assert _thinned_bounds(np.arange(1.0, 11.0), 2, 50, 0.9) == (1, 10)
    assert _thinned_bounds(np.arange(1.0, 9.0), 2, 50, 0.9) == (None, None)  # four samples bound no median


def test_a_bound_that_thinned_samples_cannot_give_is_none_and_says_how_many_would_do():
    x = ar1(0.9, 400, 5)
    found = stats.percentile_interval_autocorrelated(x, 99)
    assert stats.percentile_interval(x, 99)[1] is not None
    assert found.high is None
    assert found.needed == 299 * found.factor


def test_levels_of_processes_are_not_taken_for_correlation():
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.normal(level, 1, 200) for level in (0, 50, 100)])
    process = np.repeat([0, 1, 2], 200)
    assert stats.percentile_interval_autocorrelated(x, 50).factor > 1
    assert stats.percentile_interval_autocorrelated(x, 50, process=process).factor == 1
    with pytest.raises(ValueError, match="process numbers"):
        stats.percentile_interval_autocorrelated(x, 50, process=[0])


def test_a_pattern_that_thinning_makes_constant_is_as_good_as_independent():
    found = stats.percentile_interval_autocorrelated([100.0, 101.0] * 40, 50)
    assert found.factor == 2
    assert (found.low, found.high) == (100, 101)
    assert found.said == "thinned by 2: lag-1 -0.99 → none left"


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 20).map(float), min_size=1, max_size=120),
    st.sampled_from([10, 50, 90]),
    st.booleans(),
)
def test_never_narrower_than_for_independent_samples(values, p, ordered):
    values = sorted(values) if ordered else values
    low, high = stats.percentile_interval(values, p)
    found = stats.percentile_interval_autocorrelated(values, p)
    point = stats.percentile(values, p)
    assert found.low is None or (low is not None and found.low <= low <= point)
    assert found.high is None or (high is not None and found.high >= high >= point)


@settings(max_examples=60)
@given(st.lists(st.floats(1, 100), min_size=1, max_size=80), st.sampled_from([50, 90]), st.floats(1, 3))
def test_a_slower_run_moves_no_bound_down(values, p, slower):
    before = stats.percentile_interval_autocorrelated(values, p)
    after = stats.percentile_interval_autocorrelated([v * slower for v in values], p)
    for old, new in ((before.low, after.low), (before.high, after.high)):
        assert (old is None) == (new is None)
        assert old is None or new >= old * (1 - 1e-12)
