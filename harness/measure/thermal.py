"""Thermal suite: from a start band, under load until it is steady: what stays of the burst's throughput.

Cooling goes by temperature, not by time. Readings between blocks of load steer the run; what throttled when
comes from the traces that were sampled meanwhile (thermal_numbers.py); whether sensors can be believed,
thermal_health.py says. An emulated board's heat moves faster by a stated factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.errors import ConfigError, Unsupported
from harness.measure.bench import Bench, Observation
from harness.measure.latency import require_clock
from harness.measure.sampling import HEAT_BITS, open_gauges, sampler_condition, worse_fidelity
from harness.measure.thermal_health import MISSES, falls_again, problems_of, temp_condition
from harness.measure.thermal_numbers import (
    SCENARIO,
    Point,
    conditions_of,
    is_steady,
    summarise,
    throttled_times,
    throughput_series,
)
from harness.measure.thermal_watch import Looker, Watched, watch
from harness.measure.traces import trace_series, trace_settings
from harness.model import ChannelKind, Condition, ThermalSettings
from harness.remote import Child

RATE_HZ = 2.0  # of the traces (chosen: heat takes seconds)
MIN_BLOCK_S = 0.2  # of guest time on an emulated board, whose model steps every 0.1 s
RELEASE_S = 60.0  # in which a temperature that rose under load has begun to fall again (chosen)
_WARMUP = 50


@dataclass(frozen=True)
class Taken:
    """What one run took: blocks of load, the air before and after, and why it ended early ("": it didn't)."""

    points: tuple[Point, ...]
    start_c: float  # the lowest before the load
    falls: bool | None  # whether the temperature fell after the load; None: it had hardly risen
    ambient: tuple[float | None, float | None]
    why: str


def measure_thermal(bench: Bench) -> Observation:
    """Take one thermal run. It ends INVALID where the start band isn't reached, or a sensor fails."""
    time_fidelity = require_clock(bench)
    settings, scale = settings_of(bench)
    model = bench.board.device.type.power_model
    require_band(settings, model.trip_c if model and scale < 1 else None, bench.board.device.where)
    with open_gauges(bench) as gauges:
        watched = watch(gauges, settings, bench.board.device.pinned_cpus)
        looker = Looker(gauges, watched)
        power = [
            p for p in gauges.picks if p.channel.kind is ChannelKind.POWER_W and p.channel.clock != "meter"
        ]
        gauges.start((*watched.picks, *power), RATE_HZ)
        taken = _take(bench, looker, settings, scale)
        captures = gauges.stop()
        sampler = sampler_condition(gauges)
    points = taken.points
    series = (*throughput_series(points), *trace_series(captures.values()))
    kept = {**_kept(settings, scale, watched, points), **trace_settings(captures.values())}
    why = "; ".join((*((taken.why,) if taken.why else ()), *problems_of(watched, captures, points)))
    if why:
        return Observation(series=series, settings=kept, scenario=SCENARIO, invalid=why)
    fidelity = worse_fidelity(time_fidelity, *(p.channel.fidelity for p in watched.picks))
    throttled = throttled_times(watched, captures, points)
    temps = captures[watched.temp.name]
    return Observation(
        measurements=tuple(summarise(points, throttled, taken.ambient, settings, scale, fidelity, temps)),
        series=series,
        conditions=(
            *conditions_of(points, taken.ambient, settings, scale),
            temp_condition(watched, temps, taken.start_c, points, taken.falls),
            *((sampler,) if sampler else ()),
        ),
        settings=kept,
        scenario=SCENARIO,
    )


def settings_of(bench: Bench) -> tuple[ThermalSettings, float]:
    """Return the settings of the device's type, durations scaled where it is emulated, and that scale."""
    settings = bench.board.device.type.thermal
    if bench.board.device.kind != "qemu":
        return settings, 1.0
    scale = settings.emulated_scale
    durations = ("cool_cap_s", "load_cap_s", "steady_s", "burst_s")
    scaled = {key: getattr(settings, key) * scale for key in durations}
    block_s = max(MIN_BLOCK_S, settings.block_s * scale)
    scaled["burst_s"] = max(scaled["burst_s"], 2 * block_s)
    return replace(settings, **scaled, block_s=block_s), scale


def _kept(
    settings: ThermalSettings, scale: float, watched: Watched, points: Sequence[Point]
) -> dict[str, Any]:
    labels = [] if scale == 1.0 else [f"heat moves {1 / scale:g} times as fast: an emulated board"]
    return {
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()},
        "scaled": scale,
        "labels": labels,
        "temp_channel": watched.temp.name,
        "throttle_channels": [p.name for p in watched.throttling],
        "windows": [
            {
                "begin_ns": points[0].begin_ns,
                "end_ns": points[-1].end_ns,
                "calls": sum(p.calls for p in points),
            }
        ]
        if points
        else [],
    }


# --- taking ---------------------------------------------------------------------------------------


def _take(bench: Bench, looker: Looker, settings: ThermalSettings, scale: float) -> Taken:
    """Bring the device into its start band, load it, and look whether it cools again."""
    gauges, poll_s = looker.gauges, _poll_s(settings, scale)
    before = looker.ambient_c(settings)
    points: list[Point] = []
    start_c, falls = looker.temp_c(), None  # idle, before the model loads and warms up
    with bench.child("thermal") as (child, _):
        child.first()
        block = _block(bench, child, settings)
        why = reach_band(looker.temp_c, lambda: gauges.wait(poll_s), block, gauges.device_ns, settings)
        if not why:
            start_c = _lowest(start_c, looker.temp_c())
            points, why = _load(bench, looker, block, settings, scale)
        if not why:
            cap_s = max(RELEASE_S * scale, 3 * MIN_BLOCK_S)
            falls = falls_again(
                looker.temp_c,
                lambda: gauges.wait(max(MIN_BLOCK_S, cap_s / 60)),
                gauges.device_ns,
                start_c,
                points,
                cap_s,
            )
    if why and looker.last_error:
        why = f"{why} ({looker.last_error})"
    return Taken(tuple(points), start_c, falls, (before, looker.ambient_c(settings)), why)


def _block(bench: Bench, child: Child, settings: ThermalSettings) -> Callable[[], tuple[int, int, int]]:
    """Return what loads the device for one block: (begin, end, calls) on its clock."""

    def run() -> tuple[int, int, int]:
        with bench.board.connection.quiet():
            seen = child.measure(
                iterations=2,
                warmup_max=0,
                min_duration_ns=round(settings.block_s * 1e9),
                max_duration_ns=round(20 * settings.block_s * 1e9),
                timeout_s=bench.board.device.timeout_s + 60 * settings.block_s,
            )
        if not len(seen.start_ns):
            raise Unsupported("it times its own calls, so nothing says when they ran.", where=bench.case.name)
        end_ns = int(seen.start_ns[-1] + seen.latency_ns[-1])
        return int(seen.start_ns[0]), end_ns, len(seen.latency_ns)

    child.measure(iterations=2, warmup_max=_WARMUP)
    return run


def _poll_s(settings: ThermalSettings, scale: float) -> float:
    return max(MIN_BLOCK_S if scale < 1 else 1.0, settings.cool_cap_s / 200)


def reach_band(
    temp_c: Callable[[], float],
    wait: Callable[[], Any],
    heat: Callable[[], Any],
    now_ns: Callable[[], int],
    settings: ThermalSettings,
) -> str:
    """Bring the device into its start band by waiting or by load; return why that couldn't be, or ""."""
    low, high = settings.start_temp_c
    begin_ns, first, seen, missed = now_ns(), math.nan, math.nan, 0
    while True:
        now_c = temp_c()
        missed = 0 if math.isfinite(now_c) else missed + 1
        if missed >= MISSES:
            return f"its temperature gave no reading {MISSES} times in a row before the load"
        if math.isfinite(now_c):
            first, seen = now_c if math.isnan(first) else first, now_c
        if low <= now_c <= high:
            return ""
        if now_ns() - begin_ns > settings.cool_cap_s * 1e9:
            return (
                f"it was at {first:.1f} °C and still is at {seen:.1f} °C after {settings.cool_cap_s:g} s; it "
                f"starts between {low:g} and {high:g} °C. Cool it better, or move thermal.start_low and "
                "start_high"
            )
        _ = heat() if now_c < low else wait()


def _load(
    bench: Bench,
    looker: Looker,
    block: Callable[[], tuple[int, int, int]],
    settings: ThermalSettings,
    scale: float,
) -> tuple[list[Point], str]:
    """Load the device until it is steady or the cap; return its blocks, and why it ended early or ""."""
    points: list[Point] = []
    while True:
        begin_ns, end_ns, calls = block()
        seen = looker.look()
        freq_hz = seen.freq_hz if math.isfinite(seen.freq_hz) else None
        throttled = bool(int(seen.bits) & HEAT_BITS) if math.isfinite(seen.bits) else None
        points.append(Point(begin_ns, end_ns, calls, seen.temp_c, freq_hz, throttled))
        elapsed_s = (end_ns - points[0].begin_ns) / 1e9
        if all(math.isnan(p.temp_c) for p in points[-MISSES:]) and len(points) >= MISSES:
            return points, f"its temperature gave no reading at the end of {MISSES} blocks in a row"
        bench.progress.say(f"{seen.temp_c:.1f} °C after {elapsed_s / scale:.0f} s of load")
        if elapsed_s >= settings.load_cap_s or is_steady(points, settings, scale):
            return points, ""


def _lowest(*temps_c: float) -> float:
    return min((t for t in temps_c if math.isfinite(t)), default=math.nan)


def with_heat(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """Return the envelope of a run that heats the board on purpose: heat and throttling are its result."""
    expected = "recorded only: this run heats the board"
    heated = ("throttling", "temp", "freq")
    return tuple(
        replace(c, ok=True, expected=expected) if c.name in heated and c.ok is False else c
        for c in conditions
    )


def require_band(settings: ThermalSettings, trip_temp_c: float | None, where: str) -> None:
    """Raise ConfigError where a board that trips there would begin its run throttled."""
    high = settings.start_temp_c[1]
    if trip_temp_c is not None and trip_temp_c <= high:
        what = f"its trip point, {trip_temp_c:g} °C, is not above the start band's {high:g} °C"
        raise ConfigError(f"{what}: a run would begin throttled.", where=where, next_step="Lower start_high.")
