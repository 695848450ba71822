"""Sparse histograms of call times, by the buckets of docs/soak-format.md, with numpy.

The device's way is `harness/agent/soak/histogram.py`. A bucket is at most 1/64 of its value wide, so that its
middle is off by at most 1/128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray

PER_OCTAVE = 64
_EXACT = 2 * PER_OCTAVE  # below it a bucket holds one value
_AT_ONCE = 1 << 20  # chosen: entries that are sorted at a time, some 50 MB
MAX_NS = (1 << 62) - 1  # 146 years: beyond any call

IntArray = npt.NDArray[np.int64]


def bucket_of(values_ns: npt.ArrayLike) -> IntArray:
    """Return the bucket of each value, whole nanoseconds of 0 or more. Raises ValueError for others."""
    v = np.asarray(values_ns, dtype=np.int64)
    if v.size and (v.min() < 0 or v.max() > MAX_NS):
        raise ValueError(f"call times are 0 to {MAX_NS} ns, got {v.min()} to {v.max()}")
    # the float's exponent is the bit length, except where rounding to 53 bits reaches the next power of two
    bits = np.frexp(v.astype(np.float64))[1].astype(np.int64)
    bits -= (np.left_shift(np.int64(1), np.maximum(bits - 1, 0)) > v) & (v > 0)
    shift = np.maximum(bits - 7, 0)
    found: IntArray = np.where(v < _EXACT, v, PER_OCTAVE * shift + (v >> shift))
    return found


def bucket_bounds(index: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Return the first value of each bucket and the first beyond it, in ns."""
    i = np.asarray(index, dtype=np.int64)
    if i.size and i.min() < 0:
        raise ValueError(f"a bucket's index is 0 or more, got {i.min()}")
    shift = np.maximum(i // PER_OCTAVE - 1, 0)
    mantissa = i - PER_OCTAVE * shift
    return mantissa << shift, (mantissa + 1) << shift


def bucket_middle(index: npt.ArrayLike) -> FloatArray:
    """Return the value that stands for each bucket: the middle of the whole numbers in it, in ns."""
    low, high = bucket_bounds(index)
    middle: FloatArray = (low + (high - 1)) / 2.0
    return middle


def merge(index: npt.ArrayLike, count: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """Return (index, count) with each bucket once, ascending: what several histograms hold together."""
    i, n = np.asarray(index, dtype=np.int64), np.asarray(count, dtype=np.int64)
    if i.shape != n.shape:
        raise ValueError(f"{i.size} buckets but {n.size} counts")
    unique, at = np.unique(i, return_inverse=True)
    total = np.zeros(unique.size, dtype=np.int64)
    np.add.at(total, at, n)
    return unique, total


def histogram_percentile(index: npt.ArrayLike, count: npt.ArrayLike, p: float) -> float | None:
    """Return the p-th percentile (nearest rank) in ns, off by at most 1/128; None for an empty histogram."""
    if not 0 < p <= 100:
        raise ValueError(f"a percentile is above 0 and at most 100, got {p}")
    i, n = merge(index, count)
    total = int(n.sum())
    if total == 0:
        return None
    # exact for a whole p: 99 × 200 / 100 is rank 198, never 199 by the last bit of a float
    rank = max(1, int(-(-p * total // 100)))
    return float(bucket_middle(i[np.searchsorted(np.cumsum(n), rank)]))


def percentile_by_group(
    offset: npt.ArrayLike, index: npt.ArrayLike, count: npt.ArrayLike, group: npt.ArrayLike, p: float
) -> FloatArray:
    """Return the p-th percentile (nearest rank) by group in ns, (largest group + 1,); NaN for no call.

    `offset` has shape (n_windows + 1,): window w has entries [offset[w], offset[w + 1]) of `index` and
    `count`. Windows are merged by `group`, (n_windows,); below 0 they are left out. Off by at most 1/128.
    """
    found = _ranked(offset, index, count, group, p)
    values = np.full(found.groups, np.nan)
    values[found.group] = bucket_middle(found.bucket)
    return values


def fine_percentile_by_group(
    offset: npt.ArrayLike,
    index: npt.ArrayLike,
    count: npt.ArrayLike,
    group: npt.ArrayLike,
    p: float,
    *,
    lowest_ns: npt.ArrayLike,
    highest_ns: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Return percentiles by group as `percentile_by_group`, finer than a bucket, and how fine, in ns.

    A value lies within its bucket where its rank does among the bucket's calls; `lowest_ns` and
    `highest_ns`, (largest group + 1,), are the exact extremes of each group, NaN where not known. By how
    much all calls of a bucket could have moved unseen, times the bucket's share of the calls, is how fine.
    """
    found = _ranked(offset, index, count, group, p)
    low, high = (edge.astype(np.float64) for edge in bucket_bounds(found.bucket))
    least, most = (
        np.asarray(edge, dtype=np.float64)[: found.groups][found.group] for edge in (lowest_ns, highest_ns)
    )
    low = np.fmin(np.fmax(low, least), high)
    high = np.fmax(np.fmin(high, most), low)
    values, fine = np.full(found.groups, np.nan), np.full(found.groups, np.nan)
    values[found.group] = low + (high - low) * found.position
    fine[found.group] = (high - low) * found.share
    return values, fine


@dataclass(frozen=True)
class _Ranked:
    """The bucket in which a rank is, of each group that has calls; arrays of one length."""

    ARRAYS: ClassVar[tuple[str, ...]] = ("group", "bucket", "position", "share")

    groups: int  # largest group + 1
    group: IntArray
    bucket: IntArray
    position: FloatArray  # of the rank among the bucket's calls, 0 to 1
    share: FloatArray  # of the group's calls that are in the bucket


def _ranked(
    offset: npt.ArrayLike, index: npt.ArrayLike, count: npt.ArrayLike, group: npt.ArrayLike, p: float
) -> _Ranked:
    """Return the ranks of all groups, some windows at a time: a soak of 72 h has 10 million entries."""
    if not 0 < p <= 100:
        raise ValueError(f"a percentile is above 0 and at most 100, got {p}")
    edges, groups = np.asarray(offset, dtype=np.int64), np.asarray(group, dtype=np.int64)
    size = max(0, int(groups.max()) + 1) if groups.size else 0
    i, n = np.asarray(index), np.asarray(count)
    parts = []
    for begin, end in _cuts(edges, groups):
        entries = slice(edges[begin], edges[end])
        sizes = edges[begin + 1 : end + 1] - edges[begin:end]
        of_entry = np.repeat(groups[begin:end], sizes)
        parts.append(_ranked_part(size, of_entry, i[entries], n[entries], p))
    return _Ranked(
        size, *(np.concatenate([getattr(part, name) for part in parts]) for name in _Ranked.ARRAYS)
    )


def _cuts(edges: IntArray, groups: IntArray) -> list[tuple[int, int]]:
    """Return stretches of windows of some _AT_ONCE entries that share no group, where groups ascend."""
    n = groups.size
    ascending = np.maximum.accumulate(groups)
    if n == 0 or edges[-1] <= _AT_ONCE or np.any((groups >= 0) & (groups < ascending)):
        return [(0, n)]
    borders = np.append(np.flatnonzero(np.diff(ascending)) + 1, n)
    cuts, begin, last = [], 0, 0
    for border in borders.tolist():
        if edges[border] - edges[begin] > _AT_ONCE and last > begin:
            cuts.append((begin, last))
            begin = last
        last = border
    return [*cuts, (begin, n)]


def _ranked_part(
    size: int, of_entry: IntArray, index: npt.NDArray[Any], count: npt.NDArray[Any], p: float
) -> _Ranked:
    i, n = index.astype(np.int64), count.astype(np.int64)
    keep = (of_entry >= 0) & (n > 0)
    # each bucket once a group: position and share are of all its calls
    key, at = np.unique(of_entry[keep] << 32 | i[keep], return_inverse=True)
    calls = np.bincount(at, weights=n[keep], minlength=key.size).astype(np.int64)
    of_entry, i, reached = key >> 32, key & 0xFFFFFFFF, np.cumsum(calls)
    first = np.flatnonzero(np.diff(of_entry, prepend=-1))
    last = np.append(first[1:], of_entry.size)[: first.size] - 1
    before = reached[first] - calls[first]
    total = reached[last] - before
    # exact for a whole p: 99 × 200 / 100 is rank 198, never 199 by the last bit of a float
    rank = before + np.maximum(1, -(-p * total // 100)).astype(np.int64)
    hit = np.searchsorted(reached, rank)
    position = (rank - (reached[hit] - calls[hit]) - 0.5) / calls[hit]
    return _Ranked(size, of_entry[first], i[hit], position, calls[hit] / total)
