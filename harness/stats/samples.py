"""Samples that are not independent: how far, and what is left of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
