"""Proportions against published examples, then what must hold for any counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import stats


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


def test_wilson_of_a_published_example():
    # Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, method 3:
    # 81 of 263 at 95%: 0.2553 to 0.3662; 0 of 20: 0 to 0.1611
    assert stats.wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert stats.wilson(0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)
    with pytest.raises(ValueError, match="successes"):
        stats.wilson(3, 2)


# --- paired proportions


def test_newcombe_of_published_examples():
    # Fagerland, Lydersen and Laake 2017, Statistical Analysis of Contingency Tables, chapter 8,
    # square-and-add at 95%. Bentur et al. 2009, 1, 1, 7 and 12 children: −0.507 to −0.026 (also their 2014,
    # doi:10.1002/sim.6148)
    found = stats.newcombe_paired_difference(1, 1, 7, 12, 0.95)
    assert found == pytest.approx((-6 / 21, -0.507, -0.026), abs=5e-4)
    # Cavo et al. 2012, 59, 6, 16 and 80 patients: −0.0621, −0.1186 to −0.0046
    found = stats.newcombe_paired_difference(59, 6, 16, 80, 0.95)
    assert found == pytest.approx((-0.0621, -0.1186, -0.0046), abs=5e-5)


def test_newcombe_by_hand():
    # 20, 12, 2, 16 of 50: Wilson intervals of 32 and 22 of 50 at 95% are 0.5014 to 0.7586 and 0.3116 to
    # 0.5769; φ = (20 × 16 − 12 × 2 − 50 / 2) / √(32 × 18 × 22 × 28) = 271 / 595.66 = 0.45495; down:
    # √(0.1386² − 2 φ 0.1386 × 0.1369 + 0.1369²) = 0.1438; up: √(0.1186² − 2 φ 0.1186 × 0.1284 + 0.1284²) =
    # 0.1292
    found = stats.newcombe_paired_difference(20, 12, 2, 16, 0.95)
    assert found == pytest.approx((0.2, 0.2 - 0.1438, 0.2 + 0.1292), abs=1e-4)


def test_newcombe_where_nothing_differs():
    difference, low, high = stats.newcombe_paired_difference(100, 0, 0, 0)
    assert difference == 0
    assert low < 0 < high
    with pytest.raises(ValueError, match="not all 0"):
        stats.newcombe_paired_difference(0, 0, 0, 0)
    with pytest.raises(ValueError, match="0 or more"):
        stats.newcombe_paired_difference(1, -1, 0, 0)


@given(st.tuples(*[st.integers(0, 300)] * 4).filter(any))
def test_newcombe_is_ordered_bounded_and_swaps(counts):
    both, ours, theirs, neither = counts
    difference, low, high = stats.newcombe_paired_difference(*counts)
    assert -1 <= low <= difference <= high <= 1
    swapped = stats.newcombe_paired_difference(both, theirs, ours, neither)
    assert swapped == pytest.approx((-difference, -high, -low))
    # right and wrong exchanged: the same from the other side
    assert stats.newcombe_paired_difference(neither, theirs, ours, both) == pytest.approx(swapped)


@given(st.tuples(*[st.integers(0, 100)] * 4).filter(lambda c: c[1] > 0))
def test_newcombe_a_worse_candidate_never_has_a_better_bound(counts):
    both, ours, theirs, neither = counts
    before = stats.newcombe_paired_difference(*counts)
    after = stats.newcombe_paired_difference(both, ours - 1, theirs, neither + 1)
    assert after[0] < before[0]
    assert after[1] <= before[1] + 1e-12
    assert after[2] <= before[2] + 1e-12


def test_mcnemar_of_a_published_example():
    # Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91: 1 against 7, exact conditional p =
    # 0.0703
    assert stats.mcnemar_exact(1, 7) == pytest.approx(2 * (1 + 8) / 256)
    assert stats.mcnemar_exact(7, 1) == stats.mcnemar_exact(1, 7)
    assert stats.mcnemar_exact(0, 0) == 1
    assert stats.mcnemar_exact(5, 5) == 1
    with pytest.raises(ValueError, match="0 or more"):
        stats.mcnemar_exact(-1, 2)


# --- areas and errors


def test_auc_of_a_published_example():
    # Hanley and McNeil 1982, table I: 58 normal and 51 abnormal images rated 1 to 5, area 0.893
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    scores = np.concatenate([np.repeat(range(1, 6), normal), np.repeat(range(1, 6), abnormal)])
    assert stats.auc(scores, np.repeat([0, 1], [58, 51])) == pytest.approx(0.893, abs=5e-4)


def test_auc_by_hand():
    # positives 3 and 1 against negatives 2 and 1: 3 wins twice, 1 loses once and ties once: 2.5 of 4
    assert stats.auc([3, 1, 2, 1], [1, 1, 0, 0]) == 0.625
    assert math.isnan(stats.auc([1, 2], [1, 1]))
    with pytest.raises(ValueError, match="labels"):
        stats.auc([1, 2], [1])


def test_bootstrap_of_a_published_example():
    # Efron and Tibshirani 1993, sections 14.2 and 14.3: the spatial data's variance 171.5, BCa interval at
    # 90% 115.8 to 259.6 from 2000 resamples; the quantiles of so many vary by some percent
    a = np.array(
        [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]
    )
    found = stats.paired_bootstrap(lambda at: float(a[at].var()), a.size, 0.9, resamples=4000)
    assert found[0] == pytest.approx(171.5, abs=0.05)
    assert found[1:] == pytest.approx((115.8, 259.6), rel=0.03)


def test_bootstrap_of_a_mean_is_close_to_its_normal_interval():
    x = np.random.default_rng(1).normal(5, 1, 400)
    mean, low, high = stats.paired_bootstrap(lambda at: float(x[at].mean()), x.size)
    # 1.645 × s / √n; the larger set takes the jackknife by groups
    half = 1.645 * x.std(ddof=1) / 20
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.15 * half)


def test_bootstrap_of_equal_models_is_exactly_no_difference():
    scores, labels = np.arange(20.0), np.arange(20) % 2

    def difference(at: np.ndarray) -> float:
        return stats.auc(scores[at], labels[at]) - stats.auc(scores[at], labels[at])

    assert stats.paired_bootstrap(difference, 20, strata=labels, resamples=50) == (0, 0, 0)


def test_bootstrap_with_strata_keeps_both_classes():
    labels = np.array([1] + [0] * 30)
    scores = np.random.default_rng(2).normal(size=31) + labels

    def area(at: np.ndarray) -> float:
        return stats.auc(scores[at], labels[at])

    found = stats.paired_bootstrap(area, 31, strata=labels, resamples=300)
    assert found[1] <= found[0] <= found[2]
    with pytest.raises(ValueError, match="strata missing"):
        stats.paired_bootstrap(area, 31, resamples=300)
    with pytest.raises(ValueError, match="3 strata"):
        stats.paired_bootstrap(area, 31, strata=[1, 0, 1])
    with pytest.raises(ValueError, match="at least 2"):
        stats.paired_bootstrap(area, 1)


@settings(max_examples=25)
@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=40), st.integers(0, 50))
def test_bootstrap_holds_its_statistic_and_follows_its_seed(errors, seed):
    ours, theirs = np.array(errors), np.array(errors[::-1]) + 0.5

    def ratio(at: np.ndarray) -> float:
        return float(np.sqrt((ours[at] ** 2).mean() / (theirs[at] ** 2).mean()))

    found = stats.paired_bootstrap(ratio, ours.size, seed=seed, resamples=100)
    assert found[1] <= found[0] <= found[2]
    assert found == stats.paired_bootstrap(ratio, ours.size, seed=seed, resamples=100)
