"""Captures as series of a run, so that the report has power, temperature and frequency on one time axis.

A capture is two series of the same length: `NAME` in its unit, and `NAME.t_ns` on the device's clock. What
they are of is in the settings, under `traces`, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.model import Capture, Series

TRACES = "traces"
TIMES = ".t_ns"
MAX_SAMPLES = 200_000  # of one capture that is kept: every k-th beyond it


def trace_series(captures: Iterable[Capture]) -> tuple[Series, ...]:
    """Return the series of `captures`, two each, in their order."""
    import numpy as np

    series = []
    for number, capture in enumerate(captures):
        step = -(-capture.t_ns.size // MAX_SAMPLES) or 1
        t_ns, values = capture.t_ns[::step], capture.values[::step]
        process = np.zeros(t_ns.size, dtype=np.int32)
        name = trace_name(number, capture)
        series.append(Series(name, capture.channel.unit, values, process, "CLOCK_MONOTONIC"))
        series.append(Series(name + TIMES, "ns", t_ns, process, "CLOCK_MONOTONIC"))
    return tuple(series)


def trace_name(number: int, capture: Capture) -> str:
    """Return what the series of a capture is called: its kind, and its place among the traces."""
    return f"{capture.channel.kind}.{number}"


def trace_settings(captures: Iterable[Capture]) -> dict[str, Any]:
    """Return what a run keeps of its traces."""
    return {
        TRACES: [
            {
                "series": trace_name(number, capture),
                "channel": capture.channel.id,
                "site": capture.channel.site,
                "kind": str(capture.channel.kind),
                "unit": capture.channel.unit,
                "boundary": capture.channel.boundary,
                "fidelity": str(capture.channel.fidelity),
                "source": capture.channel.source,
                "rate_hz": capture.channel.rate_hz,
                "uncertainty_ratio": capture.channel.uncertainty_ratio,
                "uncertainty_abs": capture.channel.uncertainty_abs,
                "expected": capture.health.expected,
                "got": capture.health.got,
                "gaps": capture.health.gaps,
                "errors": list(capture.health.errors),
            }
            for number, capture in enumerate(captures)
        ]
    }
