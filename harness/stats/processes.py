"""Figures of fresh processes: what varies from one process to the next."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray, Interval, median, nearest_rank, percentile

# Chosen: percentile bootstraps over fewer processes than this have no 5% tail to read (0.5^5 = 3.1%, the
# exact bound for a median, is the first below it).
MIN_PROCESSES = 5


def process_medians(values: npt.ArrayLike, process: npt.ArrayLike) -> FloatArray:
    """Return one median per process, in the order of process numbers; `process` has the shape of `values`."""
    x = np.asarray(values, dtype=np.float64).ravel()
    numbers = np.asarray(process).ravel()
    if x.shape != numbers.shape:
        raise ValueError(f"{x.size} values but {numbers.size} process numbers")
    return np.array([median(x[numbers == number]) for number in np.unique(numbers)], dtype=np.float64)


def bootstrap_median_interval(
    by_process: npt.ArrayLike, confidence: float = 0.9, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the percentile-bootstrap interval of the median over processes (Efron 1979).

    `by_process` holds one figure per fresh process, shape (k,): processes are what varies from call to
    call (layout, allocation), so they are resampled, not the samples within. The same `seed` gives the
    same interval. Both bounds are None for fewer than MIN_PROCESSES.
    """
    x = np.asarray(by_process, dtype=np.float64).ravel()
    if x.size < MIN_PROCESSES:
        return None, None
    picks = np.random.default_rng(seed).integers(0, x.size, size=(resamples, x.size))
    medians = np.sort(x[picks], axis=1)[:, nearest_rank(50, int(x.size)) - 1]
    tail = 100 * (1 - confidence) / 2
    return percentile(medians, tail), percentile(medians, 100 - tail)


def t_half_width(values: npt.ArrayLike, confidence: float = 0.9) -> float:
    """Return the half-width of Student's t interval of the mean of `values`, (k,), k ≥ 2."""
    from scipy.special import stdtrit

    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size < 2:
        raise ValueError(f"{x.size} values, expected at least 2")
    return float(stdtrit(x.size - 1, (1 + confidence) / 2) * x.std(ddof=1) / np.sqrt(x.size))


def t_half_width_ratio(values: npt.ArrayLike, confidence: float = 0.9) -> float:
    """Return the factor r such that the geometric mean of `values` lies within mean / r to mean × r.

    A t interval on the logarithms; `values` (k,), positive, k ≥ 2.
    """
    from scipy.special import stdtrit

    x = np.log(np.asarray(values, dtype=np.float64).ravel())
    if x.size < 2:
        raise ValueError(f"{x.size} values, expected at least 2")
    t = float(stdtrit(x.size - 1, (1 + confidence) / 2))
    return float(np.exp(t * x.std(ddof=1) / np.sqrt(x.size)))
