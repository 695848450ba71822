"""A comparison against its margin: each branch by hand, and what must hold for any."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.comparing import comparison

from harness.margins import default_margin, describe, format_margin, judge_alone, judge_family, signed_effect
from harness.metrics import METRICS, Metric
from harness.model import Comparison, Effect, Fidelity, Verdict

P50, ACCURACY, SIZE, RATE = (
    METRICS[name] for name in ("latency_p50_ns", "accuracy", "model_size_bytes", "throughput_per_s")
)
GRADE = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2}


def verdict(c: Comparison, margin: float | None, metric: Metric | None = None) -> Verdict:
    return judge_alone(c, margin, metric or METRICS[c.metric]).verdict


# --- one alone


@pytest.mark.parametrize(
    ("low", "value", "high", "expected"),
    [
        (0.995, 1.0, 1.005, Verdict.PASS),
        (0.90, 0.92, 0.94, Verdict.PASS),  # faster
        (1.004, 1.007, 1.0099, Verdict.PASS),  # slower, and shown to be less than the margin
        (1.004, 1.007, 1.0101, Verdict.INCONCLUSIVE),
        (1.004, 1.007, 1.01, Verdict.INCONCLUSIVE),  # a bound at the margin isn't within it
        (1.01, 1.02, 1.03, Verdict.INCONCLUSIVE),
        (1.0101, 1.02, 1.03, Verdict.FAIL),
    ],
)
def test_slower_is_worse_and_the_margin_is_one_percent(low, value, high, expected):
    assert verdict(comparison(value, low, high), 0.01) is expected


@pytest.mark.parametrize(
    ("low", "value", "high", "expected"),
    [
        # 1% less throughput is a ratio of 1 / 1.01 = 0.990099
        (0.9902, 0.995, 1.0, Verdict.PASS),
        (0.9900, 0.995, 1.0, Verdict.INCONCLUSIVE),
        (0.97, 0.98, 0.9900, Verdict.FAIL),
        (0.97, 0.98, 0.9901, Verdict.INCONCLUSIVE),
        (1.1, 1.2, 1.3, Verdict.PASS),
    ],
)
def test_where_more_is_better_it_is_the_other_way_round(low, value, high, expected):
    assert verdict(comparison(value, low, high, "throughput_per_s"), 0.01) is expected


@pytest.mark.parametrize(
    ("low", "value", "high", "expected"),
    [
        (-0.009, -0.002, 0.004, Verdict.PASS),
        (-0.011, -0.002, 0.004, Verdict.INCONCLUSIVE),
        (-0.03, -0.02, -0.011, Verdict.FAIL),
    ],
)
def test_accuracy_is_a_difference_in_points(low, value, high, expected):
    assert verdict(comparison(value, low, high, "accuracy"), 0.01) is expected


def test_a_bound_that_is_beyond_the_margin_is_not_shown_as_the_margin():
    (said,) = judge_alone(comparison(1.116, 1.113, 1.11823), 0.118, P50).reasons[:1]
    assert "(+11.3% to +11.82%): the interval reaches over its margin of 11.8%" in said
    (said,) = judge_alone(comparison(-0.002, -0.010004, 0.004, "accuracy"), 0.01, ACCURACY).reasons[:1]
    assert "(-1.0004 points to +0.4 points)" in said
    (said,) = judge_alone(comparison(1.0, 0.995, 1.01), 0.01, P50).reasons[:1]  # at the margin: as it is
    assert "to +1%)" in said


def test_what_has_no_noise_may_be_at_its_margin():
    size = comparison(1.0, 1.0, 1.0, "model_size_bytes")
    assert verdict(size, 0.0) is Verdict.PASS
    assert verdict(replace(size, value=1.1, low=1.1, high=1.1), 0.1) is Verdict.PASS
    assert verdict(replace(size, value=1.2, low=1.2, high=1.2), 0.1) is Verdict.FAIL


def test_without_the_bound_that_matters_nothing_is_shown():
    open_above = comparison(1.0, 0.99, None)
    assert verdict(open_above, 0.01) is Verdict.INCONCLUSIVE
    assert "no bound to hold of 1%" in judge_alone(open_above, 0.01, P50).reasons[0]
    assert verdict(comparison(1.0, None, 1.005), 0.01) is Verdict.PASS
    assert verdict(comparison(1.05, 1.04, None), 0.01) is Verdict.FAIL


def test_without_a_margin_it_is_shown_and_not_judged():
    judged = judge_alone(comparison(1.5, 1.4, 1.6), None, P50)
    assert judged.verdict is Verdict.NOT_JUDGED
    assert judged.reasons == (
        "latency_p50_ns: +50% against `release` (+40% to +60%); no margin is set for it",
    )


def test_what_must_not_be_judged_isnt():
    other_unit = comparison(invalid=("device unit is rpi4-02, expected rpi4-01 as recorded",))
    judged = judge_alone(other_unit, 0.01, P50)
    assert judged.verdict is Verdict.INVALID
    assert judged.reasons == ("latency_p50_ns: device unit is rpi4-02, expected rpi4-01 as recorded",)


def test_no_value_is_invalid_where_a_margin_waits_for_it():
    none = comparison(None, None, None, reasons=("the baseline has no such number",))
    assert verdict(none, 0.01) is Verdict.INVALID
    assert judge_alone(none, None, P50).verdict is Verdict.NOT_JUDGED
    assert judge_alone(none, 0.01, P50).reasons == ("the baseline has no such number",)
    silent = replace(none, reasons=(), scenario="offline", batch_size=4)
    assert judge_alone(silent, 0.01, P50).reasons == (
        "latency_p50_ns (offline, batch 4): there is no comparison",
    )


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (math.nan, 0.9, 1.1),
        (1.0, math.nan, 1.1),
        (1.0, 0.9, math.nan),
        (math.inf, 1.0, math.inf),
        (1.0, 1.1, 1.2),
        (1.0, 0.8, 0.9),
    ],
)
def test_what_is_no_interval_is_invalid(value, low, high):
    assert verdict(comparison(value, low, high), 0.01) is Verdict.INVALID


def test_the_sentence_says_what_against_what_and_which_margin():
    c = comparison(1.0123, 1.0112, 1.0134, scenario="single_stream")
    (said,) = judge_alone(c, 0.01, P50).reasons
    assert said == (
        "latency_p50_ns (single_stream): +1.23% against `release` (+1.12% to +1.34%), beyond its margin of 1%"
    )
    (lost,) = judge_alone(comparison(-0.02, -0.03, -0.011, "accuracy"), 0.01, ACCURACY).reasons
    assert lost == (
        "accuracy: -2 points against `release` (-3 points to -1.1 points), beyond its margin of 1 point"
    )
    exact = comparison(0.25, 0.25, 0.25, "model_size_bytes")
    assert describe(exact, SIZE) == "-75% against `release`"
    assert describe(comparison(1.0, None, 1.1), P50) == "+0% against `release` (no interval, n = 32)"
    many = comparison(12.9, 10.991, 14.7)
    assert describe(many, P50) == "+1190% against `release` (+999% to +1370%)"


def test_effects_and_margins_as_text():
    difference = comparison(3.0, 2.0, 4.0, effect=Effect.DIFFERENCE)
    assert signed_effect(difference, 5e6, P50) == "+5.00 ms"
    assert signed_effect(difference, -5e6, P50) == "-5.00 ms"
    assert (format_margin(0.01, P50), format_margin(0.001, P50)) == ("1%", "0.1%")
    assert (format_margin(0.01, ACCURACY), format_margin(0.005, ACCURACY)) == ("1 point", "0.5 points")


def test_a_virtual_clock_has_a_margin_of_its_own():
    assert default_margin(P50, Fidelity.MEASURED) == 0.01
    assert default_margin(P50, Fidelity.VIRTUAL) == 0.001
    assert default_margin(METRICS["latency_p99_ns"], Fidelity.MEASURED) is None


def test_a_direction_that_is_none_is_our_fault():
    with pytest.raises(ValueError, match="direction"):
        judge_alone(comparison(), 0.01, replace(P50, direction="sideways"))


# --- a family


# log(1.02 / 1.01) = 0.009852 beyond the margin, half-width log(1.02 / 1.012) = 0.007874 for a z of 1.6449:
# z = 2.058, p = 0.0198 (normal table: 1 - 0.9802)
SLOWER = comparison(1.02, 1.012, 1.0281)
SAME = comparison(1.0, 0.999, 1.001)


def family(*comparisons: Comparison, margin: float = 0.01) -> list[Verdict]:
    rows = [METRICS[c.metric] for c in comparisons]
    return [j.verdict for j in judge_family(comparisons, [margin] * len(rows), rows)]


def test_holm_needs_more_of_a_fail_the_more_is_asked():
    assert family(SLOWER) == [Verdict.FAIL]
    assert family(SLOWER, SAME) == [Verdict.FAIL, Verdict.PASS]  # 0.0198 < 0.05 / 2
    assert family(SLOWER, SAME, SAME) == [Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.PASS]  # > 0.05 / 3
    judged = judge_family([SLOWER, SAME, SAME], [0.01] * 3, [P50] * 3)[0]
    assert judged.reasons[-1] == "beyond it alone, but not after Holm's correction over 3 metrics"


def test_holm_steps_down_behind_the_smallest_p():
    plain = comparison(1.5, 1.4, 1.6)  # p is next to 0 and takes the 0.05 / 3
    assert family(plain, SLOWER, SAME) == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS]  # 0.0198 < 0.05 / 2


def test_a_pass_needs_no_correction():
    assert family(*[SAME] * 12) == [Verdict.PASS] * 12


def test_what_nobody_judges_is_no_member_of_the_family():
    rows = [P50] * 3
    margins = [0.01, None, 0.01]
    (first, *_) = judge_family([SLOWER, SAME, replace(SAME, value=None, low=None, high=None)], margins, rows)
    assert first.verdict is Verdict.FAIL


def test_a_stricter_look_is_held_to_its_own_share():
    # the same bounds at 98%: p of 0.01 would be at the bound, so the family of one still fails
    strict = replace(SLOWER, confidence=0.98)
    assert family(strict) == [Verdict.FAIL]
    # z = 2.3263 × 0.009852 / 0.007874 = 2.911, p = 0.0018, scaled by 0.05 / 0.01 to 0.009: three are fine
    assert family(strict, SAME, SAME)[0] is Verdict.FAIL
    assert family(strict, *[SAME] * 5)[0] is Verdict.INCONCLUSIVE  # 0.009 > 0.05 / 6


def test_few_degrees_of_freedom_say_less():
    # t of 2.920 for 5% at df = 2: t = 2.920 × 0.009852 / 0.007874 = 3.654, p = 0.0337
    few = replace(SLOWER, df=2.0)
    assert family(few) == [Verdict.FAIL]
    assert family(few, SAME) == [Verdict.INCONCLUSIVE, Verdict.PASS]


def test_one_bound_is_enough_for_the_side_it_is_on():
    assert family(comparison(1.05, 1.04, None)) == [Verdict.FAIL]
    assert family(comparison(0.0001, 0.0, None), SLOWER) == [Verdict.INCONCLUSIVE, Verdict.FAIL]


def test_a_margin_of_nothing_holds_whichever_way_is_better():
    # as for sizes; also where more is better the worse side is the lower one
    assert family(comparison(0.9, 0.9, 0.9, "throughput_per_s"), margin=0.0) == [Verdict.FAIL]
    assert family(comparison(1.1, 1.1, 1.1, "throughput_per_s"), margin=0.0) == [Verdict.PASS]
    assert family(comparison(-0.1, -0.1, -0.1, "accuracy"), margin=0.0) == [Verdict.FAIL]


# --- for any

METRIC_NAMES = ("latency_p50_ns", "throughput_per_s", "accuracy", "peak_rss_bytes")


@st.composite
def any_comparison(draw: st.DrawFn) -> Comparison:
    """A comparison with an interval around its value, on the scale that its effect has."""
    metric = draw(st.sampled_from(METRIC_NAMES))
    middle = draw(st.floats(-0.05, 0.05))
    half = draw(st.sampled_from((0.0, 1e-4, 0.003, 0.01, 0.04)))
    lopsided = draw(st.floats(0.5, 2.0))
    low, high = middle - half, middle + half * lopsided
    if METRICS[metric].unit != "ratio":
        low, middle, high = (math.exp(x) for x in (low, middle, high))
    confidence, df = draw(st.sampled_from((0.9, 0.97))), draw(st.sampled_from((None, 3.0, 30.0)))
    bounds = (None if draw(st.booleans()) and half else low, None if draw(st.booleans()) and half else high)
    return comparison(middle, *bounds, metric, confidence=confidence, df=df)


families = st.lists(st.tuples(any_comparison(), st.sampled_from((0.001, 0.01, 0.02))), min_size=1, max_size=6)


def judged(members) -> list[Verdict]:
    comparisons, margins = zip(*members, strict=True)
    rows = [METRICS[c.metric] for c in comparisons]
    return [j.verdict for j in judge_family(comparisons, margins, rows)]


def moved(c: Comparison, by: float) -> Comparison:
    """Return `c` with its effect and interval moved `by` to the worse side."""
    worse = by if METRICS[c.metric].direction == "lower" else -by

    def move(effect: float | None) -> float | None:
        if effect is None:
            return None
        return effect * math.exp(worse) if c.effect is Effect.RATIO else effect + worse

    return replace(c, value=move(c.value), low=move(c.low), high=move(c.high))


def widened(c: Comparison, by: float) -> Comparison:
    def move(effect: float | None, way: float) -> float | None:
        if effect is None:
            return None
        return effect * math.exp(way * by) if c.effect is Effect.RATIO else effect + way * by

    return replace(c, low=move(c.low, -1), high=move(c.high, 1))


@given(families, st.data(), st.floats(1e-6, 0.1))
def test_a_slower_candidate_never_gets_a_better_verdict(members, data, by):
    i = data.draw(st.integers(0, len(members) - 1))
    slower = [*members]
    slower[i] = (moved(members[i][0], by), members[i][1])
    for before, after in zip(judged(members), judged(slower), strict=True):
        # neither its own metric's, nor, through the correction, any other's
        assert GRADE[after] >= GRADE[before]


@given(families, st.data(), st.floats(1e-6, 0.1))
def test_a_wider_interval_never_turns_a_pass_into_a_fail_or_back(members, data, by):
    i = data.draw(st.integers(0, len(members) - 1))
    wider = [*members]
    wider[i] = (widened(members[i][0], by), members[i][1])
    for before, after in zip(judged(members), judged(wider), strict=True):
        assert after in (before, Verdict.INCONCLUSIVE)


@given(families, st.randoms(use_true_random=False))
def test_the_order_of_comparisons_decides_nothing(members, order: random.Random):
    shuffled = [*range(len(members))]
    order.shuffle(shuffled)
    mixed = judged([members[i] for i in shuffled])
    assert [mixed[shuffled.index(i)] for i in range(len(members))] == judged(members)


@given(families)
def test_a_family_never_fails_what_alone_wouldnt(members):
    for (c, margin), together in zip(members, judged(members), strict=True):
        alone = verdict(c, margin)
        assert together is alone or (alone is Verdict.FAIL and together is Verdict.INCONCLUSIVE)


@given(any_comparison(), st.floats(0.001, 0.05), st.floats(0, 0.05))
def test_a_wider_margin_is_never_harder_to_keep(c, margin, more):
    assert GRADE[verdict(c, margin + more)] <= GRADE[verdict(c, margin)]
