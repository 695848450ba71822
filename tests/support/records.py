"""Builders of sample runs and sessions. All numbers are synthetic, seeded, shaped like an emulated Pi's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.model import (
    Condition,
    DeviceFacts,
    ErrorRecord,
    Fidelity,
    Measurement,
    Outcome,
    Run,
    Series,
    SessionRecord,
)
from harness.store import Store

SESSION_ID = "20260102T030405Z-abc123"
STARTED_AT = "2026-01-02T03:04:05.000+00:00"

PI = DeviceFacts(
    name="rpi4-emulated",
    type="rpi4",
    kind="qemu",
    serial="synthetic-0001",
    platform="linux-aarch64",
    details={
        "cpu_model": "Cortex-A72",
        "cpus": 1,
        "ram_bytes": 2 << 30,
        "kernel": "6.1.0-synthetic-arm64",
        "python": "3.11.2",
        "clock": "CLOCK_MONOTONIC",
        "image_sha256": "1f" * 32,
    },
)
LOCAL = DeviceFacts(
    "local", "local", "local", None, "linux-x86_64", {"cpu_model": "Synthetic CPU", "cpus": 4}
)

# name → (runtime, version, bytes, p50 in ms, peak RSS in MB, right answers of 300)
MODELS: Mapping[str, tuple[str, str, int, float, float, int]] = {
    "digits_fp32_onnx": ("onnxruntime", "1.31.1", 461_200, 5.00, 62.4, 297),
    "digits_int8_onnx": ("onnxruntime", "1.31.1", 182_300, 3.11, 58.9, 295),
    "digits_fp32_tflite": ("litert", "2.3.0", 464_000, 2.35, 41.2, 297),
    "digits_int8_tflite": ("litert", "2.3.0", 179_400, 1.42, 38.7, 289),
}


def plan(models: Sequence[str] = tuple(MODELS)) -> dict[str, Any]:
    """Return a plan's tables: budgets that pass, one that fails and one that can't be decided."""
    tables: dict[str, Any] = {
        "schema_version": 1,
        "release": {
            "device_types": ["rpi4"],
            "required_suites": ["deploy", "accuracy", "memory", "latency"],
            "accepted_fidelity": ["measured", "virtual"],
        },
        "models": {},
        "budgets": {"rpi4": {}},
    }
    for name in models:
        _, _, size_bytes, p50_ms, rss_mb, _ = MODELS[name]
        variant = "int8-static" if "int8" in name else "fp32"
        tables["models"][name] = {
            "path": f"models/{name.replace('_onnx', '.onnx').replace('_tflite', '.tflite')}",
            "inputs": "models/digits_test.npz",
            "task": "accuracy",
            "variant": variant,
        }
        if variant != "fp32":
            tables["models"][name]["base"] = name.replace("int8", "fp32")
        tables["budgets"]["rpi4"][name] = {
            "accuracy": "95 %",
            "model_size_bytes": int(size_bytes * 1.1),
            "peak_rss_bytes": f"{rss_mb * 1.1:.3g} MB",
            "latency_p99_ns": {"limit": f"{p50_ms * 1.1:.3g} ms", "fidelity": "virtual"},
        }
    return tables


def session(**changes: Any) -> SessionRecord:
    """Return a finished session on the emulated Pi with a plan for all sample models."""
    record = SessionRecord(
        session_id=SESSION_ID,
        started_at=STARTED_AT,
        finished_at="2026-01-02T03:06:11.000+00:00",
        command=("pytest", "suites/", "--device", "rpi4"),
        plan_path="suites/release.toml",
        plan=plan(),
        devices=(PI,),
        harness_version="0.1.0",
        host={"platform": "Linux-synthetic", "python": "3.11.2", "cpus": 2},
    )
    return replace(record, **changes)


def run(run_id: str = "001-deploy", **changes: Any) -> Run:
    """Return a small completed run of the deploy suite."""
    record = Run(
        run_id=run_id,
        session_id=SESSION_ID,
        attempt=1,
        suite="deploy",
        test="suites/test_deploy.py::test_deploy[rpi4-emulated-digits_fp32_onnx]",
        model="digits_fp32_onnx",
        artifact_sha256="ab" * 32,
        runtime="onnxruntime",
        runtime_version="1.31.1",
        device=PI,
        threads=1,
        settings={"profile": "functional", "runtime_packages": ["onnxruntime==1.31.1", "numpy==2.4.6"]},
        started_at=STARTED_AT,
        duration_s=2.5,
        outcome=Outcome.COMPLETED,
        conditions=CONDITIONS,
        measurements=(measurement("model_size_bytes", 461_200.0, n=1),),
    )
    return replace(record, **changes)


CONDITIONS = (
    Condition("same boot", "yes", "yes", True),
    Condition("wall clock", "moved +0.000 s against the monotonic clock", "within 0.5 s", True),
    Condition("throttling", "not observable", "no throttling bit set", None),
    Condition("load", "load average 0.10 before, 0.12 after", "a reading", True),
)


def measurement(metric: str, value: float | None, **changes: Any) -> Measurement:
    """Return a measured number whose interval is the number itself."""
    return replace(Measurement(metric, value, value, value, 10, Fidelity.MEASURED), **changes)


def latency_series(
    p50_ms: float, *, seed: int, processes: int = 3, n: int = 64, batch_size: int = 1
) -> Series:
    """Return synthetic latencies: a narrow body, a short tail, a small shift between processes."""
    random = np.random.default_rng(seed)
    process = np.repeat(np.arange(processes, dtype=np.int32), n)
    shift = 1 + 0.002 * random.standard_normal(processes)[process]
    body = 1 + 0.003 * random.standard_normal(process.size) + 0.01 * random.exponential(0.4, process.size)
    values = (p50_ms * 1e6 * shift * body).astype(np.int64)
    return Series("latency_ns", "ns", values, process, "CLOCK_MONOTONIC", batch_size)


def model_runs(name: str, *, device: DeviceFacts = PI, first: int = 1) -> tuple[Run, ...]:
    """Return the runs of all suites for one sample model, numbered from `first`."""
    runtime, version, size_bytes, p50_ms, rss_mb, right = MODELS[name]
    seed = 1 + list(MODELS).index(name)
    time = Fidelity.VIRTUAL if device.kind == "qemu" else Fidelity.MEASURED
    parts = {
        "deploy": {"measurements": (measurement("model_size_bytes", float(size_bytes), n=1),)},
        "accuracy": _accuracy(right),
        "memory": _memory(rss_mb, seed),
        "single_stream": _single_stream(p50_ms, seed, time),
        "offline": _offline(p50_ms, seed, time),
    }
    runs = []
    for number, (kind, fields) in enumerate(parts.items(), first):
        suite = "latency" if kind in ("single_stream", "offline") else kind
        runs.append(
            run(
                f"{number:03d}-{kind}-{name}-{device.name}",
                suite=suite,
                test=f"suites/test_{suite}.py::test_{kind}[{device.name}-{name}]",
                model=name,
                artifact_sha256=f"{seed:02x}" * 32,
                runtime=runtime,
                runtime_version=version,
                device=device,
                started_at=f"2026-01-02T03:04:{5 + number:02d}.000+00:00",
                **fields,
            )
        )
    return tuple(runs)


def sample_runs() -> tuple[Run, ...]:
    """Return every suite for every sample model, a retried lab failure and a skipped run."""
    runs: list[Run] = []
    for name in MODELS:
        runs += model_runs(name, first=len(runs) + 1)
    lost = replace(
        runs[2],
        run_id="021-memory-lost",
        outcome=Outcome.INFRA_ERROR,
        error=ErrorRecord(
            "connection-lost", "rpi4-emulated: the peer went away after 12.0 s. Check its supply.", 0
        ),
        measurements=(),
        series=(),
    )
    skipped = replace(
        runs[0],
        run_id="022-soak-skipped",
        suite="soak",
        test="suites/test_soak.py::test_soak",
        outcome=Outcome.SKIPPED,
        reason="the device shows no temperature",
        measurements=(),
    )
    return (*runs, replace(lost, attempt=1), skipped)


def write_session(
    reports_dir: Path, record: SessionRecord | None = None, runs: Sequence[Run] | None = None
) -> Path:
    """Store a finished session under `reports_dir` and return its folder."""
    record = record or session()
    writer = Store(reports_dir).open_session(replace(record, finished_at=None))
    for item in sample_runs() if runs is None else runs:
        writer.add_run(item)
    writer.finish(record)
    return writer.folder


def _accuracy(right: int) -> dict[str, Any]:
    value = right / 300
    correct = np.ones(300)
    correct[: 300 - right] = 0
    return {
        "measurements": (
            measurement("output_max_abs_error", 2.4e-7, n=300, limit=1.2e-3),
            measurement("accuracy", value, low=value - 0.012, high=min(1.0, value + 0.008), n=300),
        ),
        "series": (Series("correct", "1", correct, np.zeros(300, dtype=np.int32)),),
    }


def _memory(rss_mb: float, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(100 + seed)
    each = np.arange(3, dtype=np.int32)
    rss = (rss_mb * 1e6 * (1 + 0.004 * random.standard_normal(3))).astype(np.int64)
    pss = (rss * 0.86).astype(np.int64)
    found = []
    for metric, values in (("peak_rss_bytes", rss), ("peak_pss_bytes", pss)):
        found.append(
            measurement(metric, float(values.max()), low=float(values.min()), high=float(values.max()), n=3)
        )
    return {
        "measurements": tuple(found),
        "series": (
            Series("peak_rss_bytes", "bytes", rss, each),
            Series("peak_pss_bytes", "bytes", pss, each),
        ),
        "settings": {"processes": 3, "ram_bytes": 2 << 30, "profile": "functional"},
    }


def _single_stream(p50_ms: float, seed: int, fidelity: Fidelity) -> dict[str, Any]:
    latency = latency_series(p50_ms, seed=seed)
    found = [
        measurement(
            "load_time_ns", p50_ms * 9e6, n=3, fidelity=fidelity, low=p50_ms * 8.9e6, high=p50_ms * 9.2e6
        ),
        measurement("first_inference_ns", p50_ms * 1.6e6, n=3, fidelity=fidelity),
    ]
    for percentile in (50, 90, 95, 99):
        low, value, high = (float(np.percentile(latency.values, q)) for q in _around(percentile))
        found.append(
            measurement(
                f"latency_p{percentile}_ns",
                value,
                low=low,
                high=high,
                n=latency.values.size,
                fidelity=fidelity,
                scenario="single_stream",
            )
        )
    return {
        "measurements": tuple(found),
        "series": (latency,),
        "scenario": "single_stream",
        "settings": {"processes": 3, "iterations": 64, "profile": "timing", "lag1_autocorrelation": 0.03},
    }


def _around(percentile: int) -> tuple[float, float, float]:
    margin = (100 - percentile) * 0.2
    return percentile - margin, float(percentile), percentile + margin


def _offline(p50_ms: float, seed: int, fidelity: Fidelity) -> dict[str, Any]:
    found: list[Measurement] = []
    series: list[Series] = []
    for batch_size in (1, 2, 4, 8):
        batch_ms = p50_ms * (0.25 + 0.75 * batch_size)
        latency = latency_series(
            batch_ms, seed=seed * 10 + batch_size, processes=1, n=32, batch_size=batch_size
        )
        series.append(latency)
        scope: dict[str, Any] = {
            "fidelity": fidelity,
            "scenario": "offline",
            "batch_size": batch_size,
            "n": 32,
        }
        median = float(np.median(latency.values))
        found.append(measurement("latency_p50_ns", median, **scope))
        found.append(measurement("throughput_per_s", batch_size / median * 1e9, **scope))
    return {
        "measurements": tuple(found),
        "series": tuple(series),
        "scenario": "offline",
        "settings": {"profile": "timing", "refused_batch_sizes": {}},
    }
