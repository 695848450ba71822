"""Joules of windows → energy per inference and power; meter and clocks are in the intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness import stats
from harness.measure.bench import Observation
from harness.measure.joules import Joules, Seen, joules_of
from harness.measure.percentiles import quantile
from harness.measure.traces import trace_series
from harness.model import (
    Fidelity,
    Measurement,
    Series,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCENARIO = "energy"


def summarise(seen: Seen, refused: Mapping[str, str]) -> Observation:
    """Return the run's numbers; where samples or clocks don't hold, none, and why."""
    found = joules_of(seen)
    problems = (*found.problems, *seen.clock_problems(), *seen.throttling())
    measurements: list[Measurement] = []
    if not problems:
        idle = idle_power(found.idles, seen.fidelity, _how(seen))
        measurements.append(idle)
        for batch_size in seen.settings.batch_sizes:
            mine = [j for j in found.loads if j.window.batch_size == batch_size]
            if mine:
                measurements += per_inference(mine, idle, seen.fidelity, batch_size, _how(seen))
    latency = _latency(seen)
    if not problems:
        measurements += latency[1]
    return Observation(
        measurements=tuple(measurements),
        series=(*latency[0], *trace_series(seen.captures.values())),
        conditions=(*seen.conditions(), *seen.idle_condition(found)),
        settings={**seen.kept(), "refused_batch_sizes": dict(refused)},
        scenario=SCENARIO,
        invalid="; ".join(problems),
    )


def _how(seen: Seen) -> tuple[str, ...]:
    """Return boundary and rate, as every number tells them."""
    kept = seen.kept()
    channels = ", ".join(kept["power_channels"])
    said = f"boundary: {kept['boundary']}; {channels}, {seen.rate_hz():.3g} Hz"
    return (said, *kept["labels"])


def idle_power(idles: Sequence[Joules], fidelity: Fidelity, how: tuple[str, ...]) -> Measurement:
    """Return the power of idling: before and after count alike, and bound it with the meter's uncertainty."""
    powers = [j.power_w for j in idles]
    value = sum(powers) / len(powers)
    meter = sum((j.meter_j or 0.0) / j.window.duration_s for j in idles) / len(idles)
    clock = sum(j.clock_j / j.window.duration_s for j in idles) / len(idles)
    low, high = min(powers) - meter - clock, max(powers) + meter + clock
    said = f"interval: {', '.join(f'{p:.4g} W' for p in powers)} before and after"
    return Measurement(
        "idle_power_w",
        value,
        low,
        high,
        len(powers),
        fidelity,
        SCENARIO,
        reasons=(said, *_meter(idles, how), *how),
    )


def per_inference(
    loads: Sequence[Joules], idle: Measurement, fidelity: Fidelity, batch_size: int, how: tuple[str, ...]
) -> list[Measurement]:
    """Return energy per inference, that above idle, and power under load, of the trials of one batch size.

    90% intervals: Student's t over trials, widened by what the meter and the clocks leave open.
    """
    assert idle.value is not None
    assert idle.low is not None
    assert idle.high is not None
    counts = [j.window.calls * j.window.batch_size for j in loads]
    seconds = [j.window.duration_s for j in loads]
    total = [j.energy_j / n for j, n in zip(loads, counts, strict=True)]
    net = [(j.energy_j - idle.value * s) / n for j, s, n in zip(loads, seconds, counts, strict=True)]
    power = [j.power_w for j in loads]
    meter = max((j.meter_j or 0.0) / n for j, n in zip(loads, counts, strict=True))
    clock = max(j.clock_j / n for j, n in zip(loads, counts, strict=True))
    # the meter's gain is in idle too; how idle itself differs before and after isn't in any trial
    idles = max(idle.value - idle.low, idle.high - idle.value)
    drift = max(idles * s / n for s, n in zip(seconds, counts, strict=True))
    watts = max((j.meter_j or 0.0) + j.clock_j for j in loads) / min(seconds)
    notes = (*_meter(loads, how), *how)
    return [
        _with_interval("energy_per_inference_j", total, meter + clock, fidelity, batch_size, notes),
        _with_interval("net_energy_per_inference_j", net, meter + clock + drift, fidelity, batch_size, notes),
        _with_interval("load_power_w", power, watts, fidelity, batch_size, notes),
    ]


def _meter(joules: Sequence[Joules], how: tuple[str, ...]) -> tuple[str, ...]:
    if any(j.meter_j is None for j in joules) and all("board model" in said for said in how[:1]):
        return ("the interval is the spread of the model's figures: how far the model is off isn't known",)
    if any(j.meter_j is None for j in joules):
        return ("the meter's maker states no uncertainty: the interval has none of it",)
    share = max((j.meter_j or 0.0) / j.energy_j for j in joules)
    clock = max(j.clock_j / j.energy_j for j in joules)
    return (f"meter ±{share:.2%}, clocks ±{clock:.2%}",)


def _with_interval(
    metric: str,
    values: Sequence[float],
    systematic: float,
    fidelity: Fidelity,
    batch_size: int,
    notes: tuple[str, ...],
) -> Measurement:
    mean = sum(values) / len(values)
    half = stats.t_half_width(values) if len(values) > 1 else None
    low = None if half is None else mean - half - systematic
    high = None if half is None else mean + half + systematic
    said = f"{len(values)} windows" if half is not None else "one window: nothing bounds it"
    return Measurement(
        metric, mean, low, high, len(values), fidelity, SCENARIO, batch_size, reasons=(said, *notes)
    )


def _latency(seen: Seen) -> tuple[list[Series], list[Measurement]]:
    """Return the calls of the windows as series, and the median of each batch size."""
    import numpy as np

    series, measurements = [], []
    for batch_size in seen.settings.batch_sizes:
        mine = [block for size, block in seen.taken.blocks if size == batch_size]
        if not mine:
            continue
        values: npt.NDArray[np.int64] = np.concatenate([b.latency_ns for b in mine])
        starts: npt.NDArray[np.int64] = np.concatenate([b.start_ns for b in mine])
        process = np.repeat(np.arange(len(mine), dtype=np.int32), [len(b.latency_ns) for b in mine])
        series.append(Series("latency_ns", "ns", values, process, mine[0].clock, batch_size))
        series.append(Series("latency_start_ns", "ns", starts, process, mine[0].clock, batch_size))
        measurements.append(
            quantile("latency_p50_ns", values, 50, seen.time_fidelity, SCENARIO, batch_size, process=process)
        )
    return series, measurements
