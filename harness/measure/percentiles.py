"""Percentiles of samples as measurements: their intervals, and what to say where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness import stats
from harness.model import Fidelity, Measurement

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.int64]

MIN_PROCESSES_FOR_T = 4  # below, t spans more than any two processes were ever apart (chosen)


def quantile(
    metric: str,
    values: Any,
    p: float,
    fidelity: Fidelity,
    scenario: str,
    batch_size: int = 1,
    *,
    process: Any = None,
    confidence: float = 0.9,
) -> Measurement:
    """Return the `p`-th percentile of `values` as `metric`, with its order-statistic interval.

    With `process`, the number of each sample's process, samples that follow each other in one process count
    only as far as they are independent. On a virtual clock the extremes stand in for a bound that the
    count of samples doesn't give.
    """
    value = stats.percentile(values, p)
    reasons: tuple[str, ...] = ()
    needed = stats.samples_needed(p, confidence)
    if fidelity is Fidelity.MEASURED and process is not None:
        found = stats.percentile_interval_autocorrelated(values, p, confidence, process=process)
        low, high, needed = found.low, found.high, found.needed
        reasons = (f"interval: {found.said}",) if found.said else ()
    else:
        low, high = stats.percentile_interval(values, p, confidence)
    if fidelity is Fidelity.VIRTUAL:
        if low is None or high is None:
            low = float(values.min()) if low is None else low
            high = float(values.max()) if high is None else high
            reasons = (f"interval: extremes of {len(values)} samples on the virtual clock",)
    elif low is None or high is None:
        reasons = (
            *reasons,
            f"{len(values)} samples can't bound the p{p:g} at {100 * confidence:.3g}%; {needed} can",
        )
    return Measurement(metric, value, low, high, len(values), fidelity, scenario, batch_size, reasons)


def between_processes(
    pooled: Measurement, p: float, blocks: list[Samples], confidence: float = 0.9
) -> Measurement:
    """Return `pooled` with its interval widened by how far its processes differ.

    Samples of one process share its memory layout and its moment, so their pooled interval is too narrow
    for the next process: the interval is at least a t interval of the processes' own percentiles, on a
    log scale (Kalibera & Jones 2013, section 9). With two processes, as on a virtual clock, t says
    nothing: there it spans their medians.
    """
    if len(blocks) < 2 or pooled.value is None or pooled.low is None or pooled.high is None:
        return pooled
    own = [stats.percentile(b, p) for b in blocks]
    if len(blocks) < MIN_PROCESSES_FOR_T:
        if p != 50:
            return pooled
        return replace(pooled, low=min(pooled.low, *own), high=max(pooled.high, *own))
    ratio = stats.t_half_width_ratio(own, confidence)
    return replace(
        pooled, low=min(pooled.low, pooled.value / ratio), high=max(pooled.high, pooled.value * ratio)
    )


def lag1_of(blocks: list[Samples]) -> list[float | None]:
    """Return each process's lag-1 autocorrelation; None where it has too few samples."""
    return [stats.lag1_autocorrelation(b) if len(b) > 2 else None for b in blocks]
