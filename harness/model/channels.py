"""What an instrument shows: channels, readings, and captures with their health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.model.words import Fidelity


class ChannelKind(StrEnum):
    """What a channel shows, its unit at the end of the name (devlib: channel = site + kind)."""

    POWER_W = "power_w"
    VOLTAGE_V = "voltage_v"
    CURRENT_A = "current_a"
    ENERGY_J = "energy_j"  # a counter: only its differences mean anything
    TEMP_C = "temp_c"
    FREQ_HZ = "freq_hz"
    THROTTLE_BITS = "throttle_bits"  # as the Raspberry Pi's firmware numbers them
    LOAD_RATIO = "load_ratio"  # 0 to 1
    FAN_RPM = "fan_rpm"

    @property
    def unit(self) -> str:
        """Return the stored unit."""
        return _CHANNEL_UNITS[self]


_CHANNEL_UNITS = {
    ChannelKind.POWER_W: "W",
    ChannelKind.VOLTAGE_V: "V",
    ChannelKind.CURRENT_A: "A",
    ChannelKind.ENERGY_J: "J",
    ChannelKind.TEMP_C: "°C",
    ChannelKind.FREQ_HZ: "Hz",
    ChannelKind.THROTTLE_BITS: "1",
    ChannelKind.LOAD_RATIO: "ratio",
    ChannelKind.FAN_RPM: "rpm",
}


class Mode(StrEnum):
    """How a channel is read (devlib's words)."""

    INSTANTANEOUS = "instantaneous"  # one reading when it is asked for
    CONTINUOUS = "continuous"  # samples between a start and a stop


@dataclass(frozen=True)
class Channel:
    """One quantity at one site. A reading holds within `uncertainty_ratio` of it plus `uncertainty_abs`."""

    id: str  # unique within its instrument
    site: str  # "VDD_IN", "cpu-thermal" …
    kind: ChannelKind
    mode: Mode = Mode.INSTANTANEOUS
    rate_hz: float | None = None  # the highest it gives; None: as fast as it is asked
    uncertainty_ratio: float | None = None  # None: its maker states none
    uncertainty_abs: float | None = None  # in the kind's unit
    boundary: str = ""  # what is inside: "rail", "wall", "battery", "package", "board model", "chamber" …
    clock: str = "host"  # whose clock stamps its readings: "device" | "host" | "meter"
    fidelity: Fidelity = Fidelity.MEASURED
    source: str = ""  # path, address or model

    @property
    def unit(self) -> str:
        return self.kind.unit


@dataclass(frozen=True)
class Reading:
    """One value in its channel's unit, and when it was taken on its channel's clock."""

    t_ns: int
    value: float


@dataclass(frozen=True)
class Health:
    """What became of the samples of one capture. Counts, but for `errors`, which say what happened."""

    expected: int | None  # None: no rate was kept, so nothing says how many there should be
    got: int  # readings that are numbers
    gaps: int = 0  # places where samples are missing
    stale: int = 0  # readings that repeat a value for longer than the quantity can stand still
    out_of_range: int = 0  # readings that the quantity can't have
    rollbacks: int = 0  # places where the clock, or a counter, went backwards
    errors: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong with any sample."""
        whole = self.expected is None or self.got >= self.expected
        flawed = self.gaps + self.stale + self.out_of_range + self.rollbacks
        return whole and self.got > 0 and not flawed and not self.errors


@dataclass(frozen=True)
class Capture:
    """The samples of one channel, in the order they were taken.

    `t_ns` int64 (n,) on the channel's clock, `values` float64 (n,) in its unit, NaN where a reading failed.
    """

    channel: Channel
    t_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    health: Health


@dataclass(frozen=True)
class InstrumentSpec:
    """One instrument of a unit, as devices.toml names it. `options` are its kind's, checked and converted."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""  # file and table, for messages
