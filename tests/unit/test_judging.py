"""One number against its limit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judging import SEVERITY, joined, judge, worst
from harness.model import Budget, Fidelity, Measurement, Verdict

MS = 1_000_000


def latency(value, low, high, **more):
    return Measurement("latency_p99_ns", value, low, high, 640, Fidelity.VIRTUAL, **more)


def budget(limit, rule="confidence", fidelity=Fidelity.VIRTUAL, metric="latency_p99_ns"):
    return Budget("m", "rpi4", metric, limit, fidelity, rule, where="budgets.rpi4.m in release.toml")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (8, 9, Verdict.PASS),
        (8, 10, Verdict.PASS),  # at the limit is within it
        (9, 11, Verdict.INCONCLUSIVE),
        (10, 11, Verdict.INCONCLUSIVE),
        (10.1, 11, Verdict.FAIL),
        (8, None, Verdict.INCONCLUSIVE),
        (10.1, None, Verdict.FAIL),
        (None, 9, Verdict.PASS),
        (None, 11, Verdict.INCONCLUSIVE),
        (None, None, Verdict.INCONCLUSIVE),
    ],
)
def test_confidence_where_lower_is_better(low, high, verdict):
    m = latency(10.0, low, high)
    assert judge(m, budget(10), "lower").verdict is verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.96, 0.99, Verdict.PASS),
        (0.94, 0.99, Verdict.INCONCLUSIVE),
        (0.90, 0.94, Verdict.FAIL),
        (None, 0.99, Verdict.INCONCLUSIVE),
        (None, 0.94, Verdict.FAIL),
    ],
)
def test_confidence_where_higher_is_better(low, high, verdict):
    m = Measurement("accuracy", 0.95, low, high, 300, Fidelity.MEASURED)
    b = budget(0.95, fidelity=Fidelity.MEASURED, metric="accuracy")
    assert judge(m, b, "higher").verdict is verdict


def test_point_looks_at_the_value_alone():
    m = latency(9, 1, 99)
    assert judge(m, budget(9, "point"), "lower").verdict is Verdict.PASS
    assert judge(m, budget(8.9, "point"), "lower").verdict is Verdict.FAIL
    assert judge(m, budget(9.1, "point"), "higher").verdict is Verdict.FAIL


def test_a_missing_bound_says_how_many_samples_would_do():
    m = latency(8 * MS, 7 * MS, None, reasons=("64 samples can't bound the p99 at 90%; 299 can",))
    judgement = judge(m, budget(9 * MS), "lower")
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "no upper bound (n = 640)" in judgement.reasons[0]
    assert "299 can" in judgement.reasons[1]


def test_without_a_limit_nothing_is_judged():
    assert judge(latency(1, 1, 1), None, "lower").verdict is Verdict.NOT_JUDGED


def test_a_missing_value_that_a_limit_waits_for_is_invalid_and_keeps_its_reason():
    m = latency(None, None, None, reasons=("the sensor is gone",))
    for wanted in (judge(m, budget(9), "lower"), judge(replace(m, limit=9.0), None, "lower")):
        assert (wanted.verdict, wanted.reasons) == (Verdict.INVALID, ("the sensor is gone",))
    assert judge(replace(m, reasons=()), budget(9), "lower").reasons == ("latency_p99_ns has no value",)


def test_a_missing_value_that_nothing_waits_for_fails_nothing_and_says_why():
    m = latency(None, None, None, reasons=("the command prints no p99",))
    judgement = judge(m, None, "lower")
    assert (judgement.verdict, judgement.reasons) == (Verdict.NOT_JUDGED, ("the command prints no p99",))


@pytest.mark.parametrize("limit", [None, budget(9)])
def test_a_value_that_is_not_a_number_is_invalid(limit):
    judgement = judge(latency(math.nan, None, None), limit, "lower")
    assert (judgement.verdict, judgement.reasons) == (Verdict.INVALID, ("latency_p99_ns is not a number",))


def test_an_interval_that_is_none_is_invalid():
    assert judge(latency(5, 6, 4), budget(9), "lower").verdict is Verdict.INVALID
    assert judge(latency(5, math.nan, 6), budget(9), "lower").verdict is Verdict.INVALID


@pytest.mark.parametrize("named", list(Fidelity))
@pytest.mark.parametrize("measured", list(Fidelity))
def test_numbers_of_unlike_fidelity_never_compare(named, measured):
    judgement = judge(replace(latency(1, 1, 1), fidelity=measured), budget(9, fidelity=named), "lower")
    if named is measured:
        assert judgement.verdict is Verdict.PASS
    else:
        assert judgement.verdict is Verdict.INVALID
        expected = f"not comparable: the budget is for {named} numbers, this one is {measured}"
        assert expected in judgement.reasons[0]


def test_a_tolerance_of_its_own_needs_no_budget():
    m = Measurement("output_max_abs_error", 2e-5, None, None, 1, Fidelity.MEASURED, limit=1e-5)
    judgement = judge(m, None, "lower")
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reasons == ("output_max_abs_error of 2.00e-05 is above its tolerance of 1.00e-05",)
    assert judge(replace(m, value=1e-5), None, "lower").verdict is Verdict.PASS
    assert judge(replace(m, value=math.inf), None, "lower").verdict is Verdict.FAIL


def test_of_tolerance_and_budget_the_worse_counts():
    m = Measurement("output_max_abs_error", 2e-5, 2e-5, 2e-5, 1, Fidelity.MEASURED, limit=1e-5)
    lax = budget(1e-3, fidelity=Fidelity.MEASURED, metric="output_max_abs_error")
    assert judge(m, lax, "lower").verdict is Verdict.FAIL
    assert judge(replace(m, limit=1.0), replace(lax, limit=1e-6), "lower").verdict is Verdict.FAIL
    assert judge(replace(m, limit=1.0), lax, "lower").verdict is Verdict.PASS


def test_the_message_says_value_limit_and_place():
    m = latency(48.02 * MS, 48.01 * MS, 48.03 * MS)
    (reason,) = judge(m, budget(48 * MS), "lower").reasons
    assert reason == (
        "latency_p99_ns: even its lower bound, 48.01 ms, is above its budget of 48.00 ms "
        "(budgets.rpi4.m in release.toml)"
    )


def test_a_straddling_interval_says_which_side_is_beyond():
    both = latency(8 * MS, 7 * MS, 10 * MS)
    (reason,) = judge(both, budget(9 * MS), "lower").reasons
    assert reason == (
        "latency_p99_ns of 8.00 ms: its upper bound, 10.0 ms, is above its budget of 9.00 ms "
        "(budgets.rpi4.m in release.toml), and its lower bound isn't"
    )
    (reason,) = judge(replace(both, low=None), budget(9 * MS), "lower").reasons
    assert reason.endswith("(budgets.rpi4.m in release.toml)")


@pytest.mark.parametrize("bad", ["", "up", "LOWER"])
def test_an_unknown_direction_or_rule_is_our_own_mistake(bad):
    with pytest.raises(ValueError, match="direction"):
        judge(latency(1, 1, 1), budget(9), bad)
    with pytest.raises(ValueError, match="rule"):
        judge(latency(1, 1, 1), budget(9, rule=bad), "lower")


def test_the_worst_verdict():
    assert worst([]) is Verdict.NOT_JUDGED
    assert worst([Verdict.PASS, Verdict.NOT_JUDGED]) is Verdict.PASS
    assert worst(Verdict) is Verdict.FAIL
    assert set(SEVERITY) == set(Verdict)


# --- what holds for any number

positive = st.floats(0, 1e12)
bounds = st.one_of(st.none(), st.floats(0, 1e12))


@st.composite
def measurements(draw):
    value = draw(positive)
    low = draw(st.one_of(st.none(), st.floats(0, value)))
    high = draw(st.one_of(st.none(), st.floats(value, 2e12)))
    return latency(value, low, high, limit=draw(bounds))


@given(
    measurements(), positive, st.sampled_from(["point", "confidence"]), st.one_of(positive, st.just(math.inf))
)
def test_a_slower_run_never_improves_its_verdict(m, limit, rule, slowdown):
    slower = replace(
        m,
        value=m.value + slowdown,
        low=None if m.low is None else m.low + slowdown,
        high=None if m.high is None else m.high + slowdown,
    )
    before = judge(m, budget(limit, rule), "lower").verdict
    after = judge(slower, budget(limit, rule), "lower").verdict
    assert SEVERITY.index(after) <= SEVERITY.index(before)


@given(measurements(), positive, st.floats(1, 10), st.sampled_from(["point", "confidence"]))
def test_a_stricter_budget_never_improves_a_verdict(m, limit, factor, rule):
    lax = judge(m, budget(limit * factor, rule), "lower").verdict
    strict = judge(m, budget(limit, rule), "lower").verdict
    assert SEVERITY.index(strict) <= SEVERITY.index(lax)


@given(measurements(), positive, st.sampled_from(["point", "confidence"]))
def test_both_directions_mirror_each_other(m, limit, rule):
    m = replace(m, limit=None)
    mirrored = replace(
        m,
        value=-m.value,
        low=None if m.high is None else -m.high,
        high=None if m.low is None else -m.low,
    )
    assert (
        judge(m, budget(limit, rule), "lower").verdict
        is judge(mirrored, budget(-limit, rule), "higher").verdict
    )


@given(measurements(), positive)
def test_only_a_pass_is_silent(m, limit):
    judgement = judge(m, budget(limit), "lower")
    assert (judgement.reasons == ()) == (judgement.verdict is Verdict.PASS)


def test_what_a_number_says_of_its_interval_stays_beside_a_pass():
    why = "interval: extremes of 2 samples on the virtual clock"
    m = Measurement("load_time_ns", 2e6, 1e6, 3e6, 2, Fidelity.VIRTUAL, reasons=(why,))
    budget = Budget("m", "rpi4", "load_time_ns", 9e6, Fidelity.VIRTUAL)
    found = judge(m, budget, "lower")
    assert (found.verdict, found.reasons) == (Verdict.PASS, (why,))


def test_reasons_join_without_a_full_stop_before_the_semicolon():
    assert joined(["load: 60%. End it.", "p50: +1%.", "look 1."]) == "load: 60%. End it; p50: +1%; look 1."
    assert joined(["alone."]) == "alone."
    assert joined([]) == ""


@pytest.mark.parametrize(
    ("low", "verdict"), [(0.995, Verdict.PASS), (0.99, Verdict.PASS), (0.9, Verdict.INCONCLUSIVE)]
)
def test_a_limit_of_its_own_may_be_held_by_the_interval(low, verdict):
    m = Measurement(
        "coverage_ratio", low, low, 1.0, 10, Fidelity.MEASURED, limit=0.99, limit_rule="confidence"
    )
    found = judge(m, None, "higher")
    assert found.verdict is verdict
    assert all("its limit of 99%" in reason for reason in found.reasons)


def test_an_unknown_rule_of_its_own_limit_is_no_verdict():
    m = Measurement("crashes", 0.0, None, None, 1, Fidelity.MEASURED, limit=0.0, limit_rule="guess")
    with pytest.raises(ValueError, match="unknown rule 'guess'"):
        judge(m, None, "lower")


def test_of_what_there_may_be_none_the_count_is_told():
    m = Measurement(
        "crashes", 2.0, 2.0, 2.0, 864, Fidelity.MEASURED, reasons=("the first at 3 h",), limit=0.0
    )
    assert judge(m, None, "lower").reasons == ("crashes: 2, expected none", "the first at 3 h")
    assert judge(replace(m, value=0.0, low=0.0, high=0.0), None, "lower").verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        (
            80e6,
            "m of an estimated 77.0 ms (66.0 ms – 90.0 ms): its upper bound, 90.0 ms, is above its budget",
        ),
        (50e6, "m of an estimated 77.0 ms (66.0 ms – 90.0 ms): even its lower bound, 66.0 ms, is above its"),
    ],
)
def test_an_estimate_is_told_with_its_word_and_both_ends_of_its_band(limit, says):
    metric = "estimated_latency_p50_ns"
    told = Measurement(metric, 77e6, 66e6, 90e6, 25, Fidelity.ESTIMATED)
    reasons = judge(told, Budget("m", "t", metric, limit, Fidelity.ESTIMATED), "lower").reasons
    assert says.replace("m of", f"{metric} of") in reasons[0]


@pytest.mark.parametrize(
    ("rule", "bounds", "says"),
    [
        ("point", (None, None), "peak_temp_c of an estimated 80.04 °C is above its budget of 80.00 °C"),
        ("point", (79.5, 81.25), "peak_temp_c of an estimated 80.04 °C (79.5 °C – 81.2 °C) is above its"),
        ("confidence", (79.5, None), "peak_temp_c of an estimated 80.04 °C has no upper bound"),
    ],
)
def test_any_estimate_is_told_with_its_word(rule, bounds, says):
    told = Measurement("peak_temp_c", 80.04, *bounds, 1, Fidelity.ESTIMATED)
    reasons = judge(told, budget(80.0, rule, Fidelity.ESTIMATED, "peak_temp_c"), "lower").reasons
    assert says in reasons[0]
