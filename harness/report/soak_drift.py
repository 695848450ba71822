"""Drift of a soak's channels: the channel thinned, its block medians, the slope with its interval, its limit.

Numbers and words only; the judgement is the stored one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from harness.judging import SEVERITY
from harness.model import Fidelity, Run, Verdict
from harness.report.figure import Cell, Figure, Panel, scale
from harness.report.soak import Drift, Floats, Soak, channel_points
from harness.report.soak_axis import Envelope, TimeAxis, envelope, judged_events, time_axis
from harness.units import counted, format_apart, format_duration, format_quantity

KIND = "soak-drift"
COLUMNS = 180  # of a small panel: two points of its width each
_MAX_PANELS = 24
_APART = 4.0  # windows or columns without a reading: one that is missing isn't worth a break
# kinds that are times of the device's clock, or counted by it
_TIMED = ("latency", "throughput", "busy")
_TITLES = {
    "rss_bytes": "RSS",
    "pss_bytes": "PSS",
    "private_dirty_bytes": "Private dirty memory",
    "fds": "Open files",
    "threads": "Threads",
    "latency_p50_ns": "p50 latency",
    "latency_p99_ns": "p99 latency",
    "throughput_per_s": "Throughput",
}


@dataclass(frozen=True, kw_only=True)
class DriftPanel(Panel):
    """A channel over soak time, in the units shown. `fit` and `wedge` are (t, value) of both ends.

    `band` holds (t, low, high) where the interval of the slope is drawn, about the middle of what was kept.
    """

    axis: TimeAxis
    style: int = 0
    line: Envelope | None = None
    apart: float = 0.0  # neighbours of the line that are further from each other have nothing between
    block_t: Floats | None = None
    block_y: Floats | None = None
    kept: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
    fit: tuple[tuple[float, float], ...] = ()
    band: tuple[tuple[float, float, float], ...] = ()
    wedge: tuple[tuple[float, float], ...] = ()
    warmup: float = 0.0
    gaps: tuple[tuple[float, float], ...] = ()
    events: tuple[tuple[float, str], ...] = ()  # (t, tone)


def drift_figure(run: Run, soak: Soak, id_: str) -> Figure | None:
    """Return the figure `id_` with a panel for each drift row, the worst verdict first; None without rows."""
    if not soak.drift:
        return None
    axis = time_axis(soak.span_s)
    panels, rows = [], []
    for row in sorted(soak.drift, key=lambda row: SEVERITY.index(row.verdict)):
        line = _line(run, soak, row)
        panels.append(_panel(run, soak, row, line, axis))
        rows += _rows(row, line)
    shown = panels[:_MAX_PANELS]
    return Figure(
        id_,
        "Drift",
        "Each channel with its lowest and highest of every stretch (shaded), the medians of blocks of "
        f"{format_duration(soak.block_s)} (dots; hollow: not used) and the slope through them with its "
        "interval. Dashed: the limit, from the level after warm-up. Grey at the left: warm-up. Dotted, "
        "upright: judged events.",
        tuple(dict.fromkeys(_fidelity(run, row) for row in soak.drift)),
        tuple(shown),
        ("stream", "channel", "unit", "what", "t_s", "value", "low", "high"),
        tuple(rows),
        left_out=len(panels) - len(shown),
    )


def _fidelity(run: Run, row: Drift) -> Fidelity:
    """Return a row's fidelity: its measurement's, else of an emulated device virtual for times."""
    said = next((m.fidelity for m in run.measurements if m.metric == row.metric), None)
    if said is not None:
        return said
    emulated = run.device.kind == "qemu"
    return Fidelity.VIRTUAL if emulated and row.kind.startswith(_TIMED) else Fidelity.MEASURED


def title_of(soak: Soak, row: Drift) -> str:
    """Return a row's name: of the channel it is about, and of its stream where there are several."""
    known = next((c.title for c in soak.channels if c.series == row.series and c.title), "")
    name = known or _TITLES.get(row.kind, row.kind.replace("_", " "))
    several = len(soak.streams) > 1 and row.stream and row.stream not in name
    return f"{name} of {row.stream}" if several else name


def _line(run: Run, soak: Soak, row: Drift) -> Envelope | None:
    points = channel_points(run, soak, row.series)
    return None if points is None else envelope(*points, soak.span_s, COLUMNS)


def _panel(run: Run, soak: Soak, row: Drift, line: Envelope | None, axis: TimeAxis) -> DriftPanel:
    blocks = np.array([math.nan if v is None else v for v in row.block_value], dtype=np.float64)
    at, kept = np.asarray(row.block_s, dtype=np.float64), np.asarray(row.kept, dtype=bool)
    every = np.abs(np.concatenate([blocks, line.high if line is not None else []]))
    largest = float(np.nanmax(every)) if np.isfinite(every).any() else 1.0
    factor, unit = scale(row.unit, largest)
    used = kept & np.isfinite(blocks)
    fit, band, wedge = _slopes(row, at[used], blocks[used], soak.span_s)
    slope = slope_said(row)
    names = ["", *(stream.name for stream in soak.streams)]
    if line is not None:
        shown = {name: getattr(line, name) / factor for name in ("low", "mean", "high")}
        line = replace(line, t=line.t / axis.factor, **shown)
    title = title_of(soak, row)
    return DriftPanel(
        KIND,
        title,
        _words(row, blocks[used], slope, soak),
        f"soak time, {axis.unit}",
        f"{unit or _bare(row)} ({_fidelity(run, row)})",
        (),
        verdict=row.verdict,
        note=slope,
        axis=axis,
        style=names.index(row.stream) if row.stream in names else 0,
        line=line,
        apart=_APART * max(soak.window_s, soak.span_s / COLUMNS) / axis.factor,
        block_t=at / axis.factor,
        block_y=blocks / factor,
        kept=kept,
        fit=tuple((t / axis.factor, y / factor) for t, y in fit),
        band=tuple((t / axis.factor, low / factor, high / factor) for t, low, high in band),
        wedge=tuple((t / axis.factor, y / factor) for t, y in wedge),
        warmup=soak.warmup_s / axis.factor,
        gaps=axis.spans(soak.gaps),
        events=judged_events(soak, row.stream, axis),
    )


def _bare(row: Drift) -> str:
    return {"1/s": "per second", "1": "count"}.get(row.unit, row.unit)


_Line = tuple[tuple[float, float], ...]
_Band = tuple[tuple[float, float, float], ...]


def _slopes(row: Drift, at_s: Floats, y: Floats, span_s: float) -> tuple[_Line, _Band, _Line]:
    """Return the fitted line, its band and the limit's line, in seconds and the stored unit; () for none.

    The line leaves as many blocks above as below it (Sen 1968); the band is the lines of the interval's ends
    through its middle.
    """
    if row.slope_per_h is None or at_s.size < 2:
        return (), (), ()
    middle, level = float(np.median(at_s)), float(np.median(y - row.slope_per_h * at_s / 3600))
    first, last = float(at_s[0]), float(max(at_s[-1], at_s[0]))
    slope = row.slope_per_h / 3600
    fit = tuple((t, level + slope * t) for t in (first, last))
    centre = level + slope * middle
    band: _Band = ()
    if row.low_per_h is not None and row.high_per_h is not None:
        ends = (row.low_per_h / 3600, row.high_per_h / 3600)
        band = tuple(
            (t, min(v), max(v))
            for t in (first, middle, last)
            for v in [[centre + end * (t - middle) for end in ends]]
        )
    wedge: _Line = ()
    if row.limit_per_h is not None:
        wedge = ((first, fit[0][1]), (span_s, fit[0][1] + _signed_limit(row) / 3600 * (span_s - first)))
    return fit, band, wedge


def _signed_limit(row: Drift) -> float:
    """Return the limit in the direction that is worse: of what should be high, a fall."""
    limit = row.limit_per_h or 0.0
    return -abs(limit) if row.direction == "higher" else limit


def slope_said(row: Drift) -> str:
    """Return a row's slope with its interval and limit in words, or what a row without one needs."""
    if row.slope_per_h is None:
        return row.why_limit.removeprefix("not judged: ") or "there are too few blocks"
    said = per_hour(row.slope_per_h, row.unit) + _interval(row.low_per_h, row.high_per_h, row.unit)
    if row.limit_per_h is None:
        said += f"; {row.why_limit or 'no limit'}"
    else:
        why = f": {row.why_limit}" if row.why_limit else ""
        said += f"; limit {per_hour(_signed_limit(row), row.unit)}{why}"
    if row.baseline is not None:
        beyond = row.baseline
        said += (
            f"; beyond the known good soak {per_hour(beyond.slope_per_h, row.unit)}"
            f"{_interval(beyond.low_per_h, beyond.high_per_h, row.unit)}: {beyond.verdict.value}"
        )
    return said


def _interval(low: float | None, high: float | None, unit: str) -> str:
    if low is None or high is None:
        return ""
    if low == high:
        return ", no spread"
    first, second = format_apart(low, high, unit)
    return f" (90%: {_signed(first, low)} to {_signed(second, high)})"


def per_hour(value: float, unit: str) -> str:
    return f"{_signed(format_quantity(value, unit), value)} per h"


def _signed(text: str, value: float) -> str:
    """Return a formatted number with its sign, a minus as long as a plus."""
    return f"+{text}" if value > 0 else text.replace("-", "−", 1)


def _words(row: Drift, used: Floats, slope: str, soak: Soak) -> str:
    verdict = "not judged" if row.verdict is Verdict.NOT_JUDGED else row.verdict.value
    if not used.size:
        return f"{verdict}: {slope}. No block has a value."
    low, high = (format_quantity(float(v), row.unit, 4) for v in (used.min(), used.max()))
    return (
        f"{verdict}: {slope}. {counted(used.size, 'block median')} from {low} to {high} over "
        f"{format_duration(soak.observed_s)} observed. {row.method}."
    )


def _rows(row: Drift, line: Envelope | None) -> list[tuple[Cell, ...]]:
    head = (row.stream, row.series, row.unit)
    rows: list[tuple[Cell, ...]] = []
    if line is not None:
        stretches = zip(line.t, line.mean, line.low, line.high, strict=True)
        rows += [(*head, "stretch", *(float(f"{v:.7g}") for v in each)) for each in stretches]
    rows += [
        (*head, "block" if kept else "block, not used", t, v, None, None)
        for t, v, kept in zip(row.block_s, row.block_value, row.kept, strict=True)
    ]
    rows.append((*head, "slope per h", None, row.slope_per_h, row.low_per_h, row.high_per_h))
    rows.append((*head, "limit per h", None, row.limit_per_h, None, None))
    return rows
