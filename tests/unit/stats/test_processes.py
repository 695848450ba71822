"""Figures of fresh processes, by hand and for any data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import stats


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
