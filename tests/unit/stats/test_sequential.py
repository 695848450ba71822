"""Several looks and several metrics: published boundaries, and what must hold for any p-values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import stats
from harness.stats.students import t_quantile, t_tail


def test_quantiles_by_table():
    # Student's table: t(4, 95%) = 2.132, normal 1.645; t of 1 in closed form: P(T ≥ 1) = ¼
    assert t_quantile(0.95, 4) == pytest.approx(2.132, abs=5e-4)
    assert t_quantile(0.95, None) == pytest.approx(1.645, abs=5e-4)
    assert t_tail(1.0, 1) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("looks", "level"), [(2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158), (10, 0.0106)]
)
def test_pococks_nominal_levels(looks, level):
    # Pocock 1977, table 1: nominal two-sided levels for 5% over all
    boundary = stats.pocock_boundary(looks, 0.05, sides=2)
    assert 2 * t_tail(boundary, None) == pytest.approx(level, abs=5e-5)


@pytest.mark.parametrize(
    ("error", "constants"),
    [(0.01, (2.576, 2.772, 2.873, 2.939, 2.986)), (0.1, (1.645, 1.875, 1.992, 2.067, 2.122))],
)
def test_pococks_constants(error, constants):
    # Jennison and Turnbull 2000, table 2.1: C_P(K, α) for K = 1 … 5
    found = [stats.pocock_boundary(k, error, sides=2) for k in range(1, 6)]
    assert found == pytest.approx(constants, abs=6e-4)


def test_the_one_sided_error_over_three_looks_is_what_was_asked_for():
    # the same probability by another way: three dimensions of a multivariate normal
    from scipy.stats import multivariate_normal

    confidence = stats.pocock_confidences(3, 0.9)[0]
    boundary = t_quantile((1 + confidence) / 2, None)
    correlation = [[math.sqrt(min(i, j) / max(i, j)) for j in (1, 2, 3)] for i in (1, 2, 3)]
    inside = multivariate_normal(np.zeros(3), correlation).cdf(np.full(3, boundary))
    assert 1 - inside == pytest.approx(0.05, abs=2e-4)


def test_one_look_is_left_as_it_is():
    assert stats.pocock_confidences(1, 0.9) == pytest.approx((0.9,))
    assert stats.pocock_confidences(1, 0.9, per_look=3) == pytest.approx((0.9,))


def test_more_looks_are_stricter_each():
    found = [stats.pocock_confidences(k) for k in range(1, 8)]
    assert [len(c) for c in found] == list(range(1, 8))
    assert all(len(set(c)) == 1 for c in found)
    assert all(one[0] < other[0] for one, other in itertools.pairwise(found))


def test_few_duets_are_held_to_more_than_a_known_variance():
    assert stats.pocock_confidences(3) < stats.pocock_confidences(3, per_look=10)
    assert stats.pocock_confidences(3, per_look=10) < stats.pocock_confidences(3, per_look=2)
    # t tests after 3, 6 and 9 duets, drawn anew
    level = stats.pocock_confidences(3, 0.9, per_look=3)[0]
    x = np.random.default_rng(11).standard_normal((60_000, 9))
    wrong = np.zeros(len(x), dtype=bool)
    for n in (3, 6, 9):
        part = x[:, :n]
        half = t_quantile((1 + level) / 2, n - 1) * part.std(axis=1, ddof=1) / math.sqrt(n)
        wrong |= part.mean(axis=1) - half > 0
    # 5% of 60 000 ± four standard deviations
    assert wrong.mean() == pytest.approx(0.05, abs=0.0036)


@pytest.mark.parametrize(("looks", "per_look"), [(0, None), (21, None), (3, 1)])
def test_looks_that_make_no_sense(looks, per_look):
    with pytest.raises(ValueError, match="look"):
        stats.pocock_confidences(looks, per_look=per_look)


# --- Holm


def test_holm_by_hand():
    # sorted 0.005 ≤ 0.05/4, 0.01 ≤ 0.05/3, 0.03 > 0.05/2: the first two, whatever comes after
    assert stats.holm([0.01, 0.04, 0.03, 0.005], 0.05) == (True, False, False, True)
    # each below 5%, none below 5%/3
    assert stats.holm([0.04, 0.03, 0.02], 0.05) == (False, False, False)
    assert stats.holm([], 0.05) == ()
    assert stats.holm([0.05], 0.05) == (True,)


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="0 to 1"):
        stats.holm([0.5, math.nan])


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order(values, random):
    verdicts = dict(zip(values, stats.holm(values), strict=True))
    random.shuffle(values)
    assert stats.holm(values) == tuple(verdicts[p] for p in values)


@given(p_values, st.integers(0, 7), st.floats(0, 1))
def test_holm_a_smaller_p_never_loses_and_none_beats_bonferroni(values, index, factor):
    before = stats.holm(values)
    assert all(rejected or p > 0.05 / len(values) for p, rejected in zip(values, before, strict=True))
    assert all(p <= 0.05 for p, rejected in zip(values, before, strict=True) if rejected)
    smaller = list(values)
    smaller[index % len(values)] *= factor
    assert all(now or not then for then, now in zip(before, stats.holm(smaller), strict=True))
