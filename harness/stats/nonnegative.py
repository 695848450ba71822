"""A quantity as a sum of non-negative shares, fitted on relative errors, and how well it foretells what it
hasn't seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.stats.students import check_confidence, t_quantile

Array = np.ndarray[Any, np.dtype[np.float64]]
FEWEST = 3  # observations that leave anything to judge a fit by
ORDER_STATISTIC_NEEDS = 9  # below, ⌈0.9 (n + 1)⌉ exceeds n: no residual seen can bound the next one


def fit_shares(amounts: Array, totals: Array) -> Array:
    """Return coefficients ≥ 0, shape (n_terms,), that make `amounts` @ coefficients ≈ `totals`.

    The sum of squared relative errors is smallest (Lawson and Hanson, Solving Least Squares Problems, 1974,
    ch. 23). `amounts` has shape (n, n_terms), `totals` (n,), all positive. Raises ValueError for other
    shapes or totals.
    """
    from scipy.optimize import nnls  # 0.3 s to import

    if amounts.ndim != 2 or totals.shape != amounts.shape[:1] or not len(totals):
        raise ValueError(f"expected shapes (n, terms) and (n,), got {amounts.shape} and {totals.shape}")
    if not (np.isfinite(totals).all() and (totals > 0).all()):
        raise ValueError("relative errors need totals above 0")
    relative = amounts / totals[:, None]
    scale = relative.max(axis=0)
    scale[scale == 0] = 1.0
    coefficients, _ = nnls(relative / scale, np.ones(len(totals)))
    return np.asarray(coefficients / scale, dtype=np.float64)


def leave_one_out(amounts: Array, totals: Array) -> Array:
    """Return log(foretold ÷ true) of each observation by a fit of all the others, shape (n,).

    Raises ValueError for fewer than `FEWEST`, or where a fit foretells nothing.
    """
    count = len(totals)
    if count < FEWEST:
        raise ValueError(f"{count} observations, expected at least {FEWEST}")
    errors = np.empty(count)
    for left_out in range(count):
        others = np.arange(count) != left_out
        foretold = float(amounts[left_out] @ fit_shares(amounts[others], totals[others]))
        if foretold <= 0:
            raise ValueError(f"the others foretell nothing for observation {left_out}")
        errors[left_out] = math.log(foretold / totals[left_out])
    return errors


def log_half_width(residuals: Sequence[float], n_terms: int, confidence: float) -> float:
    """Return how far, as a log ratio, the next true value may be from its prediction.

    Of leave-one-out residuals, the wider of two. Student's t of n - n_terms degrees of freedom times their
    root mean square, times √(1 + 1/n) for the value to come: right where residuals are normal. The
    ⌈`confidence` · (n + 1)⌉th smallest of them, which asks only that the next is like the others (the
    jackknife; Barber et al., Annals of Statistics 49, 2021); below `ORDER_STATISTIC_NEEDS`, the largest.
    Raises ValueError without a degree of freedom.
    """
    check_confidence(confidence)
    count = len(residuals)
    freedom = count - n_terms
    if count < FEWEST or freedom < 1:
        raise ValueError(f"{count} residuals of a fit of {n_terms} terms leave no degree of freedom")
    spread = math.sqrt(sum(r * r for r in residuals) / count)
    half = t_quantile((1 + confidence) / 2, freedom) * spread * math.sqrt(1 + 1 / count)
    rank = count if count < ORDER_STATISTIC_NEEDS else min(count, math.ceil(confidence * (count + 1)))
    return max(half, sorted(abs(r) for r in residuals)[rank - 1])
