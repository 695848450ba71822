"""Builders of sample runs that compare a candidate with a baseline, and of the scenarios beside them.

All numbers are synthetic and seeded. Shapes follow harness/measure: in a duet `process` is the duet's number
and `block` the pair's, in fresh processes `process` is the process's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.model import (
    Calibration,
    Comparison,
    Condition,
    Detectable,
    DeviceFacts,
    Effect,
    Fidelity,
    Method,
    Run,
    Scope,
    Series,
    SessionRecord,
)
from support import records

BASELINE = "release"
BUSY = Condition(
    "other load",
    "64% of the cores' time went to others",
    "at most 50%",
    False,
    "End what else runs on the device, then measure again.",
    Scope.ABSOLUTE,
)


def comparison(metric: str = "latency_p50_ns", value: float | None = 1.012, **changes: Any) -> Comparison:
    """Return a duet's comparison of `metric` on a virtual clock, 0.03% either side of `value`."""
    record = Comparison(
        metric=metric,
        effect=Effect.RATIO,
        value=value,
        low=None if value is None else value * 0.9997,
        high=None if value is None else value * 1.0003,
        n=12,
        fidelity=Fidelity.VIRTUAL,
        method=Method.DUET,
        candidate=None if value is None else 5.06e6,
        baseline=5.0e6,
        baseline_name=BASELINE,
        scenario="single_stream",
        df=2.0,
    )
    return replace(record, **changes)


def duet_run(
    name: str = "digits_fp32_onnx",
    ratio: float = 1.012,
    *,
    number: int = 31,
    device: DeviceFacts = records.PI,
    duets: int = 3,
    pairs: int = 12,
    calls: int = 4,
    drift_ratio: float = 0.0,
    **changes: Any,
) -> Run:
    """Return a duet whose candidate is `ratio` as slow as its baseline, with drift that hits both arms."""
    p50_ms = records.MODELS[name][3]
    fidelity = Fidelity.VIRTUAL if device.kind == "qemu" else Fidelity.MEASURED
    spread = 0.0003 if fidelity is Fidelity.VIRTUAL else 0.003
    arms = {
        arm: _arm_series(arm, p50_ms * factor, spread, number, duets, pairs, calls, drift_ratio)
        for arm, factor in (("candidate", ratio), ("baseline", 1.0))
    }
    shape: dict[str, Any] = {"fidelity": fidelity, "baseline": p50_ms * 1e6, "n": duets * pairs}
    found = []
    for percentile, off, width in ((50, 0.0, 1.0), (90, 0.0002, 3.0), (95, -0.0003, 4.0), (99, 0.001, 9.0)):
        effect = ratio + off
        found.append(
            comparison(
                f"latency_p{percentile}_ns",
                effect,
                low=effect * (1 - spread * width),
                high=effect * (1 + spread * width),
                candidate=p50_ms * 1e6 * effect,
                **shape,
            )
        )
    found.append(
        comparison(
            "instructions", ratio, low=ratio, high=ratio, df=None, candidate=8.1e6 * ratio,
            **{**shape, "baseline": 8.1e6, "fidelity": Fidelity.MEASURED},
        )
    )  # fmt: skip
    settings = {
        "duets": duets, "looks": 2, "looks_taken": 1, "pairs": pairs, "block_ns": 20_000_000,
        "block_calls": calls, "drop": 1, "seed": number, "cpus": [0], "baseline": BASELINE,
        "baseline_sha256": "cd" * 32, "profile": "timing",
    }  # fmt: skip
    warm = tuple(
        Condition(
            f"warm-up flat (duet {duet + 1}, {arm})", "yes after 8 calls", "medians of blocks within 2%", True
        )
        for duet in range(duets)
        for arm in arms
    )
    return _run(
        name, number, "latency", "duet", device,
        scenario="single_stream", measurements=(), comparisons=tuple(found), settings=settings,
        series=(*arms.values(),), conditions=(*records.CONDITIONS, *warm), **changes,
    )  # fmt: skip


def _arm_series(
    arm: str, p50_ms: float, spread: float, seed: int, duets: int, pairs: int, calls: int, drift_ratio: float
) -> Series:
    random = np.random.default_rng([seed, arm == "candidate"])
    process = np.repeat(np.arange(duets, dtype=np.int32), pairs * calls)
    block = np.tile(np.repeat(np.arange(pairs, dtype=np.int32), calls), duets)
    shift = 1 + spread * random.standard_normal(duets)[process]
    drift = 1 + drift_ratio * np.arange(process.size) / process.size
    noise = 1 + spread * random.standard_normal(process.size) + spread * random.exponential(1.0, process.size)
    values = (p50_ms * 1e6 * shift * drift * noise).astype(np.int64)
    return Series("latency_ns", "ns", values, process, "CLOCK_MONOTONIC", arm=arm, block=block)


def fresh_run(name: str = "digits_fp32_onnx", *, number: int = 32, device: DeviceFacts = records.PI) -> Run:
    """Return load time and first inference of fresh processes in ABBA order."""
    p50_ms = records.MODELS[name][3]
    fidelity = Fidelity.VIRTUAL if device.kind == "qemu" else Fidelity.MEASURED
    found, series = [], []
    for metric, base_ns, effect in (
        ("load_time_ns", p50_ms * 9e6, 1.03), ("first_inference_ns", p50_ms * 1.6e6, 0.994),
    ):  # fmt: skip
        found.append(
            comparison(
                metric, effect, low=effect * 0.97, high=effect * 1.03, n=4, fidelity=fidelity, df=1.0,
                method=Method.ABBA, candidate=base_ns * effect, baseline=base_ns,
            )
        )  # fmt: skip
        series += _by_process(metric, "ns", base_ns, effect, 4, 0.01, number)
    return _run(
        name, number, "latency", "fresh", device,
        scenario="single_stream", measurements=(), comparisons=tuple(found), series=tuple(series),
        settings={"processes": 4, "seed": number, "baseline": BASELINE, "profile": "timing"},
    )  # fmt: skip


def memory_run(
    name: str = "digits_fp32_onnx", effect: float = 1.004, *, number: int = 33,
    device: DeviceFacts = records.PI,
) -> Run:  # fmt: skip
    """Return peak RSS and private dirty memory of fresh processes in ABBA order."""
    rss = records.MODELS[name][4] * 1e6
    found, series = [], []
    for metric, base in (("peak_rss_bytes", rss), ("private_dirty_bytes", rss * 0.4)):
        found.append(
            comparison(
                metric, effect, low=effect * 0.992, high=effect * 1.008, n=4, fidelity=Fidelity.MEASURED,
                method=Method.ABBA, candidate=base * effect, baseline=base, scenario=None,
            )
        )  # fmt: skip
        series += _by_process(metric, "bytes", base, effect, 4, 0.004, number)
    return _run(
        name, number, "memory", "memory_against", device,
        measurements=(), comparisons=tuple(found), series=tuple(series),
        settings={"processes": 4, "seed": number, "baseline": BASELINE, "profile": "functional"},
    )  # fmt: skip


def _by_process(
    name: str, unit: str, base: float, effect: float, processes: int, spread: float, seed: int
) -> list[Series]:
    random = np.random.default_rng(200 + seed)
    each = np.arange(processes, dtype=np.int32)
    return [
        Series(
            name, unit, (base * factor * (1 + spread * random.standard_normal(processes))).astype(np.int64),
            each, arm=arm,
        )
        for arm, factor in (("candidate", effect), ("baseline", 1.0))
    ]  # fmt: skip


def accuracy_run(
    name: str = "digits_fp32_onnx", value: float = -2 / 300, *, number: int = 34,
    device: DeviceFacts = records.PI,
) -> Run:  # fmt: skip
    """Return the paired difference of accuracies over 300 labelled samples."""
    settings = {
        "both": 293, "only_candidate": 2, "only_baseline": 4, "neither": 1, "mcnemar_p": 0.6875,
        "baseline": BASELINE, "profile": "functional",
    }  # fmt: skip
    found = comparison(
        "accuracy", value, effect=Effect.DIFFERENCE, low=value - 0.012, high=value + 0.011, n=300, df=None,
        fidelity=Fidelity.MEASURED, method=Method.PAIRED, candidate=0.99 + value, baseline=0.99,
        scenario=None, reasons=("discordant: 2 only the candidate, 4 only the baseline; McNemar p = 0.69",),
    )  # fmt: skip
    hits = np.ones(300)
    hits[:5] = 0
    each = np.zeros(300, dtype=np.int32)
    series = tuple(Series("hit", "1", hits, each, arm=arm) for arm in ("candidate", "baseline"))
    return _run(
        name, number, "accuracy", "accuracy_against", device,
        measurements=(), comparisons=(found,), series=series, settings=settings,
    )  # fmt: skip


def size_run(name: str = "digits_fp32_onnx", *, number: int = 35, device: DeviceFacts = records.PI) -> Run:
    """Return the exact ratio of two files."""
    size_bytes = float(records.MODELS[name][2])
    found = comparison(
        "model_size_bytes", 1.0, low=1.0, high=1.0, n=1, df=None, fidelity=Fidelity.MEASURED,
        method=Method.EXACT, candidate=size_bytes, baseline=size_bytes, scenario=None,
    )  # fmt: skip
    return _run(
        name, number, "deploy", "size_against", device,
        measurements=(), comparisons=(found,), settings={"baseline": BASELINE},
    )  # fmt: skip


# --- scenarios


def server_run(
    name: str = "digits_fp32_onnx", *, number: int = 41, device: DeviceFacts = records.LOCAL
) -> Run:
    """Return a search for the highest rate that keeps p99 within 15 ms."""
    rates = [
        {
            "rate_per_s": rate,
            "p99_ns": p99_ms * 1e6,
            "p99_high_ns": p99_ms * 1.04e6,
            "met": p99_ms * 1.04 <= 15,
        }
        for rate, p99_ms in (
            (50.0, 6.1),
            (100.0, 8.9),
            (150.0, 19.8),
            (125.0, 12.4),
            (137.5, 15.6),
            (131.2, 14.2),
        )
    ]
    best = records.measurement("server_rate_per_s", 131.2, low=131.2, high=137.5, n=6, scenario="server")
    series = replace(records.latency_series(7.5, seed=number, processes=1, n=400))
    return _run(
        name, number, "latency", "server", device, scenario="server", measurements=(best,), series=(series,),
        settings={"rates": rates, "p99_budget_ns": 15_000_000, "seed": number, "profile": "native"},
    )  # fmt: skip


def periodic_run(
    name: str = "digits_fp32_onnx", *, number: int = 42, device: DeviceFacts = records.LOCAL
) -> Run:
    """Return 500 frames at 10 ms, some of which end late."""
    random = np.random.default_rng(number)
    latency = (5.3e6 * (1 + random.gamma(0.4, 0.26, 500))).astype(np.int64)
    late = int((latency > 10_000_000).sum())
    each = np.zeros(500, dtype=np.int32)
    shape: dict[str, Any] = {"scenario": "periodic", "n": 500}
    found = [
        records.measurement("deadline_miss_ratio", late / 500, low=late / 900, high=late / 300, **shape),
        records.measurement("start_jitter_p99_ns", 84_000.0, low=71_000.0, high=120_000.0, **shape),
    ]
    jitter = (20_000 * random.gamma(2.0, 0.6, 500)).astype(np.int64)
    series = (
        Series("latency_ns", "ns", latency, each, "CLOCK_MONOTONIC"),
        Series("start_jitter_ns", "ns", jitter, each, "CLOCK_MONOTONIC"),
    )
    return _run(
        name, number, "latency", "periodic", device, scenario="periodic", measurements=tuple(found),
        series=series,
        settings={"period_ns": 10_000_000, "deadline_ns": 10_000_000, "profile": "native"},
    )  # fmt: skip


def multi_stream_run(
    name: str = "digits_fp32_onnx", *, number: int = 43, device: DeviceFacts = records.LOCAL
) -> Run:
    """Return queries of eight samples each."""
    series = records.latency_series(38.0, seed=number, processes=2, n=64)
    p50 = float(np.median(series.values))
    found = records.measurement(
        "latency_p50_ns", p50, low=p50 * 0.999, high=p50 * 1.001, n=128, scenario="multi_stream"
    )
    return _run(
        name, number, "latency", "multi_stream", device, scenario="multi_stream", measurements=(found,),
        series=(series,), settings={"samples_per_query": 8, "profile": "native"},
    )  # fmt: skip


def with_batch_memory(run: Run, by_batch: Mapping[str, int] | None = None) -> Run:
    """Return a memory run that also swept the batch size."""
    swept = by_batch or {str(n): int(58e6 + 1.1e6 * n) for n in (1, 2, 4, 8)}
    return replace(run, settings={**run.settings, "peak_rss_bytes_by_batch": swept})


# --- sessions


def calibration(device: str = "rpi4-emulated", **changes: Any) -> Calibration:
    """Return 40 trials of A against A: none of them cried wolf, two couldn't tell."""
    record = Calibration(
        device=device,
        taken_at="2026-01-01T22:10:00.000+00:00",
        model="digits_fp32_onnx",
        artifact_sha256="ab" * 32,
        runtime="onnxruntime",
        runtime_version="1.31.1",
        fidelity=Fidelity.VIRTUAL,
        margin=0.001,
        trials=40,
        false_fails=0,
        inconclusives=2,
        trial_s=61.0,
        half_width_ratio=0.00031,
        detectable=(
            Detectable(1.0, 0.0014, False), Detectable(5.0, 0.0011, True), Detectable(20.0, 0.00104, True),
        ),
    )  # fmt: skip
    return replace(record, **changes)


def against_runs(name: str = "digits_fp32_onnx", ratio: float = 1.012, **more: Any) -> tuple[Run, ...]:
    """Return every run of a comparing session for one model."""
    first = more.pop("first", 31)
    return (
        duet_run(name, ratio, number=first, **more),
        fresh_run(name, number=first + 1, **more),
        memory_run(name, number=first + 2, **more),
        accuracy_run(name, number=first + 3, **more),
        size_run(name, number=first + 4, **more),
    )


def comparing_runs() -> tuple[Run, ...]:
    """Return a slower and a faster candidate, one of them on a busy device, with the runs of before."""
    fp32 = [
        with_batch_memory(run) if run.suite == "memory" else run
        for run in records.model_runs("digits_fp32_onnx")
    ]
    int8 = records.model_runs("digits_int8_onnx", first=6)
    runs: Sequence[Run] = (
        *fp32, *int8,
        *against_runs("digits_fp32_onnx", 1.012),
        *against_runs("digits_int8_onnx", 0.618, first=36),
    )  # fmt: skip
    busy = {run.run_id for run in runs if run.model == "digits_int8_onnx" and run.suite == "latency"}
    return tuple(
        replace(run, conditions=(*run.conditions, BUSY)) if run.run_id in busy else run for run in runs
    )


def session(**changes: Any) -> SessionRecord:
    """Return a finished session that was asked to compare."""
    return records.session(
        **{
            "command": ("pytest", "suites/", "--device", "rpi4", "--baseline", BASELINE),
            "calibrations": (calibration(),),
            **changes,
        }
    )


def _run(name: str, number: int, suite: str, kind: str, device: DeviceFacts, **fields: Any) -> Run:
    runtime, version, *_ = records.MODELS[name]
    return records.run(
        f"{number:03d}-{kind}-{name}-{device.name}",
        suite=suite,
        test=f"suites/test_{suite}.py::test_{kind}[{device.name}-{name}]",
        model=name,
        artifact_sha256=f"{1 + list(records.MODELS).index(name):02x}" * 32,
        runtime=runtime,
        runtime_version=version,
        device=device,
        started_at=f"2026-01-02T03:05:{number % 60:02d}.000+00:00",
        duration_s=12.0,
        **fields,
    )
