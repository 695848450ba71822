"""Shares that are planted and found again; errors of observations that a fit hasn't seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.stats.nonnegative import fit_shares, leave_one_out, log_half_width
from harness.stats.students import t_quantile

RNG = np.random.default_rng(6)
AMOUNTS = RNG.uniform(1.0, 100.0, (12, 3)) * [1e6, 1e3, 1.0]
SHARES = np.array([0.5, 20.0, 3e4])


def test_planted_shares_are_found_whatever_their_scale():
    assert fit_shares(AMOUNTS, AMOUNTS @ SHARES) == pytest.approx(SHARES, rel=1e-6)


def test_a_share_that_would_be_negative_is_none():
    totals = AMOUNTS @ np.array([0.5, 20.0, 0.0]) * (1 - 1e-3 * AMOUNTS[:, 2])
    assert fit_shares(AMOUNTS, totals)[2] == 0.0


def test_one_share_of_relative_errors_by_hand():
    # Σ (a x_i / y_i - 1)² is smallest at Σ (x_i / y_i) ÷ Σ (x_i / y_i)²: here r = 1, 2 → 3 / 5
    assert fit_shares(np.array([[1.0], [4.0]]), np.array([1.0, 2.0])) == pytest.approx([0.6])


def test_an_observation_left_out_shows_its_own_error():
    totals = AMOUNTS @ SHARES
    totals[4] *= 1.3
    errors = leave_one_out(AMOUNTS, totals)
    assert errors[4] == pytest.approx(-math.log(1.3), rel=1e-6)  # the others are exact without it


def test_the_band_is_students_of_the_residuals():
    residuals = [0.1, -0.1] * 6
    expected = t_quantile(0.95, 9) * 0.1 * math.sqrt(1 + 1 / 12)
    assert log_half_width(residuals, 3, 0.9) == pytest.approx(expected)


def test_few_residuals_never_make_a_band_narrower_than_the_worst_of_them():
    residuals = [0.01, 0.01, 0.01, 0.01, 0.5]
    assert log_half_width(residuals, 1, 0.5) == 0.5


def test_one_residual_in_ten_may_be_wider_than_the_band_and_no_more():
    residuals = [0.001] * 22 + [0.1, 0.1, 0.1]  # of 25, the 24th smallest
    assert log_half_width(residuals, 3, 0.9) == 0.1
    assert log_half_width([*[0.001] * 24, 0.1], 3, 0.9) < 0.05  # Student's, which is wider than the 24th


def test_a_wider_confidence_is_a_wider_band():
    residuals = list(RNG.normal(0, 0.05, 25))
    assert log_half_width(residuals, 3, 0.8) < log_half_width(residuals, 3, 0.9)


@pytest.mark.parametrize("count", [2, 3])
def test_a_fit_without_a_degree_of_freedom_has_no_band(count):
    with pytest.raises(ValueError, match="degree of freedom"):
        log_half_width([0.1] * count, 3, 0.9)


def test_totals_must_be_above_zero():
    with pytest.raises(ValueError, match="above 0"):
        fit_shares(AMOUNTS, np.zeros(12))
    with pytest.raises(ValueError, match="at least 3"):
        leave_one_out(AMOUNTS[:2], np.ones(2))
