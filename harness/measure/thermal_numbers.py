"""Thermal runs, numbers: blocks and traces → what stays of the burst, when it throttled, how hot it got.

An emulated board's heat moves faster by a stated factor, and its times are given as the board's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import stats
from harness.measure.sampling import HEAT_BITS
from harness.measure.thermal_watch import Watched
from harness.model import Capture, Condition, Fidelity, Measurement, Series, ThermalSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCENARIO = "thermal"
SAME_FREQ_RATIO = 0.01  # a frequency stands still within so much (chosen: as its pin is held, envelope.py)
THROTTLED_RATIO = 0.95  # of the frequency at first; below it a CPU is held back (as in envelope.py)
AMBIENT_DRIFT_C = 2.0  # beyond it a run isn't one of one ambient
MIN_READ_RATIO = 0.9  # of blocks whose end has a reading, to tell whether it is steady (chosen)


@dataclass(frozen=True)
class Point:
    """A block of load and what was read at its end. None: the device doesn't show it."""

    begin_ns: int
    end_ns: int
    calls: int
    temp_c: float
    freq_hz: float | None = None
    throttled: bool | None = None

    @property
    def per_s(self) -> float:
        return self.calls * 1e9 / (self.end_ns - self.begin_ns)


def is_steady(points: Sequence[Point], settings: ThermalSettings, scale: float) -> bool:
    """Return whether temperature and frequency stood still over the last `steady_s`.

    The 90% interval of the temperature's slope lies within the allowed one (least squares, Student's t), the
    frequency within 1%, and throttling didn't come or go. Blocks without a reading say nothing of it.
    """
    import numpy as np

    last_ns = points[-1].end_ns
    mine = [p for p in points if p.end_ns >= last_ns - settings.steady_s * 1e9]
    read = [p for p in mine if math.isfinite(p.temp_c)]
    if len(read) < max(5, MIN_READ_RATIO * len(mine)):
        return False
    if last_ns - points[0].begin_ns < settings.steady_s * 1e9:
        return False
    if len({p.throttled for p in mine if p.throttled is not None}) > 1:
        return False
    freqs = [p.freq_hz for p in mine if p.freq_hz is not None]
    if freqs and max(freqs) - min(freqs) > SAME_FREQ_RATIO * max(freqs):
        return False
    minutes = np.array([(p.end_ns - read[0].end_ns) / 60e9 for p in read]) / scale
    slope, half = stats.slope_interval(minutes, np.array([p.temp_c for p in read]))
    return abs(slope) + half <= settings.steady_slope_c_per_min


@dataclass(frozen=True)
class Throttling:
    """When the load was throttled. `first_s` None: never; `observable` False: nothing would show it."""

    observable: bool
    first_s: float | None
    total_s: float
    by: str


def throttled_times(watched: Watched, captures: Mapping[str, Capture], points: Sequence[Point]) -> Throttling:
    """Return when throttling was on between the first block's begin and the last one's end.

    By throttle bits; without them by the highest of the CPUs' clocks, against where it was at first.
    """
    import numpy as np

    begin, end = points[0].begin_ns, points[-1].end_ns
    if watched.bits is not None:
        trace = captures[watched.bits.name]
        bits = np.nan_to_num(trace.values).astype(np.int64)
        held = (bits & HEAT_BITS) != 0
        return _spans(trace.t_ns, held, np.isfinite(trace.values), begin, end, watched.bits.name)
    first = [p.freq_hz for p in points[:3] if p.freq_hz is not None]
    if not watched.freqs or not first:
        return Throttling(False, None, 0.0, "")
    traces = [captures[pick.name] for pick in watched.freqs]
    # they were read in the same rounds; another instrument's are laid on the first one's times
    t_ns = traces[0].t_ns
    every = np.array([_laid(trace, t_ns) for trace in traces])
    highest = np.max(np.where(np.isfinite(every), every, -np.inf), axis=0, initial=-np.inf)
    held = highest < THROTTLED_RATIO * max(first)
    by = ", ".join(pick.name for pick in watched.freqs)
    return _spans(t_ns, held, np.isfinite(highest), begin, end, by)


def _laid(trace: Capture, t_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the trace's values at `t_ns`: the last reading before each; NaN before its first."""
    import numpy as np

    if trace.t_ns.size == t_ns.size:
        return trace.values
    at = np.searchsorted(trace.t_ns, t_ns, side="right") - 1
    return np.where(at >= 0, trace.values[at] if trace.values.size else np.nan, np.nan)


def _spans(
    t_ns: npt.NDArray[np.int64],
    held: npt.NDArray[np.bool_],
    good: npt.NDArray[np.bool_],
    begin_ns: int,
    end_ns: int,
    by: str,
) -> Throttling:
    """Add up the time from each reading that shows throttling to the next one."""
    import numpy as np

    keep = good & (t_ns >= begin_ns) & (t_ns <= end_ns)
    t, on = t_ns[keep], held[keep]
    if not t.size:
        return Throttling(False, None, 0.0, by)
    until = np.append(t[1:], end_ns)
    total_s = float((until - t)[on].sum()) / 1e9
    first_s = float(t[on][0] - begin_ns) / 1e9 if on.any() else None
    return Throttling(True, first_s, total_s, by)


def summarise(
    points: Sequence[Point],
    throttling: Throttling,
    ambient: Sequence[float | None],
    settings: ThermalSettings,
    scale: float,
    fidelity: Fidelity,
    temps: Capture,
) -> list[Measurement]:
    """Return the run's numbers. One run has no spread between runs: intervals are those of its blocks."""
    import numpy as np

    begin, end = points[0].begin_ns, points[-1].end_ns
    burst = [p.per_s for p in points if p.begin_ns < begin + settings.burst_s * 1e9]
    last = [p.per_s for p in points if p.end_ns > end - settings.steady_s * 1e9]
    how = () if scale == 1.0 else (f"heat moved {1 / scale:g} times as fast: times are the board's",)
    loaded_s = (end - begin) / 1e9 / scale
    found = []
    pairs = []
    for metric, values, what in (
        ("burst_throughput_per_s", burst, f"{len(burst)} blocks from {points[0].temp_c:.1f} °C on"),
        ("sustained_throughput_per_s", last, f"{len(last)} blocks up to {loaded_s:.0f} s of load"),
    ):
        mean = sum(values) / len(values)
        half = stats.t_half_width(values) if len(values) > 1 else None
        low, high = (None, None) if half is None else (mean - half, mean + half)
        pairs.append((mean, half))
        found.append(
            Measurement(metric, mean, low, high, len(values), fidelity, SCENARIO, reasons=(what, *how))
        )
    found.append(_ratio(pairs, len(points), fidelity, how))
    found += _throttle_rows(throttling, loaded_s, scale, fidelity, how)
    inside = (temps.t_ns >= begin) & (temps.t_ns <= end) & np.isfinite(temps.values)
    seen = [*(float(v) for v in temps.values[inside]), *(p.temp_c for p in points if math.isfinite(p.temp_c))]
    peak, off = max(seen), temps.channel.uncertainty_abs or 0.0
    found.append(
        Measurement(
            "peak_temp_c", peak, peak - off, peak + off, len(seen), fidelity, SCENARIO,
            reasons=(temps.channel.id, *how),
        )
    )  # fmt: skip
    known = [a for a in ambient if a is not None]
    value = sum(known) / len(known) if known else None
    why = ("as devices.toml has it",) if settings.ambient_temp_c is not None else ()
    why = why if known else ("no channel of a site `ambient`, and no thermal.ambient_temp",)
    low, high = (min(known), max(known)) if known else (None, None)
    found.append(Measurement("ambient_temp_c", value, low, high, len(known), fidelity, SCENARIO, reasons=why))
    return found


def _ratio(
    pairs: Sequence[tuple[float, float | None]], n: int, fidelity: Fidelity, how: tuple[str, ...]
) -> Measurement:
    (burst, burst_half), (sustained, sustained_half) = pairs
    ratio = sustained / burst
    if burst_half is None or sustained_half is None:
        said = "no interval: burst or steady state is one block; shorten thermal.block_s"
        return Measurement("sustained_ratio", ratio, None, None, n, fidelity, SCENARIO, reasons=(said, *how))
    half = ratio * math.hypot(burst_half / burst, sustained_half / sustained)
    said = "interval: of the blocks of this run"
    return Measurement(
        "sustained_ratio", ratio, ratio - half, ratio + half, n, fidelity, SCENARIO, reasons=(said, *how)
    )


def _throttle_rows(
    throttling: Throttling, loaded_s: float, scale: float, fidelity: Fidelity, how: tuple[str, ...]
) -> list[Measurement]:
    if not throttling.observable:
        why = ("not observable: no channel shows throttling or frequency",)
        return [
            Measurement(metric, None, None, None, 0, fidelity, SCENARIO, reasons=why)
            for metric in ("time_to_throttle_s", "throttled_s")
        ]
    total_s = throttling.total_s / scale
    if throttling.first_s is None:
        said = f"not throttled in {loaded_s:.0f} s of load ({throttling.by}): at least that long"
        first = Measurement(
            "time_to_throttle_s", loaded_s, loaded_s, None, 1, fidelity, SCENARIO, reasons=(said, *how)
        )
    else:
        at_s = throttling.first_s / scale
        first = Measurement(
            "time_to_throttle_s", at_s, at_s, at_s, 1, fidelity, SCENARIO, reasons=(throttling.by, *how)
        )
    said = f"of {loaded_s:.0f} s of load ({throttling.by})"
    total = Measurement("throttled_s", total_s, total_s, total_s, 1, fidelity, SCENARIO, reasons=(said, *how))
    return [first, total]


def conditions_of(
    points: Sequence[Point], ambient: Sequence[float | None], settings: ThermalSettings, scale: float
) -> list[Condition]:
    """Return the lines of the envelope about start band, steady state and the air around."""
    low, high = settings.start_temp_c
    steady = is_steady(points, settings, scale)
    loaded_s = (points[-1].end_ns - points[0].begin_ns) / 1e9 / scale
    lines = [
        Condition("start band", "reached", f"{low:g} to {high:g} °C", True),
        Condition(
            "steady",
            f"{'yes' if steady else 'no'}, {points[-1].temp_c:.1f} °C after {loaded_s:.0f} s",
            f"slope within ±{settings.steady_slope_c_per_min:g} °C/min",
            True if steady else None,
            "The cap ended it: raise thermal.load_cap_s.",
        ),
    ]
    known = [a for a in ambient if a is not None]
    if len(known) == 2:
        drift = abs(known[1] - known[0])
        lines.append(
            Condition(
                "ambient",
                f"{known[0]:.1f} °C before, {known[1]:.1f} °C after",
                f"within {AMBIENT_DRIFT_C:g} °C",
                drift <= AMBIENT_DRIFT_C,
                "Keep the room's temperature, or use a chamber.",
            )
        )
    return lines


def throughput_series(points: Sequence[Point]) -> tuple[Series, ...]:
    """Return each block's inferences a second, and when the block ended."""
    import numpy as np

    if not points:
        return ()
    none = np.zeros(len(points), dtype=np.int32)
    rate = np.array([p.per_s for p in points], dtype=np.float64)
    t_ns = np.array([p.end_ns for p in points], dtype=np.int64)
    return (
        Series("throughput_per_s", "1/s", rate, none, "CLOCK_MONOTONIC"),
        Series("throughput_per_s.t_ns", "ns", t_ns, none, "CLOCK_MONOTONIC"),
    )
