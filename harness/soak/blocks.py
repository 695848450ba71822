"""Windows of a soak gathered into blocks: warm-up apart, and each stay of a process on a level of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.model import SoakSettings, SoakTable
from harness.stats.histograms import fine_percentile_by_group

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# numbers of groups (n,) of the windows at these positions (n,) → a value for each group, NaN for none
Reduce = Callable[[Ints, Ints], Floats]
# the same, and how fine each value is in its own unit
FineReduce = Callable[[Ints, Ints], tuple[Floats, Floats]]

FINE = 8  # chosen: parts of a block, by which its correlation and a sawtooth are seen
_MIN_FILLED = 0.5  # chosen: a block observed for less of its time isn't one


@dataclass(frozen=True)
class Levels:
    """Which stay of its process each window belongs to, (n,), and when each stay began, (n_levels,)."""

    of_window: Ints
    start_s: Floats


@dataclass(frozen=True)
class Blocks:
    """Values by block, shapes (n,), and by FINE parts of the blocks that count, shapes (n_fine,)."""

    middle_s: Floats
    value: Floats
    kept: npt.NDArray[np.bool_]  # not warm-up, and mostly observed
    level: Ints
    fine_s: Floats
    fine_value: Floats
    fine_level: Ints
    fine_per_block: float
    resolution: float = 0.0  # by how much a value may have moved unseen, in its unit


def levels_of(table: SoakTable, stream: str) -> Levels:
    """Return the stays of `stream`: a life of the runner or a restart of the stream begins one.

    "" is the device itself, whose stays are the lives.
    """
    starts = [life.start_s for life in table.lives]
    if stream:
        starts += [e.t_s for e in table.events if e.kind == "child_restarted" and e.stream == stream]
    begin = np.unique(np.array(starts or [0.0], dtype=np.float64))
    # a window in which a stay begins belongs to the one before: it holds some of both
    at = np.searchsorted(begin, table.start_s + 1e-6, side="right") - 1
    return Levels(np.maximum(at, 0).astype(np.int64), begin)


def steady_windows(table: SoakTable, stream: str) -> tuple[npt.NDArray[np.bool_], str]:
    """Return which windows count for `stream`, (n,), and of which variant they are ("" where it has one).

    Variants differ in all that drifts: of several, the one that most windows used is judged. A window in
    which the stream restarted holds some of two stays and doesn't count.
    """
    use = np.ones(table.start_s.size, dtype=bool)
    for event in table.events:
        if event.kind in ("child_restarted", "crash", "oom") and event.stream == stream:
            use &= ~((table.start_s <= event.t_s) & (event.t_s <= table.end_s))
    names = np.array(table.variants.get(stream, ()), dtype=object)
    known = [str(name) for name in names if name]
    kinds, counts = np.unique(known, return_counts=True) if known else (np.array([]), np.array([]))
    if len(kinds) < 2:
        return use, ""
    most = str(kinds[int(np.argmax(counts))])
    return use & (names == most), most


def gather(
    table: SoakTable,
    settings: SoakSettings,
    levels: Levels,
    use: npt.NDArray[np.bool_],
    reduce: Reduce,
    *,
    fine: bool = True,
) -> Blocks:
    """Return the blocks of `settings.block_s` that the windows of `use`, (n,), make.

    Blocks lie on multiples of their length of soak time and end where a stay ends.
    """
    at = np.flatnonzero(use)
    start, end = table.start_s[at], table.end_s[at]
    middle, level = (start + end) / 2, levels.of_window[at]
    number = np.floor(middle / settings.block_s).astype(np.int64)
    warm = start < levels.start_s[level] + settings.warmup_s - 1e-6
    group = _runs(level, number, warm.astype(np.int64))
    first = np.flatnonzero(np.diff(group, prepend=-1))
    last = np.append(first[1:], at.size)[: first.size] - 1
    observed = np.bincount(group, weights=end - start) if at.size else np.empty(0)
    value = reduce(at, group)
    kept = ~warm[first] & (observed >= _MIN_FILLED * settings.block_s) & np.isfinite(value)
    typical_s = max(float(np.median(end - start)), 1e-3) if at.size else settings.block_s
    parts = max(1, min(FINE, int(settings.block_s / typical_s)))
    inside = kept[group] if at.size else np.empty(0, dtype=bool)
    if not fine or parts == 1 or not inside.any():
        nothing = np.empty(0)
        fine_s, fine_value, fine_level = nothing, nothing, np.empty(0, dtype=np.int64)
    else:
        part = np.floor((middle[inside] / settings.block_s - number[inside]) * parts).astype(np.int64)
        fine_group = _runs(group[inside], part)
        begin = np.flatnonzero(np.diff(fine_group, prepend=-1))
        fine_value = reduce(at[inside], fine_group)
        fine_s = np.bincount(fine_group, weights=middle[inside]) / np.bincount(fine_group)
        fine_level = level[inside][begin]
        seen = np.isfinite(fine_value)
        fine_s, fine_value, fine_level = fine_s[seen], fine_value[seen], fine_level[seen]
    return Blocks(
        (start[first] + end[last]) / 2,
        value,
        kept,
        level[first],
        fine_s,
        fine_value,
        fine_level,
        float(parts),
    )


def _runs(*keys: Ints) -> Ints:
    """Return a number for each stretch over which all `keys`, (n,) each, stay the same: 0, 1, 2 …"""
    changed = np.zeros(keys[0].size, dtype=bool)
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    found: Ints = np.cumsum(changed).astype(np.int64)
    return found


def median_of(values: Floats) -> Reduce:
    """Return what gives the median of a channel's `values`, (n_windows,), by group; NaN is left out."""

    def reduce(at: Ints, group: Ints) -> Floats:
        picked = values[at]
        ends = np.append(np.flatnonzero(np.diff(group)) + 1, group.size)
        found = np.full(ends.size if group.size else 0, np.nan)
        begin = 0
        for number, end in enumerate(ends if group.size else ()):
            part = picked[begin:end]
            part = part[np.isfinite(part)]
            found[number] = np.median(part) if part.size else np.nan
            begin = int(end)
        return found

    return reduce


def p99_of(table: SoakTable, stream: str) -> FineReduce:
    """Return what gives the p99 of a stream's call times by group, of its merged histograms."""
    found = table.latency[stream]
    none = np.full(table.start_s.size, np.nan)

    def extreme(kind: str, ufunc: np.ufunc, at: Ints, first: Ints) -> Floats:
        values = table.channels.get(f"{stream}/{kind}", none)[at]
        return np.asarray(ufunc.reduceat(values, first) if first.size else np.empty(0), dtype=np.float64)

    def reduce(at: Ints, group: Ints) -> tuple[Floats, Floats]:
        of_window = np.full(table.start_s.size, -1, dtype=np.int64)
        of_window[at] = group
        first = np.flatnonzero(np.diff(group, prepend=-1)).astype(np.int64)
        return fine_percentile_by_group(
            found.offset,
            found.index,
            found.count,
            of_window,
            99.0,
            lowest_ns=extreme("min_ns", np.fmin, at, first),
            highest_ns=extreme("max_ns", np.fmax, at, first),
        )

    return reduce


def rate_of(counts: Floats, seconds: Floats) -> Reduce:
    """Return what gives counts per second by group, of the windows that were observed; both (n_windows,)."""

    def reduce(at: Ints, group: Ints) -> Floats:
        seen = np.isfinite(counts[at])
        size = int(group[-1]) + 1 if group.size else 0
        total = np.bincount(group[seen], weights=counts[at][seen], minlength=size)
        over = np.bincount(group[seen], weights=seconds[at][seen], minlength=size)
        found: Floats = np.divide(total, over, out=np.full(size, np.nan), where=over > 0)
        return found

    return reduce
