"""One clock: offsets between host, meter and device, their drift, and what they do to an integral. Pure.

Times are int64 nanoseconds, `local` on the clock that asked (the host's) and `remote` on the one that
answered. An offset is remote − local.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RoundTrip:
    """One question for the time: when it was sent and answered (local), and the answer (remote)."""

    sent_ns: int
    remote_ns: int
    received_ns: int

    @property
    def rtt_ns(self) -> int:
        return self.received_ns - self.sent_ns


@dataclass(frozen=True)
class Offset:
    """remote − local at one moment, true within ± `uncertainty_ns` however the two ways shared the trip."""

    at_ns: int  # local
    offset_ns: float
    uncertainty_ns: float


def estimate_offset(trips: Sequence[RoundTrip]) -> Offset:
    """Return the offset that the shortest of `trips` gives.

    The remote clock was read between sending and receiving, so half the round trip bounds the error
    (Cristian 1989, doi:10.1007/BF01784024). Raises ValueError without trips, or for one that ends before it
    began.
    """
    if not trips:
        raise ValueError("no round trips")
    if any(trip.rtt_ns < 0 for trip in trips):
        raise ValueError("a round trip ends before it began")
    best = min(trips, key=lambda trip: trip.rtt_ns)
    middle = best.sent_ns + best.rtt_ns / 2
    return Offset(round(middle), best.remote_ns - middle, best.rtt_ns / 2)


@dataclass(frozen=True)
class ClockMap:
    """How to turn times of a remote clock into local ones, between and around two offsets."""

    before: Offset
    after: Offset

    @property
    def drift_ratio(self) -> float:
        """Return how much faster the remote clock went (1e-6: 1 ppm); 0 where both were taken at once."""
        elapsed = self.after.at_ns - self.before.at_ns
        return (self.after.offset_ns - self.before.offset_ns) / elapsed if elapsed > 0 else 0.0

    @property
    def uncertainty_ns(self) -> float:
        """Return the most that a time between the two may be off: a line between them is off by no more."""
        return max(self.before.uncertainty_ns, self.after.uncertainty_ns)

    def to_local(self, remote_ns: Times) -> Times:
        """Return local times of `remote_ns`, shape (n,)."""
        at = self.before.at_ns + self.before.offset_ns
        # whole nanoseconds since boot are beyond a double's 53 bits after 104 days: work with differences
        since = np.asarray(remote_ns, dtype=np.int64) - np.int64(round(at))
        local: Times = self.before.at_ns + np.rint(since / (1.0 + self.drift_ratio)).astype(np.int64)
        return local

    def to_remote(self, local_ns: Times) -> Times:
        """Return remote times of `local_ns`, shape (n,)."""
        since = np.asarray(local_ns, dtype=np.int64) - np.int64(self.before.at_ns)
        at = np.int64(round(self.before.at_ns + self.before.offset_ns))
        remote: Times = at + np.rint(since * (1.0 + self.drift_ratio)).astype(np.int64)
        return remote


SAME_CLOCK = ClockMap(Offset(0, 0.0, 0.0), Offset(0, 0.0, 0.0))


# --- integrals ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Integral:
    """∫ value dt over a window. `value` is in the quantity × seconds; None: the samples don't cover it."""

    value: float | None
    covered_ratio: float  # of the window, by samples that are no further apart than allowed
    n: int  # samples inside
    longest_gap_ns: int


def integrate(
    t_ns: Times, values: Values, start_ns: int, end_ns: int, *, max_gap_ns: float | None = None
) -> Integral:
    """Return the integral of samples (n,), by trapezoids, values at the window's ends interpolated.

    NaN values are left out: where readings are then further apart than `max_gap_ns` (None: 5 times the median
    step), or the window begins before the first or ends after the last, that part isn't covered, and there is
    no value. Raises ValueError for times that go backwards or an empty window.
    """
    if end_ns <= start_ns:
        raise ValueError(f"the window ends at {end_ns}, not after its start {start_ns}")
    good = np.isfinite(values)
    t, v = np.asarray(t_ns)[good], np.asarray(values, dtype=np.float64)[good]
    if t.size and np.any(np.diff(t) < 0):
        raise ValueError("times go backwards")
    whole = end_ns - start_ns
    inside = int(((t >= start_ns) & (t <= end_ns)).sum())
    if t.size < 2:
        return Integral(None, 0.0, inside, whole)
    x = (t - start_ns).astype(np.float64)
    steps = np.diff(x)
    limit = 5.0 * float(np.median(steps)) if max_gap_ns is None else max_gap_ns
    left, right = np.clip(x[:-1], 0, whole), np.clip(x[1:], 0, whole)
    width = right - left
    open_ns = max(0.0, float(x[0])) + max(0.0, whole - float(x[-1]))
    gaps = np.where(steps > limit, width, 0.0)
    uncovered = min(float(whole), open_ns + float(gaps.sum()))
    longest = max(float(width.max(initial=0.0)), max(0.0, float(x[0])), max(0.0, whole - float(x[-1])))
    if uncovered > 0:
        return Integral(None, 1.0 - uncovered / whole, inside, int(longest))
    slope = np.divide(np.diff(v), steps, out=np.zeros_like(steps), where=steps > 0)
    at_left = v[:-1] + slope * (left - x[:-1])
    at_right = v[:-1] + slope * (right - x[:-1])
    area = float(((at_left + at_right) / 2 * width).sum()) / 1e9
    return Integral(area, 1.0, inside, int(longest))


def counted(t_ns: Times, values: Values, start_ns: int, end_ns: int) -> Integral:
    """Return how far a counter (joules) went over a window, interpolated at its ends.

    No value where it doesn't reach over the window or went backwards.
    """
    if end_ns <= start_ns:
        raise ValueError(f"the window ends at {end_ns}, not after its start {start_ns}")
    good = np.isfinite(values)
    t, v = np.asarray(t_ns)[good], np.asarray(values, dtype=np.float64)[good]
    inside = int(((t >= start_ns) & (t <= end_ns)).sum())
    whole = end_ns - start_ns
    if t.size < 2 or t[0] > start_ns or t[-1] < end_ns or np.any(np.diff(v) < 0):
        return Integral(None, 0.0, inside, whole)
    x = (t - start_ns).astype(np.float64)
    first, last = np.interp([0.0, float(whole)], x, v)
    return Integral(float(last - first), 1.0, inside, int(np.diff(x).max()))


def shift_error(
    t_ns: Times, values: Values, start_ns: int, end_ns: int, uncertainty_ns: float, *, counter: bool = False
) -> float | None:
    """Return how far off the integral may be because each end of the window may be off by `uncertainty_ns`.

    The larger of both directions at both ends, by the power seen around them; None where nothing was seen.
    """
    if uncertainty_ns <= 0:
        return 0.0
    measure = counted if counter else integrate
    total = 0.0
    step = max(1, round(uncertainty_ns))
    for edge in (start_ns, end_ns):
        sides = [measure(t_ns, values, a, b).value for a, b in ((edge - step, edge), (edge, edge + step))]
        seen = [abs(side) for side in sides if side is not None]
        if not seen:
            return None
        total += max(seen)
    return total


# --- edges ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edge:
    """A step up in a trace: when, how far off that may be, and the levels before and after."""

    at_ns: int
    uncertainty_ns: float
    before: float
    after: float

    @property
    def height(self) -> float:
        return self.after - self.before


def find_rise(t_ns: Times, values: Values, around_ns: int, reach_ns: int) -> Edge | None:
    """Return the step up within ± `reach_ns` of `around_ns`; None where nothing stands out there.

    The split into two levels with the least squares left, kept where the levels are further apart than three
    times what is left (chosen: noise alone does that in under one of a hundred traces).
    """
    t, v = np.asarray(t_ns), np.asarray(values, dtype=np.float64)
    keep = np.isfinite(v) & (t >= around_ns - reach_ns) & (t <= around_ns + reach_ns)
    t, v = t[keep], v[keep]
    n = int(t.size)
    if n < 6:
        return None
    sums, squares = np.cumsum(v), np.cumsum(v * v)
    k = np.arange(2, n - 1)  # samples before the step
    left, right = sums[k - 1] / k, (sums[-1] - sums[k - 1]) / (n - k)
    rest = squares[-1] - k * left**2 - (n - k) * right**2
    best = int(np.argmin(rest))
    split = int(k[best])
    noise = float(np.sqrt(max(0.0, float(rest[best])) / n))
    edge = Edge(
        int((t[split - 1] + t[split]) // 2),
        float(t[split] - t[split - 1]) / 2,
        float(left[best]),
        float(right[best]),
    )
    return edge if edge.height > max(3.0 * noise, 1e-12) else None


# --- a clock that can't be asked ------------------------------------------------------------------

MIN_MATCH = 0.7  # correlation of the trace with the pulses (chosen: noise as high as the pulses leaves 0.7)
_GRID_NS = 5_000_000  # the traces are laid on, to look for the pulses
_SMOOTH_RATIO = (
    1 / 8
)  # of a pulse: over so much noise is averaged, to look for the pulses and for faint edges


def find_pulses(
    t_ns: Times, values: Values, pulses: Sequence[tuple[int, int]], *, last: bool = False
) -> Offset | None:
    """Return the offset of the trace's clock from that of `pulses`, (begin, end) of load; None: not seen.

    The stretch of the trace that correlates best with the pulses' pattern is taken, of its first half or,
    with `last`, of its second; then each edge is found by itself. The uncertainty is how far edges disagree,
    and half a sample.
    """
    good = np.isfinite(values)
    t, v = np.asarray(t_ns)[good], np.asarray(values, dtype=np.float64)[good]
    if t.size < 8 or not pulses:
        return None
    if np.any(np.diff(t) < 0):  # of a clock that went back: the caller's health tells it
        order = np.argsort(t, kind="stable")
        t, v = t[order], v[order]
    pad = pulses[0][1] - pulses[0][0]
    begin, end = pulses[0][0] - pad, pulses[-1][1] + pad
    at = np.arange(begin, end, _GRID_NS)
    shape = np.zeros(at.size)
    for on, off in pulses:
        shape[(at >= on) & (at < off)] = 1.0
    smooth = _smoothed(t, v, round(pad * _SMOOTH_RATIO))
    half = smooth.size // 2
    kept = slice(max(0, half - shape.size), None) if last else slice(0, half + shape.size)
    grid = np.arange(smooth.size) * _GRID_NS + _GRID_NS // 2  # a cell's mean stands for its middle
    match = _correlation(smooth[kept], shape)
    if not match.size or float(match.max()) < MIN_MATCH:
        return None
    shift = int(t[0]) + int(grid[kept][int(match.argmax())]) - begin
    found, step = [], float(np.median(np.diff(t)))
    for edge, sign in (
        (moment, sign) for pulse in pulses for moment, sign in zip(pulse, (1, -1), strict=True)
    ):
        near = (edge + shift, pad // 2)
        seen = find_rise(t, sign * v, *near)
        if seen is None:  # noise as high as the step: it takes many samples to see it
            seen, step = find_rise(grid + t[0], sign * smooth, *near), max(step, float(_GRID_NS))
        if seen is not None:
            found.append(seen.at_ns - edge)
    if len(found) < len(pulses):
        return None
    middle = int(np.median(found))
    spread = float(np.median(np.abs(np.array(found) - middle))) * 2
    return Offset((pulses[0][0] + pulses[-1][1]) // 2, float(middle), spread + step / 2)


def _smoothed(t_ns: Times, values: Values, over_ns: int) -> Values:
    """Return the trace on a grid from its first sample on: means of each cell, then over `over_ns`, (m,).

    A cell without a sample has what the line between its neighbours has.
    """
    cell = ((t_ns - t_ns[0]) // _GRID_NS).astype(np.int64)
    counts = np.bincount(cell)
    sums = np.bincount(cell, weights=values)
    some = counts > 0
    at = np.arange(counts.size)
    laid = np.interp(at, at[some], sums[some] / counts[some])
    width = max(1, over_ns // _GRID_NS) | 1  # odd: an edge stays where it is
    padded = np.pad(laid, width // 2, mode="edge")
    smooth: Values = np.convolve(padded, np.full(width, 1.0 / width), mode="valid")
    return smooth


def _correlation(trace: Values, shape: Values) -> Values:
    """Return Pearson's r of `shape`, (m,), with each stretch of `trace`, (n,): shape (n − m + 1,)."""
    m = shape.size
    if trace.size < m:
        return np.zeros(0)
    centred = shape - shape.mean()
    size = 1 << (trace.size + m).bit_length()
    level = trace - trace.mean()
    spectrum = np.fft.rfft(level, size) * np.conj(np.fft.rfft(centred, size))
    dot = np.fft.irfft(spectrum, size)[: trace.size - m + 1]
    sums, squares = (np.concatenate(([0.0], np.cumsum(x))) for x in (level, level**2))
    spread = (squares[m:] - squares[:-m]) - (sums[m:] - sums[:-m]) ** 2 / m
    scale = np.sqrt(np.maximum(spread, 0.0) * float(centred @ centred))
    r: Values = np.divide(dot, scale, out=np.zeros_like(dot), where=scale > 1e-12 * max(1.0, scale.max()))
    return r
