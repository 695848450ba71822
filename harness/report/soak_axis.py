"""What the drawings of a soak share: its time axis, times in words, a long line thinned to columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.soak import Floats, Gap, Soak

# from this length in s on, by what it is divided, the unit
_AXES = ((2 * 3600.0, 3600.0, "h"), (600.0, 60.0, "min"), (0.0, 1.0, "s"))


@dataclass(frozen=True)
class TimeAxis:
    """Soak time from 0 to `span` in `unit`; `factor` is what seconds are divided by."""

    span_s: float
    factor: float
    unit: str

    @property
    def span(self) -> float:
        return self.span_s / self.factor

    def spans(self, gaps: Sequence[Gap]) -> tuple[tuple[float, float], ...]:
        """Return gaps in the axis's unit."""
        return tuple((gap.start_s / self.factor, gap.end_s / self.factor) for gap in gaps)


def time_axis(span_s: float) -> TimeAxis:
    """Return the axis of a soak of `span_s`: in hours, minutes or seconds, by its length."""
    factor, unit = next((factor, unit) for least, factor, unit in _AXES if span_s >= least)
    return TimeAxis(max(span_s, 1e-9), factor, unit)


_MAX_EVENTS = 12  # lines of events in one panel
TONES = {"FAIL": "fail", "INVALID": "invalid"}  # of judged events


def judged_events(soak: Soak, stream: str, axis: TimeAxis) -> tuple[tuple[float, str], ...]:
    """Return (t, tone) of the judged events that bear on a stream: the device's and its own. "": on any."""
    found = [e for e in soak.events if e.judged in TONES and (not stream or e.stream in ("", stream))]
    return tuple((e.t_s / axis.factor, TONES[e.judged]) for e in found[:_MAX_EVENTS])


def moment_of(seconds: float) -> str:
    """Return a moment of soak time: "17 h 23 min", "23 min 05 s", "5.2 s"."""
    if seconds < 60:
        return f"{max(seconds, 0.0):.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class Envelope:
    """The lowest, mean and highest value of each column of time that held any; shapes (n_columns,).

    `t` is the middle of what a column held.
    """

    t: Floats
    low: Floats
    mean: Floats
    high: Floats


def envelope(t: Floats, values: Floats, span_s: float, columns: int) -> Envelope:
    """Return `values` at ascending times `t` thinned to so many columns of [0, span_s]: no spike is lost."""
    number = np.clip((t / span_s * columns).astype(np.int64), 0, columns - 1)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    counts = np.diff(np.append(starts, t.size))
    return Envelope(
        np.add.reduceat(t, starts) / counts,
        np.minimum.reduceat(values, starts),
        np.add.reduceat(values, starts) / counts,
        np.maximum.reduceat(values, starts),
    )
