"""The time axis: what is on it, from which clock, thinned without losing spikes, and drawn in rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import records

from harness.model import Fidelity, Measurement, Run, Series
from harness.report.data import build_report
from harness.report.plots import draw
from harness.report.timeline import timeline
from harness.report.timeline_drawings import height_inches, rows_of
from harness.store import StoredSession

S = 1_000_000_000
START = 10**15


def trace(number: int, kind: str, unit: str, values: np.ndarray) -> tuple[dict, tuple[Series, Series]]:
    t = START + np.arange(values.size) * S // 100
    none = np.zeros(values.size, dtype=np.int32)
    name = f"{kind}.{number}"
    said = {
        "series": name,
        "kind": kind,
        "unit": unit,
        "site": "VIN",
        "channel": "p",
        "fidelity": "estimated",
    }
    return said, (Series(name, unit, values, none), Series(name + ".t_ns", "ns", t, none))


def energy_run(**changes: object) -> Run:
    watts = np.full(5000, 2.0)
    watts[1234] = 9.0
    bits = np.where((np.arange(5000) >= 3000) & (np.arange(5000) < 3500), 4.0, 0.0)
    made = [
        trace(0, "power_w", "W", watts),
        trace(1, "temp_c", "°C", np.linspace(40, 60, 5000)),
        trace(2, "freq_hz", "Hz", np.full(5000, 1.5e9)),
        trace(3, "throttle_bits", "1", bits),
    ]
    calls = START + np.arange(100) * S // 10 + 10 * S
    none = np.zeros(100, dtype=np.int32)
    latency = (
        Series("latency_ns", "ns", np.full(100, 5_000_000), none),
        Series("latency_start_ns", "ns", calls, none),
    )
    windows = [
        {"begin_ns": START, "end_ns": START + 5 * S, "calls": 0},
        {"begin_ns": START + 10 * S, "end_ns": START + 20 * S, "calls": 100},
    ]
    return replace(
        records.run("001-energy"),
        suite="power",
        scenario="energy",
        measurements=(Measurement("idle_power_w", 2.0, 2.0, 2.0, 2, Fidelity.MEASURED, "energy"),),
        series=(*latency, *(s for _, pair in made for s in pair)),
        settings={"traces": [said for said, _ in made], "windows": windows},
        **changes,
    )


def figure_of(run: Run):
    session = StoredSession(Path(), records.session(), (run,))
    return timeline(build_report(session))


def test_four_quantities_share_one_axis():
    figure = figure_of(energy_run())
    assert figure is not None
    (panel,) = figure.panels
    assert rows_of(panel) == ("power, W", "temp., °C", "freq., GHz", "latency, ms")
    assert figure.fidelity == (Fidelity.ESTIMATED,)
    assert panel.x_label == "time, s (estimated)"
    by_row = {m.note: m for m in panel.marks}
    assert by_row["latency, ms"].x[0] == pytest.approx(10.0)
    assert by_row["window"].x == pytest.approx((10.0, 20.0))  # idle isn't shaded
    assert by_row["throttled"].x == pytest.approx((30.0, 35.0))
    assert "throttled once" in panel.description


def test_thinning_keeps_the_spike():
    figure = figure_of(energy_run())
    assert figure is not None
    power = next(m for m in figure.panels[0].marks if m.note == "power, W")
    assert len(power.x) <= 402
    assert max(power.y) == 9.0
    assert list(power.x) == sorted(power.x)


def test_it_is_as_high_as_its_rows_and_draws():
    figure = figure_of(energy_run())
    assert figure is not None
    panel = figure.panels[0]
    assert height_inches(panel) > 4
    svg = draw(panel, "t")
    assert svg.startswith("<svg")
    assert "power, W" in svg


def test_without_traces_there_is_no_figure():
    assert figure_of(replace(energy_run(), settings={})) is None
    assert figure_of(replace(energy_run(), series=())) is None


def with_values(run: Run, name: str, values: np.ndarray) -> Run:
    series = tuple(replace(s, values=values) if s.name == name else s for s in run.series)
    return replace(run, series=series)


def test_a_run_whose_meters_were_dead_is_left_out():
    dead = energy_run()
    for name in ("power_w.0", "temp_c.1", "freq_hz.2"):
        dead = with_values(dead, name, np.full(5000, np.nan))
    assert figure_of(dead) is None
    some = figure_of(with_values(energy_run(), "power_w.0", np.full(5000, np.nan)))
    assert some is not None
    assert rows_of(some.panels[0]) == ("temp., °C", "freq., GHz", "latency, ms")


def test_a_line_breaks_where_readings_are_missing():
    watts = np.full(5000, 2.0)
    watts[1000:1500] = np.nan  # five seconds
    watts[3000:3005] = np.nan  # under ten steps
    figure = figure_of(with_values(energy_run(), "power_w.0", watts))
    assert figure is not None
    power = next(m for m in figure.panels[0].marks if m.note == "power, W")
    broken = [x for x, y in zip(power.x, power.y, strict=True) if np.isnan(y)]
    assert broken == [pytest.approx(12.495)]
    assert not any(np.isnan(row[-1]) for row in figure.rows)
    assert draw(figure.panels[0], "t").startswith("<svg")


def test_throttle_bits_that_are_missing_shade_nothing():
    bits = np.full(5000, np.nan)
    bits[2000:3000] = 4.0
    figure = figure_of(with_values(energy_run(), "throttle_bits.3", bits))
    assert figure is not None
    (span,) = (m.x for m in figure.panels[0].marks if m.note == "throttled")
    assert span[0] == pytest.approx(20.0)
    assert span[1] < 31


def test_a_thermal_runs_time_is_the_boards():
    run = energy_run()
    fast = replace(run, suite="thermal", scenario="thermal", settings={**run.settings, "scaled": 0.01})
    figure = figure_of(fast)
    assert figure is not None
    (panel,) = figure.panels
    assert panel.x_label == "time, s of the board (estimated)"
    assert next(m.x for m in panel.marks if m.note == "window") == pytest.approx((1000.0, 2000.0))
    assert max(m.x[-1] for m in panel.marks if m.note == "temp., °C") == pytest.approx(4999)


def test_lines_of_one_row_are_told_apart():
    said, pair = trace(4, "temp_c", "°C", np.full(5000, 21.0))
    run = energy_run()
    both = replace(
        run,
        series=(*run.series, *pair),
        settings={**run.settings, "traces": [*run.settings["traces"], {**said, "site": "ambient"}]},
    )
    figure = figure_of(both)
    assert figure is not None
    svg = draw(figure.panels[0], "t")
    assert ">VIN</text>" in svg
    assert ">ambient</text>" in svg
    assert ">VIN</text>" not in draw(figure_of(run).panels[0], "t")
