"""Call times of a soak's streams over time: counts by time and latency, p50, p99. Numbers and words."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.model import Fidelity, Run
from harness.report.figure import Cell, Figure, Panel, scale
from harness.report.soak import Floats, Histograms, Ints, Soak, histograms
from harness.report.soak_axis import TimeAxis, judged_events, time_axis
from harness.stats.histograms import bucket_bounds, bucket_middle
from harness.units import counted, format_quantity, noun

KIND = "soak-heat"
_MAX_LEVELS = 72  # of latency: what can be told apart in a panel
_PERCENTILES = (50, 90, 99, 99.9)
_CALLS_PER_BIN = 10  # fewer in a typical stretch, and stretches are joined: the p50 of one call says nothing


@dataclass(frozen=True, kw_only=True)
class HeatPanel(Panel):
    """Counts of shape (n_levels, n_bins) between `level_edges` and `bin_edges`, both in the units shown."""

    axis: TimeAxis
    counts: Ints
    level_edges: Floats
    bin_edges: Floats
    p50: Floats
    p99: Floats
    gaps: tuple[tuple[float, float], ...] = ()
    events: tuple[tuple[float, str], ...] = ()  # (t, tone)


def heat_figures(run: Run, soak: Soak, prefix: str) -> tuple[Figure, ...]:
    """Return a figure `<prefix>-<n>` for each stream that has histograms."""
    made = []
    for number, names in enumerate(soak.latency, 1):
        held = histograms(run, soak, names)
        if held is not None:
            made.append(_figure(run, soak, names.stream, held, f"{prefix}-{number}"))
    return tuple(made)


def _figure(run: Run, soak: Soak, stream: str, held: Histograms, id_: str) -> Figure:
    held = joined(held)
    axis, fidelity = time_axis(soak.span_s), _fidelity(run)
    counts, level_edges = _levels(held)
    of = f" of {stream}" if len(soak.streams) > 1 else ""
    quantiles = quantiles_ns(held)
    calls = counts.sum(axis=0)
    factor, unit = scale("ns", float(np.nanmedian(quantiles[2])))
    panel = HeatPanel(
        KIND,
        f"Latency{of}",
        _words(held, quantiles),
        f"soak time, {axis.unit}",
        f"latency, {unit} ({fidelity})",
        (),
        axis=axis,
        counts=counts,
        level_edges=level_edges / factor,
        bin_edges=held.edges_s / axis.factor,
        p50=quantiles[0] / factor,
        p99=quantiles[2] / factor,
        gaps=axis.spans(soak.gaps),
        events=judged_events(soak, stream, axis),
    )
    columns = ("t_start_s", "t_end_s", "calls", *(f"p{p:g}_ns" for p in _PERCENTILES))
    levels = tuple(f"calls_from_{low:.0f}_to_{high:.0f}_ns" for low, high in pairwise(level_edges))
    rows: list[tuple[Cell, ...]] = [
        (
            float(held.edges_s[n]),
            float(held.edges_s[n + 1]),
            int(calls[n]),
            *(None if np.isnan(q[n]) else float(q[n]) for q in quantiles),
            *(int(c) for c in counts[:, n]),
        )
        for n in range(calls.size)
    ]
    return Figure(
        id_,
        f"Latency{of} over time",
        "Each column is a stretch of soak time, each row a range of call times; the stronger the colour, the "
        "more calls. Lines: the p50 and p99 of each stretch; of under 100 calls the p99 is the slowest. "
        "Dotted: judged events. Grey: not observed.",
        (fidelity,),
        (panel,),
        (*columns, *levels),
        tuple(rows),
    )


def joined(held: Histograms) -> Histograms:
    """Return histograms whose neighbouring time bins are one where they hold few calls; no call is lost."""
    calls = np.bincount(held.bin, weights=held.count)
    each = int(np.ceil(_CALLS_PER_BIN / np.median(calls[calls > 0])))
    if each <= 1:
        return held
    edges = held.edges_s[::each]
    if edges[-1] < held.edges_s[-1]:
        edges = np.append(edges, held.edges_s[-1])
    return Histograms(edges, held.bin // each, held.bucket, held.count)


def _fidelity(run: Run) -> Fidelity:
    return Fidelity.VIRTUAL if run.device.kind == "qemu" else Fidelity.MEASURED


def _levels(held: Histograms) -> tuple[Ints, Floats]:
    """Return counts of shape (n_levels, n_bins) and the levels' edges in ns: whole buckets merged."""
    first, last = int(held.bucket.min()), int(held.bucket.max())
    merged = 1 + (last - first) // _MAX_LEVELS
    levels = 1 + (last - first) // merged
    counts = np.zeros((levels, held.edges_s.size - 1), dtype=np.int64)
    np.add.at(counts, ((held.bucket - first) // merged, held.bin), held.count)
    edges, _ = bucket_bounds(first + merged * np.arange(levels + 1, dtype=np.int64))
    return counts, edges.astype(np.float64)


def quantiles_ns(held: Histograms) -> tuple[Floats, ...]:
    """Return p50, p90, p99 and p99.9 of each time bin in ns, shape (n_bins,) each; NaN where none was called.

    A quantile is the middle of the bucket that holds it.
    """
    bins = held.edges_s.size - 1
    order = np.lexsort((held.bucket, held.bin))
    where, bucket, count = held.bin[order], held.bucket[order], held.count[order]
    middle = bucket_middle(bucket)
    found = [np.full(bins, np.nan) for _ in _PERCENTILES]
    starts = np.flatnonzero(np.diff(where, prepend=-1))
    for start, end in zip(starts, [*starts[1:], where.size], strict=True):
        share = np.cumsum(count[start:end])
        for p, out in zip(_PERCENTILES, found, strict=True):
            rank = max(1, int(-(-p * int(share[-1]) // 100)))  # nearest rank
            out[where[start]] = middle[start + int(np.searchsorted(share, rank))]
    return tuple(found)


def _words(held: Histograms, quantiles: tuple[Floats, ...]) -> str:
    p50, p99 = quantiles[0], quantiles[2]
    _, high = bucket_bounds(held.bucket)
    times = [
        format_quantity(float(v), "ns")
        for v in (np.nanmin(p50), np.nanmax(p50), np.nanmin(p99), np.nanmax(p99))
    ]
    slowest = format_quantity(float(high.max()), "ns")
    calls = int(held.count.sum())
    return (
        f"{calls:,} {noun(calls, 'call')} in {counted(p50.size, 'stretch', 'stretches')}. "
        f"p50 from {times[0]} to {times[1]}, "
        f"p99 from {times[2]} to {times[3]}; the slowest call took under {slowest}."
    )
