"""Thermal suite: from a start band, under load until it is steady: what stays of the burst's throughput.

Cooling goes by temperature, not by time. Readings between blocks of load steer the run; what throttled when
comes from the traces that were sampled meanwhile. An emulated board's heat moves faster by a stated factor,
and its times are given as the board's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness import stats
from harness.errors import ConfigError, Unsupported
from harness.measure.bench import Bench, Observation
from harness.measure.latency import require_clock
from harness.measure.sampling import HEAT_BITS, Gauges, Pick, open_gauges, worse_fidelity
from harness.measure.traces import trace_series, trace_settings
from harness.model import (
    Capture,
    ChannelKind,
    Condition,
    Fidelity,
    Measurement,
    Series,
    ThermalSettings,
)
from harness.remote import Child

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCENARIO = "thermal"
RATE_HZ = 2.0  # of the traces (chosen: heat takes seconds)
MIN_BLOCK_S = 0.2  # of guest time on an emulated board, whose model steps every 0.1 s
SAME_FREQ_RATIO = 0.01  # a frequency stands still within so much (chosen: as its pin is held, envelope.py)
THROTTLED_RATIO = 0.95  # of the frequency at first; below it a CPU is held back (as in envelope.py)
AMBIENT_DRIFT_C = 2.0  # beyond it a run isn't one of one ambient
_CPU_SITE = re.compile(r"cpu|soc|pkg|core|k10temp|package", re.IGNORECASE)
_AIR = re.compile(r"ambient|chamber", re.IGNORECASE)  # in site or boundary: the air around it
_WARMUP = 50


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


@dataclass(frozen=True)
class Watched:
    """The channels that a thermal run looks at."""

    temp: Pick
    freqs: tuple[Pick, ...]
    bits: Pick | None
    ambient: Pick | None

    @property
    def picks(self) -> tuple[Pick, ...]:
        return (self.temp, *self.freqs, *((self.bits,) if self.bits else ()))


def measure_thermal(bench: Bench) -> Observation:
    """Take one thermal run. It ends INVALID where the start band isn't reached."""
    time_fidelity = require_clock(bench)
    settings, scale = settings_of(bench)
    model = bench.board.device.type.power_model
    require_band(settings, model.trip_c if model and scale < 1 else None, bench.board.device.where)
    with open_gauges(bench) as gauges:
        watched = watch(gauges, settings)
        kept = _kept(settings, scale, watched)
        power = [
            p for p in gauges.picks if p.channel.kind is ChannelKind.POWER_W and p.channel.clock != "meter"
        ]
        ambient = [_ambient(gauges, watched, settings)]
        gauges.start((*watched.picks, *power), RATE_HZ)
        with bench.child("thermal") as (child, _):
            child.first()
            block = _block(bench, child, settings)
            why = reach_band(lambda: _temp(gauges, watched), lambda: gauges.wait(_poll_s(settings, scale)),
                             block, gauges.device_ns, settings)  # fmt: skip
            points: list[Point] = []
            if not why:
                points = _load(bench, gauges, watched, block, settings, scale)
        ambient.append(_ambient(gauges, watched, settings))
        captures = gauges.stop()
    series = (*_throughput_series(points), *trace_series(captures.values()))
    settings_kept = {**kept, **trace_settings(captures.values())}
    if why:
        return Observation(series=series, settings=settings_kept, scenario=SCENARIO, invalid=why)
    fidelity = worse_fidelity(time_fidelity, *(p.channel.fidelity for p in watched.picks))
    throttled = throttled_times(watched, captures, points)
    return Observation(
        measurements=tuple(
            summarise(points, throttled, ambient, settings, scale, fidelity, captures[watched.temp.name])
        ),
        series=series,
        conditions=tuple(_conditions(points, ambient, settings, scale)),
        settings=settings_kept,
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


def _kept(settings: ThermalSettings, scale: float, watched: Watched) -> dict[str, Any]:
    labels = [] if scale == 1.0 else [f"heat moves {1 / scale:g} times as fast: an emulated board"]
    return {
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()},
        "scaled": scale,
        "labels": labels,
        "temp_channel": watched.temp.name,
        "throttle_channels": [p.name for p in (*watched.freqs, *((watched.bits,) if watched.bits else ()))],
    }


# --- channels -------------------------------------------------------------------------------------


def watch(gauges: Gauges, settings: ThermalSettings) -> Watched:
    """Return the channels to look at: the named temperature, else the CPU's, else the only one.

    Raises Unsupported with what there is; ConfigError for a name that isn't there or is no temperature.
    """
    picks = [p for p in gauges.picks if p.channel.clock != "meter"]
    temps = [p for p in picks if p.channel.kind is ChannelKind.TEMP_C]
    ambient = next((p for p in temps if _AIR.search(f"{p.channel.site} {p.channel.boundary}")), None)
    if settings.channel is not None:
        temp = gauges.named(settings.channel, (ChannelKind.TEMP_C,))
    else:
        inside = [p for p in temps if p is not ambient]
        of_cpu = [p for p in inside if _CPU_SITE.search(f"{p.channel.site} {p.channel.id}")]
        chosen = of_cpu or (inside if len(inside) == 1 else [])
        if not chosen:
            raise Unsupported(
                f"no channel shows the CPU's temperature; {gauges.listed()}.",
                where=gauges.where,
                next_step="Name one in its type's `thermal.channel`, or measure a board that shows it.",
            )
        temp = chosen[0]
    freqs = tuple(p for p in picks if p.channel.kind is ChannelKind.FREQ_HZ)
    bits = next((p for p in picks if p.channel.kind is ChannelKind.THROTTLE_BITS), None)
    return Watched(temp, freqs, bits, ambient)


def _temp(gauges: Gauges, watched: Watched) -> float:
    (reading,) = gauges.read([watched.temp])
    if not math.isfinite(reading.value):
        raise Unsupported(f"`{watched.temp.name}` gives no reading any more.", where=gauges.where)
    return reading.value


def _ambient(gauges: Gauges, watched: Watched, settings: ThermalSettings) -> float | None:
    if settings.ambient_temp_c is not None:
        return settings.ambient_temp_c
    if watched.ambient is None:
        return None
    (reading,) = gauges.read([watched.ambient])
    return reading.value if math.isfinite(reading.value) else None


# --- taking ---------------------------------------------------------------------------------------


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
    begin_ns, first = now_ns(), temp_c()
    seen = first
    while not low <= seen <= high:
        if now_ns() - begin_ns > settings.cool_cap_s * 1e9:
            return (
                f"it was at {first:.1f} °C and still is at {seen:.1f} °C after {settings.cool_cap_s:g} s; it "
                f"starts between {low:g} and {high:g} °C. Cool it better, or move thermal.start_low and "
                "start_high"
            )
        _ = wait() if seen > high else heat()
        seen = temp_c()
    return ""


def _load(
    bench: Bench,
    gauges: Gauges,
    watched: Watched,
    block: Callable[[], tuple[int, int, int]],
    settings: ThermalSettings,
    scale: float,
) -> list[Point]:
    """Load the device until it is steady or the cap; return its blocks."""
    points: list[Point] = []
    while True:
        begin_ns, end_ns, calls = block()
        temp, *rest = (r.value for r in gauges.read(watched.picks))
        freqs = [f for f in rest[: len(watched.freqs)] if math.isfinite(f)]
        bits = rest[-1] if watched.bits and math.isfinite(rest[-1]) else None
        throttled = None if bits is None else bool(int(bits) & HEAT_BITS)
        points.append(Point(begin_ns, end_ns, calls, temp, max(freqs) if freqs else None, throttled))
        elapsed_s = (end_ns - points[0].begin_ns) / 1e9
        bench.progress.say(f"{temp:.1f} °C after {elapsed_s / scale:.0f} s of load")
        if elapsed_s >= settings.load_cap_s or is_steady(points, settings, scale):
            return points


def is_steady(points: Sequence[Point], settings: ThermalSettings, scale: float) -> bool:
    """Return whether temperature and frequency stood still over the last `steady_s`.

    The 90% interval of the temperature's slope lies within the allowed one (least squares, Student's t), the
    frequency within 1%, and throttling didn't come or go.
    """
    import numpy as np

    last_ns = points[-1].end_ns
    mine = [p for p in points if p.end_ns >= last_ns - settings.steady_s * 1e9]
    if len(mine) < 5 or last_ns - points[0].begin_ns < settings.steady_s * 1e9:
        return False
    if len({p.throttled for p in mine}) > 1:
        return False
    freqs = [p.freq_hz for p in mine if p.freq_hz is not None]
    if freqs and max(freqs) - min(freqs) > SAME_FREQ_RATIO * max(freqs):
        return False
    minutes = np.array([(p.end_ns - mine[0].end_ns) / 60e9 for p in mine]) / scale
    slope, half = stats.slope_interval(minutes, np.array([p.temp_c for p in mine]))
    return abs(slope) + half <= settings.steady_slope_c_per_min


# --- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Throttling:
    """When the load was throttled. `first_s` None: never; `observable` False: nothing would show it."""

    observable: bool
    first_s: float | None
    total_s: float
    by: str


def throttled_times(watched: Watched, captures: Mapping[str, Capture], points: Sequence[Point]) -> Throttling:
    """Return when throttling was on between the first block's begin and the last one's end."""
    import numpy as np

    begin, end = points[0].begin_ns, points[-1].end_ns
    if watched.bits is not None:
        trace = captures[watched.bits.name]
        bits = np.nan_to_num(trace.values).astype(np.int64)
        held = (bits & HEAT_BITS) != 0
        return _spans(trace.t_ns, held, np.isfinite(trace.values), begin, end, watched.bits.name)
    if watched.freqs:
        trace = captures[watched.freqs[0].name]
        first = [p.freq_hz for p in points[:3] if p.freq_hz is not None]
        if first:
            held = trace.values < THROTTLED_RATIO * max(first)
            return _spans(trace.t_ns, held, np.isfinite(trace.values), begin, end, watched.freqs[0].name)
    return Throttling(False, None, 0.0, "")


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
    seen = [*(float(v) for v in temps.values[inside]), *(p.temp_c for p in points)]
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


def _conditions(
    points: Sequence[Point], ambient: Sequence[float | None], settings: ThermalSettings, scale: float
) -> list[Condition]:
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


def _throughput_series(points: Sequence[Point]) -> tuple[Series, ...]:
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
