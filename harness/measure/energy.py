"""Power suite: energy per inference over whole windows, from the same calls as their latency.

Each trial is a fresh process with a window of its own; idle is measured before and after them all. What meter
and clocks leave uncertain is added to the spread between trials, because it is the same in each of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness import alignment, stats
from harness.errors import Unsupported
from harness.instruments.health import describe_problems
from harness.measure.against import baseline_settings
from harness.measure.bench import Bench, Observation
from harness.measure.latency import WARMUP_CALLS, require_clock
from harness.measure.percentiles import quantile
from harness.measure.sampling import HEAT_BITS, Gauges, Pick, open_gauges, worse_fidelity
from harness.measure.traces import trace_series, trace_settings
from harness.model import (
    Capture,
    ChannelKind,
    Comparison,
    Condition,
    Effect,
    EnergySettings,
    Fidelity,
    Measurement,
    Method,
    Series,
)
from harness.remote import Child, MeasuredBlock

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SCENARIO = "energy"
FULL_WINDOW_S = 10.0  # below it a window is labelled as scaled down
EMULATED_BATCH_SIZES = (1, 8)  # where a second of load costs some eight
# a place without samples that an integral may bridge: so many periods, or so much of its window (chosen: a
# sampler that lost its core for a moment loses nothing where power is steady)
GAP_PERIODS, GAP_RATIO = 10, 0.1
SETTLE_S = 0.5  # after a process ended, before idle is measured, and after it (chosen)
PULSES, PULSE_S = 4, 0.4  # of load, for a clock that can't be asked (chosen: wide against a sample at 10 Hz)
MIN_RATE_RATIO = 0.9  # of the rate that was asked for


@dataclass(frozen=True)
class Window:
    """A stretch of the device's clock in which calls ran; none ran where `calls` is 0 (idle)."""

    begin_ns: int
    end_ns: int
    calls: int = 0
    batch_size: int = 1
    arm: int = 0

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9


@dataclass(frozen=True)
class Joules:
    """What a window took: its energy, how far off that may be by the meter and by the clocks.

    `meter_j` is None where the meter's maker states nothing.
    """

    window: Window
    energy_j: float
    meter_j: float | None
    clock_j: float

    @property
    def power_w(self) -> float:
        return self.energy_j / self.window.duration_s


@dataclass
class Taken:
    """Windows as they were taken, and the calls in them."""

    windows: list[Window]
    blocks: list[tuple[int, MeasuredBlock]]  # batch size, calls
    idle: list[Window]
    pulses: list[list[tuple[int, int]]] = field(default_factory=list)  # of load, before and after all


def settings_of(bench: Bench) -> tuple[EnergySettings, float]:
    """Return the settings of the device's type, durations scaled where it is emulated, and that scale."""
    settings = bench.board.device.type.energy
    if bench.board.device.kind != "qemu":
        return settings, 1.0
    scale = settings.emulated_scale
    batches = tuple(b for b in settings.batch_sizes if b in EMULATED_BATCH_SIZES) or settings.batch_sizes[:1]
    return replace(settings, window_s=settings.window_s * scale, batch_sizes=batches), scale


def measure_energy(bench: Bench) -> Observation:
    """Measure energy per inference at each batch size that the model takes, and the power of idling."""
    time_fidelity = require_clock(bench)
    settings, scale = settings_of(bench)
    with open_gauges(bench) as gauges:
        power = gauges.power(settings.channels)
        gauges.start((*power, *gauges.beside(power)), settings.rate_hz)
        taken, refused = Taken([], [], []), {}
        _mark(bench, gauges, power, taken)
        _idle(gauges, settings, taken)
        total = settings.trials * len(settings.batch_sizes)
        for index, batch_size in enumerate(settings.batch_sizes):
            try:
                for trial in range(settings.trials):
                    bench.progress.count("window", index * settings.trials + trial, total)
                    _load(bench, gauges, settings, taken, f"energy-{batch_size}-{trial}", batch_size)
            except Unsupported as why:
                refused[str(batch_size)] = why.what
                if batch_size == settings.batch_sizes[0]:
                    raise
                break
        _idle(gauges, settings, taken)
        _mark(bench, gauges, power, taken)
        captures, unseen = _on_one_clock(gauges, power, gauges.stop(), taken)
        seen = Seen(gauges, power, captures, taken, settings, time_fidelity, scale, unseen)
    return summarise(seen, refused)


def measure_energy_against(bench: Bench, baseline_bench: Bench, baseline_name: str, seed: int) -> Observation:
    """Compare windows of both models in randomised ABBA order: drift and the meter's gain drop out."""
    time_fidelity = require_clock(bench)
    settings, scale = settings_of(bench)
    order = stats.abba_order(max(2, math.ceil(settings.trials / 2)), seed)
    with open_gauges(bench) as gauges:
        power = gauges.power(settings.channels)
        gauges.start((*power, *gauges.beside(power)), settings.rate_hz)
        taken = Taken([], [], [])
        _mark(bench, gauges, power, taken)
        _idle(gauges, settings, taken)
        for index, arm in enumerate(order):
            bench.progress.count("window", index, len(order))
            _load((bench, baseline_bench)[arm], gauges, settings, taken, f"energy-{index}", 1, arm)
        _idle(gauges, settings, taken)
        _mark(bench, gauges, power, taken)
        captures, unseen = _on_one_clock(gauges, power, gauges.stop(), taken)
        seen = Seen(gauges, power, captures, taken, settings, time_fidelity, scale, unseen)
    found = joules_of(seen)
    problems = (*found.problems, *seen.clock_problems(), *seen.throttling())
    settings_kept = {
        **seen.kept(),
        **baseline_settings(baseline_bench, baseline_name),
        "order": "".join("AB"[arm] for arm in order),
        "seed": seed,
    }
    comparisons: tuple[Comparison, ...] = ()
    if not problems:
        ours, theirs = (
            [j.energy_j / (j.window.calls * j.window.batch_size) for j in found.loads if j.window.arm == arm]
            for arm in (0, 1)
        )
        comparisons = (_compare(ours, theirs, order, baseline_name, seen.fidelity),)
    return Observation(
        comparisons=comparisons,
        series=trace_series(captures.values()),
        conditions=tuple(seen.conditions()),
        settings=settings_kept,
        scenario=SCENARIO,
        invalid="; ".join(problems),
    )


def _compare(
    ours: Sequence[float],
    theirs: Sequence[float],
    order: Sequence[int],
    baseline_name: str,
    fidelity: Fidelity,
) -> Comparison:
    found = stats.abba_interval(ours, theirs, order)
    low, high = (None if x is None else math.exp(x) for x in (found.low, found.high))
    return Comparison(
        "energy_per_inference_j",
        Effect.RATIO,
        math.exp(found.estimate),
        low,
        high,
        len(ours),
        fidelity,
        Method.ABBA,
        stats.median(ours),
        stats.median(theirs),
        baseline_name,
        scenario=SCENARIO,
        df=found.df,
        reasons=("the meter's gain is in both arms and drops out",),
    )


# --- taking ---------------------------------------------------------------------------------------


def _idle(gauges: Gauges, settings: EnergySettings, taken: Taken) -> None:
    settle_s = SETTLE_S * (settings.window_s / FULL_WINDOW_S if gauges.virtual else 1.0)
    gauges.wait(settle_s)
    begin, end = gauges.wait(settings.window_s)
    gauges.wait(settle_s)
    taken.idle.append(Window(begin, end))


def _load(
    bench: Bench,
    gauges: Gauges,
    settings: EnergySettings,
    taken: Taken,
    name: str,
    batch_size: int,
    arm: int = 0,
) -> None:
    """Take one window in a fresh process; nothing is sent to the device inside it."""
    with bench.child(name, batch_size=batch_size) as (child, _):
        started = time.monotonic()
        child.first()
        block = _calls(bench, child, settings.window_s, time.monotonic() - started)
    taken.windows.append(window_of(block, batch_size, arm))
    taken.blocks.append((batch_size, block))


def _mark(bench: Bench, gauges: Gauges, power: Sequence[Pick], taken: Taken) -> None:
    """Load the device in short pulses, where a channel of power stands on its meter's own clock."""
    if all(p.channel.clock != "meter" for p in power):
        return
    pulse_ns = round(PULSE_S * 1e9)
    with bench.child("energy-marker") as (child, _):
        child.first()
        child.measure(iterations=2, warmup_max=WARMUP_CALLS[0])
        pulses = []
        for _ in range(PULSES):
            gauges.wait(PULSE_S)
            block = child.measure(
                iterations=2, warmup_max=0, min_duration_ns=pulse_ns, max_duration_ns=20 * pulse_ns
            )
            if not len(block.start_ns):
                raise Unsupported(
                    "it times its own calls, so nothing says when they ran.", where=bench.case.name
                )
            window = window_of(block, 1)
            pulses.append((window.begin_ns, window.end_ns))
        gauges.wait(PULSE_S)
    taken.pulses.append(pulses)


def _on_one_clock(
    gauges: Gauges, power: Sequence[Pick], captures: Mapping[str, Capture], taken: Taken
) -> tuple[dict[str, Capture], tuple[str, ...]]:
    """Return the captures, a meter's own clock put on the device's; and the names of those where it fails."""
    aligned, unseen = dict(captures), []
    for pick in power:
        if pick.channel.clock != "meter":
            continue
        capture = captures[pick.name]
        before, after = (
            alignment.find_pulses(capture.t_ns, capture.values, pulses, last=last)
            for pulses, last in zip(taken.pulses, (False, True), strict=True)
        )
        if before is None or after is None:
            unseen.append(pick.name)
            continue
        clock = alignment.ClockMap(before, after)
        gauges.maps[pick.instrument.name] = clock
        aligned[pick.name] = replace(capture, t_ns=clock.to_local(capture.t_ns))
    return aligned, tuple(unseen)


def _calls(bench: Bench, child: Child, duration_s: float, call_wall_s: float) -> MeasuredBlock:
    few, many = WARMUP_CALLS
    with bench.board.connection.quiet():
        block = child.measure(
            iterations=2,
            warmup_max=max(few, min(many, int(1.0 / max(call_wall_s, 1e-6)))),
            min_duration_ns=round(duration_s * 1e9),
            max_duration_ns=round(20 * duration_s * 1e9),
            # an emulated second costs some ten of wall time, more on a busy host
            timeout_s=bench.board.device.timeout_s + 60 * duration_s,
        )
    if not len(block.start_ns):
        raise Unsupported(
            "it times its own calls, so nothing says when they ran.",
            where=bench.case.name,
            next_step="Measure its energy with one of the built-in runtimes.",
        )
    return block


def window_of(block: MeasuredBlock, batch_size: int, arm: int = 0) -> Window:
    """Return the window from the first call's begin to the last one's end."""
    end_ns = int(block.start_ns[-1] + block.latency_ns[-1])
    return Window(int(block.start_ns[0]), end_ns, len(block.latency_ns), batch_size, arm)


# --- integrating ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """All that one energy run brought back."""

    gauges: Gauges
    power: tuple[Pick, ...]
    captures: Mapping[str, Capture]  # by channel
    taken: Taken
    settings: EnergySettings
    time_fidelity: Fidelity
    scale: float
    unseen: tuple[str, ...] = ()  # meters in whose traces the pulses of load don't show

    @property
    def fidelity(self) -> Fidelity:
        return worse_fidelity(self.time_fidelity, *(p.channel.fidelity for p in self.power))

    def clock_uncertainty_ns(self) -> float:
        return max(self.gauges.clock_uncertainty_ns(p) for p in self.power)

    def clock_problems(self) -> tuple[str, ...]:
        """Return why the clocks aren't one; () where they are."""
        if self.unseen:
            return tuple(
                f"{name}: its clock can't be tied to the device's: pulses of load don't show in its trace, "
                "or it doesn't cover them"
                for name in self.unseen
            )
        off_s = self.clock_uncertainty_ns() / 1e9
        most = self.settings.max_clock_uncertainty_s
        if off_s <= most:
            return ()
        return (
            f"meter and device are aligned within ±{off_s:.3g} s, at most ±{most:g} s allowed. Shorten the "
            "way between them, or raise energy.max_clock_uncertainty_s",
        )

    def throttling(self) -> tuple[str, ...]:
        """Return whether the traces show throttling in a window under load: then nothing of it counts."""
        import numpy as np

        for name, capture in self.captures.items():
            if capture.channel.kind is not ChannelKind.THROTTLE_BITS:
                continue
            held = (np.nan_to_num(capture.values).astype(np.int64) & HEAT_BITS) != 0
            spans = [(w.begin_ns, w.end_ns) for w in self.taken.windows]
            inside = sum(int((held & (capture.t_ns >= a) & (capture.t_ns <= b)).sum()) for a, b in spans)
            if inside:
                temps = [
                    float(np.nanmax(c.values))
                    for c in self.captures.values()
                    if c.channel.kind is ChannelKind.TEMP_C and np.isfinite(c.values).any()
                ]
                at = f", up to {max(temps):.1f} °C" if temps else ""
                what = f"throttled during its windows: {inside} readings of {name} say so{at}"
                return (f"{what}. Cool the board, or measure what heat does with the thermal suite",)
        return ()

    def conditions(self) -> list[Condition]:
        """Return the lines of the envelope that only this suite has."""
        off_ns, most_s = self.clock_uncertainty_ns(), self.settings.max_clock_uncertainty_s
        lines = [
            Condition(
                "one clock",
                f"power within ±{off_ns / 1e6:.3g} ms of the device's clock",
                f"±{most_s * 1e3:g} ms",
                off_ns / 1e9 <= most_s,
                "Shorten the way between meter and device.",
            )
        ]
        if (edge := self._edge()) is not None:
            lines.append(edge)
        report = self.gauges.own.report if self.gauges.own else None
        if report is not None and report.rate_got_hz is not None:
            kept = report.rate_got_hz >= MIN_RATE_RATIO * report.rate_asked_hz
            lines.append(
                Condition(
                    "sampler",
                    f"{report.rate_got_hz:.4g} Hz, jitter p99 {(report.jitter_p99_ns or 0) / 1e6:.3g} ms, "
                    f"{report.missed} left out, {report.cpu_ratio or 0:.2%} of a core",
                    f"{report.rate_asked_hz:g} Hz",
                    True if kept else None,
                    "Another process held its core: pin the model to another one.",
                )
            )
        return lines

    def _edge(self) -> Condition | None:
        """Return whether power rose when the first load began; None where nothing was sampled then."""
        pick = self.power[0]
        capture = self.captures[pick.name]
        if pick.channel.kind is not ChannelKind.POWER_W or not self.taken.windows or not self.taken.idle:
            return None
        first, idle = self.taken.windows[0], self.taken.idle[0]
        if capture.t_ns.size < 6:
            return None
        middle, reach = (idle.end_ns + first.begin_ns) // 2, (first.begin_ns - idle.end_ns) // 2 + 2 * 10**9
        edge = alignment.find_rise(capture.t_ns, capture.values, middle, reach)
        expected = "power rises between the end of idle and the first window"
        if edge is None:
            return Condition("load edge", "no step stands out", expected, None)
        slack = edge.uncertainty_ns + self.clock_uncertainty_ns() + 0.25e9
        early_s, late_s = (idle.end_ns - edge.at_ns) / 1e9, (edge.at_ns - first.begin_ns) / 1e9
        ok = -slack <= edge.at_ns - idle.end_ns and edge.at_ns - first.begin_ns <= slack
        where = f"{early_s:.3g} s before idle ended" if early_s > 0 else (
            f"{late_s:.3g} s after the window began" if late_s > 0 else f"{-late_s:.3g} s before the window"
        )  # fmt: skip
        return Condition(
            "load edge",
            f"+{edge.height:.3g} W, {where}",
            expected,
            ok,
            "The meter's times aren't the device's: check its clock.",
        )

    def kept(self) -> dict[str, Any]:
        """Return what the run keeps of how it was taken."""
        labels = [] if self.scale == 1.0 else [f"durations scaled by {self.scale:g}: an emulated board"]
        return {
            **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.settings).items()},
            "scaled": self.scale,
            "labels": labels,
            "power_channels": [p.name for p in self.power],
            "boundary": " + ".join(dict.fromkeys(p.channel.boundary or "not stated" for p in self.power)),
            "windows": [asdict(w) for w in (*self.taken.idle, *self.taken.windows)],
            "clock_uncertainty_ns": self.clock_uncertainty_ns(),
            **trace_settings(self.captures.values()),
        }


@dataclass(frozen=True)
class Found:
    """Energies of all windows, or what is wrong with the samples."""

    idles: tuple[Joules, ...]
    loads: tuple[Joules, ...]
    problems: tuple[str, ...]


def joules_of(seen: Seen) -> Found:
    """Return the energy of each window. A window whose samples don't cover it is a problem, never 0."""
    problems = [p for pick in seen.power for p in _flaws(seen.captures[pick.name])]
    idles: list[Joules] = []
    loads: list[Joules] = []
    for windows, into in ((seen.taken.idle, idles), (seen.taken.windows, loads)):
        for window in windows:
            found = _energy(seen, window)
            if isinstance(found, str):
                problems.append(found)
            else:
                into.append(found)
    return Found(tuple(idles), tuple(loads), tuple(dict.fromkeys(problems)))


def _flaws(capture: Capture) -> list[str]:
    """Return what makes any sample doubtful; missing ones are the windows' affair."""
    health = capture.health
    if not (health.got == 0 or health.stale or health.out_of_range or health.rollbacks):
        return []
    return list(describe_problems(capture))


def _energy(seen: Seen, window: Window) -> Joules | str:
    energy_j, clock_j, meter_j = 0.0, 0.0, 0.0
    stated = True
    for pick in seen.power:
        capture = seen.captures[pick.name]
        part = _part(pick, capture, window, seen.settings.rate_hz)
        if isinstance(part, str):
            return part
        energy_j += part
        channel = pick.channel
        if channel.uncertainty_ratio is None and channel.uncertainty_abs is None:
            stated = False
        # a power's absolute error lasts as long as the window; a counter's is there once at each end
        times = window.duration_s if channel.kind is ChannelKind.POWER_W else 2.0
        meter_j += abs(part) * (channel.uncertainty_ratio or 0.0) + (channel.uncertainty_abs or 0.0) * times
        off = seen.gauges.clock_uncertainty_ns(pick)
        if off:
            shift = alignment.shift_error(
                capture.t_ns, capture.values, window.begin_ns, window.end_ns, off,
                counter=channel.kind is ChannelKind.ENERGY_J,
            )  # fmt: skip
            if shift is None:
                return f"{pick.name}: no samples around a window's ends"
            clock_j += shift
    if energy_j <= 0:
        return f"power adds up to {energy_j:.3g} J over a window: no board runs on that"
    return Joules(window, energy_j, meter_j if stated else None, clock_j)


def _part(pick: Pick, capture: Capture, window: Window, rate_hz: float) -> float | str:
    """Return one channel's energy over a window, or why there is none."""
    import numpy as np

    begin, end = window.begin_ns, window.end_ns
    if pick.channel.kind is ChannelKind.ENERGY_J:
        found = alignment.counted(capture.t_ns, capture.values, begin, end)
    else:
        rate = min(rate_hz, pick.channel.rate_hz or rate_hz)
        gap_ns = max(GAP_PERIODS / rate, GAP_RATIO * window.duration_s) * 1e9
        order = np.argsort(capture.t_ns, kind="stable")
        found = alignment.integrate(capture.t_ns[order], capture.values[order], begin, end, max_gap_ns=gap_ns)
    if found.value is None:
        what = f"its samples cover {found.covered_ratio:.1%} of a window of {window.duration_s:.3g} s"
        said = "; ".join(capture.health.errors)
        return f"{pick.name}: {what}, {found.n} inside" + (f" ({said})" if said else "")
    return found.value


# --- numbers --------------------------------------------------------------------------------------


def summarise(seen: Seen, refused: Mapping[str, str]) -> Observation:
    """Return the run's numbers; where samples or clocks don't hold, none, and why."""
    found = joules_of(seen)
    problems = (*found.problems, *seen.clock_problems(), *seen.throttling())
    measurements: list[Measurement] = []
    if not problems:
        idle = idle_power(found.idles, seen.fidelity, _how(seen))
        measurements.append(idle)
        for batch_size in seen.settings.batch_sizes:
            mine = [j for j in found.loads if j.window.batch_size == batch_size]
            if mine:
                measurements += per_inference(mine, idle, seen.fidelity, batch_size, _how(seen))
    latency = _latency(seen)
    if not problems:
        measurements += latency[1]
    return Observation(
        measurements=tuple(measurements),
        series=(*latency[0], *trace_series(seen.captures.values())),
        conditions=tuple(seen.conditions()),
        settings={**seen.kept(), "refused_batch_sizes": dict(refused)},
        scenario=SCENARIO,
        invalid="; ".join(problems),
    )


def _how(seen: Seen) -> tuple[str, ...]:
    """Return boundary and rate, as every number tells them."""
    kept = seen.kept()
    rates = [p.channel.rate_hz or seen.settings.rate_hz for p in seen.power]
    rate = f"{min(*rates, seen.settings.rate_hz):g} Hz"
    said = f"boundary: {kept['boundary']}; {', '.join(kept['power_channels'])}, {rate}"
    return (said, *kept["labels"])


def idle_power(idles: Sequence[Joules], fidelity: Fidelity, how: tuple[str, ...]) -> Measurement:
    """Return the power of idling: before and after count alike, and bound it with the meter's uncertainty."""
    powers = [j.power_w for j in idles]
    value = sum(powers) / len(powers)
    meter = sum((j.meter_j or 0.0) / j.window.duration_s for j in idles) / len(idles)
    clock = sum(j.clock_j / j.window.duration_s for j in idles) / len(idles)
    low, high = min(powers) - meter - clock, max(powers) + meter + clock
    said = f"interval: {', '.join(f'{p:.4g} W' for p in powers)} before and after"
    return Measurement(
        "idle_power_w",
        value,
        low,
        high,
        len(powers),
        fidelity,
        SCENARIO,
        reasons=(said, *_meter(idles, how), *how),
    )


def per_inference(
    loads: Sequence[Joules], idle: Measurement, fidelity: Fidelity, batch_size: int, how: tuple[str, ...]
) -> list[Measurement]:
    """Return energy per inference, that above idle, and power under load, of the trials of one batch size.

    90% intervals: Student's t over trials, widened by what the meter and the clocks leave open.
    """
    assert idle.value is not None
    assert idle.low is not None
    assert idle.high is not None
    counts = [j.window.calls * j.window.batch_size for j in loads]
    seconds = [j.window.duration_s for j in loads]
    total = [j.energy_j / n for j, n in zip(loads, counts, strict=True)]
    net = [(j.energy_j - idle.value * s) / n for j, s, n in zip(loads, seconds, counts, strict=True)]
    power = [j.power_w for j in loads]
    meter = max((j.meter_j or 0.0) / n for j, n in zip(loads, counts, strict=True))
    clock = max(j.clock_j / n for j, n in zip(loads, counts, strict=True))
    # the meter's gain is in idle too; how idle itself differs before and after isn't in any trial
    idles = max(idle.value - idle.low, idle.high - idle.value)
    drift = max(idles * s / n for s, n in zip(seconds, counts, strict=True))
    watts = max((j.meter_j or 0.0) + j.clock_j for j in loads) / min(seconds)
    notes = (*_meter(loads, how), *how)
    return [
        _with_interval("energy_per_inference_j", total, meter + clock, fidelity, batch_size, notes),
        _with_interval("net_energy_per_inference_j", net, meter + clock + drift, fidelity, batch_size, notes),
        _with_interval("load_power_w", power, watts, fidelity, batch_size, notes),
    ]


def _meter(joules: Sequence[Joules], how: tuple[str, ...]) -> tuple[str, ...]:
    if any(j.meter_j is None for j in joules) and all("board model" in said for said in how[:1]):
        return ("the interval is the spread of the model's figures: how far the model is off isn't known",)
    if any(j.meter_j is None for j in joules):
        return ("the meter's maker states no uncertainty: the interval has none of it",)
    share = max((j.meter_j or 0.0) / j.energy_j for j in joules)
    clock = max(j.clock_j / j.energy_j for j in joules)
    return (f"meter ±{share:.2%}, clocks ±{clock:.2%}",)


def _with_interval(
    metric: str,
    values: Sequence[float],
    systematic: float,
    fidelity: Fidelity,
    batch_size: int,
    notes: tuple[str, ...],
) -> Measurement:
    mean = sum(values) / len(values)
    half = stats.t_half_width(values) if len(values) > 1 else None
    low = None if half is None else mean - half - systematic
    high = None if half is None else mean + half + systematic
    said = f"{len(values)} windows" if half is not None else "one window: nothing bounds it"
    return Measurement(
        metric, mean, low, high, len(values), fidelity, SCENARIO, batch_size, reasons=(said, *notes)
    )


def _latency(seen: Seen) -> tuple[list[Series], list[Measurement]]:
    """Return the calls of the windows as series, and the median of each batch size."""
    import numpy as np

    series, measurements = [], []
    for batch_size in seen.settings.batch_sizes:
        mine = [block for size, block in seen.taken.blocks if size == batch_size]
        if not mine:
            continue
        values: npt.NDArray[np.int64] = np.concatenate([b.latency_ns for b in mine])
        starts: npt.NDArray[np.int64] = np.concatenate([b.start_ns for b in mine])
        process = np.repeat(np.arange(len(mine), dtype=np.int32), [len(b.latency_ns) for b in mine])
        series.append(Series("latency_ns", "ns", values, process, mine[0].clock, batch_size))
        series.append(Series("latency_start_ns", "ns", starts, process, mine[0].clock, batch_size))
        measurements.append(
            quantile("latency_p50_ns", values, 50, seen.time_fidelity, SCENARIO, batch_size, process=process)
        )
    return series, measurements
