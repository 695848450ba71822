"""Ratios of pooled percentiles: by hand, and what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import stats
from harness.stats.tails import _Pool

few = settings(max_examples=25)


def draw(seed: int, duets: int, n: int = 120, sd: float = 0.05) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.lognormal(0.02 * rng.normal(), sd, n) for _ in range(duets)]


def test_the_estimate_is_the_log_ratio_of_pooled_percentiles():
    # 1 … 400 over two duets, and twice that: p90 by nearest rank is 360 and 720
    ours = [np.arange(1, 401, 2) * 2.0, np.arange(2, 401, 2) * 2.0]
    theirs = [np.arange(1, 401, 2) * 1.0, np.arange(2, 401, 2) * 1.0]
    found = stats.percentile_ratio_interval(ours, theirs, 90)
    assert found.estimate == pytest.approx(math.log(2))


def test_the_spread_of_duets_by_hand():
    # within a duet all samples are alike; candidate 1, e^0.02 and e^0.04 against 1. Without one duet the
    # median of the rest (lower of the middle two) is that of the faster one: e^0.02, 1 and 1, mean 0.00667,
    # squares about it sum to 0.00026667; × 2/3, root: 0.013333, × t(2, 95%) = 2.920
    ours = [np.full(100, math.exp(level)) for level in (0.0, 0.02, 0.04)]
    theirs = [np.ones(100)] * 3
    found = stats.percentile_ratio_interval(ours, theirs, 50)
    assert found.estimate == pytest.approx(0.02)
    assert found.df == 2
    assert found.basis == stats.BETWEEN
    assert found.high is not None
    assert found.high - found.estimate == pytest.approx(2.920 * 0.013333, rel=1e-3)


def test_too_few_samples_give_the_number_that_would_do():
    found = stats.percentile_ratio_interval(draw(1, 2), draw(2, 2), 99)
    assert (found.low, found.high, found.needed) == (None, None, 299)
    assert stats.percentile_ratio_interval(draw(1, 3), draw(2, 3), 99).low is not None


def test_one_duet_says_that_it_is_one():
    found = stats.percentile_ratio_interval(draw(1, 1), draw(2, 1), 90)
    assert found.basis == stats.ONE_DUET
    assert found.low is not None


def test_noise_that_both_arms_of_a_pair_share_drops_out():
    rng = np.random.default_rng(5)
    weather = np.repeat(rng.normal(0, 0.2, 20), 10)
    ours = [np.exp(weather + 0.001 * rng.normal(size=200)) for _ in range(2)]
    theirs = [np.exp(weather + 0.001 * rng.normal(size=200)) for _ in range(2)]
    blocks = [np.repeat(np.arange(20), 10)] * 2
    paired = stats.percentile_ratio_interval(ours, theirs, 90, candidate_block=blocks, baseline_block=blocks)
    assert paired.low is not None
    assert paired.high is not None
    assert paired.high - paired.low < 0.02


def test_arms_may_hold_unlike_counts_of_samples():
    # a candidate of twice the speed has twice the calls in a block
    found = stats.percentile_ratio_interval(draw(1, 3, 400), draw(2, 3, 200), 90)
    assert found.low is not None
    assert found.low <= found.estimate <= found.high


def test_the_same_seed_gives_the_same():
    one, two = (stats.percentile_ratio_interval(draw(1, 3), draw(2, 3), 90, seed=7) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ([], [], "as many duets"),
        ([[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]], "as many duets"),
        ([[0.0, 1.0]], [[1.0, 2.0]], "above 0"),
        ([[]], [[1.0]], "above 0"),
        ([[1.0]], [[1.0]], "at least 2 samples"),
    ],
)
def test_refuses_what_does_not_match(ours, theirs, why):
    with pytest.raises(ValueError, match=why):
        stats.percentile_ratio_interval(ours, theirs, 50)


def test_refuses_blocks_that_do_not_match():
    ours, theirs = draw(1, 1, 10), draw(2, 1, 10)
    blocks = [np.repeat([0, 1], 5)]
    with pytest.raises(ValueError, match="one arm only"):
        stats.percentile_ratio_interval(ours, theirs, 50, candidate_block=blocks)
    with pytest.raises(ValueError, match="block numbers"):
        stats.percentile_ratio_interval(ours, theirs, 50, candidate_block=[[0]], baseline_block=blocks)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        stats.percentile_ratio_interval(
            ours, theirs, 50, candidate_block=[[3] * 10], baseline_block=[[3] * 10]
        )


@few
@given(
    st.lists(st.floats(1, 1e6), min_size=1, max_size=60),
    st.integers(0, 100),
    st.sampled_from([1, 10, 50, 90, 95, 99, 99.9]),
)
def test_weighted_percentiles_are_those_of_repeated_samples(values, seed, p):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, len(values))
    weights = rng.integers(0, 4, (5, 4))
    weights[:, ids[0]] += 1  # at least one sample is left
    found = _Pool([np.array(values)], [ids], 4).log_percentiles(p, weights)
    for row, log in zip(weights, found, strict=True):
        assert log == pytest.approx(math.log(stats.percentile(np.repeat(values, row[ids]), p)))


@few
@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([50, 90]), st.randoms(use_true_random=False))
def test_what_must_hold_for_any_data(seed, duets, p, random):
    ours, theirs = draw(seed, duets), draw(seed + 1, duets)
    found = stats.percentile_ratio_interval(ours, theirs, p, resamples=100)
    assert found.low <= found.estimate <= found.high
    swapped = stats.percentile_ratio_interval(theirs, ours, p, resamples=100)
    assert swapped[:3] == pytest.approx((-found.estimate, -found.high, -found.low), abs=1e-9)
    scaled = stats.percentile_ratio_interval([a * 3 for a in ours], [b * 3 for b in theirs], p, resamples=100)
    assert scaled[:3] == pytest.approx(found[:3], abs=1e-9)
    slowed = stats.percentile_ratio_interval([a * 1.5 for a in ours], theirs, p, resamples=100)
    assert slowed[:3] == pytest.approx([x + math.log(1.5) for x in found[:3]], abs=1e-9)
    order = list(range(duets))
    random.shuffle(order)
    shuffled = stats.percentile_ratio_interval(
        [ours[i] for i in order], [theirs[i] for i in order], p, resamples=100
    )
    assert shuffled[:3] == pytest.approx(found[:3], abs=1e-9)
