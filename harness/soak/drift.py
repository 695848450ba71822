"""Does a soak's memory, latency, temperature … drift? Slopes with intervals, and limits to hold them to.

Pure. The statistics are `harness/stats/drift.py`, the verdict is `harness/judging.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.judging import judge
from harness.metrics import HIGHER, METRICS
from harness.model import Fidelity, Measurement, SoakSettings, SoakTable
from harness.soak.blocks import (
    FINE,
    Blocks,
    Floats,
    Ints,
    Levels,
    gather,
    levels_of,
    median_of,
    p99_of,
    rate_of,
    steady_windows,
)
from harness.soak.limits import KINDS, MEMORY, TIMED, DriftKind, DriftLimit, limit_of
from harness.stats.differences import mover_difference_interval
from harness.stats.drift import MIN_POINTS, DriftSlope, drift_slope, implied_lag1
from harness.stats.sawtooth import MIN_TROUGHS, find_drops, find_troughs
from harness.units import counted, format_duration, format_quantity

Flags = npt.NDArray[np.bool_]

SCENARIO = "soak"  # of a soak's run, and so of what has none of its own
_HOUR_S = 3600.0
_CALLS_FOR_P99 = 100  # fewer in a block, and its p99 is its largest
# chosen: of the headroom that wears out over the service life, what a release may add to a known good one
SHARE_OVER_BASELINE = 0.1


@dataclass(frozen=True)
class Drift:
    """One row: what `run.settings["soak"]["drift"]` holds of it, and its measurements."""

    measurements: tuple[Measurement, ...]
    row: Mapping[str, Any]


@dataclass(frozen=True)
class _Subject:
    """What is judged: a kind of a stream or of a sensor ("" and its site)."""

    kind: DriftKind
    stream: str
    site: str
    series: str
    scenario: str | None
    fidelity: Fidelity


def judge_drift(
    table: SoakTable,
    settings: SoakSettings,
    *,
    ram_bytes: float | None,
    fidelity: Fidelity,
    baseline: Sequence[Measurement] = (),
) -> list[Drift]:
    """Return a row for each stream and sensor and each kind that was read of it, streams first.

    `fidelity` is that of the device's clock. `baseline` are the measurements of a soak that is known to be
    good: slopes are then also held against its.
    """
    known = {(m.metric, m.scenario or SCENARIO): m for m in baseline}
    total = _total_memory(table, settings)
    rows = []
    for subject in _subjects(table, fidelity):
        blocks, note = _blocks_of(subject, table, settings)
        judged = _judge(subject, blocks, settings, ram_bytes, total, note)
        rows.append(_against(judged, known.get((subject.kind.metric, subject.scenario or SCENARIO))))
    return rows


def _subjects(table: SoakTable, fidelity: Fidelity) -> Iterator[_Subject]:
    """Yield what is there to judge. The first stream needs no name of its own: the run is its model's."""
    streams = list(table.latency)
    for number, stream in enumerate(streams):
        scenario = f"soak: {stream}" if number else None
        for kind in KINDS.values():
            series = f"{stream}/{kind.kind}"
            if kind.kind in TIMED:
                if f"{stream}/calls" in table.channels:
                    yield _Subject(kind, stream, "", series, scenario, fidelity)
            elif _read(table, series):
                yield _Subject(kind, stream, "", series, scenario, Fidelity.MEASURED)
    sensors = [name for name in table.channels if name.startswith("device/temp_c.") and _read(table, name)]
    for name in sensors:
        site = name.partition(".")[2]
        scenario = f"soak: {site}" if len(sensors) > 1 else None
        # an emulated board's heat is a model's
        found = Fidelity.ESTIMATED if fidelity is Fidelity.VIRTUAL else fidelity
        yield _Subject(KINDS["temp_c"], "", site, name, scenario, found)


def _read(table: SoakTable, name: str) -> bool:
    values = table.channels.get(name)
    return values is not None and bool(np.isfinite(values).any())


def _total_memory(table: SoakTable, settings: SoakSettings) -> Mapping[tuple[str, str], float]:
    """Return the typical memory of each stream by (kind, stream), for the headroom that they share."""
    found = {}
    for kind in MEMORY:
        for stream in table.latency:
            values = table.channels.get(f"{stream}/{kind}")
            if values is not None and np.isfinite(values).any():
                found[kind, stream] = float(np.nanmedian(values))
    return found


# --- values by block ------------------------------------------------------------------------------


def _blocks_of(subject: _Subject, table: SoakTable, settings: SoakSettings) -> tuple[Blocks, str]:
    """Return a subject's blocks and what is to be said of how they came about."""
    levels = levels_of(table, subject.stream)
    use, variant = steady_windows(table, subject.stream)
    note = f"windows of `{variant}` alone" if variant else ""
    if subject.kind.kind == "latency_p99_ns":
        return _latency_blocks(subject.stream, table, settings, levels, use, note)
    if subject.kind.kind == "throughput_per_s":
        calls = table.channels[f"{subject.stream}/calls"]
        reduce = rate_of(calls, table.end_s - table.start_s)
        return gather(table, settings, levels, use & np.isfinite(calls), reduce), note
    values = table.channels[subject.series]
    return gather(table, settings, levels, use & np.isfinite(values), median_of(values)), note


def _latency_blocks(
    stream: str, table: SoakTable, settings: SoakSettings, levels: Levels, use: Flags, note: str
) -> tuple[Blocks, str]:
    per_block = settings.block_s * _per_s(table, table.channels[f"{stream}/calls"], use)
    if per_block < _CALLS_FOR_P99:
        said = f"of some {per_block:.0f} calls a block: their largest"
        note = f"{note}; {said}" if note else said
    reduce = p99_of(table, stream)
    resolutions: list[Floats] = []

    def values(at: Ints, group: Ints) -> Floats:
        found, fine = reduce(at, group)
        resolutions.append(fine)
        return found

    # a part of a block needs calls enough for a p99 of its own
    blocks = gather(table, settings, levels, use, values, fine=per_block >= FINE * _CALLS_FOR_P99)
    seen = resolutions[0][blocks.kept]
    return replace(blocks, resolution=float(np.median(seen)) if seen.size else 0.0), note


def _per_s(table: SoakTable, calls: Floats, use: Flags) -> float:
    seconds = float((table.end_s - table.start_s)[use].sum())
    return float(np.nansum(calls[use])) / seconds if seconds > 0 else 0.0


# --- one subject ----------------------------------------------------------------------------------


def _judge(
    subject: _Subject,
    blocks: Blocks,
    settings: SoakSettings,
    ram_bytes: float | None,
    total: Mapping[tuple[str, str], float],
    note: str,
) -> Drift:
    found = _slope_of(blocks)
    if isinstance(found, str):
        needed = settings.warmup_s + MIN_POINTS * settings.block_s
        why = (
            f"not judged: needs {format_duration(needed)}, {MIN_POINTS} blocks of "
            f"{format_duration(settings.block_s)} after {format_duration(settings.warmup_s)} of warm-up; "
            f"{found}"
        )
        m = _measurement(subject, None, None, (why,))
        return Drift((m,), _row(subject, blocks, None, DriftLimit(None, why), "", m))
    slope, method, level = found
    if blocks.resolution > 0:
        unseen = blocks.resolution / max(_span_h(blocks), 1e-9)
        slope = replace(slope, low=slope.low - unseen, high=slope.high + unseen)
    beside = sum(
        v for (kind, stream), v in total.items() if kind == subject.kind.kind and stream != subject.stream
    )
    limit = limit_of(subject.kind, level, settings, ram_bytes=ram_bytes, beside=beside)
    method = "; ".join(filter(None, (method, note)))
    m = _measurement(subject, slope, limit, ())
    m = replace(m, reasons=_reasons(subject, slope, limit, level, m, _span_h(blocks)))
    return Drift((m,), _row(subject, blocks, slope, limit, method, m))


def _slope_of(blocks: Blocks) -> tuple[DriftSlope, str, float] | str:
    """Return slope per hour, method and level of the blocks that count, or why there is none."""
    x, y, level = (v[blocks.kept] for v in (blocks.middle_s / _HOUR_S, blocks.value, blocks.level))
    if x.size < MIN_POINTS:
        return f"has {x.size}"
    if np.unique(level).size > x.size - MIN_POINTS + 1:
        return f"{x.size} over {counted(np.unique(level).size, 'stay')} of the process, each too short"
    drops = find_drops(blocks.fine_value, blocks.fine_level)
    if drops.size:
        at = find_troughs(blocks.fine_value, drops)
        if at.size - np.unique(blocks.fine_level[at]).size + 1 >= MIN_TROUGHS:
            slope = drift_slope(blocks.fine_s[at] / _HOUR_S, blocks.fine_value[at], blocks.fine_level[at])
            period_h = float(np.median(np.diff(blocks.fine_s[at]))) / _HOUR_S
            how = f"Theil–Sen through {at.size} troughs of a sawtooth of some {period_h:.3g} h"
            # it is the peaks that need room
            top = float(np.percentile(blocks.fine_value - blocks.fine_value[at[0]], 95))
            return slope, _levels_said(how, slope), _first_level(blocks.fine_value[at]) + max(top, 0.0)
    first = drift_slope(x, y, level)
    rest = blocks.fine_value - first.value * blocks.fine_s / _HOUR_S
    slope = drift_slope(
        x, y, level, lag1_at_least=implied_lag1(rest, blocks.fine_level, blocks.fine_per_block)
    )
    how = f"Theil–Sen of {x.size} block medians"
    if drops.size:
        how += f", for a sawtooth of {counted(drops.size, 'drop')}: too few for its troughs"
    return slope, _levels_said(how, slope), _first_level(y)


def _first_level(y: npt.NDArray[Any]) -> float:
    """Return the level after warm-up: the median of the first quarter, of 3 values at least."""
    return float(np.median(y[: max(3, y.size // 4)]))


def _levels_said(how: str, slope: DriftSlope) -> str:
    correlated = f", variance × {slope.inflation:.1f} for their correlation" if slope.inflation > 1.05 else ""
    stays = f", within each of {slope.levels} stays of the process" if slope.levels > 1 else ""
    return how + stays + correlated


def _span_h(blocks: Blocks) -> float:
    kept = blocks.middle_s[blocks.kept]
    return float(kept[-1] - kept[0]) / _HOUR_S if kept.size else 0.0


def _measurement(
    subject: _Subject, slope: DriftSlope | None, limit: DriftLimit | None, reasons: tuple[str, ...]
) -> Measurement:
    return Measurement(
        metric=subject.kind.metric,
        value=slope.value if slope else None,
        low=slope.low if slope else None,
        high=slope.high if slope else None,
        n=slope.n if slope else 0,
        fidelity=subject.fidelity,
        scenario=subject.scenario,
        reasons=reasons,
        limit=limit.per_h if limit else None,
        limit_rule="confidence",
    )


def _reasons(
    subject: _Subject, slope: DriftSlope, limit: DriftLimit, level: float, m: Measurement, span_h: float
) -> tuple[str, ...]:
    """Return what a reader should know beside the verdict: whence the limit, what would tell more."""
    if limit.per_h is None:
        return (limit.why,)
    reasons = [f"limit: {limit.why}"]
    good, bad = (slope.high, slope.low) if subject.kind.direction == HIGHER else (slope.low, slope.high)
    sign = -1.0 if subject.kind.direction == HIGHER else 1.0
    room, reach = sign * (limit.per_h - slope.value), abs(bad - slope.value)
    if room > 0 and reach > room and span_h > 0:
        # an interval of a slope narrows with the time to the power of 3/2, were the noise the same
        needed = span_h * (reach / room) ** (2 / 3)
        told = format_duration(3600 * needed, 2)
        reasons.append(f"some {told} after warm-up would tell, were its noise the same")
    elif sign * good > 0 and room > 0:
        reasons.append("it does drift, within its limit")
    return tuple(reasons)


def _row(
    subject: _Subject,
    blocks: Blocks,
    slope: DriftSlope | None,
    limit: DriftLimit,
    method: str,
    m: Measurement,
) -> dict[str, Any]:
    return {
        "series": subject.series,
        "stream": subject.stream,
        "kind": subject.series.partition("/")[2],
        "unit": subject.kind.unit,
        "metric": subject.kind.metric,
        "slope_per_h": slope.value if slope else None,
        "low_per_h": slope.low if slope else None,
        "high_per_h": slope.high if slope else None,
        "limit_per_h": limit.per_h,
        "direction": subject.kind.direction,
        "why_limit": limit.why,
        "block_s": [float(v) for v in blocks.middle_s],
        "block_value": [float(v) if math.isfinite(v) else None for v in blocks.value],
        "kept": [bool(v) for v in blocks.kept],
        "method": method,
        "verdict": str(judge(m, None, METRICS[m.metric].direction).verdict),
    }


# --- against a known good soak --------------------------------------------------------------------


def _against(found: Drift, known: Measurement | None) -> Drift:
    """Return `found` with its slope less that of the known good soak, where both have one."""
    own = found.measurements[0]
    if known is None or known.fidelity is not own.fidelity:
        return found
    if own.value is None or own.low is None or own.high is None:
        return found
    if known.value is None or known.low is None or known.high is None:
        return found
    difference, low, high = mover_difference_interval(
        own.value, own.low, own.high, known.value, known.low, known.high
    )
    limit = None if own.limit is None else SHARE_OVER_BASELINE * own.limit
    slope = format_quantity(known.value, METRICS[own.metric].unit)
    m = replace(
        own,
        value=difference,
        low=low,
        high=high,
        limit=limit,
        scenario=f"{own.scenario or SCENARIO}, against the baseline",
        reasons=(f"the known good soak drifts by {slope}; limit: a tenth of its own",),
    )
    verdict = str(judge(m, None, METRICS[m.metric].direction).verdict)
    row = {
        **found.row,
        "baseline": {"slope_per_h": difference, "low_per_h": low, "high_per_h": high, "verdict": verdict},
    }
    return Drift((own, m), row)


def drift_settings(rows: Sequence[Drift]) -> list[dict[str, Any]]:
    """Return the list `drift` of `run.settings["soak"]`."""
    return [dict(row.row) for row in rows]
