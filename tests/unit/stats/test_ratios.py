"""Ratios of two arms: by hand, against published examples, and what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import stats

times = st.floats(1e3, 1e9)
duet_ratios = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=25)
duets = st.lists(duet_ratios, min_size=1, max_size=5)
shifts = st.floats(-1, 1)
many = settings(max_examples=60)


def close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


# --- duets


def test_log_ratios_of_pairs():
    found = stats.pair_log_ratios([110.0, 200.0], [100.0, 100.0])
    assert found.tolist() == pytest.approx([math.log(1.1), math.log(2)])


@pytest.mark.parametrize(
    ("ours", "theirs"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [-1.0]), ([math.nan], [1.0])]
)
def test_log_ratios_refuse_what_has_no_logarithm(ours, theirs):
    with pytest.raises(ValueError, match=r"as many|above 0"):
        stats.pair_log_ratios(ours, theirs)


def test_duets_by_hand():
    # three duets without noise inside, medians 0, 0.01 and 0.02: s = 0.01, t(2, 95%) = 2.920 (Student's
    # table), half-width 2.920 × 0.01 / √3 = 0.016859
    found = stats.duet_interval([[0.0] * 8, [0.01] * 8, [0.02] * 8])
    assert found.estimate == pytest.approx(0.01)
    assert (found.low, found.high) == pytest.approx((0.01 - 0.016859, 0.01 + 0.016859), abs=1e-5)
    assert (found.df, found.basis) == (2, stats.BETWEEN)


def test_the_estimate_is_the_mean_of_medians_so_a_slow_block_moves_nothing():
    calm = stats.duet_interval([[0.01] * 9, [0.03] * 9])
    disturbed = stats.duet_interval([[0.01] * 8 + [0.5], [0.03] * 9])
    assert disturbed.estimate == calm.estimate == pytest.approx(0.02)


def test_a_median_of_an_even_count_is_the_midpoint_so_that_arms_swap():
    assert stats.duet_interval([[0.0, 0.02] * 4, [0.0, 0.02] * 4]).estimate == pytest.approx(0.01)


def test_duets_that_agree_by_chance_are_as_wide_as_their_pairs_allow():
    rng = np.random.default_rng(3)
    base = rng.normal(0, 0.02, 30)
    same = [base, base[::-1], base]  # three medians alike to the last digit
    found = stats.duet_interval(same)
    assert found.basis == stats.WITHIN
    assert found.df == 2
    error, _ = stats.median_standard_error(base)
    assert found.high is not None
    # three duets of that error: at least the normal 95% quantile of their mean
    assert found.high - found.estimate > 1.645 * error / math.sqrt(3) * 0.8


def test_never_narrower_than_the_spread_of_duets():
    parts = [np.random.default_rng(i).normal(0.01 * i, 0.001, 20) for i in range(4)]
    found = stats.duet_interval(parts)
    medians = [float(np.median(part)) for part in parts]
    # t(3, 95%) = 2.353
    assert found.high is not None
    assert found.high - found.estimate == pytest.approx(2.353 * np.std(medians, ddof=1) / 2, rel=1e-3)


def test_one_duet_says_that_it_is_one():
    found = stats.duet_interval([np.random.default_rng(1).normal(0, 0.01, 30)])
    assert found.basis == stats.ONE_DUET
    assert found.low is not None
    assert found.high is not None
    # the error of a median of 30 is about 1.2533 × 0.01 / √30 = 0.0023
    assert 0.002 < (found.high - found.low) / 2 < 0.010


def test_no_noise_at_all_gives_no_width():
    assert stats.duet_interval([[0.012] * 5] * 3)[:3] == pytest.approx((0.012, 0.012, 0.012))


@pytest.mark.parametrize("bad", [[], [[0.1]], [[0.1, 0.2], []], [[0.1, math.inf]]])
def test_duets_refuse_what_has_no_median(bad):
    with pytest.raises(ValueError, match=r"no duets|at least 2 pairs"):
        stats.duet_interval(bad)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 90])
def test_a_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match="confidence"):
        stats.duet_interval([[0.1, 0.2]], confidence)


@many
@given(duets, st.floats(0.5, 0.99))
def test_duet_bounds_are_ordered_hold_the_estimate_and_widen(parts, confidence):
    narrow, wide = stats.duet_interval(parts, confidence), stats.duet_interval(parts, 0.995)
    assert narrow.low <= narrow.estimate <= narrow.high
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@many
@given(duets)
def test_swapping_the_arms_inverts_a_duet(parts):
    one, other = stats.duet_interval(parts), stats.duet_interval([[-x for x in part] for part in parts])
    assert close(other.estimate, -one.estimate)
    assert close(other.low, -one.high)
    assert close(other.high, -one.low)


@many
@given(duets, st.randoms(use_true_random=False))
def test_the_order_of_duets_does_not_matter(parts, random):
    shuffled = list(parts)
    random.shuffle(shuffled)
    assert stats.duet_interval(shuffled) == stats.duet_interval(parts)


@many
@given(duets, st.floats(0, 1))
def test_a_slower_candidate_moves_the_whole_interval_up(parts, slower):
    before = stats.duet_interval(parts)
    after = stats.duet_interval([[x + slower for x in part] for part in parts])
    for old, new in zip(before[:3], after[:3], strict=True):
        assert close(new, old + slower)


@many
@given(st.lists(st.tuples(times, times), min_size=2, max_size=20), st.floats(0.1, 10))
def test_scaling_both_arms_leaves_ratios_alone(pairs, factor):
    ours, theirs = np.array(pairs).T
    one = stats.pair_log_ratios(ours, theirs)
    other = stats.pair_log_ratios(ours * factor, theirs * factor)
    assert np.allclose(one, other, atol=1e-9)


# --- fresh processes in turns


def test_abba_by_hand():
    # ABBA, then BAAB, each process 1% slower than the one before, candidate 2% slower in all: drift drops out
    order = [0, 1, 1, 0, 1, 0, 0, 1]
    values = [100 * 1.01**i * (1.02 if turn == 0 else 1) for i, turn in enumerate(order)]
    ours = [v for v, turn in zip(values, order, strict=True) if turn == 0]
    theirs = [v for v, turn in zip(values, order, strict=True) if turn == 1]
    found = stats.abba_interval(ours, theirs, order)
    assert found[:3] == pytest.approx((math.log(1.02),) * 3)
    assert found.df == 1
    # quadruples with log ratios 0 and 0.02: s = 0.014142, t(1, 95%) = 6.314, half-width 6.314 × 0.01
    found = stats.abba_interval([1, 1, math.exp(0.02), math.exp(0.02)], [1, 1, 1, 1], order)
    assert found[:3] == pytest.approx((0.01, 0.01 - 0.06314, 0.01 + 0.06314), abs=1e-5)


def test_one_quadruple_has_no_bounds_and_says_what_would_do():
    found = stats.abba_interval([2.0, 2.0], [1.0, 1.0], [1, 0, 0, 1])
    assert found.estimate == pytest.approx(math.log(2))
    assert (found.low, found.high, found.needed) == (None, None, 8)


@pytest.mark.parametrize("order", [[], [0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0], [0, 2, 2, 0], [0, 1, 1, 0] * 2])
def test_abba_refuses_any_other_order(order):
    with pytest.raises(ValueError, match=r"ABBA|quadruples|turns"):
        stats.abba_interval([1.0, 1.0], [1.0, 1.0], order)


@given(st.integers(1, 8), st.integers(0, 1000))
def test_abba_order_is_quadruples_and_follows_its_seed(quadruples, seed):
    order = stats.abba_order(quadruples, seed)
    assert order == stats.abba_order(quadruples, seed)
    assert {tuple(order[i : i + 4]) for i in range(0, len(order), 4)} <= {(0, 1, 1, 0), (1, 0, 0, 1)}
    assert len(order) == 4 * quadruples


quadruples = st.lists(st.tuples(times, times, times, times), min_size=2, max_size=6)


@many
@given(quadruples, st.floats(1, 3), st.floats(0.1, 10))
def test_abba_swaps_scales_and_follows_the_candidate(values, slower, factor):
    order = [0, 1, 1, 0] * len(values)
    ours = np.array([[q[0], q[3]] for q in values]).ravel()
    theirs = np.array([[q[1], q[2]] for q in values]).ravel()
    found = stats.abba_interval(ours, theirs, order)
    assert found.low <= found.estimate <= found.high
    swapped = stats.abba_interval(theirs, ours, [1 - turn for turn in order])
    assert close(swapped.low, -found.high)
    assert close(swapped.high, -found.low)
    scaled = stats.abba_interval(ours * factor, theirs * factor, order)
    slowed = stats.abba_interval(ours * slower, theirs, order)
    for old, same, new in zip(found[:3], scaled[:3], slowed[:3], strict=True):
        assert close(old, same)
        assert close(new, old + math.log(slower))


# --- from memory


def test_mover_by_hand():
    # 10 (8 to 12) over 5 (exact): the denominator adds nothing, 8/5 to 12/5
    assert stats.mover_ratio_interval(10, 8, 12, 5, 5, 5) == pytest.approx((2, 1.6, 2.4))
    # 10 (8 to 12) over 5 (4 to 6.5), Donner and Zou 2012, equations for θ1/θ2:
    # L = (50 − √(2500 − 8 × 6.5 × 12 × 3.5)) / (6.5 × 3.5) = (50 − 17.776) / 22.75 = 1.4164
    # U = (50 + √(2500 − 12 × 4 × 8 × 6)) / (4 × 6) = (50 + 14) / 24 = 2.6667
    assert stats.mover_ratio_interval(10, 8, 12, 5, 4, 6.5) == pytest.approx((2, 1.4164, 2.6667), abs=1e-4)


def test_mover_of_a_published_example():
    # Fagerland, Lydersen and Laake 2017, Statistical Analysis of Contingency Tables, chapter 4, MOVER-R
    # Wilson: Perondi et al. 2004, 7 of 34 against 1 of 34: 7.0, 1.1537 to 41.9763 at 95%
    ours, theirs = stats.wilson(7, 34, 0.95), stats.wilson(1, 34, 0.95)
    found = stats.mover_ratio_interval(7 / 34, *ours, 1 / 34, *theirs)
    assert found == pytest.approx((7.0, 1.1537, 41.9763), abs=5e-4)


def test_mover_holds_where_the_denominator_reaches_far():
    # 5 (4 to 11): 2θ − u < 0, where the paper's form changes sign; still |10 − 5L|² = 2² + (6L)²
    _, low, _ = stats.mover_ratio_interval(10, 8, 12, 5, 4, 11)
    assert (10 - 5 * low) ** 2 == pytest.approx(4 + (6 * low) ** 2)


@pytest.mark.parametrize("bad", [(0, 0, 1), (2, 3, 4), (2, 1, 1.5), (1, 0.5, math.inf), (1, math.nan, 2)])
def test_mover_refuses_no_interval(bad):
    with pytest.raises(ValueError, match="low <= value <= high"):
        stats.mover_ratio_interval(*bad, 1, 1, 1)
    with pytest.raises(ValueError, match="low <= value <= high"):
        stats.mover_ratio_interval(1, 1, 1, *bad)


estimates = st.tuples(st.floats(1, 1e6), st.floats(1, 3), st.floats(1, 3)).map(
    lambda e: (e[0], e[0] / e[1], e[0] * e[2])
)


@given(estimates, estimates, st.floats(1, 3), st.floats(0.1, 10))
def test_mover_swaps_scales_and_follows_the_candidate(ours, theirs, slower, factor):
    ratio, low, high = stats.mover_ratio_interval(*ours, *theirs)
    assert low <= ratio <= high
    assert stats.mover_ratio_interval(*theirs, *ours) == pytest.approx((1 / ratio, 1 / high, 1 / low))
    scaled = stats.mover_ratio_interval(*(x * factor for x in ours), *(x * factor for x in theirs))
    assert scaled == pytest.approx((ratio, low, high))
    slowed = stats.mover_ratio_interval(*(x * slower for x in ours), *theirs)
    assert slowed == pytest.approx((ratio * slower, low * slower, high * slower))


# --- p-values


def test_p_value_by_hand():
    # 0.02 ± 0.02 at 90%, normal: the standard error is 0.02 / 1.645, so 0 is 1.645 of them away: 5%
    assert stats.p_value_beyond(0.02, 0.0, 0.04, 0.9, None, 0.0) == pytest.approx(0.05)
    # t of 2: 0.0292 ± 0.0292 has an error of 0.01; limit 0.01 is 1.92 away: P(T > 1.92) = 9.74%, by the t
    # distribution of 2 in closed form, ½ (1 − t / √(2 + t²))
    p = stats.p_value_beyond(0.0292, 0.0, 0.0584, 0.9, 2, 0.01)
    assert p == pytest.approx((1 - 1.92 / math.sqrt(2 + 1.92**2)) / 2, rel=1e-3)


def test_p_value_without_width_is_certain():
    assert stats.p_value_beyond(1.1, 1.1, 1.1, 0.9, 3, 1.0) == 0
    assert stats.p_value_beyond(1.0, 1.0, 1.0, 0.9, 3, 1.0) == 1


def test_p_value_refuses_what_is_no_interval():
    with pytest.raises(ValueError, match="low <= high"):
        stats.p_value_beyond(1, 2, 0, 0.9, None, 0)
    with pytest.raises(ValueError, match="degrees of freedom"):
        stats.p_value_beyond(1, 0, 2, 0.9, 0, 0)


freedoms = st.one_of(st.none(), st.floats(1, 50))


@given(
    st.floats(-1, 1), st.floats(1e-6, 1), st.floats(0.5, 0.99), freedoms, st.floats(-1, 1), st.floats(0, 1)
)
def test_p_value_falls_as_the_effect_rises(value, half, confidence, df, limit, more):
    before = stats.p_value_beyond(value, value - half, value + half, confidence, df, limit)
    higher = value + more
    after = stats.p_value_beyond(higher, higher - half, higher + half, confidence, df, limit)
    assert 0 <= after <= before + 1e-12 <= 1 + 1e-9


@given(st.floats(-1, 1), st.floats(1e-3, 1), st.floats(0.5, 0.99), freedoms, st.floats(-1, 1))
def test_p_value_is_below_the_error_where_the_lower_bound_is_beyond(value, half, confidence, df, limit):
    p = stats.p_value_beyond(value, value - half, value + half, confidence, df, limit)
    tail = (1 - confidence) / 2
    if abs(value - half - limit) > 1e-6:
        assert (p < tail) == (value - half > limit)
