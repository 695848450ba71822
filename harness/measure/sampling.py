"""The meters and sensors of one unit, open, with every reading on the device's clock.

The device's own channels are sampled by a process there, instruments on the bench by the host; offsets
between their clocks come from round trips before and after. An emulated board has one core in its timing
profile, which a sampler would share with what is measured: there the host reads the board's model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness import instruments
from harness.alignment import ClockMap, Offset, RoundTrip, estimate_offset
from harness.connect.qemu import QemuConnection
from harness.errors import ConfigError, DeviceError, Unsupported, nearest
from harness.instruments import onboard
from harness.instruments.base import Context, Instrument
from harness.measure.bench import Bench
from harness.measure.board_meter import BoardMeter
from harness.model import Capture, Channel, ChannelKind, Condition, Fidelity, Reading
from harness.remote import AgentClient
from harness.remote.sampler import DeviceSampler

ROUND_TRIPS = 16  # chosen: the shortest of so many is close to the shortest there is
POLL_S = (0.2, 5.0)  # how often a wait looks at the device's clock, at least and at most
# of throttle bits as `vcgencmd get_throttled` numbers them, now: 1 frequency capped, 2 throttled, 3 soft
# temperature limit (Raspberry Pi documentation); bit 0 is the supply's
HEAT_BITS = 0b1110
_BESIDE = (ChannelKind.TEMP_C, ChannelKind.FREQ_HZ, ChannelKind.THROTTLE_BITS)
MIN_RATE_RATIO = 0.9  # of the rate that was asked for
# boundaries that hold what the model makes the board draw; a rail is a part of it (harness/agent/sensors/)
WHOLE = frozenset({"wall", "board", "battery", "module", "rails of the power chip", "platform"})
_MAX_BESIDE = 16  # chosen: channels that are recorded beside power, for the report's time axis


@dataclass(frozen=True)
class Pick:
    """One channel of one open instrument."""

    instrument: Instrument
    channel: Channel
    name: str  # as devices.toml names it: "INSTRUMENT/CHANNEL"


@dataclass
class Gauges:
    """The open instruments of the unit that `bench` is on."""

    client: AgentClient
    where: str
    picks: tuple[Pick, ...]
    virtual: bool
    own: DeviceSampler | None  # None: another stands for the device's own channels
    silent: Mapping[str, str] = field(default_factory=dict)  # sensors that don't answer, and why
    _running: list[tuple[Instrument, list[Pick]]] = field(default_factory=list)
    _before: dict[str, Offset] = field(default_factory=dict)
    maps: dict[str, ClockMap] = field(
        default_factory=dict
    )  # of the last stop, by instrument: host's or meter's

    @property
    def _own_ids(self) -> set[str]:
        return {channel.id for channel in self.own.channels()} if self.own else set()

    # -- which

    def power(self, wanted: Sequence[str]) -> tuple[Pick, ...]:
        """Return the channels whose sum is the board's power: those named, else the only one, else the
        only one whose boundary is all of the board.

        Counters of energy serve too. Raises Unsupported with what there is, ConfigError for a name that
        isn't there or is of another kind.
        """
        fit = (ChannelKind.POWER_W, ChannelKind.ENERGY_J)
        if wanted:
            return tuple(self.named(name, fit) for name in wanted)
        for kind in fit:
            found = [p for p in self.picks if p.channel.kind is kind]
            declared = [p for p in found if p.instrument is not self.own]
            chosen = declared or found
            whole = [p for p in chosen if p.channel.boundary in WHOLE]
            for only in (chosen, whole):
                if len(only) == 1:
                    return tuple(only)
            if chosen:
                listed = ", ".join(p.name for p in chosen)
                raise Unsupported(
                    f"several channels show power: {listed}.",
                    where=self.where,
                    next_step="Name those whose sum is the board's in its type's `energy.channels`.",
                )
        raise Unsupported(f"no channel shows power; {self.listed()}.", where=self.where, next_step=_NO_METER)

    def named(self, name: str, kinds: Sequence[ChannelKind]) -> Pick:
        """Return the channel of this name.

        Raises ConfigError where it isn't there, or is of another kind; DeviceError where it doesn't answer.
        """
        by_name = {p.name: p for p in self.picks}
        why = self.silent.get(name.partition("/")[2])
        if name not in by_name and why is not None:
            raise DeviceError(f"`{name}` is there and doesn't answer: {why}.", where=self.where)
        if name not in by_name:
            what = f"no channel `{name}`{nearest(name, by_name)}"
            raise ConfigError(f"{what}; {self.listed()}.", where=self.where)
        found = by_name[name]
        if found.channel.kind not in kinds:
            wanted = " or ".join(kinds)
            raise ConfigError(
                f"channel `{name}` shows {found.channel.kind}, expected {wanted}.", where=self.where
            )
        return found

    def listed(self) -> str:
        """Return what there is, for messages."""
        shown = ", ".join(f"{p.name} ({p.channel.kind})" for p in self.picks) or "none"
        silent = "; ".join(f"{id_} ({why})" for id_, why in self.silent.items())
        return f"there are: {shown}" + (f"; silent: {silent}" if silent else "")

    def beside(self, chosen: Sequence[Pick]) -> tuple[Pick, ...]:
        """Return the channels that are recorded beside `chosen`: temperatures, clocks, throttling."""
        taken = {p.name for p in chosen}
        others = [p for kind in _BESIDE for p in self.picks if p.channel.kind is kind and p.name not in taken]
        return tuple(others[:_MAX_BESIDE])

    # -- sampling

    def start(self, picks: Sequence[Pick], rate_hz: float) -> None:
        """Begin to sample `picks`, each as fast as it can up to `rate_hz`."""
        self._running, self.maps = [], {}
        grouped: dict[str, list[Pick]] = {}
        for pick in picks:
            # one of kind `onboard` stands for channels of the device, which has one sampler
            shared = self.own is not None and pick.channel.id in self._own_ids
            instrument = self.own if shared and pick.channel.clock == "device" else pick.instrument
            assert instrument is not None
            grouped.setdefault(instrument.name, []).append(Pick(instrument, pick.channel, pick.name))
        for group in grouped.values():
            instrument = group[0].instrument
            self._before[instrument.name] = self._offset(group[0].channel)
            rates = [p.channel.rate_hz for p in group if p.channel.rate_hz is not None]
            instrument.start([p.channel.id for p in group], min([rate_hz, *rates]))
            self._running.append((instrument, group))

    def read(self, picks: Sequence[Pick]) -> list[Reading]:
        """Return one reading of each, taken now; their times are on their own channels' clocks."""
        if self.own is not None and all(p.instrument is self.own for p in picks):
            return self.own.read_all([p.channel.id for p in picks])
        return [p.instrument.read(p.channel.id) for p in picks]

    def stop(self) -> dict[str, Capture]:
        """End sampling; return by name what was taken, times on the device's clock where a map is known.

        What stands on a meter's own clock stays on it: the caller aligns it by edges.
        """

        captures: dict[str, Capture] = {}
        for instrument, group in self._running:
            taken = instrument.stop()
            after = self._offset(group[0].channel)
            clock = ClockMap(self._before[instrument.name], after)
            self.maps[instrument.name] = clock
            for pick, capture in zip(group, taken, strict=True):
                captures[pick.name] = self._on_device(pick, capture, clock)
        self._running = []
        return captures

    def _on_device(self, pick: Pick, capture: Capture, clock: ClockMap) -> Capture:
        t_ns = clock.to_remote(capture.t_ns) if pick.channel.clock == "host" else capture.t_ns
        return Capture(pick.channel, t_ns, capture.values, capture.health)

    def clock_uncertainty_ns(self, pick: Pick) -> float:
        """Return how far off a time of this channel may be on the device's clock."""
        if pick.channel.clock == "device" or pick.instrument.name not in self.maps:
            return 0.0
        return self.maps[pick.instrument.name].uncertainty_ns

    def _offset(self, channel: Channel) -> Offset:
        if channel.clock != "host":  # the device's own needs none, a meter's is aligned by load
            return Offset(0, 0.0, 0.0)
        return estimate_offset(round_trips(self.device_ns))

    # -- time

    def device_ns(self) -> int:
        """Return the device's CLOCK_MONOTONIC now."""
        return int(self.client.request("clock").args["monotonic_ns"])

    def wait(self, duration_s: float, *, sleep: Callable[[float], None] = time.sleep) -> tuple[int, int]:
        """Wait until so much time has passed on the device's clock; return its readings before and after."""
        begin = now = self.device_ns()
        end = begin + round(duration_s * 1e9)
        while now < end:
            left_s = (end - now) / 1e9
            sleep(POLL_S[0] if self.virtual else min(max(POLL_S[0], left_s / 10), POLL_S[1], left_s))
            now = self.device_ns()
        return begin, now


_NO_METER = "Declare a meter in devices.toml (docs/instruments.md), or measure a board that shows its power."


def round_trips(ask: Callable[[], int], count: int = ROUND_TRIPS) -> list[RoundTrip]:
    """Return `count` round trips to the clock that `ask` reads, against the host's."""
    trips = []
    for _ in range(count):
        sent = time.monotonic_ns()
        remote = ask()
        trips.append(RoundTrip(sent, remote, time.monotonic_ns()))
    return trips


@contextlib.contextmanager
def open_gauges(bench: Bench) -> Iterator[Gauges]:
    """Yield the open instruments of the unit: the device's own channels, and those of devices.toml.

    Raises Unsupported for an emulated board without a power model.
    """
    board = bench.board
    with contextlib.ExitStack() as opened:
        own: DeviceSampler | None = None
        found: list[Pick] = []
        if isinstance(board.connection, QemuConnection):
            opened.enter_context(board.connection.sensing())
            meter = BoardMeter(board.connection.machine.sensors.read_model, where=board.device.name)
            opened.callback(meter.close)
            found += [_pick(meter, channel) for channel in meter.channels()]
        else:
            chips = onboard.declared_chips(board.device.instruments)
            own = DeviceSampler(board.client, where=board.device.name, cpus=_other_cpus(bench), i2c=chips)
            opened.callback(own.close)
            # an instrument of kind `onboard` picks from them, by its own name
            if all(spec.kind != onboard.NAME for spec in board.device.instruments):
                found += [_pick(own, channel) for channel in own.channels()]
        for spec in board.device.instruments:
            if own is None and spec.kind == onboard.NAME:
                raise ConfigError(
                    "the host reads an emulated board's chips (board/power_w, board/temp_c …): a sampler "
                    "there would take time from its one core.",
                    where=spec.where or spec.name,
                    next_step="Leave this instrument to physical units.",
                )
            instrument = instruments.open_instrument(spec, Context(board=own))
            opened.callback(instrument.close)
            found += [_pick(instrument, channel) for channel in instrument.channels()]
        yield Gauges(
            client=board.client,
            where=board.device.name,
            picks=tuple(found),
            virtual=board.device.kind == "qemu",
            own=own,
            silent=dict(own.silent) if own else {},
        )


def _pick(instrument: Instrument, channel: Channel) -> Pick:
    return Pick(instrument, channel, f"{instrument.name}/{channel.id}")


def _other_cpus(bench: Bench) -> tuple[int, ...]:
    """Return the CPUs that the model isn't pinned to; none where it may use all."""
    pinned = set(bench.board.device.pinned_cpus)
    every = bench.board.facts.details.get("cpus") or ()
    return tuple(cpu for cpu in every if cpu not in pinned) if pinned else ()


def sampler_condition(gauges: Gauges) -> Condition | None:
    """Return what rate the device's sampler kept, with its jitter and its cost; None where none ran."""
    report = gauges.own.report if gauges.own else None
    if report is None or report.rate_got_hz is None:
        return None
    kept = report.rate_got_hz >= MIN_RATE_RATIO * report.rate_asked_hz
    return Condition(
        "sampler",
        f"{report.rate_got_hz:.4g} Hz, jitter p99 {(report.jitter_p99_ns or 0) / 1e6:.3g} ms, "
        f"{report.missed} left out, {report.cpu_ratio or 0:.2%} of a core",
        f"{report.rate_asked_hz:g} Hz",
        True if kept else None,
        "Another process held its core: pin the model to another one.",
    )


def worse_fidelity(*kinds: Fidelity) -> Fidelity:
    """Return the fidelity of a number that rests on all of these."""
    return max(kinds, key=list(Fidelity).index)


def uncertainty(channel: Channel, value: float) -> float | None:
    """Return how far off a reading of `value` may be by the channel's maker; None: nothing is stated."""
    if channel.uncertainty_ratio is None and channel.uncertainty_abs is None:
        return None
    return abs(value) * (channel.uncertainty_ratio or 0.0) + (channel.uncertainty_abs or 0.0)
