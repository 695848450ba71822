"""Ratios of two arms' times, with intervals on the log scale: side by side, in turns, and from memory.

A log ratio is log(candidate / baseline): swapping the arms changes its sign, a common factor leaves it alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray
from harness.stats.resampling import median_standard_error
from harness.stats.students import check_confidence, t_quantile, t_tail

RESAMPLES = 400
BETWEEN = "between"  # the spread from duet to duet, or from quadruple to quadruple
WITHIN = "within"  # the duets agree better than the pairs within them allow for: the pairs' own spread
ONE_DUET = "one duet"  # the pairs' spread alone: what differs between fresh processes isn't seen


class LogInterval(NamedTuple):
    """An effect on the log scale and its two-sided interval, symmetric, of `df` degrees of freedom.

    `basis` says what its width rests on: BETWEEN, WITHIN or ONE_DUET. Bounds that can't be given are None;
    then `needed` may say how many samples (of percentiles) or processes would do.
    """

    estimate: float
    low: float | None
    high: float | None
    df: float | None
    basis: str
    needed: int | None = None


def pair_log_ratios(
    candidate_block_medians: npt.ArrayLike, baseline_block_medians: npt.ArrayLike
) -> FloatArray:
    """Return log(candidate / baseline) of each pair of blocks, (pairs,).

    Raises ValueError unless there are as many of both, all above 0.
    """
    return _logs(candidate_block_medians, baseline_block_medians)


def duet_interval(
    per_duet: Sequence[npt.ArrayLike],
    confidence: float = 0.9,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LogInterval:
    """Return the log ratio of two arms over fresh duets, each given by its pairs' log ratios in their order.

    The estimate is the mean over duets of each one's median (midpoint) over pairs. Its half-width is the
    larger of two: Student's t over the duets' medians, and what the pairs within duets allow for (a block
    bootstrap). The duets are what is drawn anew, so their spread holds whatever the noise within does; but
    three that agree by chance would say too little. Degrees of freedom are those of the duets, so that the
    p-values of stricter confidences hold too. With one duet, the pairs alone decide (ONE_DUET). The order
    of duets doesn't matter.
    """
    check_confidence(confidence)
    parts = [_pairs(part) for part in per_duet]
    if not parts:
        raise ValueError("no duets")
    medians = np.sort([float(np.median(part)) for part in parts])
    errors = [median_standard_error(part, resamples=resamples, seed=seed) for part in parts]
    return combine(
        float(medians.mean()),
        float(medians.std(ddof=1)) / math.sqrt(len(parts)) if len(parts) > 1 else None,
        math.sqrt(math.fsum(error**2 for error, _ in errors)) / len(parts),
        duets=len(parts),
        within_df=math.fsum(df for _, df in errors),
        confidence=confidence,
    )


def combine(
    estimate: float, between: float | None, within: float, *, duets: int, within_df: float, confidence: float
) -> LogInterval:
    """Return the interval whose half-width is the larger of what two standard errors give by Student's t.

    `between` is that of the estimate by `duets` (None: one duet), `within` by what is inside them, of
    `within_df` degrees of freedom.
    """
    prob = (1 + confidence) / 2
    half, df, basis = within * t_quantile(prob, within_df), within_df, ONE_DUET
    if between is not None:
        df = float(duets - 1)
        wide = between * t_quantile(prob, df)
        half, basis = (wide, BETWEEN) if wide >= half else (half, WITHIN)
    return LogInterval(estimate, estimate - half, estimate + half, df, basis)


def abba_interval(
    candidate_values: npt.ArrayLike,
    baseline_values: npt.ArrayLike,
    order: Sequence[int],
    confidence: float = 0.9,
) -> LogInterval:
    """Return the log ratio of figures of fresh processes that took turns in quadruples ABBA or BAAB.

    `order` is 0 for a candidate and 1 for a baseline, (4 quadruples,), as they ran; values are in the order
    in which their arm ran. Each quadruple gives the mean log of its candidates less that of its baselines,
    from which a linear drift drops out (Cox 1951, doi:10.1093/biomet/38.3-4.312); then Student's t over
    quadruples. One quadruple has no bounds, `needed` then counts processes. Raises ValueError for any other
    order or count.
    """
    check_confidence(confidence)
    turns = np.asarray(order).ravel()
    if turns.size == 0 or turns.size % 4:
        raise ValueError(f"expected quadruples ABBA or BAAB, got {turns.size} processes")
    quadruples = turns.reshape(-1, 4)
    alike = (quadruples[:, 0] == quadruples[:, 3]) & (quadruples[:, 1] == quadruples[:, 2])
    if not np.isin(turns, (0, 1)).all() or not (alike & (quadruples.sum(axis=1) == 2)).all():
        raise ValueError(f"expected quadruples of 0 1 1 0 or 1 0 0 1, got {turns.tolist()}")
    per_pair = _logs(candidate_values, baseline_values)
    if per_pair.size * 2 != turns.size:
        raise ValueError(f"{turns.size} turns but {per_pair.size} values of each arm")
    effects = np.sort(per_pair.reshape(-1, 2).mean(axis=1))
    estimate = float(effects.mean())
    if effects.size < 2:
        return LogInterval(estimate, None, None, None, BETWEEN, 8)
    df = float(effects.size - 1)
    half = t_quantile((1 + confidence) / 2, df) * float(effects.std(ddof=1)) / math.sqrt(effects.size)
    return LogInterval(estimate, estimate - half, estimate + half, df, BETWEEN)


def abba_order(quadruples: int, seed: int) -> list[int]:
    """Return 4 × `quadruples` turns (0 candidate, 1 baseline), each quadruple ABBA or BAAB at random."""
    firsts = np.random.default_rng(seed).integers(0, 2, size=quadruples)
    return [int(turn) for first in firsts for turn in (first, 1 - first, 1 - first, first)]


def mover_ratio_interval(
    a: float, a_low: float, a_high: float, b: float, b_low: float, b_high: float
) -> tuple[float, float, float]:
    """Return a / b with its bounds (a ratio, no logarithm), from the intervals of two independent estimates.

    MOVER-R (Donner and Zou 2012, doi:10.1177/0962280210370266): each bound is where the difference a −
    ratio × b is as far from 0 as the two intervals' sides together reach, root of squares. The confidence
    is that of the two intervals, which needn't be symmetric. Raises ValueError unless 0 < low ≤ value ≤
    high of both.
    """
    for value, low, high in ((a, a_low, a_high), (b, b_low, b_high)):
        if not (0 < low <= value <= high and math.isfinite(high)):
            raise ValueError(f"expected 0 < low <= value <= high, got {low}, {value}, {high}")
    # in units of the estimates; as 2 − x may be below 0, the lower root is taken in the form that holds
    # then too
    al, ah, bl, bh = a_low / a, a_high / a, b_low / b, b_high / b
    low = al * (2 - al) / (1 + math.sqrt(max(0.0, 1 - al * (2 - al) * bh * (2 - bh))))
    high = (1 + math.sqrt(max(0.0, 1 - ah * (2 - ah) * bl * (2 - bl)))) / (bl * (2 - bl))
    ratio = a / b
    return ratio, min(low, 1.0) * ratio, max(high, 1.0) * ratio


def p_value_beyond(
    value: float, low: float, high: float, confidence: float, df: float | None, limit: float
) -> float:
    """Return the one-sided p of an effect as large as `value`, were the true one at most `limit`.

    From a symmetric interval low … high with its confidence, by Student's t of `df` degrees of freedom
    (None: normal). Below (1 − confidence)/2 exactly where `low` is above `limit`; falls as `value` rises. An
    interval of no width gives 0 or 1. Raises ValueError unless low ≤ high.
    """
    check_confidence(confidence)
    if not low <= high:
        raise ValueError(f"expected low <= high, got {low} and {high}")
    error = (high - low) / 2 / t_quantile((1 + confidence) / 2, df)
    if error == 0:
        return 0.0 if value > limit else 1.0
    return t_tail((value - limit) / error, df)


def _logs(candidate: npt.ArrayLike, baseline: npt.ArrayLike) -> FloatArray:
    top = np.asarray(candidate, dtype=np.float64).ravel()
    bottom = np.asarray(baseline, dtype=np.float64).ravel()
    if top.shape != bottom.shape or top.size == 0:
        raise ValueError(f"expected as many of both arms, got {top.size} and {bottom.size}")
    for values in (top, bottom):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError("a value isn't finite and above 0")
    logs: FloatArray = np.log(top) - np.log(bottom)
    return logs


def _pairs(part: npt.ArrayLike) -> FloatArray:
    x: FloatArray = np.asarray(part, dtype=np.float64).ravel()
    if x.size < 2 or not np.isfinite(x).all():
        raise ValueError(f"a duet has at least 2 pairs, finite, got {x.size}")
    return x
