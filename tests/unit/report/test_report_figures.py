"""Figures: numbers as they were measured, fidelities apart, drawings that serve light and dark."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from support import records

from harness.model import Fidelity, Series
from harness.report.data import ReportData, build_report
from harness.report.drawings import at_share
from harness.report.figure import MARKED, Figure, Mark, Panel, curve_points, thinned
from harness.report.figure import figure as make_figure
from harness.report.figures import build_figures
from harness.report.palette import STYLES, style_class, style_mark
from harness.report.plots import draw
from harness.store import read_session


def _data(tmp_path: Path, runs: object = None, **changes: object) -> ReportData:
    folder = records.write_session(tmp_path, records.session(**changes), runs)  # type: ignore[arg-type]
    return build_report(read_session(folder))


def _figures(data: ReportData) -> dict[str, Figure]:
    return {figure.id: figure for figure in build_figures(data)}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return _data(tmp_path_factory.mktemp("sample"))


def test_a_full_session_has_every_figure(sample: ReportData) -> None:
    assert list(_figures(sample)) == [
        "trade-off", "latency-ecdf", "latency-processes", "batch-sweep", "memory",
    ]  # fmt: skip


def test_a_session_without_numbers_has_none(tmp_path: Path) -> None:
    assert build_figures(_data(tmp_path, [])) == ()


def test_the_ecdf_is_one_and_agrees_with_numpy(sample: ReportData) -> None:
    panel = next(p for p in _figures(sample)["latency-ecdf"].panels if p.title == "digits_fp32_onnx")
    (mark,) = panel.marks
    assert list(mark.y) == sorted(mark.y)
    assert (mark.x[0] < mark.x[-1], mark.y[-1]) == (True, 1.0)
    run = next(r for r in sample.runs if r.scenario == "single_stream" and r.model == "digits_fp32_onnx")
    values = run.series[0].values
    for x, y in list(zip(mark.x, mark.y, strict=True))[::40]:
        assert np.mean(values <= round(x * 1e6)) == pytest.approx(y)


def test_tables_hold_stored_units(sample: ReportData) -> None:
    figure = _figures(sample)["batch-sweep"]
    rows = list(csv.DictReader(io.StringIO(figure.to_csv())))
    row = next(r for r in rows if r["metric"] == "latency_p50_ns" and r["batch_size"] == "8")
    result = next(
        r for r in sample.results
        if (r.model, r.metric, r.batch_size) == (row["model"], "latency_p50_ns", 8)
    )  # fmt: skip
    assert float(row["value"]) == result.value
    document = json.loads(figure.to_json())
    assert dict(zip(document["columns"], document["rows"][0], strict=True))["fidelity"] == "virtual"


def test_a_name_cannot_become_a_formula(tmp_path: Path) -> None:
    runs = [replace(r, model="=cmd()") for r in records.model_runs("digits_fp32_onnx")]
    text = _figures(_data(tmp_path, runs))["latency-ecdf"].to_csv()
    assert "\n'=cmd()," in text


def test_unlike_fidelities_never_share_a_panel(tmp_path: Path) -> None:
    runs = [*records.model_runs("digits_fp32_onnx"), *records.model_runs("digits_int8_onnx")]
    local = [
        run
        for n, name in enumerate(("digits_fp32_onnx", "digits_int8_onnx"))
        for run in records.model_runs(name, device=records.LOCAL, first=50 + 5 * n)
    ]
    data = _data(tmp_path, [*runs, *local], devices=(records.PI, records.LOCAL))
    figures = _figures(data)
    assert figures["trade-off"].fidelity == (Fidelity.MEASURED, Fidelity.VIRTUAL)
    for panel in (*figures["trade-off"].panels, *figures["batch-sweep"].panels):
        assert len({mark.label.partition(" on ")[2] for mark in panel.marks}) == 1
        assert ("(virtual)" in panel.x_label + panel.y_label) != (
            "(measured)" in panel.x_label + panel.y_label
        )


def test_the_pareto_set_is_what_nothing_beats(sample: ReportData) -> None:
    rows = {row[0]: row[-1] for row in _figures(sample)["trade-off"].rows}
    # int8_onnx: larger and slower than int8_tflite, but more accurate; fp32_onnx: smaller than fp32_tflite
    assert rows == dict.fromkeys(records.MODELS, 1)


def test_a_beaten_variant_is_hollow(tmp_path: Path) -> None:
    runs = list(records.model_runs("digits_int8_tflite"))
    worse = [
        replace(
            run,
            run_id=f"9{run.run_id}",
            model="digits_fp32_onnx",
            measurements=tuple(
                replace(m, value=m.value and m.value * 1.1) if m.metric != "accuracy" else m
                for m in run.measurements
            ),
        )
        for run in runs
    ]
    panel = _figures(_data(tmp_path, [*runs, *worse]))["trade-off"].panels[0]
    assert {mark.label: mark.hollow for mark in panel.marks} == {
        "digits_fp32_onnx": True, "digits_int8_tflite": False,
    }  # fmt: skip


def test_a_long_run_stays_small_and_keeps_its_tail(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    values = (random.gamma(9, 1e5, 200_000) + 1e6).astype(np.int64)
    series = Series("latency_ns", "ns", values, np.zeros(values.size, dtype=np.int32), "CLOCK_MONOTONIC")
    run = records.model_runs("digits_fp32_onnx")[3]
    figure = _figures(_data(tmp_path, [replace(run, series=(series,))]))["latency-ecdf"]
    kept = [row[4] for row in figure.rows]
    assert len(kept) <= 240
    assert kept[-40:] == sorted(values.tolist())[-40:]


@pytest.mark.parametrize("size", [1, 2, 39, 240, 241, 100_000])
def test_thinning_keeps_both_ends(size: int) -> None:
    keep = thinned(size)
    assert (keep[0], keep[-1]) == (0, size - 1)
    assert keep.size <= 240
    assert np.all(np.diff(keep) > 0)


@pytest.mark.parametrize("values", [[7], [7, 7, 7], [0, 0], [1, 10**12]])
def test_odd_samples_are_still_drawn(tmp_path: Path, values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    process = np.arange(array.size, dtype=np.int32)
    run = records.model_runs("digits_fp32_onnx")[3]
    series = Series("latency_ns", "ns", array, process, "CLOCK_MONOTONIC")
    for figure in build_figures(_data(tmp_path, [replace(run, series=(series,))])):
        for panel in figure.panels:
            assert draw(panel, "x").startswith("<svg")


@pytest.mark.parametrize("slowest_ms", [1.2, 9.0, 80.0, 4000.0])
def test_a_tail_of_any_length_is_drawn_with_plain_ticks(tmp_path: Path, slowest_ms: float) -> None:
    random = np.random.default_rng(3)
    values = (1e6 * (1 + 0.02 * random.random(3000))).astype(np.int64)
    values[::60] = int(slowest_ms * 1e6)
    process = np.repeat(np.arange(3, dtype=np.int32), 1000)
    run = records.model_runs("digits_fp32_onnx")[3]
    series = Series("latency_ns", "ns", values, process, "CLOCK_MONOTONIC")
    for figure in build_figures(_data(tmp_path, [replace(run, series=(series,))])):
        for panel in figure.panels:
            texts = [e.text or "" for e in ET.fromstring(draw(panel, "x")).iter("text")]
            assert not any("$" in text for text in texts), texts


def test_data_hold_no_digits_that_say_nothing(sample: ReportData) -> None:
    figure = replace(_figures(sample)["batch-sweep"], columns=("a", "b"), rows=((5e6, 1 / 3), (None, -0.0)))
    assert figure.to_csv() == "a,b\n5000000,0.333333333\n,0\n"
    assert json.loads(figure.to_json())["rows"] == [[5_000_000, 0.333333333], [None, 0]]


# --- drawings -------------------------------------------------------------------------------------


def _panel(kind: str = "bars", label: str = "m") -> Panel:
    return Panel(kind, "Title", "Words.", "x", "y", (Mark(label, 0, (1.0,), (0.0,), limit=1.5),))


def test_drawings_take_their_colours_from_the_page(sample: ReportData) -> None:
    for figure in build_figures(sample):
        svg = draw(figure.panels[0], figure.id)
        colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
        assert all(colour == "none" or colour.startswith("var(--") for colour in colours), colours
        assert "font-family" not in svg


def test_drawings_hold_text_and_names_for_screen_readers() -> None:
    root = ET.fromstring(draw(_panel(), "fig-1"))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "fig-1-title fig-1-desc"
    texts = {element.get("id"): element.text for element in root if element.tag in ("title", "desc")}
    assert texts == {"fig-1-title": "Title", "fig-1-desc": "Words."}
    assert "m" in [element.text for element in root.iter("text")]


def test_ids_of_drawings_never_collide() -> None:
    ids: list[str] = []
    for name in ("a", "b"):
        svg = draw(_panel(), name)
        ids += re.findall(r' id="([^"]+)"', svg)
        for target in re.findall(r'(?:href="|url\()#([^")]+)', svg):
            assert target in ids
    assert len(set(ids)) == len(ids)


def test_a_drawing_is_the_same_each_time() -> None:
    assert draw(_panel(), "a") == draw(_panel(), "a")


@pytest.mark.parametrize(
    "label", ["$x$", r"$\frac{", "<script>", "a\x00b\x1b", "名前", "x" * 500, "\ud800", "a\nb"]
)
def test_any_label_can_be_drawn(label: str) -> None:
    svg = draw(replace(_panel(label=label), title=label, description=label), "a")
    ET.fromstring(svg)
    assert "<script" not in svg


def test_colour_and_shape_together_tell_models_apart() -> None:
    seen = {(style_class(n), style_mark(n)) for n in range(STYLES * 6)}
    assert len(seen) == STYLES * 6


def test_a_figure_of_many_rows_keeps_an_even_choice() -> None:
    rows = [(n,) for n in range(4000)]
    kept = make_figure("x", "X", "", [Fidelity.MEASURED], [_panel()] * 20, ("n",), rows)
    assert kept is not None
    assert (len(kept.rows), kept.every, kept.rows[1]) == (1334, 3, (3,))
    assert (len(kept.panels), kept.left_out) == (16, 4)


def test_dots_share_one_style(sample: ReportData) -> None:
    panel = _figures(sample)["latency-processes"].panels[0]
    svg = draw(panel, "x")
    dots = sum(len(mark.x) for mark in panel.marks)
    assert svg.count("<use ") >= dots
    assert svg.count("fill-opacity") < 2 * len(panel.marks)
    assert "> <" not in svg


def test_lines_of_a_thinned_curve_stand_at_its_percentiles() -> None:
    """Few of many samples are kept: the next one that is may be far from a p99 in a steep tail."""
    values = np.sort(np.concatenate([np.linspace(60, 63, 22_000), np.geomspace(63, 11_000, 500)]))
    keep = curve_points(values.size)
    shares = (keep + 1) / values.size
    mark = Mark("m", 0, tuple(values[keep]), tuple(shares))
    for share in MARKED:
        assert at_share(mark, share) == np.percentile(values, 100 * share, method="inverted_cdf")


@pytest.mark.parametrize("size", [0, 1, 2, 7, 240, 241])
def test_a_curve_of_few_points_keeps_them(size: int) -> None:
    kept = curve_points(size)
    assert len(set(kept)) == len(kept) <= 240
    assert all(0 <= index < size for index in kept)


def test_a_throughput_of_thousands_has_a_label_that_fits_its_axis(tmp_path: Path) -> None:
    runs = records.model_runs("digits_fp32_onnx")
    fast = [
        replace(
            run,
            measurements=tuple(
                replace(m, value=m.value * 1e3, low=None, high=None)
                if m.metric == "throughput_per_s" and m.value
                else m
                for m in run.measurements
            ),
        )
        for run in runs
    ]
    panels = _figures(_data(tmp_path, fast))["batch-sweep"].panels
    label = next(panel.y_label for panel in panels if panel.title == "Throughput")
    assert "thousands" in label
    assert len(label) <= 34  # of 9.5 points: what 2.8 inches hold
