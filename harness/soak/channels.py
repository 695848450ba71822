"""What a soak's stored run keeps of its table: a series for each channel, and thinned latency histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.model import Series, SoakTable, SparseHistograms
from harness.stats.histograms import percentile_by_group

TIME_SERIES = "soak.t_s"
MAX_BINS = 400  # of time, in the latency heat map
CLOCK = "CLOCK_BOOTTIME"

# a stream's channels that are stored, in this order; of the rest these are made
_STREAM_TITLES = {
    "rss_bytes": "RSS",
    "pss_bytes": "PSS",
    "private_dirty_bytes": "Private memory",
    "fds": "Open files",
    "threads": "Threads",
    "latency_p50_ns": "p50 latency",
    "latency_p99_ns": "p99 latency",
    "max_ns": "Longest call",
    "throughput_per_s": "Throughput",
    "busy_ratio": "Share of time in calls",
    "calls": "Calls",
    "errors": "Errors",
    "late": "Late calls",
    "max_late_ns": "Most late",
    "restarts": "Restarts",
}
_DEVICE_TITLES = {
    "freq_hz": "CPU frequency",
    "throttled_bits": "Throttle bits",
    "mem_available_bytes": "Memory available",
    "disk_free_bytes": "Free disk",
    "load1": "Load, 1 min",
    "runner_rss_bytes": "RSS of the runner",
}
_SENSOR_TITLES = {"temp_c": "Temperature", "power_w": "Power", "current_a": "Current", "voltage_v": "Voltage"}

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def channel_series(table: SoakTable) -> tuple[list[dict[str, Any]], list[Series]]:
    """Return settings["soak"]["channels"] and their series, soak time of the windows' middles first."""
    columns = dict(table.channels)
    units = dict(table.units)
    long_s = table.end_s - table.start_s
    each = np.arange(long_s.size)
    for stream, h in table.latency.items():
        for p in (50, 99):
            values = percentile_by_group(h.offset, h.index, h.count, each, p)
            columns[f"{stream}/latency_p{p}_ns"] = values
            units[f"{stream}/latency_p{p}_ns"] = "ns"
        if f"{stream}/calls" in columns:
            columns[f"{stream}/throughput_per_s"] = columns[f"{stream}/calls"] / long_s
            units[f"{stream}/throughput_per_s"] = "1/s"
        if f"{stream}/busy_ns" in columns:
            columns[f"{stream}/busy_ratio"] = columns[f"{stream}/busy_ns"] / (long_s * 1e9)
            units[f"{stream}/busy_ratio"] = "ratio"
    none = np.zeros(len(long_s), dtype=np.int32)
    told: list[dict[str, Any]] = []
    series = [Series(TIME_SERIES, "s", (table.start_s + table.end_s) / 2, none, CLOCK)]
    for name, title in _titles(list(columns), list(table.latency)).items():
        if not np.isfinite(columns[name]).any():
            continue
        stream, _, kind = name.partition("/")
        of = "" if stream == "device" else stream
        told.append(
            {"series": name, "stream": of, "kind": kind, "unit": units.get(name, "1"), "title": title}
        )
        series.append(Series(name, units.get(name, "1"), columns[name], none, CLOCK))
    return told, series


def _titles(names: list[str], streams: list[str]) -> dict[str, str]:
    """Return the channels that are stored, each with what a reader calls it."""
    found: dict[str, str] = {}
    for stream in streams:
        for kind, title in _STREAM_TITLES.items():
            if f"{stream}/{kind}" in names:
                found[f"{stream}/{kind}"] = title
    for name in names:
        stream, _, kind = name.partition("/")
        quantity, _, site = kind.partition(".")
        if stream in streams and quantity == "errors" and site:
            found[name] = f"Errors: {site}"
        elif stream == "device" and kind in _DEVICE_TITLES:
            found[name] = _DEVICE_TITLES[kind]
        elif stream == "device" and site:
            found[name] = f"{_SENSOR_TITLES.get(quantity, quantity)} of {site}"
    return found


def latency_series(table: SoakTable, span_s: float) -> tuple[list[dict[str, str]], list[float], list[Series]]:
    """Return settings' `latency` and `latency_bins_s`, and the series: histograms merged by time bin.

    A window belongs to the bin that its middle is in.
    """
    n = len(table.start_s)
    if not n:
        return [], [], []
    bins = min(MAX_BINS, n)
    edges = np.linspace(0.0, max(span_s, float(table.end_s[-1])), bins + 1)
    middle = (table.start_s + table.end_s) / 2
    of_window = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, bins - 1)
    told: list[dict[str, str]] = []
    series: list[Series] = []
    for stream, found in table.latency.items():
        if not len(found.index):
            continue
        columns = _merged(np.repeat(of_window, np.diff(found.offset)), found)
        names = {key: f"{stream}/latency.{key}" for key in ("window", "index", "count")}
        none = np.zeros(len(columns[0]), dtype=np.int32)
        told.append({"stream": stream, **names})
        series += [
            Series(name, "1", column, none) for name, column in zip(names.values(), columns, strict=True)
        ]
    return told, edges.tolist(), series


def _merged(of_entry: npt.NDArray[np.intp], found: SparseHistograms) -> tuple[Ints, Ints, Ints]:
    """Return (bin, bucket, count), each pair of bin and bucket once, ascending."""
    key = of_entry.astype(np.int64) << 32 | found.index.astype(np.int64)
    unique, at = np.unique(key, return_inverse=True)
    count = np.zeros(unique.size, dtype=np.int64)
    np.add.at(count, at, found.count)
    return unique >> 32, unique & 0xFFFFFFFF, count
