"""Power, temperature, frequency and latency of a run on one time axis: the device's clock. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.model import Fidelity, Run
from harness.report.data import ReportData
from harness.report.figure import Cell, Figure, Mark, Panel, figure, floats, scale, styles, subjects
from harness.units import how_often

TIMELINE = "timeline"
WINDOW, THROTTLED = "window", "throttled"  # what marks without a row of their own are
_MAX_POINTS = 400  # of one trace: two a pixel column
_HOLE_STEPS = (
    10  # between readings, without one: a line breaks there (as an integral does: measure/joules.py)
)
_MAX_LINES = 6  # of one row; the table has them all
# kind of channel → row, and what a stored unit is divided by there
_ROWS: Mapping[str, tuple[str, float]] = {
    "power_w": ("power, W", 1.0),
    "energy_j": ("energy, J", 1.0),
    "temp_c": ("temp., °C", 1.0),
    "freq_hz": ("freq., GHz", 1e9),
}
_HEAT_BITS = 0b1110  # of throttle bits, now (harness/measure/sampling.py)

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def timeline(data: ReportData) -> Figure | None:
    """Return a panel for each run that has traces; None where none has."""
    panels: list[Panel] = []
    rows: list[tuple[Cell, ...]] = []
    seen: list[Fidelity] = []
    style_of, labels = styles(data), subjects(data)
    for run in data.runs:
        traces = [t for t in run.settings.get("traces") or () if isinstance(t, Mapping)]
        found = _lines(run, traces)
        if not found:
            continue
        pair = (run.model, run.device.name)
        beside = " against the baseline" if run.comparisons else ""
        label = f"{labels.get(pair, run.model)}, {run.scenario or run.suite}{beside}"
        fidelity = _fidelity(run, traces)
        panels.append(_panel(run, label, style_of.get(pair, 0), fidelity, found, traces))
        rows += [
            (run.model, run.device.name, run.run_id, fidelity.value, name, unit, float(x), float(y))
            for name, unit, _, (xs, ys) in found
            for x, y in zip(xs, ys, strict=True)
            if math.isfinite(y)
        ]
        seen.append(fidelity)
    return figure(
        TIMELINE,
        "Power, temperature and speed over time",
        "All on the device's clock, from the first sample on. Shaded: windows under load. Red: throttled. "
        "A line breaks where readings are missing. Latencies are those of the smallest batch.",
        seen,
        panels,
        ("model", "device", "run_id", "fidelity", "channel", "unit", "t_s", "value"),
        rows,
    )


def _fidelity(run: Run, traces: Sequence[Mapping[str, Any]]) -> Fidelity:
    """Return the least of the traces' and the run's numbers' fidelities."""
    found = [Fidelity(str(t["fidelity"])) for t in traces if t.get("fidelity") in list(Fidelity)]
    every = [*found, *(m.fidelity for m in run.measurements)]
    return max(every, key=list(Fidelity).index, default=Fidelity.MEASURED)


def _stretch(run: Run) -> tuple[float, str]:
    """Return how many seconds are told for one of the device's clock, and whose they are.

    Heat on an emulated board moves faster by a stated factor; a thermal run's numbers are the board's times.
    """
    scaled = run.settings.get("scaled")
    if run.scenario != "thermal" or not isinstance(scaled, float) or not 0 < scaled < 1:
        return 1.0, ""
    return 1 / scaled, " of the board"


_Line = tuple[str, str, str, Points]  # channel, unit, row, seconds and values as they are stored


def _lines(run: Run, traces: Sequence[Mapping[str, Any]]) -> list[_Line]:
    """Return the run's traces, then its latency or throughput, in seconds since the first sample.

    () where no channel of a row has a reading: a run whose meter was dead has nothing to draw.
    """
    series = {s.name: s for s in run.series if not s.name.startswith("latency_")}
    raw: list[tuple[str, str, str, npt.NDArray[Any], npt.NDArray[Any]]] = []
    for trace in traces:
        name, kind = str(trace.get("series")), str(trace.get("kind"))
        held, at = series.get(name), series.get(f"{name}.t_ns")
        if held is None or at is None or held.values.size != at.values.size or not at.values.size:
            continue
        row = _ROWS[kind][0] if kind in _ROWS else (THROTTLED if kind == "throttle_bits" else "")
        if row and np.isfinite(held.values).any():
            title = f"{trace.get('site')} ({trace.get('channel')})"
            raw.append((title, str(trace.get("unit")), row, at.values, held.values))
    if all(row == THROTTLED for _, _, row, _, _ in raw):
        return []
    order = [row for row, _ in _ROWS.values()]
    raw.sort(key=lambda line: order.index(line[2]) if line[2] in order else len(order))
    raw += _speed(run)
    start = min(int(t.min()) for *_, t, _ in raw)
    stretch, _ = _stretch(run)
    found = []
    for title, unit, row, times, values in raw:
        seconds = (times - start).astype(np.float64) / 1e9 * stretch
        points = _thin(seconds, values.astype(np.float64))
        found.append((title, unit, row, points if row == "latency" else _broken(points, seconds, values)))
    return found


def _broken(points: Points, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Points:
    """Return the points with a NaN in each hole, longer than ten steps, so that no line bridges it."""
    seconds = np.sort(x)
    good = np.sort(x[np.isfinite(y)])
    if good.size < 2:
        return points
    steps = np.diff(good)
    holes = np.flatnonzero(steps > _HOLE_STEPS * float(np.median(np.diff(seconds))))
    middles = (good[holes] + good[holes + 1]) / 2
    every_x = np.concatenate((points[0], middles))
    every_y = np.concatenate((points[1], np.full(middles.size, np.nan)))
    order = np.argsort(every_x, kind="stable")
    return every_x[order], every_y[order]


def _speed(run: Run) -> list[tuple[str, str, str, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Return latencies with their times (of the smallest batch), or the throughput of blocks."""
    batches = sorted({s.batch_size for s in run.series if s.name == "latency_start_ns"})
    for batch in batches[:1]:
        mine = {s.name: s.values for s in run.series if s.batch_size == batch}
        values, times = mine.get("latency_ns"), mine.get("latency_start_ns")
        if values is not None and times is not None and values.size == times.size and values.size:
            return [("latency", "ns", "latency", times, values)]
    named = {s.name: s.values for s in run.series}
    values, times = named.get("throughput_per_s"), named.get("throughput_per_s.t_ns")
    if values is not None and times is not None and values.size == times.size and values.size:
        return [("throughput", "1/s", "throughput, /s", times, values)]
    return []


def _thin(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Points:
    """Return at most _MAX_POINTS of the points in their order: of each stretch the lowest and the highest."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    good = np.isfinite(y)
    x, y = x[good], y[good]
    if x.size <= _MAX_POINTS:
        return x, y
    keep: set[int] = {0, x.size - 1}
    for part in np.array_split(np.arange(x.size), _MAX_POINTS // 2):
        keep |= {int(part[np.argmin(y[part])]), int(part[np.argmax(y[part])])}
    kept = np.array(sorted(keep))
    return x[kept], y[kept]


def _panel(
    run: Run,
    label: str,
    style: int,
    fidelity: Fidelity,
    lines: Sequence[_Line],
    traces: Sequence[Mapping[str, Any]],
) -> Panel:
    marks: list[Mark] = []
    counts: dict[str, int] = {}
    words = []
    for title, _, row, (x, y) in lines:
        if row == THROTTLED:
            spans = _spans(x, (np.nan_to_num(y).astype(np.int64) & _HEAT_BITS) != 0)
            marks += [Mark(title, style, span, (), note=THROTTLED) for span in spans]
            words.append(f"throttled {how_often(len(spans))}" if spans else "never throttled")
            continue
        if not y.size or counts.get(row, 0) >= _MAX_LINES:
            continue
        shown, factor = row, next((f for r, f in _ROWS.values() if r == row), 1.0)
        if row == "latency":
            factor, unit = scale("ns", float(np.nanmedian(y)))
            shown = f"latency, {unit}"
        marks.append(Mark(title, style + counts.get(row, 0), floats(x), floats(y / factor), note=shown))
        counts[row] = counts.get(row, 0) + 1
        words.append(
            f"{title}: {np.nanmin(y) / factor:.4g} to {np.nanmax(y) / factor:.4g} "
            f"({shown.partition(', ')[2]})"
        )
    marks += [Mark("window", style, span, (), note=WINDOW) for span in _windows(run, traces)]
    ends = [m.x[-1] for m in marks if m.note not in (WINDOW, THROTTLED) and m.x]
    return Panel(
        TIMELINE,
        label,
        f"Over {max(ends, default=0.0):.4g} s. {'; '.join(words)}.",
        f"time, s{_stretch(run)[1]} ({fidelity})",
        "",
        tuple(marks),
    )


def _spans(x: npt.NDArray[np.float64], on: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return (begin, end) of each stretch in which `on` holds, to the first reading in which it doesn't."""
    spans: list[tuple[float, float]] = []
    begin = math.nan
    for at, held in zip(x, on, strict=True):
        if held and math.isnan(begin):
            begin = float(at)
        elif not held and not math.isnan(begin):
            spans.append((begin, float(at)))
            begin = math.nan
    if not math.isnan(begin):
        spans.append((begin, float(x[-1])))
    return spans


def _windows(run: Run, traces: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Return the windows under load in seconds since the first sample of any trace."""
    first = [
        int(s.values.min())
        for t in traces
        for s in run.series
        if s.name == f"{t.get('series')}.t_ns" and s.values.size
    ]
    spans = []
    for window in run.settings.get("windows") or ():
        if isinstance(window, Mapping) and window.get("calls") and first:
            begin, end = (
                (int(window[key]) - min(first)) / 1e9 * _stretch(run)[0] for key in ("begin_ns", "end_ns")
            )
            spans.append((begin, end))
    return spans
