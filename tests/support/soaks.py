"""A generator of soak sessions as they are stored: seeded, synthetic, shaped like an emulated Pi's.

Two streams beside each other, lives with gaps between, events of both sides, alerts, and a drift row for each
kind: one passes, one fails, one can't be told yet, one wasn't judged. The drift rows hold what a judge would
have written about these very channels, by the plainest arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.model import DeviceFacts, Fidelity, Measurement, Outcome, Run, Series
from harness.stats.histograms import bucket_of
from support import records

HOUR_S = 3600.0
STREAMS = ("door", "wake-word")
MODELS = {"door": "digits_fp32_onnx", "wake-word": "digits_int8_onnx"}
_P50_NS = {"door": 5.0e6, "wake-word": 1.4e6}
_CALLS_PER_S = {"door": 0.2, "wake-word": 1.0}
MAX_TIME_BINS = 400

Floats = npt.NDArray[np.float64]


def soak_run(
    hours: float = 72.0,
    *,
    window_s: float = 60.0,
    seed: int = 5,
    device: DeviceFacts = records.PI,
    eventful: bool = True,
    extra_channels: int = 0,
    compressed: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """Return a stored soak of `hours`; `changes` replaces keys of its settings."""
    random = np.random.default_rng(seed)
    span_s = hours * HOUR_S
    gaps = _gaps(span_s) if eventful else []
    t = np.arange(window_s / 2, span_s, window_s)
    for gap in gaps:
        t = t[(t < gap["start_s"]) | (t >= gap["end_s"])]
    warmup_s, block_s = min(HOUR_S, span_s / 12), min(HOUR_S, span_s / 12)
    channels, series = _channels(t, random, window_s, extra_channels)
    edges = np.linspace(0, span_s, 1 + min(MAX_TIME_BINS, max(1, int(span_s / window_s))))
    latency, histograms = _latency(edges, gaps, random, eventful=eventful)
    observed_s = t.size * window_s
    settings = {
        "id": "20260102-030405-ab12",
        "compressed": compressed,
        "duration_s": span_s,
        "observed_s": observed_s,
        "coverage_ratio": observed_s / span_s,
        "window_s": window_s,
        "block_s": block_s,
        "warmup_s": warmup_s,
        "ended": "duration",
        "streams": [
            {"name": "door", "model": MODELS["door"], "cycle": "every 5 s", "variants": ["fp32", "int8"]},
            {"name": "wake-word", "model": MODELS["wake-word"], "cycle": "closed loop", "variants": ["int8"]},
        ],
        "time_series": "soak.t_s",
        "channels": channels,
        "latency": latency,
        "latency_bins_s": edges.tolist(),
        "events": _events(span_s) if eventful else [],
        "gaps": gaps,
        "lives": _lives(gaps),
        "alerts": _alerts(span_s) if eventful else [],
        "drift": drift_rows(t, {s.name: s.values for s in series}, channels, warmup_s, block_s, span_s),
        "runner": {"cpu_ratio": 0.0021, "rss_bytes_max": 14_200_000, "spool_bytes_per_day": 46_300_000},
        "not_measured": [
            {"what": "throttling", "why": "this device shows no throttle bits"},
            {"what": "hardware errors in the kernel's log", "why": "/dev/kmsg: Operation not permitted"},
        ],
    }
    process = np.zeros(t.size, dtype=np.int32)
    time = Series("soak.t_s", "s", t, process)
    clock = Fidelity.VIRTUAL if device.kind == "qemu" else Fidelity.MEASURED
    return replace(
        records.run("001-soak-door"),
        suite="soak",
        test="suites/test_soak.py::test_soak[rpi4-emulated-digits_fp32_onnx]",
        model=MODELS["door"],
        device=device,
        settings={"profile": "functional", "soak": {**settings, **(changes or {})}},
        duration_s=241.0,
        outcome=Outcome.COMPLETED,
        measurements=_measurements(settings, clock, t.size),
        series=(time, *series, *histograms),
    )


def write_soak(reports_dir: Path, run: Run | None = None, **given: Any) -> Path:
    """Store a finished session with one soak and return its folder."""
    made = soak_run(**given) if run is None else run
    record = records.session(
        devices=(made.device,), command=("pytest", "suites/", "--device", "rpi4", "--soak", "72h"), plan={}
    )
    return records.write_session(reports_dir, replace(record, plan_path=None), (made,))


def _measurements(settings: Mapping[str, Any], clock: Fidelity, windows: int) -> tuple[Measurement, ...]:
    """Return what a judge measures: coverage, events that failed it, and a slope for each drift row."""
    ratio, bad = settings["coverage_ratio"], [e for e in settings["events"] if e["judged"] == "FAIL"]
    held: dict[str, Any] = {"n": windows, "limit_rule": "confidence"}
    found = [records.measurement("coverage_ratio", ratio, high=1.0, limit=0.99, **held)]
    for metric, kind in (("unplanned_reboots", "reboot"), ("crashes", "crash")):
        number = float(sum(e["kind"] == kind for e in bad))
        reasons = tuple(f"at {e['t_s'] / HOUR_S:.3g} h: {e['text']}" for e in bad if e["kind"] == kind)
        found.append(records.measurement(metric, number, n=windows, limit=0.0, reasons=reasons))
    for row in settings["drift"]:
        timed = row["kind"].startswith(("latency", "throughput"))
        found.append(
            records.measurement(
                row["metric"],
                row["slope_per_h"],
                low=row["low_per_h"],
                high=row["high_per_h"],
                n=sum(row["kept"]),
                limit=row["limit_per_h"],
                limit_rule="confidence",
                fidelity=clock if timed else Fidelity.MEASURED,
                scenario=None if row["stream"] in ("", STREAMS[0]) else f"soak: {row['stream']}",
                reasons=(row["why_limit"],),
            )
        )
    return tuple(found)


# --- what happened --------------------------------------------------------------------------------


def _gaps(span_s: float) -> list[dict[str, Any]]:
    return [
        {"start_s": 0.24 * span_s, "end_s": 0.2414 * span_s, "why": "reboot"},
        {"start_s": 0.61 * span_s, "end_s": 0.6137 * span_s, "why": "power cut"},
    ]


def _lives(gaps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    starts = [0.0, *(gap["end_s"] for gap in gaps)]
    return [{"life": n, "start_s": at, "boot_id": f"{n:08x}-0000"} for n, at in enumerate(starts, 1)]


def _events(span_s: float) -> list[dict[str, Any]]:
    told = (
        (0.05, "device", "call_failed", "door", "first failed call: input out of range", "note"),
        (0.12, "host", "link_lost", "", "no answer for 240 s", "note"),
        (0.125, "host", "link_back", "", "4 min later, nothing was lost", "note"),
        (0.2414, "device", "reboot", "", "the boot id changed; 6 min unobserved", "FAIL"),
        (0.36, "device", "throttled", "", "bits 0x4: frequency capped", "INVALID"),
        (0.37, "device", "unthrottled", "", "after 43 min", "note"),
        (0.44, "device", "clock_step", "", "the wall clock moved by +3600 s", "note"),
        (0.52, "device", "crash", "wake-word", "child ended by SIGSEGV; started again", "FAIL"),
        (0.5202, "device", "child_restarted", "wake-word", "after 1 s", "note"),
        (0.61, "host", "power_cut", "", "planned: every 24 h", "note"),
        (0.6137, "host", "power_on", "", "planned", "note"),
        (0.6137, "device", "reboot", "", "planned; 16 min unobserved", "note"),
        (0.83, "host", "alert", "", "temp_c > 80 for 5 min", "note"),
    )
    return [
        {"t_s": at * span_s, "source": source, "kind": kind, "stream": stream, "text": text, "judged": judged}
        for at, source, kind, stream, text, judged in told
    ]


def _alerts(span_s: float) -> list[dict[str, Any]]:
    return [
        {
            "rule": "temp_c > 80 for 5 min",
            "fired_s": 0.83 * span_s,
            "cleared_s": 0.86 * span_s,
            "worst": 82.4,
            "aborted": False,
        },
        {
            "rule": "burn_rate > 6 over 6 h",
            "fired_s": 0.53 * span_s,
            "cleared_s": None,
            "worst": 6.8,
            "aborted": False,
        },
    ]


# --- channels -------------------------------------------------------------------------------------

# kind → unit, title, level, size of its noise, change an hour
_KINDS: Mapping[str, tuple[str, str, float, float, float]] = {
    "rss_bytes": ("bytes", "RSS", 62.4e6, 0.15e6, 0.0),
    "pss_bytes": ("bytes", "PSS", 55.1e6, 0.12e6, 0.0),
    "fds": ("1", "Open files", 17, 0.0, 0.0),
    "threads": ("1", "Threads", 4, 0.0, 0.0),
    "latency_p99_ns": ("ns", "p99 latency", 5.4e6, 0.05e6, 0.0),
    "throughput_per_s": ("1/s", "Throughput", 0.2, 0.004, 0.0),
    "calls": ("1", "Calls", 0.0, 0.0, 0.0),
    "errors": ("1", "Errors", 0.0, 0.0, 0.0),
}
_LEAKS = {("wake-word", "rss_bytes"): 0.12e6, ("wake-word", "pss_bytes"): 0.11e6}
_DEVICE: Mapping[str, tuple[str, str, float, float, float]] = {
    "temp_c.cpu-thermal": ("°C", "Temperature of cpu-thermal", 61.0, 0.5, 0.004),
    "disk_free_bytes": ("bytes", "Free disk", 9.1e9, 2e6, -4e6),
}


def _channels(
    t: Floats, random: np.random.Generator, window_s: float, extra: int
) -> tuple[list[dict[str, Any]], list[Series]]:
    told, series = [], []
    rows = [(stream, kind, _KINDS[kind]) for stream in STREAMS for kind in _KINDS]
    rows += [("", kind, told_of) for kind, told_of in _DEVICE.items()]
    rows += [("", f"temp_c.extra{n}", ("°C", f"Temperature {n}", 50.0 + n, 0.4, 0.0)) for n in range(extra)]
    process = np.zeros(t.size, dtype=np.int32)
    for stream, kind, (unit, title, level, noise, per_h) in rows:
        slope = _LEAKS.get((stream, kind), per_h)
        # noise with memory, as a process's is: the sum of a slow walk pulled back and a fast part
        values = level + slope * t / HOUR_S + noise * (random.standard_normal(t.size) + _slow(random, t.size))
        values += level * 0.02 * -np.exp(-t / (0.4 * HOUR_S)) * (noise > 0)  # warming up
        if kind.startswith("temp_c"):
            values += 6 * np.sin(2 * np.pi * t / (24 * HOUR_S))
        if unit == "1":
            values = np.round(values)
        if kind == "calls":
            values += round(_CALLS_PER_S[stream] * window_s)
        if kind == "errors":
            values[random.integers(0, t.size, 3)] += 1
        if kind == "fds" and stream == "wake-word":
            values += np.floor(4 * ((t / HOUR_S / 3) % 1))  # a sawtooth without a leak
        name = f"{stream or 'device'}/{kind}"
        values[random.random(t.size) < 0.002] = np.nan
        told.append({"series": name, "stream": stream, "kind": kind, "unit": unit, "title": title})
        series.append(Series(name, unit, values, process))
    return told, series


def _slow(random: np.random.Generator, size: int) -> Floats:
    """Return noise of a deviation of about 1 whose neighbours are alike over hundreds of windows."""
    coarse = random.standard_normal(size // 200 + 3)
    return np.interp(np.arange(size) / 200, np.arange(coarse.size), coarse)


# --- histograms -----------------------------------------------------------------------------------


def _latency(
    edges: Floats, gaps: Sequence[Mapping[str, Any]], random: np.random.Generator, *, eventful: bool
) -> tuple[list[dict[str, str]], list[Series]]:
    told, series = [], []
    hours = np.diff(edges) / HOUR_S
    for stream in STREAMS:
        entries: list[tuple[int, int, int]] = []
        for number, (start, long_h) in enumerate(zip(edges, hours, strict=False)):
            if any(gap["start_s"] <= start < gap["end_s"] for gap in gaps):
                continue
            calls = max(20, int(_CALLS_PER_S[stream] * long_h * HOUR_S))
            entries += [
                (number, *entry) for entry in _bin_of_calls(stream, calls, start, edges, random, eventful)
            ]
        columns = np.array(entries, dtype=np.int64).T
        names = {key: f"{stream}/latency.{key}" for key in ("window", "index", "count")}
        told.append({"stream": stream, **names})
        none = np.zeros(len(entries), dtype=np.int32)
        series += [
            Series(name, "1", column, none) for name, column in zip(names.values(), columns, strict=True)
        ]
    return told, series


def _bin_of_calls(
    stream: str, calls: int, start: float, edges: Floats, random: np.random.Generator, eventful: bool
) -> list[tuple[int, int]]:
    sample = min(calls, 400)
    body = 1 + 0.02 * random.standard_normal(sample) + 0.05 * random.exponential(0.4, sample)
    slow = random.random(sample) < 0.004
    body[slow] *= random.uniform(1.2, 4, int(slow.sum()))
    if eventful and 0.36 <= start / edges[-1] < 0.37:
        body *= 1.6  # throttled
    if stream == "door" and 0.3 < (start / (12 * HOUR_S)) % 1 < 0.45:
        body *= 0.55  # the light variant took over
    index, counts = np.unique(bucket_of((_P50_NS[stream] * body).astype(np.int64)), return_counts=True)
    share = calls / sample
    return [(int(i), max(1, round(n * share))) for i, n in zip(index, counts, strict=True)]


# --- drift ----------------------------------------------------------------------------------------

_METRICS = {
    "rss_bytes": "rss_drift_bytes_per_h",
    "pss_bytes": "pss_drift_bytes_per_h",
    "fds": "fds_drift_per_h",
    "threads": "threads_drift_per_h",
    "latency_p99_ns": "latency_p99_drift_ns_per_h",
    "throughput_per_s": "throughput_drift_per_s_per_h",
    "temp_c.cpu-thermal": "temp_drift_c_per_h",
}
# kind → limit an hour in its unit, and which way is better
_LIMITS: Mapping[str, tuple[float | None, str]] = {
    "rss_bytes": (50e3, "lower"),
    "pss_bytes": (50e3, "lower"),
    "fds": (0.05, "lower"),
    "threads": (0.01, "lower"),
    "latency_p99_ns": (0.3e3, "lower"),
    "throughput_per_s": (-0.0004, "higher"),
    "temp_c.cpu-thermal": (0.02, "lower"),
}


def drift_rows(
    t: Floats,
    values: Mapping[str, npt.NDArray[Any]],
    channels: Sequence[Mapping[str, Any]],
    warmup_s: float,
    block_s: float,
    span_s: float,
) -> list[dict[str, Any]]:
    """Return what a judge would say of the channels: a slope through block medians, and its limit."""
    rows = []
    for channel in channels:
        if channel["kind"] not in _LIMITS:
            continue
        limit, direction = _LIMITS[channel["kind"]]
        at, medians = _blocks(t, values[channel["series"]], block_s)
        kept = at >= warmup_s
        judged = int(kept.sum()) >= 12 and block_s >= 600
        slope, low, high = _slope(at[kept] / HOUR_S, medians[kept]) if judged else (None, None, None)
        rows.append(
            {
                "series": channel["series"],
                "stream": channel["stream"],
                "kind": channel["kind"],
                "unit": channel["unit"],
                "metric": _METRICS[channel["kind"]],
                "slope_per_h": slope,
                "low_per_h": low,
                "high_per_h": high,
                "limit_per_h": limit if judged else None,
                "direction": direction,
                "why_limit": "given by the plan"
                if judged
                else "not judged: needs 13 h, 12 blocks of 1 h after 1 h of warm-up; has 0",
                "block_s": at.tolist(),
                "block_value": medians.tolist(),
                "kept": kept.tolist(),
                "method": "Theil–Sen of block medians",
                "verdict": _verdict(low, high, limit, direction),
            }
        )
    return rows


def _blocks(t: Floats, values: npt.NDArray[Any], block_s: float) -> tuple[Floats, Floats]:
    number = (t // block_s).astype(np.int64)
    at = np.array([(n + 0.5) * block_s for n in np.unique(number)])
    return at, np.array([float(np.nanmedian(values[number == n])) for n in np.unique(number)])


def _slope(hours: Floats, y: Floats) -> tuple[float, float, float]:
    """Return the median slope of all pairs, and its 90% interval by Sen's normal approximation."""
    first, second = np.triu_indices(y.size, 1)
    slopes = np.sort((y[second] - y[first]) / (hours[second] - hours[first]))
    reach = 1.645 * np.sqrt(y.size * (y.size - 1) * (2 * y.size + 5) / 18)
    low, high = (int(np.clip((slopes.size + sign * reach) / 2, 0, slopes.size - 1)) for sign in (-1, 1))
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def _verdict(low: float | None, high: float | None, limit: float | None, direction: str) -> str:
    if low is None or high is None or limit is None:
        return "NOT_JUDGED"
    worst, best, limit = (high, low, limit) if direction == "lower" else (-low, -high, -limit)
    return "PASS" if worst <= limit else "FAIL" if best > limit else "INCONCLUSIVE"
