"""What each figure shows, as numbers: one source for the drawing, its CSV and its JSON. No drawing here.

Numbers of unlike fidelity never share a panel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harness.metrics import METRICS
from harness.model import Fidelity, Result, Run, Series
from harness.report.against import forest
from harness.report.arms import duet_figures
from harness.report.data import ReportData
from harness.report.estimates import estimates
from harness.report.figure import (
    PLAIN,
    Cell,
    Figure,
    Mark,
    Panel,
    curve_points,
    figure,
    floats,
    scale,
    styles,
    subjects,
    thinned,
)
from harness.report.loads import load_figures
from harness.report.timeline import timeline
from harness.report.tradeoff import trade_off
from harness.units import counted, format_quantity

_MAX_STRIP_POINTS = 60  # per process: what can be told apart
_SCHEDULED = ("server", "periodic")  # their latency is a queue's, not a process's
_MAX_STRIPS_POINTS = 360  # of a panel


def build_figures(data: ReportData) -> tuple[Figure, ...]:
    """Return the figures for which there are numbers."""
    figures = (
        forest(data),
        trade_off(data),
        *duet_figures(data),
        _ecdf(data),
        _processes(data),
        *load_figures(data),
        timeline(data),
        _sweep(data),
        _memory(data),
        estimates(data),
    )
    return tuple(figure for figure in figures if figure is not None)


def _latency_runs(data: ReportData) -> list[tuple[Run, Series, Fidelity, str]]:
    """Return runs of one query after another, or on a schedule: run, latencies, their fidelity, a label.

    A run that compares is left out: its arms are in figures of their own.
    """
    found = []
    for run in data.runs:
        timed = (m for m in run.measurements if m.metric in METRICS and METRICS[m.metric].kind == "time")
        fidelity = next((m.fidelity for m in timed), None)
        series = next((s for s in run.series if s.name == "latency_ns" and s.values.size and not s.arm), None)
        if series is None or fidelity is None or run.scenario in ("offline", "energy"):
            continue
        found.append((run, series, fidelity))
    labels = subjects(data)
    twice = [(run.model, run.device.name, run.scenario) for run, _, _ in found]
    named = []
    for run, series, fidelity in found:
        label = labels.get((run.model, run.device.name), run.model)
        if run.scenario not in PLAIN:
            label = f"{label}, {(run.scenario or '').replace('_', ' ')}"
        if twice.count((run.model, run.device.name, run.scenario)) > 1:
            label = f"{label}, run {run.run_id.partition('-')[0]}"
        named.append((run, series, fidelity, label))
    return named


# --- latency --------------------------------------------------------------------------------------


def _ecdf(data: ReportData) -> Figure | None:
    panels, rows, seen = [], [], []
    style_of = styles(data)
    for run, series, fidelity, label in _latency_runs(data):
        values = np.sort(series.values.astype(np.float64))
        keep = curve_points(values.size)
        share = (keep + 1) / values.size
        kept = values[keep]
        rows += [
            (run.model, run.device.name, run.run_id, fidelity.value, float(v), float(s))
            for v, s in zip(kept, share, strict=True)
        ]
        p50, p99 = (float(np.percentile(values, q)) for q in (50, 99))
        factor, unit = scale("ns", p50)
        panels.append(
            Panel(
                "ecdf",
                label,
                f"{counted(values.size, 'sample')}: half are at or under {format_quantity(p50, 'ns', 4)}, "
                f"99% at or under {format_quantity(p99, 'ns', 4)}, the slowest is "
                f"{format_quantity(float(values[-1]), 'ns', 4)}.",
                f"latency, {unit} ({fidelity})",
                "share of samples",
                (
                    Mark(
                        label,
                        style_of[run.model, run.device.name],
                        floats(kept / factor),
                        floats(share),
                        note=f"slowest: {format_quantity(float(values[-1]), 'ns')}",
                    ),
                ),
            )
        )
        seen.append(fidelity)
    return figure(
        "latency-ecdf",
        "Latency distribution",
        "Share of queries at or under each latency; the lines mark p50, p90 and p99. "
        "Each panel has its own scale, which a long tail leaves.",
        seen,
        panels,
        ("model", "device", "run_id", "fidelity", "latency_ns", "share"),
        rows,
    )


def _processes(data: ReportData) -> Figure | None:
    panels, rows, seen = [], [], []
    style_of = styles(data)
    for run, series, fidelity, label in _latency_runs(data):
        processes = [int(p) for p in np.unique(series.process)]
        if len(processes) < 2 or run.scenario in _SCHEDULED:
            continue
        factor, unit = scale("ns", float(np.median(series.values)))
        most = max(12, min(_MAX_STRIP_POINTS, _MAX_STRIPS_POINTS // len(processes)))
        style = style_of[run.model, run.device.name]
        marks, medians = [], []
        for process in processes:
            values = np.sort(series.values[series.process == process].astype(np.float64))
            medians.append(float(np.median(values)))
            kept = values[thinned(values.size, most, 4)]
            rows += [
                (run.model, run.device.name, run.run_id, fidelity.value, process, float(v)) for v in kept
            ]
            place = (float(process + 1),) * kept.size
            marks.append(
                Mark(str(process + 1), style, floats(kept / factor), place, limit=medians[-1] / factor)
            )
        spread = (max(medians) - min(medians)) / min(medians) if min(medians) > 0 else 0.0
        panels.append(
            Panel(
                "strip",
                label,
                f"{len(processes)} fresh processes; their medians differ by {spread * 100:.2g}% at most, "
                f"from {format_quantity(min(medians), 'ns', 4)} to {format_quantity(max(medians), 'ns', 4)}.",
                "process",
                f"latency, {unit} ({fidelity})",
                tuple(marks),
            )
        )
        seen.append(fidelity)
    return figure(
        "latency-processes",
        "Latency by process",
        "Each dot is one inference, each bar the median of one fresh process. "
        "Bars at unlike heights mean that the variance is between processes, not within them. Triangles at "
        "the edge stand for what is slower still.",
        seen,
        panels,
        ("model", "device", "run_id", "fidelity", "process", "latency_ns"),
        rows,
    )


def _sweep(data: ReportData) -> Figure | None:
    offline = [r for r in data.absolute if r.scenario == "offline" and r.value is not None and r.fidelity]
    metrics = [name for name in ("throughput_per_s", "latency_p50_ns") if _batches(offline, name) > 1]
    panels: list[Panel] = []
    for fidelity in Fidelity:
        for name in metrics:
            mine = [r for r in offline if r.metric == name and r.fidelity is fidelity]
            if mine:
                panels.append(_sweep_panel(data, name, mine))
    rows: list[tuple[Cell, ...]] = [
        (r.model, r.device_name, r.run_id, r.fidelity.value, r.metric, r.batch_size, r.value, r.low, r.high)
        for r in offline
        if r.metric in metrics and r.fidelity
    ]
    swept = _memory_by_batch(data)
    if swept:
        panels.append(_memory_sweep_panel(data, swept))
    rows += [
        (
            run.model,
            run.device.name,
            run.run_id,
            Fidelity.MEASURED.value,
            "peak_rss_bytes",
            size,
            rss,
            None,
            None,
        )
        for run, by_size in swept
        for size, rss in by_size.items()
    ]
    return figure(
        "batch-sweep",
        "Batch sweep",
        "Against the batch size: inferences per second and the time for one whole batch of the offline "
        "scenario; where memory was swept too, the peak RSS of a fresh process.",
        [
            *(r.fidelity for r in offline if r.fidelity and r.metric in metrics),
            *(Fidelity.MEASURED for _ in swept),
        ],
        panels,
        ("model", "device", "run_id", "fidelity", "metric", "batch_size", "value", "low", "high"),
        rows,
        keyed=True,
    )


def _batches(results: Iterable[Result], metric: str) -> int:
    return len({r.batch_size for r in results if r.metric == metric})


def _sweep_panel(data: ReportData, name: str, results: Sequence[Result]) -> Panel:
    labels, style_of = subjects(data), styles(data)
    unit = METRICS[name].unit
    factor, shown = scale(unit, max(r.value or 0.0 for r in results))
    marks, words = [], []
    for pair in dict.fromkeys((r.model, r.device_name) for r in results):
        mine = {r.batch_size: r.value or 0.0 for r in results if (r.model, r.device_name) == pair}
        sizes = sorted(mine)
        x, y = tuple(float(size) for size in sizes), tuple(mine[size] / factor for size in sizes)
        marks.append(Mark(labels[pair], style_of[pair], x, y))
        first, last = (format_quantity(mine[size], unit) for size in (sizes[0], sizes[-1]))
        words.append(f"{labels[pair]}: {first} at batch {sizes[0]}, {last} at batch {sizes[-1]}")
    title = "Throughput" if name == "throughput_per_s" else "Time per batch (p50)"
    axis = f"time, {shown}" if unit == "ns" else f"inferences/s{', ' + shown if shown else ''}"
    axis += f" ({results[0].fidelity})"
    return Panel("sweep", title, "; ".join(words) + ".", "batch size", axis, tuple(marks))


def _memory_by_batch(data: ReportData) -> list[tuple[Run, dict[int, float]]]:
    """Return the memory runs that swept the batch size, each with peak RSS in bytes by size, ascending."""
    found = []
    for run in data.runs:
        swept = run.settings.get("peak_rss_bytes_by_batch")
        if not isinstance(swept, Mapping):
            continue
        # JSON has no whole numbers for keys
        sizes = {
            int(n): float(b) for n, b in swept.items() if str(n).isdecimal() and isinstance(b, int | float)
        }
        if len(sizes) > 1:
            found.append((run, dict(sorted(sizes.items()))))
    return found


def _memory_sweep_panel(data: ReportData, swept: Sequence[tuple[Run, dict[int, float]]]) -> Panel:
    labels, style_of = subjects(data), styles(data)
    factor, unit = scale("bytes", max(max(by_size.values()) for _, by_size in swept))
    marks, words = [], []
    for run, by_size in swept:
        pair = (run.model, run.device.name)
        heights = tuple(rss / factor for rss in by_size.values())
        marks.append(Mark(labels[pair], style_of[pair], floats(by_size), heights))
        ends = [f"{format_quantity(by_size[n], 'bytes')} at batch {n}" for n in (min(by_size), max(by_size))]
        words.append(f"{labels[pair]}: {', '.join(ends)}")
    axis = f"peak RSS, {unit} ({Fidelity.MEASURED})"
    return Panel("sweep", "Peak RSS", "; ".join(words) + ".", "batch size", axis, tuple(marks))


# --- memory and trade-off -------------------------------------------------------------------------


def _memory(data: ReportData) -> Figure | None:
    wanted = ("peak_rss_bytes", "peak_pss_bytes")
    results = [r for r in data.absolute if r.metric in wanted and r.value is not None and r.batch_size == 1]
    labels, style_of = subjects(data), styles(data)
    panels = []
    for name in wanted:
        mine = [r for r in results if r.metric == name]
        if not mine:
            continue
        factor, unit = scale("bytes", max(r.value or 0.0 for r in mine))
        marks = tuple(
            Mark(
                labels[r.model, r.device_name],
                style_of[r.model, r.device_name],
                ((r.value or 0.0) / factor,),
                (float(row),),
                limit=r.budget / factor if r.budget is not None else None,
            )
            for row, r in enumerate(mine)
        )
        words = [
            f"{labels[r.model, r.device_name]}: {format_quantity(r.value, 'bytes')}"
            + (f" of {format_quantity(r.budget, 'bytes')}" if r.budget is not None else "")
            for r in mine
        ]
        panels.append(Panel("bars", METRICS[name].title, "; ".join(words) + ".", unit, "", marks))
    return figure(
        "memory",
        "Peak memory",
        "The largest of several fresh processes, with the runtime and its libraries; the mark is the budget.",
        [r.fidelity for r in results if r.fidelity],
        panels,
        ("model", "device", "run_id", "metric", "value_bytes", "low_bytes", "high_bytes", "budget_bytes"),
        [(r.model, r.device_name, r.run_id, r.metric, r.value, r.low, r.high, r.budget) for r in results],
        keyed=True,
    )
