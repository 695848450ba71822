"""A soak's table, judged → what its run keeps: measurements, conditions, series and `settings["soak"]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.measure.bench import Observation
from harness.metrics import METRICS
from harness.model import SoakTable
from harness.soak.about import About
from harness.soak.channels import TIME_SERIES, channel_series, latency_series
from harness.soak.clocks import clock_conditions, governors_of
from harness.soak.judge import judge_soak
from harness.soak.known_good import known_good
from harness.soak.limits import TIMED
from harness.soak.unseen import is_paced, not_measured, without_value
from harness.store.codec import to_plain

SCENARIO = "soak"
# what of a stream rests on it too, as harness/soak/channels.py names it
PACED_KINDS = (
    "latency_p50_ns", "latency_p99_ns", "max_ns", "throughput_per_s", "busy_ratio", "late", "max_late_ns",
)  # fmt: skip
_TIMES = ("ns", "1/s", "ns/h", "1/s/h")  # units that rest on the clock's pace


def observe(table: SoakTable, about: About, soak_id: str, *, spool_bytes: int | None = None) -> Observation:
    """Return the soak as an observation; what hinders a PASS is in its measurements and conditions.

    `spool_bytes`: what it took on the device's disk.
    """
    settings = about.settings
    governor = governors_of(table)
    good, unlike = known_good(about, governor)
    judged = judge_soak(
        table,
        settings,
        ram_bytes=_ram_bytes(about),
        compressed=settings.compressed,
        fidelity=about.fidelity,
        baseline=good,
    )
    paced = is_paced(about.device.kind, compressed=settings.compressed)
    channels, series = channel_series(table)
    latency, edges_s, histograms = latency_series(table, settings.duration_s or 0.0)
    if not paced:
        latency, edges_s, histograms = [], [], []
        channels = [c for c in channels if c["kind"] not in PACED_KINDS]
        series = [s for s in series if s.name.partition("/")[2] not in PACED_KINDS]
    told: dict[str, Any] = {
        "id": soak_id,
        "compressed": settings.compressed,
        "duration_s": settings.duration_s,
        "window_s": settings.window_s,
        "block_s": settings.block_s,
        "warmup_s": settings.warmup_s,
        "ended": table.ended,
        "streams": [to_plain(stream) for stream in about.streams],
        "time_series": TIME_SERIES,
        "channels": channels,
        "latency": latency,
        "latency_bins_s": edges_s,
        "runner": runner_cost(table, spool_bytes),
        "not_measured": not_measured(table, about),
    }
    result = dict(judged.settings)
    if not paced:
        result["drift"] = [row for row in result["drift"] if row["kind"] not in TIMED]
    kept = [m for m in judged.measurements if paced or METRICS[m.metric].unit not in _TIMES]
    kept += without_value(table, about, {m.metric for m in judged.measurements})
    return Observation(
        measurements=tuple(kept),
        series=(*series, *histograms),
        conditions=(*judged.conditions, *clock_conditions(table, about.run_settings), *unlike),
        settings={**about.run_settings, "governor": governor, "soak": {**told, **result}},
        scenario=SCENARIO,
    )


def runner_cost(table: SoakTable, spool_bytes: int | None) -> dict[str, float | None]:
    """Return what the runner itself took: share of a core, most memory, bytes on disk a day."""
    used_ns = table.channels.get("device/runner_cpu_ns", np.empty(0))  # of each window
    seen = np.isfinite(used_ns)
    long_s = table.end_s - table.start_s
    passed_s = float(long_s[seen].sum()) if seen.size else 0.0
    rss = table.channels.get("device/runner_rss_bytes", np.empty(0))
    observed_s = float(long_s.sum())
    return {
        "cpu_ratio": float(used_ns[seen].sum()) / 1e9 / passed_s if passed_s > 0 else None,
        "rss_bytes_max": float(np.nanmax(rss)) if np.isfinite(rss).any() else None,
        "spool_bytes_per_day": spool_bytes * 86400 / observed_s if spool_bytes and observed_s > 0 else None,
    }


def _ram_bytes(about: About) -> int | None:
    found = about.device.details.get("ram_bytes")
    return int(found) if isinstance(found, int | float) else None
