"""Several looks at growing data, and several metrics at once: errors that add up to what was asked for."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from harness.stats.percentiles import FloatArray
from harness.stats.students import check_confidence

_STEPS_PER_SD = 40  # chosen: boundaries agree with published tables to all their digits
_MOST_LOOKS = 20
_PATHS = 200_000


@functools.lru_cache(maxsize=64)
def pocock_confidences(
    looks: int, confidence: float = 0.9, *, per_look: int | None = None
) -> tuple[float, ...]:
    """Return the two-sided confidence to use at each of `looks` equally spaced looks, (looks,), all the same.

    With it the chance that any look's lower bound is above the truth is (1 − confidence)/2 over all looks
    (Pocock 1977, doi:10.1093/biomet/64.2.191, for a known variance). Student's t at the same level errs a
    little more often (Jennison and Turnbull 2000, Group Sequential Methods, section 4.4): with `per_look`,
    the duets that each look adds, it is allowed for. Raises ValueError for looks outside 1 to 20, or fewer
    than 2 duets a look.
    """
    from scipy.special import ndtr

    check_confidence(confidence)
    if per_look is not None and per_look < 2:
        raise ValueError(f"the spread between duets takes at least 2 a look, got {per_look}")
    error = (1 - confidence) / 2
    boundary = pocock_boundary(looks, error)
    if looks == 1:
        nominal = error
    elif per_look is None:
        nominal = float(ndtr(-boundary))
    else:
        nominal = _least_p_quantile(looks, per_look, error)
    return (1 - 2 * nominal,) * looks


def _least_p_quantile(looks: int, per_look: int, error: float) -> float:
    """Return the level that the least p of all looks' t tests is below with chance `error`.

    Simulated, because sums and spreads of all looks are tied together; seeded. Its own error is 1% of it.
    """
    from scipy.special import stdtr

    rng = np.random.default_rng(0)
    total, squares, least = np.zeros(_PATHS), np.zeros(_PATHS), np.ones(_PATHS)
    for look in range(1, looks + 1):
        new = rng.standard_normal((per_look, _PATHS))
        total += new.sum(axis=0)
        squares += (new**2).sum(axis=0)
        n = look * per_look
        spread = np.sqrt((squares - total**2 / n) / (n - 1))
        least = np.minimum(least, stdtr(n - 1, -total / np.sqrt(n) / spread))
    return float(np.quantile(least, error))


def pocock_boundary(looks: int, error: float, *, sides: int = 1) -> float:
    """Return the constant that a standard normal statistic exceeds at any of `looks` with chance `error`.

    `sides` is 1 (above it) or 2 (beyond it on either side).
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    if not 1 <= looks <= _MOST_LOOKS:
        raise ValueError(f"expected 1 to {_MOST_LOOKS} looks, got {looks}")
    check_confidence(error)
    alone = float(-ndtri(error / sides))
    if looks == 1:
        return alone
    together = float(-ndtri(error / sides / looks))  # Bonferroni: no boundary is further out
    found = brentq(lambda c: _crossing(looks, c, sides) - error, alone, together, xtol=1e-10)
    return float(found)


def _crossing(looks: int, boundary: float, sides: int) -> float:
    """Return the chance that a sum of k standard normal steps passes boundary × √k at some k ≤ looks.

    By recursion over the density of sums that haven't passed yet (Armitage, McPherson and Rowe 1969,
    doi:10.2307/2343787): the same multivariate normal probability, without its dimensions. Simpson's rule.
    """
    from scipy.special import ndtr

    def grid(k: int) -> tuple[FloatArray, FloatArray]:
        high = boundary * math.sqrt(k)
        low = -high if sides == 2 else -8.5 * math.sqrt(k)
        count = 2 * math.ceil((high - low) * _STEPS_PER_SD / 2 / math.sqrt(k)) + 1
        points = np.linspace(low, high, count)
        weights = np.full(count, 2.0)
        weights[1::2] = 4.0
        weights[[0, -1]] = 1.0
        return points, weights * (points[1] - points[0]) / 3

    def beyond(x: FloatArray, k: int) -> FloatArray:
        high = boundary * math.sqrt(k)
        over = ndtr(x - high)
        return np.asarray(over + ndtr(-high - x) if sides == 2 else over)

    points, weights = grid(1)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi)
    passed = float(beyond(np.zeros(1), 1)[0])
    for k in range(2, looks + 1):
        passed += float(np.sum(weights * density * beyond(points, k)))
        if k < looks:
            new, new_weights = grid(k)
            step = np.exp(-((new[:, None] - points[None, :]) ** 2) / 2) / math.sqrt(2 * math.pi)
            density = step @ (weights * density)
            points, weights = new, new_weights
    return passed


def holm(p_values: Sequence[float], alpha: float = 0.05) -> tuple[bool, ...]:
    """Return which hypotheses are rejected so that any false rejection has a chance of at most `alpha`.

    Holm's step-down (1979, Scandinavian Journal of Statistics 6:65–70): the smallest p is held to α/m, the
    next to α/(m − 1) … until one fails. In the order of `p_values`, whatever that is; equal ones fare
    alike. Raises ValueError where one isn't from 0 to 1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values are from 0 to 1, got {list(p_values)}")
    last = -1.0
    for passed, p in enumerate(sorted(p_values)):
        if p > alpha / (len(p_values) - passed):
            break
        last = p
    return tuple(p <= last for p in p_values)
