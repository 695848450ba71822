"""Samples that are not independent, by hand and for any data."""

from __future__ import annotations

import pytest
from hypothesis import given
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
