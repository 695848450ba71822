"""Series that fill up and are emptied, as caches do: where they drop, and the troughs between the drops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.stats.percentiles import FloatArray

IntArray = npt.NDArray[np.int64]

MIN_TROUGHS = 6
_DROP = 0.4  # chosen: of the spread between the 5th and 95th percentile; noise rarely falls so far at once
_SYMMETRIC = 0.25  # chosen: more rises than this share of the drops are noise, not a sawtooth
_MIN_DROPS = 3


def find_drops(y: npt.ArrayLike, level: npt.ArrayLike | None = None) -> IntArray:
    """Return the positions right after each drop of a sawtooth, ascending; empty where `y`, (n,), is none.

    A sawtooth falls at once, within two steps, by a good part of its spread, at least three times, and hardly
    ever rises so. `level` (n,): a fall from one to the next is no drop.
    """
    values = np.asarray(y, dtype=np.float64).ravel()
    none = np.empty(0, dtype=np.int64)
    if values.size < 4 * _MIN_DROPS:
        return none
    groups = np.zeros(values.size, dtype=np.int64) if level is None else np.asarray(level).ravel()
    low, high = np.percentile(_flat(values), [5, 95])
    if not high > low:
        return none
    least = _DROP * float(high - low)
    drops, rises = (_falls(sign * values, groups, least) for sign in (1.0, -1.0))
    if drops.size < _MIN_DROPS or rises.size > _SYMMETRIC * drops.size:
        return none
    return drops


def _flat(values: FloatArray) -> FloatArray:
    """Return values without the straight line from the middle of their first third to that of the last."""
    third = max(1, values.size // 3)
    rise = float(np.median(values[-third:]) - np.median(values[:third])) / max(1, values.size - third)
    flat: FloatArray = values - rise * np.arange(values.size)
    return flat


def _falls(values: FloatArray, groups: npt.NDArray[np.generic], least: float) -> IntArray:
    """Return where values have fallen by `least` or more within two steps; of falls that meet, the lowest."""
    fallen = np.zeros(values.size, dtype=bool)
    for step in (1, 2):
        fell = values[:-step] - values[step:] >= least
        fallen[step:] |= fell & (groups[:-step] == groups[step:])
    # successive positions are one fall: its lowest counts
    at = np.flatnonzero(fallen)
    first = np.flatnonzero(np.diff(at, prepend=-2) > 1)
    parts = np.split(at, first[1:]) if at.size else []
    return np.array([part[np.argmin(values[part])] for part in parts], dtype=np.int64)


def find_troughs(y: npt.ArrayLike, drops: npt.ArrayLike) -> IntArray:
    """Return the position of the lowest value from each drop to the next (the last: to the end), ascending.

    What lies before the first drop is left out: where it began isn't known.
    """
    values, at = np.asarray(y, dtype=np.float64).ravel(), np.asarray(drops, dtype=np.int64).ravel()
    ends = [*at[1:], values.size]
    return np.array([b + int(np.argmin(values[b:e])) for b, e in zip(at, ends, strict=True)], dtype=np.int64)
