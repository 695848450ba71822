"""Comparisons, and runs that hold them, with numbers that are easy to work by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.metrics import METRICS
from harness.model import Budget, Comparison, Effect, Fidelity, Method, Run
from support import records


def comparison(
    value: float | None = 1.0,
    low: float | None = 0.995,
    high: float | None = 1.005,
    metric: str = "latency_p50_ns",
    **changes: Any,
) -> Comparison:
    """Return a measured duet's effect; a difference for a metric that is a ratio itself."""
    effect = Effect.DIFFERENCE if METRICS[metric].unit == "ratio" else Effect.RATIO
    base = Comparison(
        metric=metric,
        effect=effect,
        value=value,
        low=low,
        high=high,
        n=32,
        fidelity=Fidelity.MEASURED,
        method=Method.DUET,
        candidate=None if value is None else 5e6 * value,
        baseline=5e6,
        baseline_name="release",
    )
    return replace(base, **changes)


def comparing_run(comparisons: Sequence[Comparison], run_id: str = "001-duet", **changes: Any) -> Run:
    """Return a completed run of the latency suite that holds comparisons and no numbers of its own."""
    fields: dict[str, Any] = {"suite": "latency", "scenario": "single_stream", "measurements": (), **changes}
    return records.run(run_id, comparisons=tuple(comparisons), **fields)


def margin(value: float | None, metric: str = "latency_p50_ns", **changes: Any) -> Budget:
    """Return a budget that is a margin alone, for the sample model on the emulated Pi."""
    base = Budget("digits_fp32_onnx", "rpi4", metric, None, margin=value)
    return replace(base, **changes)
