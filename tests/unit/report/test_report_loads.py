"""Server, periodic and multi_stream runs, memory by batch size: every number where it belongs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from support import compared, records

from harness.model import Run
from harness.report import write_report
from harness.report.data import build_report
from harness.report.figure import Figure
from harness.report.figures import build_figures
from harness.report.plots import draw
from harness.store import read_session


def _figures(tmp_path: Path, *runs: Run) -> dict[str, Figure]:
    record = compared.session(devices=(records.LOCAL,))
    return {
        f.id: f
        for f in build_figures(build_report(read_session(records.write_session(tmp_path, record, runs))))
    }


def test_rates_are_in_order_with_the_budget(tmp_path: Path) -> None:
    figure = _figures(tmp_path, compared.server_run())["server-rates"]
    (panel,) = figure.panels
    assert [mark.x[0] for mark in panel.marks] == [50, 100, 125, 131.2, 137.5, 150]
    assert [mark.hollow for mark in panel.marks] == [False, False, False, False, True, True]
    assert panel.limit == 15
    assert "the highest that kept it is 131/s; the lowest that didn't is 138/s" in panel.description
    assert figure.rows[0][4:] == (50.0, 6.1e6, 6.1 * 1.04e6, 15e6, 1)


@pytest.mark.parametrize(
    "rates",
    [None, [], "x", [{"rate_per_s": 5}], [{"rate_per_s": "fast", "p99_ns": 1}], [3], [{"p99_ns": True}]],
)
def test_a_server_run_without_rates_has_no_such_figure(tmp_path: Path, rates: Any) -> None:
    run = compared.server_run()
    assert "server-rates" not in _figures(tmp_path, replace(run, settings={**run.settings, "rates": rates}))


@pytest.mark.parametrize(
    "rates",
    [
        [{"rate_per_s": 5, "p99_ns": 9e9, "met": False}],
        [{"rate_per_s": 5, "p99_ns": 9e9, "met": False}, {"rate_per_s": 1, "p99_ns": 1e3, "met": True}],
        [{"rate_per_s": 0, "p99_ns": 0, "met": True}],
    ],
)
@pytest.mark.parametrize("budget", [15_000_000, None])
def test_odd_rates_are_still_drawn(tmp_path: Path, rates: Any, budget: int | None) -> None:
    run = compared.server_run()
    settings = {**run.settings, "rates": rates, "p99_budget_ns": budget}
    for panel in _figures(tmp_path, replace(run, settings=settings))["server-rates"].panels:
        ET.fromstring(draw(panel, "x"))


def test_every_late_frame_is_shown(tmp_path: Path) -> None:
    run = compared.periodic_run()
    figure = _figures(tmp_path, run)["periodic"]
    frames, jitter = figure.panels
    late = next(mark for mark in frames.marks if mark.tone == "fail")
    values = run.series[0].values
    assert list(late.x) == [float(n) + 1 for n in np.flatnonzero(values > 10_000_000)]
    assert frames.limit == 10
    assert f"500 frames, {len(late.x)} past the deadline" in frames.description
    assert jitter.title.endswith("start jitter")
    assert sum(len(mark.x) for mark in frames.marks) <= 400


def test_periodic_without_a_deadline_or_jitter_is_still_drawn(tmp_path: Path) -> None:
    run = compared.periodic_run()
    (panel,) = _figures(tmp_path, replace(run, settings={}, series=run.series[:1]))["periodic"].panels
    assert panel.limit is None
    ET.fromstring(draw(panel, "x"))


def test_a_scenario_is_named_beside_its_model(tmp_path: Path) -> None:
    runs = [compared.server_run(), compared.periodic_run(), compared.multi_stream_run()]
    single = records.model_runs("digits_fp32_onnx", device=records.LOCAL)
    titles = [panel.title for panel in _figures(tmp_path, *single, *runs)["latency-ecdf"].panels]
    assert titles == [f"digits_fp32_onnx{name}" for name in ("", ", server", ", periodic", ", multi stream")]


def test_memory_by_batch_joins_the_sweep(tmp_path: Path) -> None:
    memory = records.model_runs("digits_fp32_onnx", device=records.LOCAL)[2]
    figure = _figures(tmp_path, compared.with_batch_memory(memory, {"8": 90_000_000, "1": 60_000_000}))[
        "batch-sweep"
    ]
    (panel,) = figure.panels
    assert (panel.marks[0].x, panel.marks[0].y) == ((1, 8), (60, 90))
    assert panel.y_label == "peak RSS, MB (measured)"
    assert [row[4:7] for row in figure.rows] == [("peak_rss_bytes", 1, 6e7), ("peak_rss_bytes", 8, 9e7)]


@pytest.mark.parametrize("swept", [{"1": 5}, {"a": 5, "2": 6}, {"1": None, "2": "x"}, [1, 2]])
def test_a_sweep_that_is_none_is_left_out(tmp_path: Path, swept: Any) -> None:
    memory = records.model_runs("digits_fp32_onnx", device=records.LOCAL)[2]
    run = replace(memory, settings={"peak_rss_bytes_by_batch": swept})
    assert "batch-sweep" not in _figures(tmp_path, run)


def test_the_page_with_every_scenario_is_a_page(tmp_path: Path) -> None:
    runs = [compared.server_run(), compared.periodic_run(), compared.multi_stream_run()]
    text = write_report(records.write_session(tmp_path, compared.session(), runs)).html.read_text()
    for title in ("Server: p99 against the rate", "Periodic: frames against their deadline"):
        assert title in text
