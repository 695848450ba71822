"""A board's milliseconds beside a virtual median: what is said, and what is said where there is none."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import estimating, gate
from harness.estimate import estimator
from harness.estimate.features import Features
from harness.measure.bench import Observation
from harness.model import DeviceFacts, Fidelity, Measurement, Outcome, Run, Verdict
from harness.recorded import facts_of
from harness.report.wording import estimate_lines, estimate_of

TODAY = datetime.date(2026, 12, 1)
KNOWN = estimator.shipped()
RESTS_ON = (
    "from calibration rpi4-ncnn, fp32 (10 days old): off by 11.3% on average, 29.8% at worst,"
    " on its own 25 networks; by one factor of the virtual clock"
)
COUNTED = next(n for n in KNOWN[0].networks if n.name == "squeezenet")


def bench(device_type="rpi4", runtime="ncnn", quantised=False, threads=1) -> Any:
    device = SimpleNamespace(type=SimpleNamespace(name=device_type), qemu=SimpleNamespace(cpu="cortex-a72"))
    return SimpleNamespace(
        board=SimpleNamespace(device=device),
        runtime=SimpleNamespace(name=runtime),
        look=SimpleNamespace(quantised=quantised),
        case=SimpleNamespace(variant=None),
        threads=threads,
        time_fidelity=Fidelity.VIRTUAL,
    )


def seen(value: float | None = 91.067e6, fidelity=Fidelity.VIRTUAL) -> Observation:
    p50 = Measurement("latency_p50_ns", value, value, value, 64, fidelity, "single_stream")
    return Observation(measurements=(p50,), settings={"looks": 1})


def told(of: Observation) -> Measurement:
    (found,) = (m for m in of.measurements if m.metric == "estimated_latency_p50_ns")
    return found


def row_of(of: Observation):
    facts = DeviceFacts("rpi4-emulated", "rpi4", "qemu", None, "linux-aarch64")
    run = Run(
        "r", "s", 1, "latency", "t", "door", "a" * 64, "ncnn", "1", facts, 1, of.settings,
        "2026-12-01T00:00:00Z", 1.0, Outcome.COMPLETED, measurements=of.measurements,
    )  # fmt: skip
    return run, gate.results_of(run, ())


def test_an_estimate_has_its_band_its_word_and_what_it_rests_on():
    found = estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY)
    m = told(found)
    assert m.fidelity is Fidelity.ESTIMATED
    assert m.low < m.value < m.high
    assert m.low < 73.96e6 < m.high  # what the board took
    days = (TODAY - datetime.date.fromisoformat(KNOWN[0].taken_on)).days
    assert f"calibration rpi4-ncnn (of {KNOWN[0].taken_on}, {days} days old)" in m.reasons[0]
    assert "off by 11.3% on average, 29.8% at worst, on its own 25 networks" in m.reasons[0]
    assert any("one factor" in reason for reason in m.reasons)
    assert found.settings["estimate"]["age_days"] == days
    assert found.settings["looks"] == 1
    assert found.measurements[0] == seen().measurements[0]  # the virtual number is as it was


def test_counts_make_the_band_narrower():
    plain = told(estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY))
    counted = told(estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY, features=COUNTED.features))
    assert counted.high / counted.low < plain.high / plain.low
    assert "by what the emulation counted" in counted.reasons[0]


def test_what_was_counted_is_kept_with_the_run():
    found = estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY, features=COUNTED.features)
    assert Features(**found.settings["estimate"]["features"]) == COUNTED.features
    plain = estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY)
    assert "features" not in plain.settings["estimate"]


def test_why_nothing_was_counted_is_told():
    found = estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY, why_no_features="no compiler")
    assert told(found).reasons[-1] == "no compiler"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"device_type": "vim3"}, "vim3. Calibrate one against a real board: `harness devices fit vim3 --"),
        ({"threads": 3}, "no calibration of rpi4 for fp32 on 3 threads"),
    ],
)
def test_without_a_calibration_the_virtual_number_stands_alone_and_says_how_to_calibrate(asked, why):
    m = told(estimating.with_estimate(seen(), bench(**asked), KNOWN, today=TODAY))
    assert (m.value, m.low, m.high) == (None, None, None)
    assert why in m.reasons[0]
    assert "harness devices fit" in m.reasons[0]


def test_several_threads_are_estimated_from_counts_alone():
    counted = estimating.with_estimate(
        seen(), bench(threads=4), KNOWN, today=TODAY, features=COUNTED.features
    )
    assert told(counted).value is not None
    clock = estimating.with_estimate(seen(), bench(threads=4), KNOWN, today=TODAY, why_no_features="no cc.")
    assert told(clock).value is None
    assert "its clock shows waiting as work. no cc." in told(clock).reasons[0]


@pytest.mark.parametrize("nothing", [seen(None), seen(fidelity=Fidelity.MEASURED), Observation()])
def test_there_is_nothing_to_estimate_without_a_virtual_median(nothing):
    assert estimating.with_estimate(nothing, bench(), KNOWN, today=TODAY) is nothing


def test_integers_have_the_fit_of_integers():
    found = estimating.with_estimate(seen(), bench(quantised=True), KNOWN, today=TODAY)
    assert found.settings["estimate"]["precision"] == "int8"
    assert told(found).n == 7


@pytest.mark.parametrize(("model", "precision"), [("digits_int8", "int8"), ("digits_fp32", "fp32")])
def test_a_runtime_that_does_not_tell_is_no_reason_to_take_integers_for_floats(model, precision):
    asked = bench(runtime="onnxruntime", quantised=None)
    path = Path(__file__).resolve().parents[2] / "models" / f"{model}.onnx"
    asked.case.artifact = SimpleNamespace(path=path)
    asked.signature = SimpleNamespace(inputs=(), outputs=())
    assert estimating.precision_of(asked) == precision


def test_a_calibration_of_ones_own_comes_before_those_that_ship(tmp_path):
    from dataclasses import replace

    from harness.estimate.calibration import save

    own = replace(KNOWN[0], name="mine")
    path = estimating.own_path(tmp_path, "rpi4", "ncnn", "fp32", 1)
    path.parent.mkdir()
    save(path, own)
    known = estimating.known_calibrations(tmp_path)
    assert [c.name for c in known] == ["mine", "rpi4-ncnn", "rpi5-ncnn"]
    assert estimating.known_calibrations(tmp_path / "none")[0].name == "rpi4-ncnn"


def test_it_is_shown_with_its_word_and_band_only():
    run, rows = row_of(estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY))
    shown = estimate_of(rows[1])
    assert re.fullmatch(r"estimated \S+ ms \(\S+ ms – \S+ ms\)", shown)
    assert estimate_of(rows[0]) == ""
    assert estimate_lines(rows) == [f"door on rpi4-emulated: {shown}", RESTS_ON]
    assert all(r.verdict is Verdict.NOT_JUDGED for r in rows)
    # it follows from the virtual number: a baseline keeps that one alone
    assert [m.metric for m in facts_of([run]).measurements] == ["latency_p50_ns"]


def test_why_there_is_none_is_shown_in_its_place():
    _, rows = row_of(estimating.with_estimate(seen(), bench("vim3"), KNOWN, today=TODAY))
    (line,) = estimate_lines(rows)
    assert "no estimate of a board's time: no calibration of device type vim3" in line


def test_why_bands_are_wide_is_one_line():
    from dataclasses import replace

    why = "counting plugin: no C compiler."
    _, rows = row_of(estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY, why_no_features=why))
    lines = estimate_lines([rows[1], replace(rows[1], model="window")])
    assert [line.partition(":")[0] for line in lines[:2]] == [
        "door on rpi4-emulated",
        "window on rpi4-emulated",
    ]
    assert lines[2].startswith("from calibration rpi4-ncnn, fp32 (")
    assert lines[3:] == [why]


def test_what_is_noted_of_all_estimates_is_told_and_of_some_is_not():
    from dataclasses import replace

    found = estimating.with_estimate(seen(), bench(runtime="litert"), KNOWN, today=TODAY)
    _, (_, row) = row_of(found)
    settings = {
        **row.settings,
        "estimate": {**row.settings["estimate"], "notes": ["borrowed from ncnn: a", "x"]},
    }
    other = {**settings, "estimate": {**settings["estimate"], "notes": ["y", "borrowed from ncnn: b"]}}
    rows = [replace(row, settings=settings), replace(row, model="window", settings=other)]
    assert estimate_lines(rows)[2:] == [f"{RESTS_ON.partition(';')[0]}; borrowed from ncnn"]


def test_estimates_of_one_model_are_told_apart_by_what_they_differ_in():
    from dataclasses import replace

    _, (_, row) = row_of(estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY))
    other = replace(row, runtime="litert", runtime_version="2.3.0")
    heads = [line.partition(":")[0] for line in estimate_lines([row, other])[:2]]
    assert heads == ["door on rpi4-emulated, ncnn 1", "door on rpi4-emulated, litert 2.3.0"]
    heads = [line.partition(":")[0] for line in estimate_lines([row, replace(row, threads=4)])[:2]]
    assert heads == ["door on rpi4-emulated, 1 thread", "door on rpi4-emulated, 4 threads"]


def test_what_lies_outside_a_calibration_is_one_note():
    from dataclasses import replace

    found = estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY)
    _, (_, row) = row_of(found)
    notes = [f"{what} outside the calibration's range" for what in ("length", "stored bytes per cycle")]
    said = {**row.settings["estimate"], "notes": ["only 7 networks", *notes]}
    *_, line = estimate_lines([replace(row, settings={**row.settings, "estimate": said})])
    assert line.endswith("; only 7 networks; length, stored bytes per cycle outside the calibration's range")


def test_many_lines_are_counted():
    from dataclasses import replace

    _, rows = row_of(estimating.with_estimate(seen(), bench(), KNOWN, today=TODAY))
    many = [replace(rows[1], model=f"m{n}") for n in range(12)]
    assert estimate_lines(many)[8:] == ["and 4 more, in the report", RESTS_ON]


def test_points_keep_their_error_however_short_the_times_are():
    from dataclasses import replace

    fp32 = [n for n in KNOWN[0].networks if n.precision == "fp32"]
    own = replace(KNOWN[0], networks=tuple(replace(n, board_ms={1: n.board_ms[1] / 1e5}) for n in fp32))
    found = estimating.with_estimate(seen(), bench(), [own], today=TODAY)
    said = found.settings["estimate"]
    errors = [abs(made / board - 1) for board, made in said["points"].values()]
    assert max(errors) == pytest.approx(said["worst_error_ratio"], abs=5e-4)
