"""Bootstrap in blocks: samples that follow each other stay together, so that their correlation counts."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray
from harness.stats.samples import effective_sample_size

IntArray = npt.NDArray[np.intp]


@functools.lru_cache(maxsize=64)
def block_positions(n: int, length: int, resamples: int, seed: int) -> IntArray:
    """Return positions (0 to n − 1) of `resamples` bootstrap samples of n, shape (resamples, n), read-only.

    Circular blocks of `length` follow each other, each beginning anywhere (Politis and Romano 1992, "A
    circular block-resampling procedure", in LePage and Billard, Exploring the Limits of Bootstrap): every
    position is as likely as any other. A length of 1 is Efron's bootstrap. The same arguments give the same.
    """
    if not 1 <= length <= n:
        raise ValueError(f"a block is 1 to {n} long, got {length}")
    blocks = -(-n // length)
    starts = np.random.default_rng(seed).integers(0, n, size=(resamples, blocks, 1))
    found = ((starts + np.arange(length)) % n).reshape(resamples, blocks * length)[:, :n]
    found.flags.writeable = False
    return found


def block_length(values: npt.ArrayLike) -> int:
    """Return how many successive values a block should hold: n^⅓, more where they correlate for longer.

    n^⅓ is the order that is best for a variance (Hall, Horowitz and Jing 1995,
    doi:10.1093/biomet/82.3.561). Twice the correlation time n / n_eff keeps most of a block's correlation
    within it (chosen); a quarter of n at most, so that there are several blocks.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    n = int(x.size)
    time = n / effective_sample_size(x)
    # rounded: the same data, shifted, must not gain a block by the last bit of a sum
    longest = math.ceil(round(2 * time, 6)) if time > 1 else 1
    return max(1, min(max(cube_root(n), longest), n // 4))


def cube_root(n: int) -> int:
    """Return n^⅓, rounded up."""
    return math.ceil(round(math.pow(n, 1 / 3), 9))


def small_sample_factor(n: int, length: int) -> float:
    """Return what a bootstrap's standard error over n values in blocks is multiplied by.

    Resampling from n values leaves out 1 in n of the variance, in blocks `length` in n: √(n / (n −
    length)), as n − 1 in a sample's variance (Künsch 1989, doi:10.1214/aos/1176347265, for the mean).
    """
    return math.sqrt(n / (n - length)) if length < n else math.inf


def median_standard_error(
    values: npt.ArrayLike, *, resamples: int = 400, seed: int = 0
) -> tuple[float, float]:
    """Return the standard error of the median (midpoint) of `values` and its degrees of freedom.

    `values` (n,) in their order, n ≥ 2. By the circular block bootstrap; 50 to 200 resamples do for a
    standard error (Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 6.4). Degrees of
    freedom are one less than the blocks that n values hold, at least 1: a spread seen in so many of them.
    """
    x: FloatArray = np.asarray(values, dtype=np.float64).ravel()
    n = int(x.size)
    if n < 2:
        raise ValueError(f"{n} values have no standard error, expected at least 2")
    length = block_length(x)
    picked = x[block_positions(n, length, resamples, seed)]
    middle = (n - 1) // 2
    parted = np.partition(picked, (middle, n // 2), axis=1)
    medians = (parted[:, middle] + parted[:, n // 2]) / 2
    return float(medians.std(ddof=1)) * small_sample_factor(n, length), max(1.0, n / length - 1)
