"""What a comparison will find: the smallest regression that so many duets catch."""

from __future__ import annotations

import math

from harness.stats.students import check_confidence, t_quantile


def detectable_ratio(
    between_sd_log: float,
    within_se_log: float,
    duets: int,
    confidence: float = 0.9,
    power: float = 0.95,
    *,
    margin: float = 0.0,
) -> float:
    """Return the smallest true ratio whose lower bound lies above 1 + `margin` with the chance `power`.

    `between_sd_log` is the standard deviation between duets of what differs from process to process,
    `within_se_log` the standard error of one duet's median; both on the log scale. The latter falls with
    the root of a duet's measuring time, the former doesn't: so callers extrapolate, and say so. By the
    noncentral t of duets − 1 degrees of freedom (Cohen 1988, Statistical Power Analysis, chapter 2);
    `duet_interval` is never narrower than that t, so where duets agree by chance a little less is found.
    Raises ValueError for fewer than 2 duets or a power not above the one-sided error.
    """
    from scipy.optimize import brentq
    from scipy.special import nctdtr

    check_confidence(confidence)
    if duets < 2:
        raise ValueError(f"the spread between duets takes at least 2, got {duets}")
    if not (1 - confidence) / 2 < power < 1:
        raise ValueError(f"expected a power above {(1 - confidence) / 2:g} and below 1, got {power}")
    if min(between_sd_log, within_se_log) < 0 or margin <= -1:
        raise ValueError("expected a spread of 0 or more and a margin above -1")
    df = duets - 1
    threshold = t_quantile((1 + confidence) / 2, df)
    # P(T > threshold) rises with the noncentrality, from the one-sided error at 0
    most = threshold * 2 + 10.0
    while 1 - float(nctdtr(df, most, threshold)) < power:
        most *= 2
    shift = float(brentq(lambda nc: 1 - float(nctdtr(df, nc, threshold)) - power, 0.0, most, xtol=1e-10))
    error = math.hypot(between_sd_log, within_se_log) / math.sqrt(duets)
    return (1 + margin) * math.exp(shift * error)
