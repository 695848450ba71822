"""Device types and units: how each is reached, how quiet it must be, what it measures with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.model.channels import InstrumentSpec


@dataclass(frozen=True)
class DeviceFacts:
    """What a device says of itself, kept with each run."""

    name: str
    type: str
    kind: str  # "local" | "ssh" | "qemu"
    serial: str | None
    platform: str  # e.g. "linux-aarch64"
    details: Mapping[str, Any] = field(default_factory=dict)  # cpu, ram_bytes, kernel, boot_id …


@dataclass(frozen=True)
class Limits:
    """How quiet and cool a device must be for its absolute times to count."""

    max_cpu_pressure_ratio: float = 0.3  # PSI, some, avg10, before a run
    max_other_busy_ratio: float = 0.5  # CPU time of others during a run, of one core
    max_start_temp_c: float | None = None  # None: recorded, never a breach


@dataclass(frozen=True)
class EnergySettings:
    """How the power suite measures devices of a type. On an emulated board durations are `scaled`."""

    window_s: float = 10.0  # of one trial under load, and of idle before and after
    trials: int = 5
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)
    rate_hz: float = 100.0  # of the sampler, where it runs beside the model
    channels: tuple[str, ...] = ()  # "INSTRUMENT/CHANNEL" whose sum is the board's power; (): the only one
    max_clock_uncertainty_s: float = 0.05  # between meter and device; beyond it a run is INVALID
    emulated_scale: float = 0.1


@dataclass(frozen=True)
class ThermalSettings:
    """How the thermal suite measures devices of a type. On an emulated board durations are `scaled`."""

    start_temp_c: tuple[float, float] = (35.0, 50.0)  # the band that a run starts in
    cool_cap_s: float = 1800.0  # for cooling into it
    load_cap_s: float = 3600.0  # for getting steady
    steady_s: float = 600.0  # temperature and frequency stand still for so long
    steady_slope_c_per_min: float = 0.1  # its interval lies within ± this
    block_s: float = 5.0  # of load between two readings
    burst_s: float = 10.0  # whose throughput is the burst's
    trip_temp_c: float | None = None  # where the board throttles, if its maker says so
    ambient_temp_c: float | None = None  # as it was read off; None: by a channel of the site "ambient"
    channel: str | None = None  # of the temperature; None: the CPU's
    emulated_scale: float = 0.01


@dataclass(frozen=True)
class PowerModel:
    """What stands for a board's power and heat where it is emulated: one thermal mass, power linear in load.

    What comes of it is an estimate. It heats and cools 1 / `thermal.emulated_scale` times as fast as a board.
    """

    idle_power_w: float  # of the whole board
    load_power_w: float  # with all its cores busy
    supply_voltage_v: float
    thermal_resistance_k_per_w: float  # from the sensor's place to the air
    heat_capacity_j_per_k: float
    ambient_c: float
    trip_c: float  # throttling begins
    hysteresis_c: float  # and ends so far below
    throttled_speed_ratio: float  # of full speed, while throttled


@dataclass(frozen=True)
class DeviceType:
    """What units share. `ram_bytes` and `cores` are the board's own, also where it is emulated."""

    name: str
    description: str = ""
    cores: int | None = None
    ram_bytes: int | None = None
    requires_evidence: tuple[str, ...] = ()  # throttle_bits, freq, temp: absent ones make a run INVALID
    python: str = "python3"  # the interpreter on the device
    governor: str | None = None  # of its CPUs during a measurement; None: left as it is
    limits: Limits = field(default_factory=Limits)
    energy: EnergySettings = field(default_factory=EnergySettings)
    thermal: ThermalSettings = field(default_factory=ThermalSettings)
    power_model: PowerModel | None = None  # of its emulated units
    # what estimates of its milliseconds rest on where it is emulated: "counts" by QEMU's plugin, or "clock"
    estimate: str = "counts"
    # over the plan's settings of soaks, by SoakSettings' names; what is of emulated units alone, over these
    soak: Mapping[str, Any] = field(default_factory=dict)
    soak_emulated: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SshAddress:
    """How to reach a unit over SSH. Host keys: `known_hosts`, or the `host_key` pinned here."""

    host: str
    port: int = 22
    user: str | None = None
    identity_path: Path | None = None
    host_key: str | None = None  # "ssh-ed25519 AAAA…" or "SHA256:…"
    known_hosts_path: Path | None = None
    jump: SshAddress | None = None
    connect_timeout_s: float = 15.0


@dataclass(frozen=True)
class QemuBoard:
    """An emulated unit. Two profiles share one image: functional (two cores) and timing (icount)."""

    cpu: str = "cortex-a72"
    memory_bytes: int = 2 << 30
    smp: int = 2
    disk_bytes: int = 2 << 30
    board_model: str = "Raspberry Pi 4 Model B"


@dataclass(frozen=True)
class Device:
    """One unit of the registry. Exactly one of `ssh` and `qemu` is set, neither for `local`."""

    name: str
    type: DeviceType
    kind: str  # "local" | "ssh" | "qemu"
    serial: str | None = None
    tags: tuple[str, ...] = ()
    ssh: SshAddress | None = None
    qemu: QemuBoard | None = None
    home: str | None = None  # folder on the device; None: ~/.harness
    pinned_cpus: tuple[int, ...] = ()
    timeout_s: float = 120.0  # longest wait for one answer of the agent
    where: str = ""  # file and table, for messages
    governor: str | None = None  # its own, else its type's
    instruments: tuple[InstrumentSpec, ...] = ()
