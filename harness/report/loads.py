"""Figures of the scenarios with a schedule: server (p99 against the rate) and periodic (frames, jitter).

Numbers only: plots.py draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.metrics import METRICS
from harness.model import Fidelity, Run, Series
from harness.report.data import ReportData
from harness.report.figure import (
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
from harness.units import counted, format_quantity

_MAX_FRAMES = 300  # of a panel; late ones are kept first
_MAX_LATE = 150


def load_figures(data: ReportData) -> tuple[Figure | None, ...]:
    """Return what server and periodic runs show; None for a figure without numbers."""
    return (_server(data), _periodic(data))


def _runs_of(data: ReportData, scenario: str) -> list[tuple[Run, str, int, Fidelity]]:
    """Return the runs of a scenario that brought numbers, each with its label, style and fidelity."""
    labels, style_of = subjects(data), styles(data)
    found = []
    for run in data.runs:
        timed = (m for m in run.measurements if m.metric in METRICS and METRICS[m.metric].kind == "time")
        fidelity = next((m.fidelity for m in timed), None)
        if run.scenario == scenario and fidelity is not None:
            pair = (run.model, run.device.name)
            found.append((run, labels.get(pair, run.model), style_of.get(pair, 0), fidelity))
    return found


def _number(value: Any) -> float | None:
    """Return a setting as a number; None where it is none: settings are free-form."""
    if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return None


# --- server ---------------------------------------------------------------------------------------


def _server(data: ReportData) -> Figure | None:
    panels, rows, seen = [], [], []
    for run, label, style, fidelity in _runs_of(data, "server"):
        rates = _rates(run.settings)
        if not rates:
            continue
        budget_ns = _number(run.settings.get("p99_budget_ns"))
        panels.append(_server_panel(label, style, fidelity, rates, budget_ns))
        rows += [
            (run.model, run.device.name, run.run_id, fidelity.value, rate, p99, high, budget_ns, int(met))
            for rate, p99, high, met in rates
        ]
        seen.append(fidelity)
    return figure(
        "server-rates",
        "Server: p99 against the rate",
        "Each dot is a rate that was played, with its p99 from when queries were due and the upper bound "
        "that has to keep the budget (the dashed line). Filled: kept. Hollow: not kept.",
        seen,
        panels,
        (
            "model",
            "device",
            "run_id",
            "fidelity",
            "rate_per_s",
            "p99_ns",
            "p99_high_ns",
            "p99_budget_ns",
            "met",
        ),
        rows,
    )


_Rate = tuple[float, float, float | None, bool]  # per second, p99 and its upper bound in ns, kept


def _rates(settings: Mapping[str, Any]) -> list[_Rate]:
    """Return the rates that have a p99, ascending."""
    found = []
    for item in settings.get("rates") or ():
        if not isinstance(item, Mapping):
            continue
        rate, p99 = _number(item.get("rate_per_s")), _number(item.get("p99_ns"))
        if rate is not None and p99 is not None:
            found.append((rate, p99, _number(item.get("p99_high_ns")), item.get("met") is True))
    return sorted(found)


def _server_panel(
    label: str, style: int, fidelity: Fidelity, rates: Sequence[_Rate], budget_ns: float | None
) -> Panel:
    largest = budget_ns if budget_ns is not None else max(p99 for _, p99, _, _ in rates)
    factor, unit = scale("ns", largest)
    marks = tuple(
        Mark(
            "kept" if met else "not kept",
            style,
            (rate,),
            (p99 / factor, *(() if high is None else (high / factor,))),
            hollow=not met,
        )
        for rate, p99, high, met in rates
    )
    kept = [rate for rate, _, _, met in rates if met]
    lost = [rate for rate, _, _, met in rates if not met]
    first, last = (format_quantity(rates[n][0], "1/s") for n in (0, -1))
    words = [
        f"{counted(len(rates), 'rate')} from {first} to {last}",
        f"the highest that kept it is {format_quantity(max(kept), '1/s')}" if kept else "none kept it",
        f"the lowest that didn't is {format_quantity(min(lost), '1/s')}" if lost else "none missed it",
    ]
    if budget_ns is not None:
        words.insert(1, f"the budget is {format_quantity(budget_ns, 'ns')}")
    return Panel(
        "rates",
        label,
        "; ".join(words) + ".",
        "queries per second",
        f"p99, {unit} ({fidelity})",
        marks,
        limit=None if budget_ns is None else budget_ns / factor,
    )


# --- periodic -------------------------------------------------------------------------------------


def _periodic(data: ReportData) -> Figure | None:
    panels: list[Panel] = []
    rows: list[tuple[Cell, ...]] = []
    seen = []
    for run, label, style, fidelity in _runs_of(data, "periodic"):
        latency, jitter = (_series(run, name) for name in ("latency_ns", "start_jitter_ns"))
        if latency is None:
            continue
        deadline_ns = _number(run.settings.get("deadline_ns"))
        panels.append(_frames_panel(data, run, label, style, fidelity, latency, deadline_ns))
        kept = _shown_frames(latency.values, deadline_ns)
        lag = jitter.values if jitter is not None and jitter.values.size == latency.values.size else None
        rows += [
            (run.model, run.device.name, run.run_id, fidelity.value, int(n) + 1, float(latency.values[n]),
             None if lag is None else float(lag[n]), deadline_ns)
            for n in kept
        ]  # fmt: skip
        if jitter is not None:
            panels.append(_jitter_panel(label, style, fidelity, jitter))
        seen.append(fidelity)
    return figure(
        "periodic",
        "Periodic: frames against their deadline",
        "The first panel shows how long after it was due each frame ended; red squares are past the dashed "
        "line, the deadline. The second shows how late frames were begun.",
        seen,
        panels,
        ("model", "device", "run_id", "fidelity", "frame", "latency_ns", "start_jitter_ns", "deadline_ns"),
        rows,
    )


def _series(run: Run, name: str) -> Series | None:
    return next((s for s in run.series if s.name == name and not s.arm and s.values.size), None)


def _shown_frames(values: Any, deadline_ns: float | None) -> Any:
    """Return the indices to show: late frames first, then an even choice of the others."""
    late = np.flatnonzero(values > deadline_ns) if deadline_ns is not None else np.array([], dtype=int)
    others = np.setdiff1d(np.arange(values.size), late)
    late = late[thinned(late.size, _MAX_LATE, 1)] if late.size else late
    room = _MAX_FRAMES - late.size
    return np.sort(np.concatenate([late, others[thinned(others.size, room, 1)] if others.size else others]))


def _frames_panel(
    data: ReportData,
    run: Run,
    label: str,
    style: int,
    fidelity: Fidelity,
    latency: Series,
    deadline_ns: float | None,
) -> Panel:
    values = latency.values.astype(np.float64)
    kept = _shown_frames(values, deadline_ns)
    factor, unit = scale("ns", max(float(np.median(values)), deadline_ns or 0.0))
    past = values[kept] > deadline_ns if deadline_ns is not None else np.zeros(kept.size, dtype=bool)
    marks = tuple(
        Mark(name, style, floats(kept[chosen] + 1), floats(values[kept][chosen] / factor), tone=tone)
        for name, chosen, tone in (("in time", ~past, ""), ("late", past, "fail"))
        if chosen.any()
    )
    mine = [r for r in data.absolute if r.run_id == run.run_id and r.value is not None]
    said = [
        f"{METRICS[r.metric].title.lower()}: {format_quantity(r.value, r.unit)}"
        for r in mine
        if r.metric in ("deadline_miss_ratio", "start_jitter_p99_ns")
    ]
    late = int((values > deadline_ns).sum()) if deadline_ns is not None else 0
    words = [f"{counted(values.size, 'frame')}, {late} past the deadline", *said]
    return Panel(
        "frames",
        label,
        "; ".join(words) + ".",
        "frame",
        f"latency, {unit} ({fidelity})",
        marks,
        limit=None if deadline_ns is None else deadline_ns / factor,
    )


def _jitter_panel(label: str, style: int, fidelity: Fidelity, jitter: Series) -> Panel:
    values = np.sort(jitter.values.astype(np.float64))
    keep = curve_points(values.size)
    factor, unit = scale("ns", float(values[-1]))
    p50, p99 = (format_quantity(float(np.percentile(values, q)), "ns") for q in (50, 99))
    return Panel(
        "ecdf",
        f"{label}, start jitter",
        f"Half of the frames were begun within {p50} of when they were due, 99% within {p99}.",
        f"start after due, {unit} ({fidelity})",
        "share of frames",
        (Mark(label, style, floats(values[keep] / factor), floats((keep + 1) / values.size)),),
    )
