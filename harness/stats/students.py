"""Quantiles and tails of Student's t and the normal distribution; None degrees of freedom mean normal."""

from __future__ import annotations


def t_quantile(prob: float, df: float | None) -> float:
    """Return x with P(T ≤ x) = `prob` for T of `df` degrees of freedom. Raises ValueError for df ≤ 0."""
    from scipy.special import ndtri, stdtrit  # 0.3 s to import

    _check(df)
    return float(ndtri(prob) if df is None else stdtrit(df, prob))


def t_tail(x: float, df: float | None) -> float:
    """Return P(T ≥ x) for T of `df` degrees of freedom. Raises ValueError for df ≤ 0."""
    from scipy.special import ndtr, stdtr

    _check(df)
    return float(ndtr(-x) if df is None else stdtr(df, -x))


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless `confidence` is between 0 and 1, both excluded."""
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, got {confidence}")


def _check(df: float | None) -> None:
    if df is not None and not df > 0:
        raise ValueError(f"degrees of freedom are above 0, got {df}")
