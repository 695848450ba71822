"""Proportions against published examples, then what must hold for any counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
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
