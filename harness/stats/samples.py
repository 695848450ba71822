"""Samples that are not independent: how far, how much they are worth, and intervals that allow for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import (
    FloatArray,
    Interval,
    nearest_rank,
    ordered_values,
    percentile_interval,
    percentile_ranks,
    samples_needed,
)

# Chosen: below it an interval that assumes independence is at most 5% too narrow, √((1 + r) / (1 − r)).
NEGLIGIBLE_LAG1 = 0.05
# of the normal distribution, two-sided 95%: where r1 of independent samples lies (NIST/SEMATECH e-Handbook
# 1.3.3.1)
_Z = 1.959964


def lag1_autocorrelation(values: npt.ArrayLike) -> float | None:
    """Return r1 of `values` in the order they were taken; None for under 3 values or a constant.

    r1 = Σ (x[i] − m)(x[i+1] − m) / Σ (x[i] − m)² (NIST/SEMATECH e-Handbook, 1.3.5.12). Far from 0, the
    samples are not independent and order-statistic intervals are too narrow.
    """
    return _pooled_lag1([np.asarray(values, dtype=np.float64).ravel()])


def independent_lag1(n: int) -> float:
    """Return how far from 0 the lag-1 autocorrelation of n independent samples may lie.

    ±1.96 / √n (NIST/SEMATECH e-Handbook 1.3.3.1), and never less than NEGLIGIBLE_LAG1.
    """
    return max(NEGLIGIBLE_LAG1, _Z / math.sqrt(n)) if n > 0 else math.inf


def effective_sample_size(values: npt.ArrayLike) -> float:
    """Return how many independent samples tell as much of the mean as `values`, (n,) in their order; 1 to n.

    n over 1 + 2 Σ r[k], the autocorrelations summed in pairs of lags as long as a pair is above 0: Geyer's
    initial positive sequence (1992, doi:10.1214/ss/1177011137, section 3.3). A constant counts as n.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    n = int(x.size)
    if n == 0:
        raise ValueError("no values")
    deviation = x - x.mean()
    if n < 3 or np.ptp(x) == 0 or not float(deviation @ deviation) > 0:
        return float(n)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(deviation, size)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), size)[:n]
    pairs = covariance[: n - n % 2].reshape(-1, 2).sum(axis=1) / covariance[0]
    ends = np.flatnonzero(pairs <= 1e-9)  # rounding of the transform counts as 0
    time = -1 + 2 * float(pairs[: ends[0] if ends.size else pairs.size].sum())
    return float(min(n, max(1.0, n / time))) if time > 0 else float(n)


class Thinned(NamedTuple):
    """Every `factor`-th value, and the lag-1 autocorrelation before and after (None: there is none)."""

    values: FloatArray
    factor: int
    lag1: float | None
    lag1_after: float | None


def thin(values: npt.ArrayLike, max_lag1: float | None = None) -> Thinned:
    """Return every k-th of `values`, (n,) in their order, for the smallest k that leaves |r1| ≤ `max_lag1`.

    None: what independence explains at the count that is left (`independent_lag1`). Where no k does with 3
    values left, k = n: one value, nothing is independent.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    factor, before, after = _thinning([x], max_lag1)
    return Thinned(x[::factor], factor, before, after)


def block_maxima(values: npt.ArrayLike, size: int) -> FloatArray:
    """Return the largest of each `size` successive values, (n // size,); a rest at the end is left out.

    Of what correlates over less than a block, the maxima are close to independent; their p-th percentile
    bounds that of the values from above (Coles 2001, An Introduction to Statistical Modeling of Extreme
    Values, 5.3).
    """
    if size < 1:
        raise ValueError(f"a block holds at least 1 value, got {size}")
    x = np.asarray(values, dtype=np.float64).ravel()
    count = x.size // size
    maxima: FloatArray = x[: count * size].reshape(count, size).max(axis=1) if count else x[:0]
    return maxima


class PercentileInterval(NamedTuple):
    """Bounds of a percentile, and what was done to allow for correlated samples.

    `factor` is 1 where nothing was. A bound that can't be given is None; `needed` samples would do, were they
    as correlated as these.
    """

    low: float | None
    high: float | None
    factor: int
    lag1: float | None
    lag1_after: float | None
    needed: int

    @property
    def said(self) -> str:
        """Return what was done: "thinned by 4: lag-1 0.62 → 0.08"; "" where nothing was."""
        if self.factor == 1 or self.lag1 is None:
            return ""
        after = "none left" if self.lag1_after is None else f"{self.lag1_after:.2f}"
        return f"thinned by {self.factor}: lag-1 {self.lag1:.2f} → {after}"


def percentile_interval_autocorrelated(
    values: npt.ArrayLike, p: float, confidence: float = 0.9, *, process: npt.ArrayLike | None = None
) -> PercentileInterval:
    """Return the interval of the p-th percentile of samples in the order they were taken, shape (n,).

    As `percentile_interval` where their lag-1 autocorrelation is what independence explains. Else ranks are
    those of the n // k samples that thinning by k would leave, taken among all n: no sample is thrown away,
    but no more are counted than are independent. Never narrower than `percentile_interval`. With `process`,
    same shape, autocorrelation is within processes: levels that differ between them are another matter.
    """
    ordered = ordered_values(values)
    x = np.asarray(values, dtype=np.float64).ravel()
    factor, before, after = _thinning(_split(x, process), None)
    low, high = percentile_interval(x, p, confidence)
    needed = samples_needed(p, confidence)
    if factor > 1:
        low, high = _wider((low, high), _thinned_bounds(ordered, factor, p, confidence))
    return PercentileInterval(low, high, factor, before, after, needed * factor)


def _thinned_bounds(ordered: FloatArray, factor: int, p: float, confidence: float) -> Interval:
    n = int(ordered.size)
    left = n // factor
    lower, upper = percentile_ranks(left, p, confidence)
    # rank l of the samples left stands for ranks (l − 1) k + 1 to l k of all: the outermost is taken
    at = nearest_rank(p, n)
    low = None if lower is None else float(ordered[min((lower - 1) * factor + 1, at) - 1])
    high = None if upper is None else float(ordered[max(min(upper * factor, n), at) - 1])
    return low, high


def _wider(one: Interval, other: Interval) -> Interval:
    lows, highs = (one[0], other[0]), (one[1], other[1])
    return (
        None if None in lows else min(v for v in lows if v is not None),
        None if None in highs else max(v for v in highs if v is not None),
    )


def _split(x: FloatArray, process: npt.ArrayLike | None) -> list[FloatArray]:
    if process is None:
        return [x]
    numbers = np.asarray(process).ravel()
    if numbers.shape != x.shape:
        raise ValueError(f"{x.size} values but {numbers.size} process numbers")
    return [x[numbers == number] for number in np.unique(numbers)]


def _thinning(parts: list[FloatArray], max_lag1: float | None) -> tuple[int, float | None, float | None]:
    """Return by how much to thin, and r1 before and after. A constant rest is as good as independent."""
    total = sum(part.size for part in parts)
    before = after = _pooled_lag1(parts)
    factor, left = 1, parts
    while after is not None:
        bound = independent_lag1(sum(part.size for part in left)) if max_lag1 is None else max_lag1
        if abs(after) <= bound:
            return factor, before, after
        factor += 1
        left = [part[::factor] for part in parts]
        after = _pooled_lag1(left)
    return (factor if factor == 1 or max(part.size for part in left) >= 3 else total), before, None


def _pooled_lag1(parts: list[FloatArray]) -> float | None:
    """Return r1 over several series, each around its own mean; None where none says anything."""
    deviations = [part - part.mean() for part in parts if part.size >= 3 and np.ptp(part) > 0]
    total = sum(float(d @ d) for d in deviations)
    return sum(float(d[:-1] @ d[1:]) for d in deviations) / total if total > 0 else None
