"""Thermal runs, sensors: whether what they said under load can be believed. A missing reading is never 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness import stats
from harness.instruments.health import describe_problems
from harness.measure.joules import GAP_PERIODS, GAP_RATIO
from harness.measure.thermal_numbers import Point
from harness.measure.thermal_watch import Watched
from harness.model import Capture, Condition

MISSES = 5  # readings in a row that may be missing (chosen: a bus that is busy once isn't a dead sensor)
MIN_RISE_C = 3.0  # under load; below it nothing says whether the temperature has to fall after it (chosen)
FALL_RATIO = 0.05  # of the rise: so much less shows that the sensor lives (chosen)
_LAST = 5  # blocks whose median is the temperature at the end


def problems_of(
    watched: Watched, captures: Mapping[str, Capture], points: Sequence[Point]
) -> tuple[str, ...]:
    """Return what keeps the traces of temperature and throttling from counting; () where nothing does.

    A hole in them is a problem where it is longer than ten periods and a tenth of the load.
    """
    if not points:
        return ()
    begin, end = points[0].begin_ns, points[-1].end_ns
    found: list[str] = []
    for pick in (watched.temp, *watched.throttling):
        capture = captures[pick.name]
        health = capture.health
        if health.got == 0 or health.stale or health.out_of_range or health.rollbacks:
            found += describe_problems(capture)
            continue
        hole_s = longest_hole_s(capture, begin, end)
        if hole_s is not None:
            said = "; ".join(health.errors)
            what = f"{pick.name}: no reading for {hole_s:.3g} of {(end - begin) / 1e9:.3g} s of load"
            found.append(what + (f" ({said})" if said else ""))
    return tuple(dict.fromkeys(found))


def longest_hole_s(capture: Capture, begin_ns: int, end_ns: int) -> float | None:
    """Return the longest time without a reading between two moments, None where it isn't too long."""
    import numpy as np

    good = capture.t_ns[np.isfinite(capture.values)]
    inside = good[(good >= begin_ns) & (good <= end_ns)]
    # what was read last before the load holds for its begin, what comes first after it for its end
    first = good[good < begin_ns][-1:]
    last = good[good > end_ns][:1]
    edges = np.concatenate((first if first.size else [begin_ns], inside, last if last.size else [end_ns]))
    hole_ns = float(np.diff(edges).max())
    steps = np.diff(capture.t_ns)
    period_ns = float(np.median(steps)) if steps.size else float(end_ns - begin_ns)
    limit_ns = max(GAP_PERIODS * period_ns, GAP_RATIO * (end_ns - begin_ns))
    return hole_ns / 1e9 if hole_ns > limit_ns or not inside.size else None


def falls_again(
    temp_c: Callable[[], float],
    wait: Callable[[], Any],
    now_ns: Callable[[], int],
    start_c: float,
    points: Sequence[Point],
    cap_s: float,
) -> bool | None:
    """Return whether the temperature falls within `cap_s` of the load's end: a sensor that hangs does not.

    None where it rose by less than MIN_RISE_C, so that nothing has to fall.
    """
    last = [p.temp_c for p in points[-_LAST:] if math.isfinite(p.temp_c)]
    rise_c = stats.median(last) - start_c if last else math.nan
    if not rise_c >= MIN_RISE_C:
        return None
    begin_ns = now_ns()
    while True:
        seen = temp_c()
        if seen <= stats.median(last) - FALL_RATIO * rise_c:
            return True
        if now_ns() - begin_ns > cap_s * 1e9:
            return False
        wait()


def temp_condition(
    watched: Watched, trace: Capture, start_c: float, points: Sequence[Point], falls: bool | None
) -> Condition:
    """Return whether the temperature's sensor lives: its reading moves, and falls when the load ends."""
    import numpy as np

    read = trace.values[np.isfinite(trace.values)]
    seen = [start_c, *(p.temp_c for p in points), *read]
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    still = low == high
    observed = f"{low:.1f} to {high:.1f} °C" if not still else f"{read.size} readings, all {high:.6g} °C"
    if falls is not None:
        observed += ", falls after the load" if falls else ", stands still after the load"
    return Condition(
        "temp sensor",
        observed,
        "moves with the load",
        not still and falls is not False,
        f"Check that {watched.temp.name} is alive, or name another one in thermal.channel.",
    )
