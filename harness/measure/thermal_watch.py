"""Thermal runs, channels: which a run looks at, and one reading of each between blocks of load."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import DataError, DeviceError, TransientError, Unsupported
from harness.measure.sampling import Gauges, Pick
from harness.model import ChannelKind, ThermalSettings

_CPU_SITE = re.compile(r"cpu|soc|pkg|core|k10temp|package", re.IGNORECASE)
_AIR = re.compile(r"ambient|chamber", re.IGNORECASE)  # in site or boundary: the air around it
# kernel, admin-guide/pm/cpufreq: policyX is named by the first CPU that it covers
_POLICY = re.compile(r"(?:^|/)policy(\d+)(?:/|$)")


@dataclass(frozen=True)
class Watched:
    """The channels that a thermal run looks at. `freqs` are clocks of the CPUs that the model runs on."""

    temp: Pick
    freqs: tuple[Pick, ...]
    bits: Pick | None
    ambient: Pick | None

    @property
    def picks(self) -> tuple[Pick, ...]:
        return (self.temp, *self.freqs, *((self.bits,) if self.bits else ()))

    @property
    def throttling(self) -> tuple[Pick, ...]:
        """Return the channels that throttling is seen by; () where nothing shows it."""
        return (self.bits,) if self.bits else self.freqs


@dataclass(frozen=True)
class Seen:
    """One reading of each watched channel. NaN: it gave none."""

    temp_c: float
    freq_hz: float
    bits: float


@dataclass
class Looker:
    """Reads the watched channels; a reading that fails is NaN, and why stays in `last_error`."""

    gauges: Gauges
    watched: Watched
    last_error: str = field(default="", init=False)

    def look(self) -> Seen:
        """Return a reading of all of them. The frequency is the highest of the watched clocks."""
        temp, *rest = self._values(self.watched.picks)
        freqs = [f for f in rest[: len(self.watched.freqs)] if math.isfinite(f)]
        bits = rest[-1] if self.watched.bits else math.nan
        return Seen(temp, max(freqs) if freqs else math.nan, bits)

    def temp_c(self) -> float:
        """Return the temperature, NaN where there is no reading."""
        return self._values([self.watched.temp])[0]

    def ambient_c(self, settings: ThermalSettings) -> float | None:
        """Return the air's temperature: as devices.toml has it, else read; None where nobody shows it."""
        if settings.ambient_temp_c is not None:
            return settings.ambient_temp_c
        if self.watched.ambient is None:
            return None
        (value,) = self._values([self.watched.ambient])
        return value if math.isfinite(value) else None

    def _values(self, picks: Sequence[Pick]) -> list[float]:
        try:
            values = [reading.value for reading in self.gauges.read(picks)]
        except (DataError, TransientError, DeviceError) as error:
            if len(picks) > 1:  # one that is silent hides none of the others
                return [self._values([pick])[0] for pick in picks]
            self.last_error = str(error)
            return [math.nan]
        for pick, value in zip(picks, values, strict=True):
            if not math.isfinite(value):
                self.last_error = f"`{pick.name}` gives no reading"
        return values


def watch(gauges: Gauges, settings: ThermalSettings, pinned_cpus: Sequence[int] = ()) -> Watched:
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
    bits = next((p for p in picks if p.channel.kind is ChannelKind.THROTTLE_BITS), None)
    freqs = [p for p in picks if p.channel.kind is ChannelKind.FREQ_HZ]
    return Watched(temp, cpu_clocks(freqs, pinned_cpus), bits, ambient)


def cpu_clocks(freqs: Sequence[Pick], pinned_cpus: Sequence[int] = ()) -> tuple[Pick, ...]:
    """Return the clocks of the CPUs that the model runs on, of all CPUs where it is pinned to none.

    Those of GPU, NPU and memory stay out where a CPU's is shown: each follows a load of its own.
    """
    policies = [(p, int(m[1])) for p in freqs if (m := _POLICY.search(p.channel.id))]
    if not policies:
        return tuple(freqs)
    numbers = sorted(number for _, number in policies)
    wanted = {max((n for n in numbers if n <= cpu), default=numbers[0]) for cpu in pinned_cpus}
    return tuple(p for p, number in policies if not wanted or number in wanted)
