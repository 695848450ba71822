"""The TOML that would set budgets at what was measured: it parses, and what was measured passes it."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.comparing import comparison

from harness import plan as plans
from harness.judging import judge
from harness.metrics import ESTIMATES, METRICS, SOAK_METRICS
from harness.model import Fidelity, Measurement, Result, Verdict

PLAN = """
[release]
device_types = ["rpi4"]
other_device_types = ["local"]
[models.m]
path = "m.onnx"
"""


def a_result(metric="latency_p50_ns", value=5e6, low=None, high=None, **more) -> Result:
    row = METRICS.get(metric)
    defaults = {
        "run_id": "r", "suite": "latency", "test": "t", "model": "m", "artifact_sha256": "a" * 64,
        "runtime": "onnxruntime", "runtime_version": "1", "device_name": "d", "device_type": "rpi4",
        "scenario": "single_stream", "batch_size": 1, "threads": 1, "settings": {}, "metric": metric,
        "unit": row.unit if row else "", "direction": row.direction if row else "", "value": value,
        "low": low, "high": high, "n": 100, "fidelity": Fidelity.VIRTUAL, "budget": None, "baseline": None,
        "ratio": None, "margin": None, "verdict": Verdict.NOT_JUDGED, "reasons": (),
    }  # fmt: skip
    return Result(**{**defaults, **more})


def budgets_of(text: str):
    return plans.plan_from_mapping(tomllib.loads(PLAN + text), "release.toml").budgets


def test_ten_percent_above_what_was_measured():
    text = plans.budget_lines([a_result(value=5.864e6, low=5.863e6, high=5.865e6)], "rpi4")
    assert text == '[budgets.rpi4.m]\nlatency_p50_ns = { limit = "6.46 ms", fidelity = "virtual" }\n'


def test_a_measured_number_needs_no_table():
    size = a_result("model_size_bytes", 461057, 461057, 461057, fidelity=Fidelity.MEASURED)
    assert plans.budget_lines([size], "rpi4") == '[budgets.rpi4.m]\nmodel_size_bytes = "508 kB"\n'


def test_a_comparison_sets_no_limit_and_neither_does_what_nothing_could_break():
    c = comparison(1.02, 1.01, 1.03)
    beside = a_result(value=5.1e6, comparison=c, baseline=5e6, ratio=1.02)
    hopeless = a_result("accuracy", 0.05, 0.01, 0.1, fidelity=Fidelity.MEASURED)
    assert plans.budget_lines([beside, hopeless], "rpi4") == ""
    copied = a_result("model_pages_bytes", 0.0, 0.0, 0.0, fidelity=Fidelity.MEASURED)
    assert budgets_of(plans.budget_lines([copied], "rpi4"))[0].limit == 0


@pytest.mark.parametrize("bounds", [(None, None), (-3e-4, -1e-7)])
def test_energy_that_does_not_stand_out_of_the_idle_sets_no_budget(bounds):
    net = a_result("net_energy_per_inference_j", -1e-6, *bounds, unit="J", fidelity=Fidelity.MEASURED)
    assert plans.budget_lines([net], "rpi4") == ""
    straddling = a_result("net_energy_per_inference_j", -1e-6, -3e-4, 2e-4, fidelity=Fidelity.MEASURED)
    assert budgets_of(plans.budget_lines([straddling], "rpi4"))[0].limit == pytest.approx(2.2e-4)


def test_ten_percent_below_where_higher_is_better():
    (budget,) = budgets_of(plans.budget_lines([a_result("throughput_per_s", 200.0, 199.0, 201.0)], "rpi4"))
    assert budget.limit == 180


def test_a_ratio_gives_ten_percent_more_misses_not_ten_percent_of_itself():
    narrow = a_result("accuracy", 0.95, 0.947, 0.953, fidelity=Fidelity.MEASURED)
    assert budgets_of(plans.budget_lines([narrow], "rpi4"))[0].limit == pytest.approx(0.945)
    # its interval reaches further: from its lower bound then
    wide = a_result("accuracy", 0.99, 0.974, 0.997, fidelity=Fidelity.MEASURED)
    assert budgets_of(plans.budget_lines([wide], "rpi4"))[0].limit == pytest.approx(0.9714)


def test_without_a_bound_the_value_is_judged():
    (budget,) = budgets_of(plans.budget_lines([a_result("latency_p99_ns", 5e6, 4e6, None)], "rpi4"))
    assert (budget.rule, budget.limit) == ("point", 5.5e6)


def test_scenarios_and_batches_are_told_apart():
    rows = [
        a_result(value=5e6, low=5e6, high=5e6),
        a_result(value=30e6, low=30e6, high=30e6, scenario="offline", batch_size=8),
    ]
    found = budgets_of(plans.budget_lines(rows, "rpi4"))
    assert {(b.scenario, b.batch_size, b.limit) for b in found} == {
        ("single_stream", 1, 5.5e6),
        ("offline", 8, 33e6),
    }
    (alone,) = budgets_of(plans.budget_lines(rows[1:], "rpi4"))
    assert alone.batch_size == 8


def test_the_worst_attempt_sets_the_limit():
    (budget,) = budgets_of(
        plans.budget_lines([a_result(value=5e6), a_result(value=7e6), a_result(value=6e6)], "rpi4")
    )
    assert budget.limit == 7.7e6


def test_only_numbers_of_this_device_type_that_a_budget_can_hold():
    rows = [
        a_result(device_type="local"),
        a_result(value=None),
        a_result("output_max_abs_error", 1e-7),
        a_result("outcome", None),
        a_result(fidelity=Fidelity.ESTIMATED),
    ]
    assert plans.budget_lines(rows, "rpi4") == ""


def test_with_the_plan_the_lines_can_be_pasted_into_it():
    plan = plans.plan_from_mapping(tomllib.loads(PLAN), "release.toml")
    known = plans.budget_lines([a_result()], "rpi4", plan=plan)
    assert known.startswith("[budgets.rpi4.m]\n")
    new = plans.budget_lines([a_result(model="net.onnx")], "rpi4", plan=plan)
    assert new.startswith('[models."net.onnx"]\npath = "net.onnx"')
    assert {b.model for b in budgets_of(new)} == {"net.onnx"}


def test_a_device_type_that_the_plan_does_not_list_is_noted():
    plan = plans.plan_from_mapping(tomllib.loads(PLAN), "release.toml")
    text = plans.budget_lines([a_result(device_type="rpi5")], "rpi5", plan=plan)
    note, _, rest = text.partition("\n")
    assert note.endswith('other_device_types = ["local", "rpi5"]')
    listed = PLAN.replace('other_device_types = ["local"]', 'other_device_types = ["local", "rpi5"]')
    (budget,) = plans.plan_from_mapping(tomllib.loads(listed + rest), "release.toml").budgets
    assert budget.device_type == "rpi5"
    assert plans.budget_lines([], "rpi5", plan=plan) == ""


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("m@onnxruntime==1.20.1", "m"),
        ("old/m.onnx", "old-m.onnx"),
        ('my "net".onnx', "my-net-.onnx"),
        (".hidden.onnx", "hidden.onnx"),
        ("模型", "model"),
    ],
)
def test_any_model_gets_a_name_that_a_plan_may_have(model, name):
    plan = plans.plan_from_mapping(tomllib.loads(PLAN), "release.toml")
    (budget,) = budgets_of(plans.budget_lines([a_result(model=model)], "rpi4", plan=plan))
    assert budget.model == name


def test_of_several_runtimes_the_worst_sets_the_limit():
    rows = [a_result(model="m@onnxruntime==1.20.1", value=7e6), a_result(model="m@onnxruntime", value=5e6)]
    (budget,) = budgets_of(plans.budget_lines(rows, "rpi4"))
    assert (budget.model, budget.limit) == ("m", 7.7e6)


@given(
    st.sampled_from(
        [
            n
            for n in METRICS
            if n not in {"output_max_abs_error", "ambient_temp_c", *ESTIMATES.values()} | SOAK_METRICS
        ]
    ),
    st.floats(1e-6, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.sampled_from([Fidelity.MEASURED, Fidelity.VIRTUAL]),
    st.booleans(),
)
def test_what_was_measured_passes_the_budget_that_it_sets(metric, value, below, above, fidelity, bounded):
    row = METRICS[metric]
    scale = {"ns": 1e10, "bytes": 1e10, "1/s": 1e5, "1": 1e3, "ratio": 1.0}.get(row.unit, 100.0)
    low = value * (1 - below)
    high = min(1.0, value * (1 + above)) if row.unit == "ratio" else value * (1 + above)
    numbers = [n * scale for n in (value, low, high)]
    if not bounded:
        numbers[1:] = [None, None]
    found = budgets_of(plans.budget_lines([a_result(metric, *numbers, fidelity=fidelity)], "rpi4"))
    if not found:  # nothing is 10% worse than this
        assert row.direction == "higher"
        assert min(n for n in numbers if n is not None) < 0.1 * scale
        return
    (budget,) = found
    judged = judge(Measurement(metric, *numbers, 100, fidelity), budget, row.direction)
    assert judged.verdict is Verdict.PASS
    if not bounded and row.unit != "ratio":
        # within 10%, and the rounding of three digits
        worse = budget.limit / numbers[0] if row.direction == "lower" else numbers[0] / budget.limit
        assert 1.09 < worse < 1.125
