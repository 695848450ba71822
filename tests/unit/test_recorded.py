"""Numbers against remembered ones: what must match, and intervals worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import records

from harness.model import (
    WITHIN_ONE_PROCESS,
    Budget,
    Condition,
    Effect,
    Fidelity,
    Measurement,
    Method,
    Outcome,
    Scope,
    Verdict,
)
from harness.recorded import compare_recorded, facts_of, recorded_problems
from harness.results import results_of

VIRTUAL = Fidelity.VIRTUAL


def p50(value=5e6, low=4.95e6, high=5.05e6, **changes) -> Measurement:
    return replace(Measurement("latency_p50_ns", value, low, high, 64, Fidelity.MEASURED), **changes)


def accuracy(value, low, high) -> Measurement:
    return Measurement("accuracy", value, low, high, 300, Fidelity.MEASURED)


def a_run(*measurements: Measurement, settings=None, **changes):
    base = {"profile": "native", "runtime_packages": ["onnxruntime==1.31.1"], "governor": "performance"}
    return records.run(
        suite="latency",
        scenario="single_stream",
        measurements=measurements or (p50(),),
        settings={**base, **(settings or {})},
        **changes,
    )


def recorded(*measurements: Measurement, **changes):
    return facts_of([a_run(*measurements, **changes)], "release")


# --- facts


def test_the_runs_of_one_model_on_one_unit_are_one_record():
    runs = records.model_runs("digits_fp32_onnx")
    facts = facts_of(runs, "release", "onnx")
    assert (facts.name, facts.model, facts.device_name) == ("release", "digits_fp32_onnx", "rpi4-emulated")
    assert (facts.runtime, facts.runtime_version, facts.threads) == ("onnxruntime", "1.31.1", 1)
    assert facts.packages == ("onnxruntime==1.31.1", "numpy==2.4.6")
    assert (facts.kernel, facts.artifact_format) == ("6.1.0-synthetic-arm64", "onnx")
    assert len(facts.measurements) == sum(len(run.measurements) for run in runs)
    profiles = {n.measurement.metric: n.profile for n in facts.numbers}
    assert (profiles["peak_rss_bytes"], profiles["latency_p99_ns"]) == ("functional", "timing")
    load = next(n for n in facts.numbers if n.measurement.metric == "load_time_ns")
    assert (load.measurement.scenario, load.run_id) == ("single_stream", runs[3].run_id)


def test_of_a_number_that_was_measured_twice_the_last_counts():
    facts = facts_of([a_run(p50(5e6)), a_run(p50(6e6), run_id="002")])
    assert [(n.run_id, n.measurement.value) for n in facts.numbers] == [("002", 6e6)]


def test_a_model_under_a_runtime_that_was_asked_for_is_the_plans():
    assert facts_of([a_run(model="m@onnxruntime==1.20.1")]).model == "m"


# --- what must match


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"device_name": "rpi4-02"}, "device unit is rpi4-02, expected rpi4-emulated as recorded"),
        ({"serial": "other"}, "serial number is other, expected synthetic-0001 as recorded"),
        ({"platform": "linux-armv7l"}, "platform is linux-armv7l, expected linux-aarch64 as recorded"),
        ({"runtime": "litert"}, "runtime is litert==1.31.1, expected onnxruntime==1.31.1 as recorded"),
        ({"runtime_version": "1.20.1"}, "runtime is onnxruntime==1.20.1, expected onnxruntime==1.31.1 as"),
        ({"packages": ("onnxruntime==1.31.1", "numpy==2.0.2")}, "runtime packages is numpy==2.0.2, onnxr"),
        ({"threads": 4}, "threads is 4, expected 1 as recorded"),
    ],
)
def test_each_fact_that_differs_is_named_with_both_sides(changes, problem):
    then = recorded()
    (found,) = recorded_problems(then, replace(then, **changes))
    assert found.startswith(problem)


def test_what_may_differ():
    then = recorded()
    now = replace(
        then,
        kernel="6.6",
        session_id="s2",
        artifact_sha256="cd" * 32,
        packages=tuple(reversed(then.packages)),
        serial=None,
    )
    assert recorded_problems(then, now) == ()


@pytest.mark.parametrize(
    ("settings", "fidelity", "problem"),
    [
        (
            {"governor": "ondemand"},
            Fidelity.MEASURED,
            "governor is ondemand, expected performance as recorded",
        ),
        ({"governor": None}, Fidelity.MEASURED, "governor is not shown, expected performance as recorded"),
        ({"profile": "timing"}, Fidelity.MEASURED, "profile is timing, expected native as recorded"),
        ({}, VIRTUAL, "fidelity is virtual, expected measured as recorded"),
    ],
)
def test_each_number_must_have_been_taken_alike(settings, fidelity, problem):
    (c,) = compare_recorded(a_run(p50(fidelity=fidelity), settings=settings), recorded())
    assert c.invalid == (problem,)
    (row,) = results_of(_only(c), [])
    assert row.verdict is Verdict.INVALID


def test_what_made_the_recorded_times_doubtful_makes_the_comparison_invalid():
    busy = Condition("load", "pressure 61%", "at most 30%", False, "End it.", Scope.ABSOLUTE)
    fine = Condition("same boot", "yes", "yes", True)
    size = Measurement("model_size_bytes", 5e5, 5e5, 5e5, 1, Fidelity.MEASURED)
    then = recorded(p50(9e6, 8.9e6, 9.1e6), size, conditions=(busy, fine))
    by_metric = {c.metric: c for c in compare_recorded(a_run(p50(), size), then)}
    time = by_metric["latency_p50_ns"]
    assert time.invalid == ("in release, load: pressure 61%, expected at most 30%",)
    assert [r.verdict for r in results_of(_only(time), [])] == [Verdict.INVALID]
    assert by_metric["model_size_bytes"].invalid == ()


def _only(c):
    return records.run(measurements=(), comparisons=(c,))


def test_a_governor_says_nothing_of_accuracy_nor_anything_of_a_size():
    size = Measurement("model_size_bytes", 5e5, 5e5, 5e5, 1, Fidelity.MEASURED)
    right = accuracy(0.97, 0.95, 0.98)
    then = recorded(size, right)
    now = a_run(size, right, settings={"governor": "ondemand"}, threads=4)
    by_metric = {c.metric: c for c in compare_recorded(now, then)}
    assert by_metric["model_size_bytes"].invalid == ()
    assert by_metric["accuracy"].invalid == ("threads is 4, expected 1 as recorded",)


# --- effects


def test_a_ratio_has_the_interval_of_both_sides():
    # 5.1 (5.0 to 5.2) ÷ 5.0 (4.95 to 5.05). MOVER-R with both sides symmetric is Fieller's interval:
    # g = (0.05 / 5)² = 0.0001; sides: sqrt((0.1 / 5)² + (1.02² − 0.02²) · 0.01²) … = 1.02 ± 0.02245
    (c,) = compare_recorded(a_run(p50(5.1e6, 5.0e6, 5.2e6)), recorded())
    assert (c.method, c.effect, c.metric, c.scenario) == (
        Method.RECORDED,
        Effect.RATIO,
        "latency_p50_ns",
        "single_stream",
    )
    assert c.value == pytest.approx(1.02)
    g = 0.01**2
    half = math.sqrt(0.02**2 + (1.02**2 - 0.02**2) * g)
    assert c.low == pytest.approx((1.02 - half) / (1 - g))
    assert c.high == pytest.approx((1.02 + half) / (1 - g))
    assert (c.candidate, c.baseline, c.baseline_name, c.invalid) == (5.1e6, 5e6, "release", ())
    assert c.reasons == ("from memory: recorded 2026-01-02, not measured beside it",)
    assert c.settings == {"baseline_session": records.SESSION_ID, "baseline_run": "001-deploy"}


def test_a_difference_has_the_interval_of_both_sides():
    # 0.95 (0.92 to 0.97) − 0.97 (0.95 to 0.98): −0.02, down by hypot(0.03, 0.01), up by hypot(0.02, 0.02)
    (c,) = compare_recorded(a_run(accuracy(0.95, 0.92, 0.97)), recorded(accuracy(0.97, 0.95, 0.98)))
    assert c.effect is Effect.DIFFERENCE
    assert c.value == pytest.approx(-0.02)
    assert c.low == pytest.approx(-0.02 - math.hypot(0.03, 0.01))
    assert c.high == pytest.approx(-0.02 + math.hypot(0.02, 0.02))


def test_a_files_size_has_no_noise():
    def size(n):
        return Measurement("model_size_bytes", n, None, None, 1, Fidelity.MEASURED)

    (c,) = compare_recorded(a_run(size(1.2e6)), recorded(size(1e6)))
    assert c.value == c.low == c.high == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (p50(low=None), p50(), "the candidate has no interval on both sides"),
        (p50(), p50(high=None), "the baseline has no interval on both sides"),
        (p50(value=9e6), p50(), "the candidate's interval isn't around its value"),
        (p50(low=0.0), p50(), "the candidate's interval reaches 0, so it has no ratio"),
        (p50(high=math.inf), p50(), "the candidate's interval isn't around its value"),
    ],
)
def test_without_both_intervals_there_is_an_effect_and_no_bounds(now, then, said):
    (c,) = compare_recorded(a_run(now), recorded(then))
    assert (c.low, c.high) == (None, None)
    assert c.value is not None
    assert said in c.reasons
    assert results_of(_only(c), [])[0].verdict is Verdict.INCONCLUSIVE


def test_an_interval_within_one_process_says_nothing_of_two_sessions():
    one = p50(5.1e6, 5.0999e6, 5.1001e6, reasons=(WITHIN_ONE_PROCESS,))
    for now, then in ((one, p50()), (p50(), one)):
        (c,) = compare_recorded(a_run(now), recorded(then))
        assert (c.low, c.high) == (None, None)
        assert "interval is within one process, and these are of two" in c.reasons[0]
    # a virtual clock shows the same in every process
    virtual = replace(one, fidelity=VIRTUAL)
    (c,) = compare_recorded(a_run(virtual), recorded(virtual))
    assert c.low is not None


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        (
            p50(value=None, low=None, high=None, reasons=("too few",)),
            p50(),
            "the candidate has no latency_p50",
        ),
        (p50(), p50(value=None, low=None, high=None), "the baseline has no latency_p50_ns"),
        (p50(), p50(value=0.0, low=0.0), "has no ratio"),
        (p50(value=math.inf), p50(), "can't be compared"),
    ],
)
def test_without_two_numbers_there_is_no_effect(now, then, said):
    (c,) = compare_recorded(a_run(now), recorded(then))
    assert c.value is None
    assert said in c.reasons[0]
    assert results_of(_only(c), [])[0].verdict is Verdict.INVALID


def test_what_the_baseline_lacks_is_said_and_never_passes():
    (c,) = compare_recorded(a_run(p50(batch_size=8)), recorded())
    assert c.reasons == (
        "baseline `release` holds no latency_p50_ns (single_stream, batch 8) of digits_fp32_onnx on "
        "rpi4-emulated",
    )
    set_margin = Budget("digits_fp32_onnx", "rpi4", "latency_p50_ns", None, batch_size=8, margin=0.01)
    assert results_of(_only(c), [set_margin])[0].verdict is Verdict.INVALID
    assert results_of(_only(c), [])[0].verdict is Verdict.NOT_JUDGED


def test_what_each_run_judges_by_itself_is_not_compared():
    error = Measurement("output_max_abs_error", 1e-7, 1e-7, 1e-7, 300, Fidelity.MEASURED, limit=1e-3)
    assert compare_recorded(a_run(error), recorded(error)) == ()


numbers = st.floats(1e-3, 1e9)
sides = st.floats(0.0, 0.5)


@given(numbers, sides, sides, numbers, sides, sides, st.floats(1.0001, 3.0))
def test_a_slower_number_has_a_larger_effect_and_bounds_around_it(a, al, ah, b, bl, bh, slower):
    then = recorded(p50(b, b * (1 - bl), b * (1 + bh)))
    (c,) = compare_recorded(a_run(p50(a, a * (1 - al), a * (1 + ah))), then)
    assert c.low is not None
    assert c.high is not None
    assert 0 < c.low <= c.value <= c.high
    k = slower
    (d,) = compare_recorded(a_run(p50(k * a, k * a * (1 - al), k * a * (1 + ah))), then)
    assert d.value > c.value
    assert d.low >= c.low * (1 - 1e-9)
    assert d.high >= c.high * (1 - 1e-9)


def test_a_run_that_did_not_complete_has_nothing_to_compare():
    failed = a_run(outcome=Outcome.INFRA_ERROR)
    assert compare_recorded(replace(failed, measurements=()), recorded()) == ()
