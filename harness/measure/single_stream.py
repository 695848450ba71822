"""Latency suite, single_stream: load time, first inference and steady state, apart, in fresh processes.

Percentiles carry order-statistic intervals, widened by how far processes differ. Where an interval can't be
had from the count of samples on a virtual clock, the extremes stand in for it, and the reasons say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness import stats
from harness.measure.bench import Bench, Observation
from harness.measure.latency import (
    LatencySettings,
    iterations_for,
    measure_window,
    plain_settings,
    require_clock,
    settings_for,
    window_conditions,
)
from harness.measure.percentiles import between_processes, lag1_of, quantile
from harness.metrics import PERCENTILES
from harness.model import Condition, Fidelity, Measurement, Series
from harness.remote import MeasuredBlock

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.int64]

SCENARIO = "single_stream"
LOOKS = 3  # at most, of as many processes each, where a budget is judged by the interval (chosen)
# an undisturbed process is on its core for over 99% (measured); under this, others had their share
MIN_CPU_SHARE = 0.9
Undecided = Callable[[Sequence[Measurement]], bool]


@dataclass
class Processes:
    """What fresh processes gave, one entry each."""

    load_ns: list[int] = field(default_factory=list)
    first_ns: list[int] = field(default_factory=list)
    windows: list[MeasuredBlock] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)

    @property
    def samples(self) -> list[Samples]:
        return [window.latency_ns for window in self.windows]


def measure_single_stream(bench: Bench, undecided: Undecided | None = None) -> Observation:
    """Measure one query after another in several fresh processes.

    With `undecided`, which says so of the measurements, more processes follow up to a cap of LOOKS looks, and
    each look's intervals are as wide as looking that often asks for. On a virtual clock one look does.
    """
    fidelity = require_clock(bench)
    settings = settings_for(fidelity)
    looks = LOOKS if undecided is not None and fidelity is Fidelity.MEASURED else 1
    # one look is at the plain 90%: there is nothing to correct
    levels = stats.pocock_confidences(looks, per_look=settings.processes) if looks > 1 else (0.9,)
    seen = Processes()
    measurements: tuple[Measurement, ...] = ()
    for look, confidence in enumerate(levels, 1):
        for _ in range(settings.processes):
            bench.progress.count("process", len(seen.windows), settings.processes * look)
            _take(seen, bench, settings)
        if not all(len(samples) for samples in seen.samples):
            return _summarised(seen, fidelity, settings)
        measurements = tuple(_told(m, look, looks, confidence) for m in _measured(seen, fidelity, confidence))
        if undecided is None or not undecided(measurements):
            break
    if fidelity is Fidelity.MEASURED and (disturbed := _undisturbed(seen.windows, bench.threads)):
        seen.conditions.append(disturbed)
    return Observation(
        measurements=measurements,
        series=_series(seen),
        conditions=tuple(seen.conditions),
        settings={
            **plain_settings(settings),
            "looks": looks,
            "looks_taken": len(seen.windows) // settings.processes,
            "lag1_autocorrelation": lag1_of(seen.samples),
            "instructions_not_counted": seen.windows[0].not_counted,
        },
        scenario=SCENARIO,
    )


def _take(seen: Processes, bench: Bench, settings: LatencySettings) -> None:
    """Measure one fresh process."""
    number = len(seen.windows) + 1
    with bench.child(f"latency-{number}") as (child, load_time_ns):
        started = time.monotonic()
        seen.load_ns.append(load_time_ns)
        seen.first_ns.append(child.first())
        call_wall_s = time.monotonic() - started
        wanted = iterations_for(settings, call_wall_s)
        window = measure_window(bench, child, settings, wanted, call_wall_s)
    seen.windows.append(window)
    seen.conditions += window_conditions(f"process {number}", window, wanted)


def _measured(seen: Processes, fidelity: Fidelity, confidence: float) -> list[Measurement]:
    """Return load time, first inference, percentiles and instructions, with intervals at `confidence`."""
    import numpy as np

    blocks = seen.samples
    values, process = np.concatenate(blocks), _process_numbers(blocks)
    found = [
        quantile("load_time_ns", np.array(seen.load_ns), 50, fidelity, SCENARIO, confidence=confidence),
        quantile(
            "first_inference_ns", np.array(seen.first_ns), 50, fidelity, SCENARIO, confidence=confidence
        ),
    ]
    for p in PERCENTILES:
        pooled = quantile(
            f"latency_p{p}_ns", values, p, fidelity, SCENARIO, process=process, confidence=confidence
        )
        found.append(between_processes(pooled, p, blocks, confidence))
    counted = _instructions(seen.windows)
    return found if counted is None else [*found, counted]


def _process_numbers(blocks: Sequence[Samples]) -> npt.NDArray[np.int32]:
    import numpy as np

    return np.repeat(np.arange(len(blocks), dtype=np.int32), [len(b) for b in blocks])


def _told(m: Measurement, look: int, cap: int, confidence: float) -> Measurement:
    if cap == 1:
        return m
    what = f"look {look} of at most {cap}, declared beforehand: its interval is at {100 * confidence:.1f}%"
    return replace(m, reasons=(*m.reasons, what))


def _series(seen: Processes) -> tuple[Series, ...]:
    import numpy as np

    blocks, clock = seen.samples, seen.windows[0].clock
    each = np.arange(len(blocks), dtype=np.int32)
    return (
        Series("latency_ns", "ns", np.concatenate(blocks), _process_numbers(blocks), clock),
        Series("load_time_ns", "ns", np.array(seen.load_ns, dtype=np.int64), each, clock),
        Series("first_inference_ns", "ns", np.array(seen.first_ns, dtype=np.int64), each, clock),
    )


def _instructions(windows: list[MeasuredBlock]) -> Measurement | None:
    """Return user-space instructions a call; None where the kernel doesn't count them."""
    per_call = [
        w.instructions / (len(w.latency_ns) * w.calls_per_query)
        for w in windows
        if w.instructions is not None
    ]
    if len(per_call) < len(windows):
        return None
    why = f"in user space; interval: smallest and largest of {len(per_call)} fresh processes"
    value = stats.median(per_call)
    low, high = min(per_call), max(per_call)
    return Measurement(
        "instructions", value, low, high, len(per_call), Fidelity.MEASURED, "single_stream", reasons=(why,)
    )


def _summarised(seen: Processes, fidelity: Fidelity, settings: LatencySettings) -> Observation:
    """Return what commands that print a summary allow: each figure's median over the processes.

    There are no raw samples, so nothing bounds a percentile; what the command doesn't print is None.
    """
    import numpy as np

    why = "from the command's own summary: it gives no samples"
    summaries: list[Mapping[str, float]] = [window.summary for window in seen.windows]
    measurements = [
        quantile("load_time_ns", np.array(seen.load_ns), 50, fidelity, "single_stream"),
        quantile("first_inference_ns", np.array(seen.first_ns), 50, fidelity, "single_stream"),
    ]
    printed = {
        "latency_mean_ns": "latency_avg_ns",
        **{f"latency_p{p}_ns": f"latency_p{p}_ns" for p in PERCENTILES},
    }
    for name, key in printed.items():
        values = [s[key] for s in summaries if key in s]
        if values:
            found = quantile(name, np.array(values), 50, fidelity, "single_stream")
            measurements.append(replace(found, reasons=(*found.reasons, why)))
        else:
            measurements.append(
                Measurement(
                    name, None, None, None, 0, fidelity, "single_stream", reasons=(f"not given {why}",)
                )
            )
    return Observation(
        measurements=tuple(measurements),
        settings={**plain_settings(settings), "summaries": [dict(s) for s in summaries]},
        scenario="single_stream",
    )


def _undisturbed(blocks: list[MeasuredBlock], threads: int) -> Condition | None:
    """Return whether the measured processes had their core to themselves: CPU time against time passed.

    None where a process's CPU time is not known, or several threads blur it.
    """
    cpu_ns = sum(b.usage.get("cpu_ns", 0) for b in blocks)
    elapsed_ns = sum(b.elapsed_ns or 0 for b in blocks)
    if threads != 1 or not elapsed_ns or not all("cpu_ns" in b.usage for b in blocks):
        return None
    share = cpu_ns / elapsed_ns
    return Condition(
        "undisturbed",
        f"on a core for {100 * share:.0f}% of the measured time",
        f"at least {100 * MIN_CPU_SHARE:.0f}%",
        share >= MIN_CPU_SHARE,
        "Something else ran on the device: end it, then measure again.",
    )
