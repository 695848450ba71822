"""The metric table: what can be measured, in which unit, and which way is better.

One row is all that store, gate and report need to treat a new metric. Task metrics that a plan names
(`accuracy`, `rmse` …) are rows too.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import ConfigError, nearest

LOWER = "lower"
HIGHER = "higher"


@dataclass(frozen=True)
class Metric:
    """One row. `unit` is the stored unit (never scaled); `direction` says which way is better.

    `kind` is "time" where the value comes from a device clock (so its fidelity follows that clock),
    "energy" and "thermal" (a meter's or a sensor's, over such time), "memory", "size", "count", "soak" (of a
    whole soak, whatever its timing), "task" (an accuracy figure) or "agreement" (with the host's outputs).
    """

    name: str
    unit: str
    direction: str
    kind: str
    title: str
    margin: float | None = None  # against a baseline, where the plan sets none; None: shown, not judged
    virtual_margin: float | None = None  # the same for numbers on a virtual clock


# Margins where the plan sets none. On a virtual clock the spread is 0.03%. A duet's half-width is some 0.15%
# on a measured one; 1% is chosen for what a release may lose unnoticed. Tails, load time and first inference
# vary by more than anybody would call a regression: they are judged where the plan says by how much.
_ROWS = (
    Metric("model_size_bytes", "bytes", LOWER, "size", "Model file size"),
    Metric("load_time_ns", "ns", LOWER, "time", "Load time"),
    Metric("first_inference_ns", "ns", LOWER, "time", "First inference"),
    Metric("latency_mean_ns", "ns", LOWER, "time", "Latency, mean"),
    Metric("latency_p50_ns", "ns", LOWER, "time", "Latency p50", 0.01, 0.001),
    Metric("latency_p90_ns", "ns", LOWER, "time", "Latency p90"),
    Metric("latency_p95_ns", "ns", LOWER, "time", "Latency p95"),
    Metric("latency_p99_ns", "ns", LOWER, "time", "Latency p99"),
    # beside an emulated board's virtual p50: what a real one would take, always with its band
    Metric("estimated_latency_p50_ns", "ns", LOWER, "time", "Latency p50 of a real board, estimated"),
    Metric("instructions", "1", LOWER, "count", "Instructions per inference"),
    Metric("throughput_per_s", "1/s", HIGHER, "time", "Throughput"),
    Metric("server_rate_per_s", "1/s", HIGHER, "time", "Highest rate within its p99 budget"),
    Metric("deadline_miss_ratio", "ratio", LOWER, "time", "Deadlines missed"),
    Metric("start_jitter_p99_ns", "ns", LOWER, "time", "Start jitter p99"),
    Metric("peak_rss_bytes", "bytes", LOWER, "memory", "Peak RSS (VmHWM)"),
    Metric("peak_pss_bytes", "bytes", LOWER, "memory", "Peak PSS"),
    Metric("private_dirty_bytes", "bytes", LOWER, "memory", "Private dirty memory", 0.05, 0.05),
    Metric("model_pages_bytes", "bytes", LOWER, "memory", "Resident pages of the model file"),
    Metric("cgroup_peak_bytes", "bytes", LOWER, "memory", "Peak memory in its cgroup"),
    Metric("oom_kills", "1", LOWER, "memory", "Kills for want of memory under its limit"),
    Metric("energy_per_inference_j", "J", LOWER, "energy", "Energy per inference"),
    Metric("net_energy_per_inference_j", "J", LOWER, "energy", "Energy per inference above idle"),
    Metric("idle_power_w", "W", LOWER, "energy", "Power when idle"),
    Metric("load_power_w", "W", LOWER, "energy", "Power under load"),
    Metric("burst_throughput_per_s", "1/s", HIGHER, "thermal", "Throughput from the start band"),
    Metric("sustained_throughput_per_s", "1/s", HIGHER, "thermal", "Throughput once it is warm"),
    Metric("sustained_ratio", "ratio", HIGHER, "thermal", "Sustained against burst throughput"),
    Metric("time_to_throttle_s", "s", HIGHER, "thermal", "Time to throttling"),
    Metric("throttled_s", "s", LOWER, "thermal", "Time throttled"),
    Metric("peak_temp_c", "°C", LOWER, "thermal", "Peak temperature"),
    Metric("ambient_temp_c", "°C", LOWER, "thermal", "Ambient temperature"),
    Metric("coverage_ratio", "ratio", HIGHER, "soak", "Soak: share of the time observed"),
    Metric("soak_calls", "1", HIGHER, "soak", "Soak: calls observed"),
    Metric("call_error_ratio", "ratio", LOWER, "soak", "Soak: calls that failed"),
    Metric("unplanned_reboots", "1", LOWER, "soak", "Soak: unplanned reboots"),
    Metric("crashes", "1", LOWER, "soak", "Soak: crashes"),
    Metric("soak_oom_kills", "1", LOWER, "soak", "Soak: kills for want of memory"),
    Metric("streams_given_up", "1", LOWER, "soak", "Soak: streams that stayed down"),
    Metric("hardware_errors", "1", LOWER, "soak", "Soak: hardware errors"),
    Metric("alerts_fired", "1", LOWER, "soak", "Soak: alerts fired"),
    Metric("forbidden_events", "1", LOWER, "soak", "Soak: other events that its policy forbids"),
    Metric("rss_drift_bytes_per_h", "bytes/h", LOWER, "soak", "Drift of RSS"),
    Metric("pss_drift_bytes_per_h", "bytes/h", LOWER, "soak", "Drift of PSS"),
    Metric("private_dirty_drift_bytes_per_h", "bytes/h", LOWER, "soak", "Drift of private dirty memory"),
    Metric("fds_drift_per_h", "1/h", LOWER, "soak", "Drift of open files"),
    Metric("threads_drift_per_h", "1/h", LOWER, "soak", "Drift of threads"),
    Metric("latency_p99_drift_ns_per_h", "ns/h", LOWER, "time", "Drift of latency p99"),
    Metric("throughput_drift_per_s_per_h", "1/s/h", HIGHER, "time", "Drift of throughput"),
    Metric("temp_drift_c_per_h", "°C/h", LOWER, "thermal", "Drift of temperature"),
    Metric("accuracy", "ratio", HIGHER, "task", "Accuracy", 0.01, 0.01),
    Metric("auc", "ratio", HIGHER, "task", "Area under the ROC curve", 0.01, 0.01),
    Metric("rmse", "1", LOWER, "task", "RMS error", 0.01, 0.01),
    Metric("output_max_abs_error", "1", LOWER, "agreement", "Largest output difference from the host"),
    Metric("baseline_agreement", "ratio", HIGHER, "agreement", "Samples answered as the baseline does"),
    Metric("golden_agreement", "ratio", HIGHER, "agreement", "Samples that agree with the golden outputs"),
)

# what load, heat or a clock that steps invalidates
TIMED_KINDS = frozenset({"time", "energy", "thermal"})

METRICS: dict[str, Metric] = {m.name: m for m in _ROWS}
# judged by limits of the soak's own (`[soak]`); a ratio of two slopes says nothing, so none is compared so
SOAK_METRICS = frozenset(m.name for m in _ROWS if m.kind == "soak" or m.unit.endswith("/h"))
# by the metric that is measured: what is estimated from it. A budget of the first that names the fidelity
# `estimated` is one of the second.
ESTIMATES = {"latency_p50_ns": "estimated_latency_p50_ns"}
PERCENTILES = (50, 90, 95, 99)


def metric(name: str) -> Metric:
    """Return the row called `name`. Raises ConfigError that names the nearest valid metric."""
    try:
        return METRICS[name]
    except KeyError:
        raise ConfigError(f"unknown metric `{name}`{nearest(name, METRICS)}") from None
