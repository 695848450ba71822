"""Two sides of stored runs: what is compared, what is on one side alone, what must match."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import records

from harness.model import Condition, ErrorRecord, Fidelity, Measurement, Outcome, Verdict
from harness.pairing import pair

NAMES = ("before", "after")


def p50(value=5e6, **changes) -> Measurement:
    m = Measurement("latency_p50_ns", value, value * 0.999, value * 1.001, 64, Fidelity.MEASURED)
    return replace(m, **changes)


def a_run(*measurements: Measurement, run_id="001", **changes):
    return records.run(
        run_id,
        suite="latency",
        scenario=changes.pop("scenario", "single_stream"),
        measurements=measurements or (p50(),),
        **changes,
    )


def test_each_number_that_both_have_is_a_row():
    found = pair([a_run(p50(5e6))], [a_run(p50(5.2e6))], (), NAMES)
    (row,) = found.results
    assert (row.model, row.metric, row.scenario) == ("digits_fp32_onnx", "latency_p50_ns", "single_stream")
    assert (row.baseline, row.value, row.verdict) == (5e6, 5.2e6, Verdict.FAIL)
    assert row.ratio == pytest.approx(1.04)
    assert row.reasons[0].startswith("latency_p50_ns (single_stream): +4% against `before`")
    assert (found.only, found.notes, found.ended) == ((), (), Verdict.NOT_JUDGED)


def test_what_one_side_alone_has_is_listed():
    before = [a_run(p50(), p50(batch_size=8))]
    after = [a_run(p50(), p50(scenario="offline"))]
    found = pair(before, after, (), NAMES)
    assert len(found.results) == 1
    place = "digits_fp32_onnx on rpi4-emulated: latency_p50_ns"
    assert found.only == (
        f"only in after: {place}, offline",
        f"only in before: {place}, single_stream, batch 8",
    )


def test_a_model_or_unit_that_one_side_lacks_is_listed_whole():
    other = replace(records.PI, name="rpi4-02")
    before = [a_run(), a_run(run_id="002", model="gone")]
    after = [a_run(), a_run(run_id="002", device=other)]
    found = pair(before, after, (), NAMES)
    assert len(found.results) == 1
    assert found.only == (
        "only in after: digits_fp32_onnx on rpi4-02, 1 number",
        "only in before: gone on rpi4-emulated, 1 number",
    )


def test_one_model_on_each_side_is_compared_whatever_it_is_called():
    found = pair([a_run(model="a.onnx")], [a_run(model="b.onnx")], (), NAMES)
    assert [r.model for r in found.results] == ["b.onnx"]


def test_another_units_numbers_are_invalid_not_missing():
    other = replace(records.PI, name="rpi4-02", serial="2")
    (row,) = pair([a_run()], [a_run(device=other)], (), NAMES).results
    assert row.verdict is Verdict.INVALID
    assert "device unit is rpi4-02, expected rpi4-emulated as recorded" in row.reasons[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runtime_version": "1.20.1"}, "runtime is onnxruntime==1.20.1, expected onnxruntime==1.31.1"),
        ({"threads": 4}, "threads is 4, expected 1"),
        (
            {"settings": {"profile": "functional", "runtime_packages": ["numpy==1"]}},
            "runtime packages is numpy",
        ),
    ],
)
def test_another_build_or_setting_is_invalid(changes, said):
    (row,) = pair([a_run()], [a_run(**changes)], (), NAMES).results
    assert row.verdict is Verdict.INVALID
    assert said in "; ".join(row.reasons)


def test_conditions_of_either_side_count_for_times_alone():
    busy = (Condition("load", "pressure 61%", "at most 30%", False),)
    size = Measurement("model_size_bytes", 1e6, 1e6, 1e6, 1, Fidelity.MEASURED)
    for before, after in (({"conditions": busy}, {}), ({}, {"conditions": busy})):
        found = pair([a_run(p50(), size, **before)], [a_run(p50(), size, **after)], (), NAMES)
        by_metric = {r.metric: r.verdict for r in found.results}
        assert by_metric == {"latency_p50_ns": Verdict.INVALID, "model_size_bytes": Verdict.NOT_JUDGED}


def test_runs_without_numbers_are_noted_and_the_candidates_count():
    lost = a_run(outcome=Outcome.INFRA_ERROR, error=ErrorRecord("connection-lost", "it went away"))
    rejected = a_run(run_id="002", outcome=Outcome.MODEL_REJECTED, reason="opset 99")
    for before, after, ended in (
        ([a_run(), lost], [a_run()], Verdict.NOT_JUDGED),
        ([a_run()], [a_run(), lost], Verdict.INFRA_ERROR),
        ([a_run()], [a_run(), rejected], Verdict.FAIL),
    ):
        found = pair(before, after, (), NAMES)
        assert found.ended is ended
        assert len(found.notes) == 1
    assert found.notes == ("model_rejected in after: digits_fp32_onnx on rpi4-emulated, latency: opset 99",)


def test_a_lab_failure_that_was_tried_again_is_no_note():
    lost = replace(a_run(run_id="000"), outcome=Outcome.INFRA_ERROR, measurements=())
    found = pair([a_run()], [lost, replace(a_run(), attempt=2)], (), NAMES)
    assert (found.notes, found.ended, len(found.results)) == ((), Verdict.NOT_JUDGED, 1)


def test_the_order_of_runs_decides_nothing():
    before = [a_run(), a_run(run_id="002", scenario="offline"), a_run(run_id="003", model="b")]
    after = [replace(run, measurements=(p50(5.1e6),)) for run in before]
    found = pair(before, after, (), NAMES)
    backwards = pair(before[::-1], after[::-1], (), NAMES)
    assert sorted(map(str, found.results)) == sorted(map(str, backwards.results))
