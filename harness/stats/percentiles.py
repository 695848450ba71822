"""Percentiles and their distribution-free intervals.

Percentiles are order statistics: the p-th percentile of n samples is the smallest sample that at least
p% of the samples don't exceed (nearest rank; type 1 of Hyndman and Fan 1996,
doi:10.1080/00031305.1996.10473566; `inverted_cdf` in numpy). It is always a value
that really occurred.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Interval = tuple[float | None, float | None]

_SEARCH_LIMIT = 10_000_000


def percentile(values: npt.ArrayLike, p: float) -> float:
    """Return the p-th percentile (0 to 100) of `values`, shape (n,), by nearest rank.

    Raises ValueError where there are no values, one isn't finite, or p is outside 0 to 100.
    """
    ordered = ordered_values(values)
    return float(ordered[nearest_rank(p, ordered.size) - 1])


def median(values: npt.ArrayLike) -> float:
    """Return the 50th percentile by nearest rank (for an even count the lower of the middle two)."""
    return percentile(values, 50)


def _fraction(p: float) -> Fraction:
    if not 0 <= p <= 100:
        raise ValueError(f"a percentile is from 0 to 100, got {p}")
    return Fraction(p).limit_denominator(10**6) / 100  # 99.9 is meant in decimal, not in binary


def nearest_rank(p: float, n: int) -> int:
    """Return the rank (1 to n) of the p-th percentile among n ordered samples."""
    return max(1, math.ceil(_fraction(p) * n))


def ordered_values(values: npt.ArrayLike) -> FloatArray:
    """Return `values` sorted, shape (n,). Raises ValueError where there are none or one isn't finite."""
    array = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if array.size == 0:
        raise ValueError("no values")
    if not np.isfinite(array).all():
        raise ValueError("a value isn't finite")
    return array


def _binomial_cdf(k: npt.ArrayLike, n: int, prob: float) -> Any:
    """Return P(B ≤ k) for B ~ Binomial(n, prob); 0 for k < 0."""
    from scipy.special import bdtr  # 0.3 s to import

    k = np.asarray(k, dtype=np.float64)
    return np.where(k < 0, 0.0, bdtr(np.maximum(k, 0), n, prob))


def percentile_ranks(n: int, p: float, confidence: float = 0.9) -> tuple[int | None, int | None]:
    """Return the ranks (1 to n) of the two order statistics that bound the p-th percentile of n samples.

    Distribution-free (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2): the number of
    samples below the true percentile is binomial, so X(l) and X(u) bound it with (1 − confidence)/2 of
    error on each side. None where n samples can't bound that side.
    """
    q = float(_fraction(p))
    tail = (1 - confidence) / 2
    below = _binomial_cdf(np.arange(-1, n), n, q)  # below[i] = P(B ≤ i − 1), i = 0 … n
    # X(l) is below the percentile unless fewer than l samples are: P(B ≤ l − 1) ≤ tail
    lower_ranks = np.flatnonzero(below <= tail)
    lower = int(lower_ranks[-1]) if lower_ranks.size else 0
    # X(u) is above it unless u or more samples are below: P(B ≤ u − 1) ≥ 1 − tail
    upper_ranks = np.flatnonzero(below >= 1 - tail)
    upper = int(upper_ranks[0]) if upper_ranks.size else n + 1
    return (lower if 1 <= lower <= n else None), (upper if 1 <= upper <= n else None)


def percentile_interval(values: npt.ArrayLike, p: float, confidence: float = 0.9) -> Interval:
    """Return the two-sided interval of the p-th percentile by order statistics (`percentile_ranks`).

    A side that the count of samples can't bound is None; `samples_needed` says how many would do. Assumes
    independent samples: see `percentile_interval_autocorrelated`.
    """
    ordered = ordered_values(values)
    lower, upper = percentile_ranks(int(ordered.size), p, confidence)
    return (
        None if lower is None else float(ordered[lower - 1]),
        None if upper is None else float(ordered[upper - 1]),
    )


def samples_needed(p: float, confidence: float = 0.9) -> int:
    """Return the smallest count for which `percentile_interval` bounds the percentile on both sides.

    The largest of n samples lies above the percentile unless all are below it: q^n ≤ tail.
    """
    q = float(_fraction(p))
    if not 0 < q < 1:
        raise ValueError(f"no count of samples bounds the {p}th percentile")
    tail = (1 - confidence) / 2
    return max(math.ceil(math.log(tail) / math.log(side)) for side in (q, 1 - q))


def loadgen_samples_needed(p: float, confidence: float = 0.99, over: int = 1) -> int:
    """Return LoadGen's minimum count of queries for an early stop at percentile p.

    The smallest n for which `over` (one) queries above the percentile among n would be seen with at most
    1 − confidence: 64, 130, 219, 662 and 6636 for p90, p95, p97, p99 and p99.9 (MLPerf inference rules,
    appendix "Early stopping").
    """
    above = float(1 - _fraction(p))
    if not 0 < above < 1:
        raise ValueError(f"no count of samples suffices for the {p}th percentile")
    low, high = over, over + 1
    while float(_binomial_cdf(over, high, above)) > 1 - confidence:
        low, high = high, high * 2
        if high > _SEARCH_LIMIT:
            raise ValueError(f"the {p}th percentile needs more than {_SEARCH_LIMIT} samples")
    while high - low > 1:
        middle = (low + high) // 2
        if float(_binomial_cdf(over, middle, above)) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high
