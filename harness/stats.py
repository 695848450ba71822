"""Pure statistics: numbers in, numbers out. No records, no I/O, no formatting.

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

# Chosen: percentile bootstraps over fewer processes than this have no 5% tail to read (0.5^5 = 3.1%, the
# exact bound for a median, is the first below it).
MIN_PROCESSES = 5
_SEARCH_LIMIT = 10_000_000


def percentile(values: npt.ArrayLike, p: float) -> float:
    """Return the p-th percentile (0 to 100) of `values`, shape (n,), by nearest rank.

    Raises ValueError where there are no values, one isn't finite, or p is outside 0 to 100.
    """
    ordered = _ordered(values)
    return float(ordered[_rank(p, ordered.size) - 1])


def median(values: npt.ArrayLike) -> float:
    """Return the 50th percentile by nearest rank (for an even count the lower of the middle two)."""
    return percentile(values, 50)


def _fraction(p: float) -> Fraction:
    if not 0 <= p <= 100:
        raise ValueError(f"a percentile is from 0 to 100, got {p}")
    return Fraction(p).limit_denominator(10**6) / 100  # 99.9 is meant in decimal, not in binary


def _rank(p: float, n: int) -> int:
    return max(1, math.ceil(_fraction(p) * n))


def _ordered(values: npt.ArrayLike) -> FloatArray:
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


def percentile_interval(values: npt.ArrayLike, p: float, confidence: float = 0.9) -> Interval:
    """Return the two-sided interval of the p-th percentile by order statistics.

    Distribution-free (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2): the number of
    samples below the true percentile is binomial, so X(l) and X(u) bound it with (1 − confidence)/2 of
    error on each side. A side that the count of samples can't bound is None; `samples_needed` says how
    many would do. Assumes independent samples: see `lag1_autocorrelation`.
    """
    ordered = _ordered(values)
    n = int(ordered.size)
    q = float(_fraction(p))
    tail = (1 - confidence) / 2
    below = _binomial_cdf(np.arange(-1, n), n, q)  # below[i] = P(B ≤ i − 1), i = 0 … n
    # X(l) is below the percentile unless fewer than l samples are: P(B ≤ l − 1) ≤ tail
    lower_ranks = np.flatnonzero(below <= tail)
    lower = int(lower_ranks[-1]) if lower_ranks.size else 0
    # X(u) is above it unless u or more samples are below: P(B ≤ u − 1) ≥ 1 − tail
    upper_ranks = np.flatnonzero(below >= 1 - tail)
    upper = int(upper_ranks[0]) if upper_ranks.size else n + 1
    return (
        float(ordered[lower - 1]) if 1 <= lower <= n else None,
        float(ordered[upper - 1]) if 1 <= upper <= n else None,
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


def lag1_autocorrelation(values: npt.ArrayLike) -> float | None:
    """Return r1 of `values` in the order they were taken; None for under 3 values or a constant.

    r1 = Σ (x[i] − m)(x[i+1] − m) / Σ (x[i] − m)² (NIST/SEMATECH e-Handbook, 1.3.5.12). Far from 0, the
    samples are not independent and order-statistic intervals are too narrow.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    if x.size < 3:
        return None
    deviation = x - x.mean()
    total = float(deviation @ deviation)
    if total == 0 or np.ptp(x) == 0:
        return None
    return float(deviation[:-1] @ deviation[1:]) / total


def clopper_pearson(successes: int, trials: int, confidence: float = 0.9) -> tuple[float, float]:
    """Return the exact two-sided interval of a proportion, never narrower than its confidence.

    Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404. Raises ValueError unless
    0 ≤ successes ≤ trials and trials > 0.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials and trials > 0, got {successes} of {trials}")
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


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
    medians = np.sort(x[picks], axis=1)[:, _rank(50, int(x.size)) - 1]
    tail = 100 * (1 - confidence) / 2
    return percentile(medians, tail), percentile(medians, 100 - tail)


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
