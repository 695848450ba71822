"""Bootstraps in blocks: by hand, and against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import stats
from harness.stats.resampling import block_length, block_positions, small_sample_factor


@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 99))
def test_positions_are_runs_around_the_circle(n, length, seed):
    length = min(length, n)
    found = block_positions(n, length, 5, seed)
    assert found.shape == (5, n)
    for start in range(0, n, length):
        run = found[:, start : start + length]
        assert ((run - run[:, :1]) % n == np.arange(run.shape[1])).all()
    assert (found == block_positions(n, length, 5, seed)).all()


def test_every_position_is_as_likely_as_any_other():
    found = block_positions(10, 4, 20_000, 1)
    share = np.bincount(found.ravel(), minlength=10) / found.size
    assert share == pytest.approx(np.full(10, 0.1), abs=0.003)


@pytest.mark.parametrize("length", [0, 4])
def test_a_block_fits_its_values(length):
    with pytest.raises(ValueError, match="1 to 3"):
        block_positions(3, length, 1, 0)


def test_blocks_are_a_cube_root_long_and_longer_for_what_correlates():
    rng = np.random.default_rng(1)
    # 64^⅓ = 4; a ramp correlates all through: a quarter
    assert block_length(rng.normal(size=64)) <= 6
    assert block_length(np.tile([1.0, -1.0], 32)) == 4
    assert block_length(np.arange(64.0)) == 16
    assert block_length([1.0, 2.0]) == 1


def test_small_samples_by_hand():
    # one value a block: √(n / (n − 1)), as in a sample's variance
    assert small_sample_factor(5, 1) == pytest.approx((5 / 4) ** 0.5)
    assert small_sample_factor(12, 3) == pytest.approx((12 / 9) ** 0.5)


def test_error_of_a_median_of_a_known_distribution():
    # normal: √(π / 2) σ / √n (Kendall and Stuart, volume 1, section 10.10); averaged over many sets of 101
    errors = [stats.median_standard_error(np.random.default_rng(i).normal(size=101))[0] for i in range(120)]
    assert np.mean(errors) == pytest.approx((np.pi / 2 / 101) ** 0.5, rel=0.10)


def test_error_of_a_median_counts_the_blocks_that_it_saw():
    x = np.tile([1.0, -1.0], 32)
    assert stats.median_standard_error(x)[1] == 64 / 4 - 1
    assert stats.median_standard_error([1.0, 2.0])[1] == 1
    with pytest.raises(ValueError, match="at least 2"):
        stats.median_standard_error([1.0])


def test_error_of_a_constant_is_nothing():
    assert stats.median_standard_error([3.0] * 9)[0] == 0
