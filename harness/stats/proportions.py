"""Proportions: shares of samples that a model gets right, alone and against another's."""

from __future__ import annotations


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
