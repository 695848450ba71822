"""Ratios of percentiles of pooled samples: the tails that medians over pairs of blocks don't see."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray, samples_needed
from harness.stats.ratios import BETWEEN, ONE_DUET, RESAMPLES, LogInterval, combine
from harness.stats.resampling import IntArray, block_positions, cube_root, small_sample_factor
from harness.stats.students import check_confidence, t_quantile

_CHUNK = 2_000_000  # weights at a time: 16 MB
_WINDOW = 0.08  # chosen: ranks this share of all samples away from the percentile are looked at first


def percentile_ratio_interval(
    candidate: Sequence[npt.ArrayLike],
    baseline: Sequence[npt.ArrayLike],
    p: float,
    confidence: float = 0.9,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    candidate_block: Sequence[npt.ArrayLike] | None = None,
    baseline_block: Sequence[npt.ArrayLike] | None = None,
) -> LogInterval:
    """Return the log ratio of the p-th percentiles of both arms' samples, pooled over duets.

    One array of samples a duet and arm, in their order, and which pair of blocks each belongs to; without,
    each arm is cut into as many stretches. Two levels of resampling, of which the wider counts, as in
    `duet_interval`: duets by the delete-one jackknife with Student's t, because a percentile bootstrap over
    three to five clusters covers far less than it says (MacKinnon, Nielsen and Webb 2023,
    doi:10.1002/jae.2969); pairs of blocks within duets, both arms together, by the circular block bootstrap.

    No bounds where an arm has fewer samples than `samples_needed(p, confidence)`, which is then `needed`.
    Raises ValueError where arms don't match, or a sample isn't above 0.
    """
    check_confidence(confidence)
    if len(candidate) != len(baseline) or not candidate:
        raise ValueError(f"expected as many duets of both arms, got {len(candidate)} and {len(baseline)}")
    arms = [[_positive(part) for part in parts] for parts in (candidate, baseline)]
    labels = _labels(arms, candidate_block, baseline_block)
    counts = [int(ours.max()) + 1 for ours in (np.concatenate(pair) for pair in zip(*labels, strict=True))]
    firsts = np.concatenate([[0], np.cumsum(counts)])
    pools = [
        _Pool(parts, [ids + first for ids, first in zip(arm_labels, firsts, strict=False)], int(firsts[-1]))
        for parts, arm_labels in zip(arms, labels, strict=True)
    ]

    def effects(weights: IntArray) -> FloatArray:
        return pools[0].log_percentiles(p, weights) - pools[1].log_percentiles(p, weights)

    estimate = float(effects(np.ones((1, int(firsts[-1])), dtype=np.intp))[0])
    enough = samples_needed(p, confidence)
    if min(pool.size for pool in pools) < enough:
        return LogInterval(estimate, None, None, None, ONE_DUET if len(counts) == 1 else BETWEEN, enough)
    within, factor, within_df = _within(counts, resamples, seed)
    error = _spread(np.sort(effects(within)), estimate, confidence, within_df) * factor
    between = None
    if len(counts) > 1:
        duet_of = np.repeat(np.arange(len(counts)), counts)
        left = np.sort(effects((duet_of[None, :] != np.arange(len(counts))[:, None]).astype(np.intp)))
        between = math.sqrt((len(counts) - 1) / len(counts) * float(((left - left.mean()) ** 2).sum()))
    return combine(estimate, between, error, duets=len(counts), within_df=within_df, confidence=confidence)


def _spread(found: FloatArray, estimate: float, confidence: float, df: float) -> float:
    """Return the standard error of resampled effects, (resamples,) sorted.

    Where a percentile falls between two modes, effects jump from one to the other and have no normal shape:
    then it is what makes the interval reach as far as their own quantiles.
    """
    tail = (1 - confidence) / 2
    rank = min(int(tail * found.size), found.size - 1)
    reach = max(estimate - float(found[rank]), float(found[found.size - 1 - rank]) - estimate)
    return max(float(found.std(ddof=1)), reach / t_quantile(1 - tail, df))


class _Pool:
    """One arm's samples of all duets, sorted, with the pair of blocks that each came from."""

    def __init__(self, parts: list[FloatArray], blocks: list[IntArray], n_blocks: int) -> None:
        values, ids = np.concatenate(parts), np.concatenate(blocks)
        order = np.argsort(values, kind="stable")
        self.logs = np.log(values[order])
        self.ids = ids[order]
        self.size = int(values.size)
        self.n_blocks = n_blocks

    def log_percentiles(self, p: float, weights: IntArray) -> FloatArray:
        """Return the log of the p-th percentile (nearest rank), each block counting as often as its weight.

        `weights` (resamples, blocks); returns (resamples,).
        """
        totals = weights @ np.bincount(self.ids, minlength=self.n_blocks)
        ranks = np.maximum(1, np.ceil(np.round(totals * (p / 100), 9))).astype(np.intp)
        found = np.empty(len(weights), dtype=np.intp)
        first = max(0, int(self.size * (p / 100 - _WINDOW)))
        last = min(self.size, math.ceil(self.size * (p / 100 + _WINDOW)) + 1)
        inside = self._search(weights, ranks, first, last, found)
        if not inside.all():
            rest = np.empty(int((~inside).sum()), dtype=np.intp)
            self._search(weights[~inside], ranks[~inside], 0, self.size, rest)
            found[~inside] = rest
        return np.asarray(self.logs[found], dtype=np.float64)

    def _search(
        self, weights: IntArray, ranks: IntArray, first: int, last: int, found: IntArray
    ) -> npt.NDArray[np.bool_]:
        """Fill `found` with the index of each rank among samples first … last; return where it lies there."""
        before = weights @ np.bincount(self.ids[:first], minlength=self.n_blocks)
        inside = np.zeros(len(weights), dtype=bool)
        step = max(1, _CHUNK // max(1, last - first))
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            reached = before[part, None] + np.cumsum(weights[part][:, self.ids[first:last]], axis=1)
            inside[part] = (before[part] < ranks[part]) & (reached[:, -1] >= ranks[part])
            found[part] = first + (reached < ranks[part, None]).sum(axis=1).clip(0, last - first - 1)
        return inside


def _within(counts: list[int], resamples: int, seed: int) -> tuple[IntArray, float, float]:
    """Return weights of blocks, (resamples, all blocks), duets kept; factor for small samples; their df.

    Every duet draws the same positions, so that the order of duets doesn't matter; their blocks are
    independent, which leaves the variance of a sum as it is.
    """
    columns, factors, df = [], [], 0.0
    for count in counts:
        length = max(1, min(cube_root(count), count // 4))
        picked = block_positions(count, length, resamples, seed)
        rows = np.arange(resamples)[:, None] * count
        columns.append(
            np.bincount((rows + picked).ravel(), minlength=resamples * count).reshape(resamples, count)
        )
        factors.append(small_sample_factor(count, length))
        df += max(1.0, count / length - 1)
    return np.concatenate(columns, axis=1), max(factors), df


def _labels(
    arms: list[list[FloatArray]],
    candidate_block: Sequence[npt.ArrayLike] | None,
    baseline_block: Sequence[npt.ArrayLike] | None,
) -> list[list[IntArray]]:
    """Return for both arms and each duet the number (from 0) of the pair that each sample belongs to."""
    if candidate_block is None or baseline_block is None:
        if candidate_block is not baseline_block:
            raise ValueError("blocks are given for one arm only")
        return _stretches(arms)
    found: list[list[IntArray]] = [[], []]
    for duet, blocks in enumerate(zip(candidate_block, baseline_block, strict=True)):
        numbers = [np.asarray(part).ravel() for part in blocks]
        for arm, mine in enumerate(numbers):
            if mine.size != arms[arm][duet].size:
                raise ValueError(f"{arms[arm][duet].size} samples but {mine.size} block numbers")
        names = np.unique(np.concatenate(numbers))
        if names.size < 2:
            raise ValueError("a duet has at least 2 pairs of blocks")
        for arm, mine in enumerate(numbers):
            found[arm].append(np.searchsorted(names, mine))
    return found


def _stretches(arms: list[list[FloatArray]]) -> list[list[IntArray]]:
    found: list[list[IntArray]] = [[], []]
    for parts in zip(*arms, strict=True):
        shortest = min(part.size for part in parts)
        if shortest < 2:
            raise ValueError(f"a duet has at least 2 samples of each arm, got {shortest}")
        count = max(2, math.isqrt(shortest))
        for arm, part in enumerate(parts):
            found[arm].append(np.arange(part.size) * count // part.size)
    return found


def _positive(part: npt.ArrayLike) -> FloatArray:
    x: FloatArray = np.asarray(part, dtype=np.float64).ravel()
    if x.size == 0 or not (np.isfinite(x).all() and (x > 0).all()):
        raise ValueError("expected samples above 0, finite")
    return x
