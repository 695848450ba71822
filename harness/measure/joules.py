"""Windows of calls and traces of power → joules, and what is wrong with the samples or the clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from harness import alignment
from harness.instruments.health import describe_problems
from harness.measure.sampling import HEAT_BITS, Gauges, Pick, sampler_condition, worse_fidelity
from harness.measure.traces import trace_settings
from harness.model import (
    Capture,
    ChannelKind,
    Condition,
    EnergySettings,
    Fidelity,
)
from harness.remote import MeasuredBlock

# a place without samples that an integral may bridge: so many periods, or so much of its window (chosen: a
# sampler that lost its core for a moment loses nothing where power is steady)
GAP_PERIODS, GAP_RATIO = 10, 0.1
SPIKE_RATIO = 0.05  # of a window's energy: what one reading alone may add or take (chosen)
IDLE_RATIO = 0.5  # of what load adds: so much idle may differ before and after (chosen)
FULL_WINDOW_S = 10.0  # below it a window is labelled as short


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
        if (sampler := sampler_condition(self.gauges)) is not None:
            lines.append(sampler)
        return lines

    def rate_hz(self) -> float:
        """Return how many readings of power came a second: the slowest channel's."""
        rates = [min(self.settings.rate_hz, p.channel.rate_hz or self.settings.rate_hz) for p in self.power]
        for pick in self.power:
            t_ns = self.captures[pick.name].t_ns
            if t_ns.size > 1 and t_ns[-1] > t_ns[0]:
                rates.append((t_ns.size - 1) * 1e9 / float(t_ns[-1] - t_ns[0]))
        return min(rates)

    def idle_condition(self, found: Found) -> tuple[Condition, ...]:
        """Return whether power came back to idle after the load: a meter that hangs half-way doesn't."""
        if len(found.idles) < 2 or not found.loads:
            return ()
        before, after = found.idles[0].power_w, found.idles[-1].power_w
        added = sum(j.power_w for j in found.loads) / len(found.loads) - before
        edge = self._edge()
        seen = edge is not None and edge.ok and added > 0
        return (
            Condition(
                "idle power",
                f"{before:.4g} W before, {after:.4g} W after",
                f"alike within half of what the load adds, {added:+.3g} W",
                abs(after - before) <= IDLE_RATIO * added if seen else None,
                "Check that the meter is alive and that nothing else works on the device.",
            ),
        )

    def _edge(self) -> Condition | None:
        """Return whether power rose when the first load began; None where nothing was sampled then."""
        import numpy as np

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
        read = capture.values[np.isfinite(capture.values)]
        if edge is None and read.size and np.ptp(read) == 0:
            # a live reading has noise, and a load: this is what a meter that hangs looks like
            seen = f"{read.size} readings, all exactly {float(read[0]):.6g} W"
            return Condition(
                "load edge", seen, expected, False, "Check that the meter is alive and in the path."
            )
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
        if self.scale == 1.0 and self.settings.window_s < FULL_WINDOW_S:
            labels.append(f"windows of {self.settings.window_s:g} s, shorter than {FULL_WINDOW_S:g} s")
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
    idles: list[Joules] = []
    loads: list[Joules] = []
    refused: dict[int, _Refused] = {}
    for windows, into in ((seen.taken.idle, idles), (seen.taken.windows, loads)):
        for window in windows:
            found = _energy(seen, window)
            if isinstance(found, _Refused):
                refused[window.begin_ns] = found
            else:
                into.append(found)
    return Found(tuple(idles), tuple(loads), _problems(seen, [refused[at] for at in sorted(refused)]))


@dataclass(frozen=True)
class _Refused:
    """Why a window has no energy, by channel; "": by all of them together."""

    channel: str
    what: str


def _problems(seen: Seen, refused: Sequence[_Refused]) -> tuple[str, ...]:
    """Return what is wrong, a sentence a channel: many windows fail for one reason."""
    told = {pick.name: _flaws(seen.captures[pick.name]) for pick in seen.power}
    for name in dict.fromkeys(r.channel for r in refused if r.channel not in seen.unseen):
        first, *more = [r.what for r in refused if r.channel == name]
        what = f"{name}: {first}" if name else first
        what += f", and {len(more)} more windows don't count" if more else ""
        errors = seen.captures[name].health.errors if name else ()
        if not any("no reading at all" in said for said in told.get(name, ())):
            told.setdefault(name, []).append(what + (f" ({'; '.join(errors)})" if errors else ""))
    return tuple(dict.fromkeys(said for each in told.values() for said in each))


def _flaws(capture: Capture) -> list[str]:
    """Return what makes any sample doubtful; missing ones are the windows' affair."""
    health = capture.health
    if not (health.got == 0 or health.stale or health.out_of_range or health.rollbacks):
        return []
    return list(describe_problems(capture))


def _energy(seen: Seen, window: Window) -> Joules | _Refused:
    energy_j, clock_j, meter_j = 0.0, 0.0, 0.0
    stated = True
    for pick in seen.power:
        capture = _in_order(seen.captures[pick.name])
        part = _part(pick, capture, window, seen.settings.rate_hz)
        if isinstance(part, str):
            return _Refused(pick.name, part)
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
                return _Refused(pick.name, "no samples around a window's ends")
            clock_j += shift
    if energy_j <= 0:
        return _Refused("", f"power adds up to {energy_j:.3g} J over a window: no board runs on that")
    return Joules(window, energy_j, meter_j if stated else None, clock_j)


def _in_order(capture: Capture) -> Capture:
    """Return a capture whose times don't go backwards; that they did is in its health, and a flaw."""
    import numpy as np

    if not np.any(np.diff(capture.t_ns) < 0):
        return capture
    order = np.argsort(capture.t_ns, kind="stable")
    return replace(capture, t_ns=capture.t_ns[order], values=capture.values[order])


def _spike(capture: Capture, window: Window, energy_j: float) -> str:
    """Return what is wrong where one reading alone decides of a window's energy; "" where none does.

    What a reading adds: its distance from the line between its neighbours, over half the time between them.
    """
    import numpy as np

    inside = (capture.t_ns >= window.begin_ns) & (capture.t_ns <= window.end_ns)
    inside &= np.isfinite(capture.values)
    t, v = (capture.t_ns[inside] - window.begin_ns) / 1e9, capture.values[inside]
    if t.size < 3:
        return ""
    whole = t[2:] - t[:-2]
    share = np.divide(t[1:-1] - t[:-2], whole, out=np.zeros_like(whole), where=whole > 0)
    line = v[:-2] + share * (v[2:] - v[:-2])
    added_j = (v[1:-1] - line) * whole / 2
    most = int(np.argmax(np.abs(added_j)))
    if abs(added_j[most]) <= SPIKE_RATIO * abs(energy_j):
        return ""
    return (
        f"one reading of {v[most + 1]:.4g} W among {float(np.median(v)):.4g} W makes "
        f"{added_j[most] / energy_j:+.1%} of a window's energy. Check the meter, or sample faster"
    )


def _part(pick: Pick, capture: Capture, window: Window, rate_hz: float) -> float | str:
    """Return one channel's energy over a window, or why there is none."""
    begin, end = window.begin_ns, window.end_ns
    if pick.channel.kind is ChannelKind.ENERGY_J:
        found = alignment.counted(capture.t_ns, capture.values, begin, end)
    else:
        rate = min(rate_hz, pick.channel.rate_hz or rate_hz)
        gap_ns = max(GAP_PERIODS / rate, GAP_RATIO * window.duration_s) * 1e9
        found = alignment.integrate(capture.t_ns, capture.values, begin, end, max_gap_ns=gap_ns)
    if found.value is None:
        what = f"its samples cover {found.covered_ratio:.1%} of a window of {window.duration_s:.3g} s"
        return f"{what}, {found.n} inside"
    if pick.channel.kind is ChannelKind.POWER_W and (why := _spike(capture, window, found.value)):
        return why
    return found.value
