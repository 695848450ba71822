"""The slope of a long series of block medians: Theil–Sen's, with an interval that allows for correlation.

Numbers in, numbers out: what a limit is and what it means is `harness/soak/drift.py`'s job.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray
from harness.stats.students import check_confidence, t_quantile

IntArray = npt.NDArray[np.int64]

MIN_POINTS = 6
_Z = 1.6448536269514722  # of the normal distribution, two-sided 90%: where Sen's interval is read
_MAX_LAG1 = 0.98  # chosen: more can't be told from a drift, and would divide by nothing
_SCALES = (1, 2, 4)  # points that are averaged to see what varies slowly
# chosen: of few means, more is the luck of the estimate. Simulated, it costs no false alarm and finds more
_MAX_LAG1_OF_MEANS = 0.6
_FEWEST_MEANS = 10  # chosen: a variance and a correlation of fewer say little
_FEWEST_FINE = 24  # chosen: a lag-1 autocorrelation of fewer says little


@dataclass(frozen=True)
class DriftSlope:
    """A slope per unit of x with bounds.

    `inflation` is by how much correlation makes the variance of the slope larger than that of as many
    independent points, `df` what is left of them as degrees of freedom.
    """

    value: float
    low: float
    high: float
    n: int
    levels: int  # stretches that have a level each and share the slope
    inflation: float
    df: float


def drift_slope(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    level: npt.ArrayLike | None = None,
    *,
    confidence: float = 0.9,
    lag1_at_least: float = 0.0,
) -> DriftSlope:
    """Return the slope of `y` over `x`, (n,) in ascending x, with its interval.

    The estimate is the median of the slopes of all pairs of points of one `level` (n,) (Theil 1950; Sen 1968,
    doi:10.1080/01621459.1968.10480934; pairs within groups as in Hirsch, Slack and Smith 1982,
    doi:10.1029/WR018i001p00107): a restart begins a new level, whose offset doesn't count. The interval is
    Sen's, from Kendall's variance, times two factors: √`inflation` for points that correlate
    (`variance_inflation`), and Student's t over the normal quantile for the few independent points that are
    left. Raises ValueError for fewer than MIN_POINTS points, or none that share a level.
    """
    check_confidence(confidence)
    a, b = (np.asarray(v, dtype=np.float64).ravel() for v in (x, y))
    groups = np.zeros(a.size, dtype=np.int64) if level is None else np.asarray(level).ravel()
    if not a.size == b.size == groups.size or a.size < MIN_POINTS:
        raise ValueError(f"expected at least {MIN_POINTS} points, got {a.size} of x and {b.size} of y")
    slopes, variance = _pair_slopes(a, b, groups)
    if not slopes.size:
        raise ValueError("no two points share a level")
    value = float(np.median(slopes))
    below, above = _sen_reach(slopes, variance, value)
    levels = len(np.unique(groups))
    inflation = variance_inflation(b - value * a, groups, lag1_at_least=lag1_at_least)
    df = max(1.0, a.size / inflation - 1 - levels)
    factor = math.sqrt(inflation) * t_quantile((1 + confidence) / 2, df) / _Z
    return DriftSlope(
        value, value - factor * below, value + factor * above, int(a.size), levels, inflation, df
    )


def _pair_slopes(x: FloatArray, y: FloatArray, groups: npt.NDArray[np.generic]) -> tuple[FloatArray, float]:
    """Return the slopes of all pairs within a group, sorted, and Kendall's variance of their signs' sum."""
    found, variance = [], 0.0
    for group in np.unique(groups):
        mine = groups == group
        gx, gy = x[mine], y[mine]
        n = gx.size
        first, second = np.triu_indices(n, 1)
        dx = gx[second] - gx[first]
        apart = dx != 0
        found.append((gy[second] - gy[first])[apart] / dx[apart])
        # without the correction for ties: it would only make the interval narrower
        variance += n * (n - 1) * (2 * n + 5) / 18
    return np.sort(np.concatenate(found)), variance


def _sen_reach(slopes: FloatArray, variance: float, value: float) -> tuple[float, float]:
    """Return how far Sen's 90% interval reaches below and above the median slope (Gilbert 1987, 16.5)."""
    m = slopes.size
    reach = min(_Z * math.sqrt(variance), m - 1.0)
    low, high = np.interp([(m - reach) / 2, (m + reach) / 2 + 1], np.arange(1, m + 1), slopes)
    return value - float(low), float(high) - value


def variance_inflation(
    residuals: npt.ArrayLike, level: npt.ArrayLike, *, lag1_at_least: float = 0.0
) -> float:
    """Return by how much correlated points make the variance of their slope larger; 1 or more.

    1 + 2 Σ r[k] over the autocorrelations of points, from that of neighbours (Yue and Wang 2004,
    doi:10.1023/B:WARM.0000043140.61082.60): points are averages of what fades exponentially
    (`averaged_inflation`). A slow part that faster noise covers shows too little there, but makes means of
    2 and 4 points vary by more than a half and a quarter: of their (1 + r) / (1 − r) and of the points'
    own, the largest counts. `lag1_at_least` is what is known of the points' r from elsewhere. Simulated by
    `python -m benchmarks drift`.
    """
    r, groups = np.asarray(residuals, dtype=np.float64).ravel(), np.asarray(level).ravel()
    alone = _spread(r, groups)
    if alone is None:
        return 1.0
    found = 1.0
    for scale in _SCALES:
        means, of_level = _means_of(r, groups, scale)
        spread = _spread(means, of_level) if scale == 1 or means.size >= _FEWEST_MEANS else None
        if spread is None:
            continue
        least, most = (lag1_at_least, _MAX_LAG1) if scale == 1 else (0.0, _MAX_LAG1_OF_MEANS)
        lag1 = min(max(residual_lag1(means, of_level), least, 0.0), most)
        own = averaged_inflation(lag1) if scale == 1 else (1 + lag1) / (1 - lag1)
        found = max(found, scale * spread / alone * own)
    return found


def averaged_inflation(lag1: float) -> float:
    """Return 1 + 2 Σ r[k] of successive averages of noise that fades exponentially, from their r[1].

    Averages over B of noise whose correlation is exp(−t/τ) have r[k] = r[1] δ^(k − 1) with δ = exp(−B/τ)
    and r[1] = (1 − δ)² / (2 (δ − 1 − ln δ)), from which δ is found. Raises ValueError unless 0 ≤ r < 1.
    """
    if not 0 <= lag1 < 1:
        raise ValueError(f"a lag-1 autocorrelation is from 0 to below 1, got {lag1}")
    low, high = 0.0, 1.0
    for _ in range(60):  # r[1] grows with δ
        delta = (low + high) / 2
        room = delta - 1 - math.log(delta)
        if room > 0 and (1 - delta) ** 2 / (2 * room) < lag1:
            low = delta
        else:
            high = delta
    return 1 + 2 * lag1 / (1 - low)


def _spread(r: FloatArray, groups: npt.NDArray[np.generic]) -> float | None:
    """Return the variance of residuals about a level each; None where there is none to speak of."""
    kinds = np.unique(groups)
    df = r.size - len(kinds) - 1
    square = sum(float(np.square(r[groups == g] - r[groups == g].mean()).sum()) for g in kinds)
    scale = float(np.abs(r).max()) if r.size else 0.0
    return square / df if df > 0 and square > (1e-12 * scale) ** 2 * r.size else None


def _means_of(
    r: FloatArray, groups: npt.NDArray[np.generic], scale: int
) -> tuple[FloatArray, npt.NDArray[np.generic]]:
    """Return means of `scale` successive residuals of a level, and their levels; a rest is left out."""
    if scale == 1:
        return r, groups
    means, levels = [], []
    for group in np.unique(groups):
        mine = r[groups == group]
        count = mine.size // scale
        means.append(mine[: count * scale].reshape(count, scale).mean(axis=1))
        levels.append(np.full(count, group))
    return np.concatenate(means), np.concatenate(levels)


def residual_lag1(residuals: npt.ArrayLike, level: npt.ArrayLike, trend: int = 1) -> float:
    """Return the lag-1 autocorrelation of residuals about a level each, (n,), corrected for its bias.

    A series of n about its own mean shows φ − (1 + 3φ)/n on average, about a line (2 + 4φ)/n less than φ
    (Marriott and Pope 1954, doi:10.1093/biomet/41.3-4.390; Tjøstheim and Paulsen 1983,
    doi:10.1093/biomet/70.2.377). 0 for a constant. `trend`: slopes that were fitted.
    """
    r, groups = np.asarray(residuals, dtype=np.float64).ravel(), np.asarray(level).ravel()
    product = square = 0.0
    kinds = np.unique(groups)
    for group in kinds:
        mine = r[groups == group]
        mine = mine - mine.mean()
        product += float(mine[:-1] @ mine[1:])
        square += float(mine @ mine)
    n = r.size
    means = len(kinds)
    left = 1 - (3 * means + trend) / n
    if square <= 1e-300 or left <= 0:
        return 0.0 if square <= 1e-300 else _MAX_LAG1
    seen = product / square
    return min(_MAX_LAG1, (seen + (means + trend) / n) / left)


def implied_lag1(fine: npt.ArrayLike, level: npt.ArrayLike, per_point: float) -> float:
    """Return the autocorrelation of successive means of `per_point` values that the values themselves imply.

    `fine` (n,) are residuals at a finer step; many more of them show a correlation that few points can't.
    For AR(1) of coefficient φ, sums of m have autocorrelation φ (1 − φ^m)² / (m (1 − φ²) − 2 φ (1 − φ^m)).
    0 where there are fewer than 24 values or they don't correlate.
    """
    values = np.asarray(fine, dtype=np.float64).ravel()
    if values.size < _FEWEST_FINE or per_point <= 1:
        return 0.0
    phi = residual_lag1(values, level)
    if phi <= 0:
        return 0.0
    m, power = per_point, phi**per_point
    return min(_MAX_LAG1, float(phi * (1 - power) ** 2 / (m * (1 - phi * phi) - 2 * phi * (1 - power))))
