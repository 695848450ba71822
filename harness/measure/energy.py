"""Power suite: energy per inference over whole windows, from the same calls as their latency.

Each trial is a fresh process with a window of its own; idle is measured before and after them all. What meter
and clocks leave uncertain is added to the spread between trials, because it is the same in each of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness import alignment, stats
from harness.errors import Unsupported
from harness.measure.against import baseline_settings
from harness.measure.bench import Bench, Observation
from harness.measure.energy_numbers import SCENARIO, summarise
from harness.measure.joules import FULL_WINDOW_S, Seen, Taken, Window, joules_of
from harness.measure.latency import WARMUP_CALLS, require_clock
from harness.measure.sampling import Gauges, Pick, open_gauges
from harness.measure.traces import trace_series
from harness.model import (
    Capture,
    Comparison,
    Effect,
    EnergySettings,
    Fidelity,
    Method,
)
from harness.remote import Child, MeasuredBlock

EMULATED_BATCH_SIZES = (1, 8)  # where a second of load costs some eight
SETTLE_S = 0.5  # after a process ended, before idle is measured, and after it (chosen)
SETTLE_READINGS = 3  # so many, too: a plug's come once a second
PULSES, PULSE_S = 4, 0.4  # of load, for a clock that can't be asked (chosen)


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
        _idle(gauges, power, settings, taken)
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
        _idle(gauges, power, settings, taken)
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
        _idle(gauges, power, settings, taken)
        for index, arm in enumerate(order):
            bench.progress.count("window", index, len(order))
            _load((bench, baseline_bench)[arm], gauges, settings, taken, f"energy-{index}", 1, arm)
        _idle(gauges, power, settings, taken)
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
        conditions=(*seen.conditions(), *seen.idle_condition(found)),
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


def _idle(gauges: Gauges, power: Sequence[Pick], settings: EnergySettings, taken: Taken) -> None:
    """Take one window of idle, long enough after a load and before the end that readings stand around it."""
    rates_hz = [min(settings.rate_hz, p.channel.rate_hz or settings.rate_hz) for p in power]
    settle_s = SETTLE_S * (settings.window_s / FULL_WINDOW_S if gauges.virtual else 1.0)
    settle_s = max(settle_s, SETTLE_READINGS / min(rates_hz))
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
