"""Proportions and other task figures: a model's own, and against another's over the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray, percentile
from harness.stats.students import check_confidence, t_quantile

_JACKKNIFE_GROUPS = 200  # chosen: BCa's acceleration, a skewness, changes little with more


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


def wilson(successes: int, trials: int, confidence: float = 0.9) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials and trials > 0, got {successes} of {trials}")
    z = t_quantile((1 + confidence) / 2, None)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return max(0.0, low), min(1.0, high)


def newcombe_paired_difference(
    both: int, only_candidate: int, only_baseline: int, neither: int, confidence: float = 0.9
) -> tuple[float, float, float]:
    """Return the candidate's share less the baseline's over the same samples, and its bounds (−1 to 1).

    Counts are of samples that both got right, one alone, or neither. Newcombe 1998, method 10,
    doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C: Wilson intervals of both shares,
    combined by the square root of squares with the counts' own correlation φ, which is corrected for
    continuity. Raises ValueError unless all counts are 0 or more and one isn't 0.
    """
    check_confidence(confidence)
    counts = (both, only_candidate, only_baseline, neither)
    n = sum(counts)
    if min(counts) < 0 or n == 0:
        raise ValueError(f"expected counts of 0 or more, not all 0, got {counts}")
    ours, theirs = both + only_candidate, both + only_baseline
    low_1, high_1 = wilson(ours, n, confidence)
    low_2, high_2 = wilson(theirs, n, confidence)
    p_1, p_2 = ours / n, theirs / n
    phi = _corrected_phi(*counts)
    difference = (only_candidate - only_baseline) / n
    down = _combined(p_1 - low_1, high_2 - p_2, phi)
    up = _combined(high_1 - p_1, p_2 - low_2, phi)
    return difference, max(-1.0, difference - down), min(1.0, difference + up)


def _corrected_phi(both: int, only_1: int, only_2: int, neither: int) -> float:
    product = (both + only_1) * (only_2 + neither) * (both + only_2) * (only_1 + neither)
    if product == 0:
        return 0.0
    covariance: float = both * neither - only_1 * only_2
    if covariance > 0:
        covariance = max(0.0, covariance - (both + only_1 + only_2 + neither) / 2)
    return covariance / math.sqrt(product)


def _combined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def mcnemar_exact(only_candidate: int, only_baseline: int) -> float:
    """Return the two-sided exact p of the discordant counts, were both models equally often alone right.

    Binomial with ½ (McNemar 1947, doi:10.1007/BF02295996; exact: Fagerland, Lydersen and Laake 2013,
    doi:10.1186/1471-2288-13-91). 1 where there are none. Raises ValueError for a negative count.
    """
    if min(only_candidate, only_baseline) < 0:
        raise ValueError(f"expected counts of 0 or more, got {only_candidate} and {only_baseline}")
    from scipy.special import bdtr

    n = only_candidate + only_baseline
    return min(1.0, 2 * float(bdtr(min(only_candidate, only_baseline), n, 0.5))) if n else 1.0


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Mann–Whitney's U over the pairs (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747). `scores`
    (n,), `labels` (n,): 1 or true is positive. NaN where one class is missing.
    """
    from scipy.stats import rankdata

    x = np.asarray(scores, dtype=np.float64).ravel()
    positive = np.asarray(labels).ravel().astype(bool)
    if x.shape != positive.shape:
        raise ValueError(f"{x.size} scores but {positive.size} labels")
    n_1 = int(positive.sum())
    n_0 = int(positive.size) - n_1
    if n_1 == 0 or n_0 == 0:
        return math.nan
    return float((rankdata(x)[positive].sum() - n_1 * (n_1 + 1) / 2) / (n_1 * n_0))


def paired_bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float],
    n: int,
    confidence: float = 0.9,
    seed: int = 0,
    *,
    resamples: int = 2000,
    strata: npt.ArrayLike | None = None,
) -> tuple[float, float, float]:
    """Return a statistic of n samples with its interval, for what two models make of the same samples.

    `statistic` takes positions (0 to n − 1, repeats allowed) and returns a number, for instance the
    difference of both models' AUC over these samples: resampling positions keeps the pairs together.
    Bias-corrected and accelerated (BCa; Efron and Tibshirani 1993, section 14.3). `strata` (n,): each is
    resampled by itself, as the classes for an AUC. The interval contains the statistic; the same seed gives
    the same. Raises ValueError for fewer than 2 samples, or a statistic that isn't finite.
    """
    check_confidence(confidence)
    if n < 2:
        raise ValueError(f"{n} samples have no interval, expected at least 2")
    groups = _strata(n, strata)
    rng = np.random.default_rng(seed)
    estimate = float(statistic(np.arange(n)))
    found = np.array(
        [
            statistic(np.concatenate([group[rng.integers(0, group.size, group.size)] for group in groups]))
            for _ in range(resamples)
        ],
        dtype=np.float64,
    )
    if not (math.isfinite(estimate) and np.isfinite(found).all()):
        raise ValueError("the statistic isn't finite for some of the resamples; are strata missing?")
    if np.ptp(found) == 0:
        return estimate, min(estimate, float(found[0])), max(estimate, float(found[0]))
    low, high = _bca_levels(statistic, groups, estimate, found, confidence)
    return estimate, min(estimate, percentile(found, low)), max(estimate, percentile(found, high))


def _strata(n: int, strata: npt.ArrayLike | None) -> list[npt.NDArray[np.intp]]:
    if strata is None:
        return [np.arange(n)]
    labels = np.asarray(strata).ravel()
    if labels.size != n:
        raise ValueError(f"{n} samples but {labels.size} strata")
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _bca_levels(
    statistic: Callable[[npt.NDArray[np.intp]], float],
    groups: list[npt.NDArray[np.intp]],
    estimate: float,
    found: FloatArray,
    confidence: float,
) -> tuple[float, float]:
    """Return which percentiles of the resampled statistics bound it, 0 to 100."""
    from scipy.special import ndtr, ndtri

    below = (np.count_nonzero(found < estimate) + np.count_nonzero(found == estimate) / 2) / found.size
    shift = float(ndtri(min(max(below, 0.5 / found.size), 1 - 0.5 / found.size)))
    # acceleration by the jackknife, group-wise where samples are many; every group of a stratum is left out
    # once
    everyone = np.concatenate(groups)
    count = min(_JACKKNIFE_GROUPS, everyone.size)
    without = np.array([statistic(np.sort(np.delete(everyone, np.s_[i::count]))) for i in range(count)])
    without = without[np.isfinite(without)]
    pull = without.mean() - without if without.size else np.zeros(1)
    spread = float((pull**2).sum())
    skew = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    levels = []
    for prob in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = shift + float(ndtri(prob))
        levels.append(100 * float(ndtr(shift + z / max(1 - skew * z, 1e-6))))
    return levels[0], levels[1]
