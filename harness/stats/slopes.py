"""A straight line through points: its slope with an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.stats.students import check_confidence, t_quantile


def slope_interval(x: npt.ArrayLike, y: npt.ArrayLike, confidence: float = 0.9) -> tuple[float, float]:
    """Return the least-squares slope of `y` over `x`, (n,), and its half-width by Student's t.

    b = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)², its standard error s / √Σ (x − x̄)² with n − 2 degrees of freedom
    (NIST/SEMATECH e-Handbook, 4.1.4.1 and 4.4.3.1). Raises ValueError for under 3 points or a constant x.
    """
    check_confidence(confidence)
    a, b = (np.asarray(v, dtype=np.float64).ravel() for v in (x, y))
    if a.size != b.size or a.size < 3:
        raise ValueError(f"expected at least 3 points, got {a.size} of x and {b.size} of y")
    dx, dy = a - a.mean(), b - b.mean()
    spread = float(dx @ dx)
    if spread == 0:
        raise ValueError("all x are the same")
    slope = float(dx @ dy) / spread
    rest = dy - slope * dx
    error = float(np.sqrt(rest @ rest / (a.size - 2) / spread))
    return slope, t_quantile((1 + confidence) / 2, a.size - 2) * error
