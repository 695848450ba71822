"""Slopes of long series: by hand, against scipy, and whether the interval holds under correlated noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.soak_tables import ar1

from harness.stats.drift import (
    averaged_inflation,
    drift_slope,
    implied_lag1,
    residual_lag1,
    variance_inflation,
)


def test_the_slope_by_hand():
    # pairs of (0, 0), (1, 1), (2, 5), (3, 3), (4, 4), (5, 5): their slopes sorted have 1 in the middle
    found = drift_slope([0, 1, 2, 3, 4, 5], [0, 1, 5, 3, 4, 5])
    assert found.value == 1.0
    assert found.low <= 1.0 <= found.high


def test_the_estimate_is_scipys():
    from scipy.stats import theilslopes

    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(0, 70, 40))
    y = 0.3 * x + rng.normal(0, 1, 40)
    found = drift_slope(x, y)
    expected = theilslopes(y, x, alpha=0.9)
    assert found.value == pytest.approx(expected.slope)
    # the same interval, but for Student's t and what these residuals happen to correlate
    assert found.low <= expected.low_slope + 0.002
    assert found.high >= expected.high_slope - 0.002
    assert found.high - found.low < 2.5 * (expected.high_slope - expected.low_slope)


def test_what_lies_on_a_line_has_no_spread():
    found = drift_slope(np.arange(20), 3 + 0.5 * np.arange(20))
    assert (found.value, found.inflation) == (0.5, 1.0)
    assert found.high - found.low == pytest.approx(0, abs=1e-12)


def test_a_constant_has_slope_0_for_sure():
    found = drift_slope(np.arange(71), np.full(71, 12.0))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_new_level_is_no_slope():
    x = np.arange(40.0)
    y = np.where(x < 20, 100.0, 60.0) + np.tile([0.1, -0.1], 20)
    level = (x >= 20).astype(int)
    assert drift_slope(x, y, level).value == pytest.approx(0, abs=0.01)
    assert drift_slope(x, y).value < -0.5


def test_a_leak_that_restarts_interrupt_is_found_within_each():
    x = np.arange(40.0)
    y = 0.5 * (x % 10) + np.random.default_rng(0).normal(0, 0.2, 40)
    assert drift_slope(x, y, x // 10).low > 0.4


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=25),
    st.floats(-1e3, 1e3),
    st.floats(0.001, 1e3),
)
def test_slope_and_interval_move_with_the_data(values, slope, scale):
    x = np.arange(len(values), dtype=float)
    y = np.array(values)
    before, after = drift_slope(x, y), drift_slope(x, scale * y + slope * x)
    size = 1e-6 * (abs(scale) * 1e6 + abs(slope) + 1)
    assert before.low <= before.value <= before.high
    assert after.value == pytest.approx(scale * before.value + slope, abs=size)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_too_few_points(n):
    with pytest.raises(ValueError, match="at least 6 points"):
        drift_slope(np.arange(n), np.arange(n))


def test_no_two_points_of_one_level():
    with pytest.raises(ValueError, match="no two points"):
        drift_slope(np.arange(6), np.arange(6), np.arange(6))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_lag1_autocorrelation_is_without_its_bias(phi):
    rng = np.random.default_rng(1)
    seen = [residual_lag1(_straightened(ar1(rng, 70, phi, 1.0)), np.zeros(70)) for _ in range(200)]
    assert np.mean(seen) == pytest.approx(phi, abs=0.05)


def _straightened(y):
    x = np.arange(y.size)
    return y - np.polyval(np.polyfit(x, y, 1), x)


@pytest.mark.parametrize("phi", [0.9, 0.97])
def test_parts_of_blocks_imply_how_blocks_correlate(phi):
    rng = np.random.default_rng(2)
    y = ar1(rng, 8 * 4000, phi, 1.0)
    means = y.reshape(-1, 8).mean(axis=1)
    true = residual_lag1(means - means.mean(), np.zeros(means.size))
    assert implied_lag1(y, np.zeros(y.size), 8) == pytest.approx(true, abs=0.05)


def test_independent_parts_imply_nothing():
    y = np.random.default_rng(0).normal(size=800)
    assert implied_lag1(y, np.zeros(800), 8) < 0.05
    assert implied_lag1(y[:10], np.zeros(10), 8) == 0.0


def test_what_is_known_of_the_correlation_counts():
    rest = np.tile([1.0, -1.0], 35)
    assert variance_inflation(rest, np.zeros(70)) == 1.0
    assert variance_inflation(rest, np.zeros(70), lag1_at_least=0.6) == pytest.approx(averaged_inflation(0.6))


def test_the_inflation_of_averages_by_hand():
    # B = τ: δ = 1/e, r[1] = (1 − 1/e)² / (2/e) = 0.5431, and 1 + 2 · 0.5431 / (1 − 1/e) = 2.718
    assert averaged_inflation((1 - 1 / math.e) ** 2 * math.e / 2) == pytest.approx(math.e)
    assert averaged_inflation(0.0) == 1.0


@given(st.floats(0, 0.98))
def test_averages_are_worth_more_than_what_they_are_averages_of(lag1):
    found = averaged_inflation(lag1)
    assert 1 + 2 * lag1 - 1e-9 <= found <= (1 + lag1) / (1 - lag1) + 1e-9


@pytest.mark.parametrize("lag1", [-0.1, 1.0, math.nan])
def test_what_is_no_autocorrelation_has_no_inflation(lag1):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        averaged_inflation(lag1)


def _false_and_found(phi: float, leak: float, trials: int, n: int = 71, per: int = 12) -> tuple[float, float]:
    """Return how often a slope of 0, and one of `leak` an hour, has its lower bound above 0.

    71 blocks of an hour of `per` windows; noise of 1 from window to window.
    """
    rng = np.random.default_rng(7)
    x, zero = np.arange(n, dtype=float), np.zeros(n)
    wrong = found = 0
    for _ in range(trials):
        windows = ar1(rng, n * per, phi, 1.0).reshape(n, per)
        fine = np.median(windows.reshape(-1, 2), axis=1)
        y = np.median(windows, axis=1)
        first = drift_slope(x, y)
        rest = fine - first.value * np.repeat(x, per // 2)
        slope = drift_slope(x, y, lag1_at_least=implied_lag1(rest, np.zeros(rest.size), per / 2))
        wrong += slope.low > 0
        found += drift_slope(x, y + leak * x, zero).low > 0
    return wrong / trials, found / trials


@pytest.mark.parametrize(("phi", "leak"), [(0.0, 0.05), (0.9, 0.05), (0.97, 0.2)])
def test_the_interval_holds_under_correlated_noise_and_finds_a_leak(phi, leak):
    wrong, found = _false_and_found(phi, leak, 60)
    # 5% nominal: 9 of 60 have a probability below 0.3% at 5%
    assert wrong <= 8 / 60
    assert found >= 0.8
