"""Histograms of call times whose buckets are at most 1/64 of their value wide (docs/soak-format.md).

The indexing is HdrHistogram's: 64 buckets of one width to an octave, so that the middle of a bucket is off by
at most 1/128 of the value. Any whole number of nanoseconds has a bucket.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Tuple

EXACT_BELOW = 128  # values below have a bucket each
_OCTAVE = 64


def bucket_of(value_ns: int) -> int:
    """Return the bucket of a value in ns. Raises ValueError if it is negative."""
    if value_ns < EXACT_BELOW:
        if value_ns < 0:
            raise ValueError("a histogram takes no negative value: %d" % value_ns)
        return value_ns
    shift = value_ns.bit_length() - 7
    return _OCTAVE * shift + (value_ns >> shift)


def bucket_bounds(index: int) -> Tuple[int, int]:
    """Return the bucket as [low, high) in ns. Raises ValueError if `index` is negative."""
    if index < EXACT_BELOW:
        if index < 0:
            raise ValueError("a histogram has no bucket %d" % index)
        return index, index + 1
    shift = index // _OCTAVE - 1
    low = index - _OCTAVE * shift
    return low << shift, (low + 1) << shift


class Histogram:
    """Counts by bucket. Its memory is bound by the buckets that were met, not by the values."""

    def __init__(self, pairs: Iterable[Iterable[int]] = ()) -> None:
        """Start with the counts of `pairs`: [index, count] each."""
        self._counts: Dict[int, int] = {}
        self.merge(pairs)

    def add(self, value_ns: int) -> None:
        """Count one value."""
        index = bucket_of(value_ns)
        self._counts[index] = self._counts.get(index, 0) + 1

    def merge(self, pairs: Iterable[Iterable[int]]) -> None:
        """Add the counts of another histogram's `pairs`."""
        for index, count in pairs:
            self._counts[index] = self._counts.get(index, 0) + count

    def pairs(self) -> List[List[int]]:
        """Return [index, count] for each bucket that isn't empty, in ascending order: what a record holds."""
        return [[index, self._counts[index]] for index in sorted(self._counts)]

    def total(self) -> int:
        """Return how many values were counted."""
        return sum(self._counts.values())

    def quantile(self, ratio: float) -> float:
        """Return the middle, in ns, of the bucket that holds the value of rank ceil(ratio · n).

        Raises ValueError when nothing was counted or `ratio` is outside 0 to 1.
        """
        total = self.total()
        if not total or not 0.0 <= ratio <= 1.0:
            raise ValueError("no quantile %r of %d values" % (ratio, total))
        rank = max(1, -int(-ratio * total // 1))
        seen, middle = 0, 0.0
        for index, count in self.pairs():
            seen += count
            low, high = bucket_bounds(index)
            middle = (low + high - 1) / 2
            if seen >= rank:
                break
        return middle
