"""The frozen records that travel right along the spine. No I/O, no statistics.

registry → connection → deployment → measurement → store → gate → report
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class Fidelity(StrEnum):
    """Where a number comes from. Numbers of unlike fidelity never compare."""

    MEASURED = "measured"  # a physical clock or meter, or what emulation really executes
    VIRTUAL = "virtual"  # time on the deterministic clock of an emulated device
    ESTIMATED = "estimated"  # a model's, with its error band


class Verdict(StrEnum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"  # the interval straddles the limit
    INVALID = "INVALID"  # conditions violated; says nothing about the model
    INFRA_ERROR = "INFRA_ERROR"  # the lab failed, not the model
    NOT_JUDGED = "NOT_JUDGED"  # measured, but nothing was set to judge it by


class Outcome(StrEnum):
    """How a run ended, before anything is judged."""

    COMPLETED = "completed"
    MODEL_REJECTED = "model_rejected"  # the runtime refuses the model
    INFRA_ERROR = "infra_error"
    INVALID = "invalid"  # ran, but its evidence is incomplete or contradicts itself
    SKIPPED = "skipped"  # the device or model lacks what the suite needs
    INTERRUPTED = "interrupted"  # Ctrl-C or a kill
    USAGE_ERROR = "usage_error"  # inputs, shapes or options don't fit; nothing was measured


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. `shape` holds an int, or None where the model leaves it open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str  # numpy's name: float32, int8, …


@dataclass(frozen=True)
class Signature:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class RuntimeSpec:
    """A runtime and, where pinned, its build: `onnxruntime==1.20.1`."""

    name: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" if self.version else self.name


@dataclass(frozen=True)
class Artifact:
    """One model file by its SHA-256."""

    name: str  # the model's name in the plan, or the file's name
    path: Path
    sha256: str
    size_bytes: int
    format: str  # "onnx" | "tflite" | …


@dataclass(frozen=True)
class ServerLoad:
    """Requests that arrive at random, open loop: at a rate, or at the highest that keeps a p99.

    Exactly one of `rate_per_s` and `p99_ns` is set.
    """

    rate_per_s: float | None = None
    p99_ns: float | None = None
    duration_s: float | None = None  # of each rate that is tried; None: as the samples need


@dataclass(frozen=True)
class PeriodicLoad:
    """A frame each `period_ns`, which must be done `deadline_ns` after it was due."""

    period_ns: float
    deadline_ns: float


@dataclass(frozen=True)
class MultiStreamLoad:
    samples_per_query: int  # that come at once; a query ends with the last


@dataclass(frozen=True)
class ModelCase:
    """A model with all that is needed to measure it: what the plan says, or what options gave."""

    artifact: Artifact
    runtime: RuntimeSpec
    inputs_path: Path | None = None  # .npz keyed by input name, first axis samples; `labels` beside
    task: str | None = None  # task metric, e.g. "accuracy"; None: agreement only
    variant: str | None = None  # "fp32", "int8-static", …
    base: str | None = None  # name of the model this is a variant of
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rtol: float | None = None  # None: by precision
    atol: float | None = None
    from_plan: bool = True
    golden_path: Path | None = None  # .npz with the outputs that its runtime gave once
    memory_limit_bytes: int | None = None  # of the cgroup that its process runs in
    server: ServerLoad | None = None
    periodic: PeriodicLoad | None = None
    multi_stream: MultiStreamLoad | None = None

    @property
    def name(self) -> str:
        return self.artifact.name


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
class Series:
    """Raw samples of one quantity, in the order they were taken; warm-up excluded.

    `values` has shape (n,). `process` numbers the fresh process each sample came from, same shape.
    """

    name: str  # with its unit: "latency_ns"
    unit: str
    values: npt.NDArray[Any]
    process: npt.NDArray[np.int32]
    clock: str | None = None  # "CLOCK_MONOTONIC" …
    batch_size: int = 1
    arm: str = ""  # of a comparison: "candidate" or "baseline"
    block: npt.NDArray[np.int32] | None = None  # of its process, that each sample is in; same shape


# a reason of a measurement: its interval knows nothing of what differs between processes, or days
WITHIN_ONE_PROCESS = "interval: within one process"


@dataclass(frozen=True)
class Measurement:
    """One number with its interval, before any judgement.

    `low` and `high` bound `value` with 90% two-sided confidence; None where no bound can be given (the
    reason says why). Missing values are None with a reason, never 0.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    fidelity: Fidelity
    scenario: str | None = None  # single_stream, offline …
    batch_size: int = 1
    reasons: tuple[str, ...] = ()
    limit: float | None = None  # a limit that belongs to the measurement itself, e.g. a tolerance


class Scope(StrEnum):
    """What a breached condition invalidates."""

    ALL = "all"  # any number of the run
    ABSOLUTE = "absolute"  # its absolute numbers; what was taken side by side met the same conditions


@dataclass(frozen=True)
class Condition:
    """One line of the validity envelope. `ok` is None where the device can't show it."""

    name: str
    observed: str
    expected: str
    ok: bool | None
    remedy: str = ""
    scope: Scope = Scope.ALL


class Effect(StrEnum):
    """How a candidate's value is set against its baseline's."""

    RATIO = "ratio"  # candidate ÷ baseline
    DIFFERENCE = "difference"  # candidate − baseline, of metrics that are ratios themselves (accuracy)


class Method(StrEnum):
    """How the two arms of a comparison were taken; what its interval rests on."""

    DUET = "duet"  # resident side by side, taking turns in blocks
    ABBA = "abba"  # fresh processes in randomised ABBA order
    PAIRED = "paired"  # the same samples through both
    EXACT = "exact"  # no noise: sizes
    RECORDED = "recorded"  # the baseline's numbers as they were recorded, from memory


@dataclass(frozen=True)
class Comparison:
    """A candidate's metric against its baseline's, with the interval of their effect; not judged yet.

    `low` and `high` bound `value` (a ratio, or a difference in the metric's unit) with two-sided
    `confidence`: 90%, or more where several looks were declared. The interval is symmetric on the log scale
    for a ratio, with `df` degrees of freedom (None: normal). `invalid` says why it must not be judged.
    """

    metric: str
    effect: Effect
    value: float | None
    low: float | None
    high: float | None
    n: int  # pairs of blocks, pairs of fresh processes, or samples
    fidelity: Fidelity
    method: Method
    candidate: float | None  # in the metric's unit, as seen in this comparison
    baseline: float | None
    baseline_name: str  # as it was asked for
    scenario: str | None = None
    batch_size: int = 1
    confidence: float = 0.9
    df: float | None = None
    reasons: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


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


@dataclass(frozen=True)
class ErrorRecord:
    """An error as it is stored: its slug in docs/errors.md, its text, how often it was retried."""

    slug: str
    message: str
    retries: int = 0


@dataclass(frozen=True)
class Run:
    """One device × artifact × runtime × settings, one attempt."""

    run_id: str
    session_id: str
    attempt: int
    suite: str  # deploy, accuracy, latency, memory …
    test: str  # pytest's node id
    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    device: DeviceFacts
    threads: int
    settings: Mapping[str, Any]
    started_at: str  # ISO 8601, UTC
    duration_s: float
    outcome: Outcome
    scenario: str | None = None
    error: ErrorRecord | None = None
    reason: str | None = None  # why skipped or invalid
    conditions: tuple[Condition, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    series: tuple[Series, ...] = ()
    log: str = ""
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Budget:
    """A limit for one metric of one model on one device type, a margin against its baseline, or both.

    `margin` is how much worse than the baseline it may be: relative for a ratio (0.01: 1% worse), in the
    metric's unit for a difference.
    """

    model: str
    device_type: str
    metric: str
    limit: float | None  # in the metric's unit
    fidelity: Fidelity = Fidelity.MEASURED
    rule: str = "confidence"  # or "point"
    scenario: str | None = None
    batch_size: int | None = None
    where: str = ""  # file and key, for messages
    margin: float | None = None
    fidelity_open: bool = False  # a test's own that names none: it overrides the plan's of each fidelity


@dataclass(frozen=True)
class PlanModel:
    """A model as release.toml names it; nothing has been read from its file yet."""

    name: str
    path: Path
    runtime: RuntimeSpec | None = None  # None: by the file's format
    inputs_path: Path | None = None
    task: str | None = None
    variant: str | None = None
    base: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rtol: float | None = None
    atol: float | None = None
    golden_path: Path | None = None
    memory_limit_bytes: int | None = None
    server: ServerLoad | None = None
    periodic: PeriodicLoad | None = None
    multi_stream: MultiStreamLoad | None = None
    baseline: str | None = None  # what it is compared with, unless --baseline says otherwise


@dataclass(frozen=True)
class RecordedNumber:
    """One measurement of a recorded baseline, and what may differ between the runs of one session."""

    run_id: str
    profile: str  # native, functional, timing
    governor: str | None
    measurement: Measurement  # its scenario is filled in


@dataclass(frozen=True)
class RecordedBaseline:
    """What a recorded baseline holds of one model on one unit: its numbers, and what they were taken with."""

    name: str  # of the baseline
    model: str  # the plan's name of it
    device_name: str
    device_type: str
    serial: str | None
    artifact_sha256: str
    artifact_format: str
    runtime: str
    runtime_version: str | None
    packages: tuple[str, ...]
    threads: int
    platform: str
    kernel: str | None
    session_id: str
    recorded_at: str  # ISO 8601, UTC: when the session was measured
    numbers: tuple[RecordedNumber, ...]
    artifact_file: str | None = None  # the copy's name in the baseline's folder; None: numbers alone

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return tuple(number.measurement for number in self.numbers)


@dataclass(frozen=True)
class Baseline:
    """What one candidate is compared with on one unit: a file to measure beside it, numbers, or both.

    `model` is set wherever there is a file, also a recorded baseline's: sharing of noise beats memory.
    """

    name: str  # as it was asked for
    model: PlanModel | None = None
    recorded: RecordedBaseline | None = None


@dataclass(frozen=True)
class CommandRuntime:
    """A runtime that the plan defines: an executable on the device (docs/agent-protocol.md, Commands)."""

    name: str
    argv: tuple[str, ...]  # `{model}` and `{threads}` are filled in
    protocol: str  # "json-lines" | "benchmark_model"
    formats: tuple[str, ...] = ()  # empty: any
    timeout_s: float | None = None  # longest wait for one answer


@dataclass(frozen=True)
class Plan:
    """release.toml: what must be measured, by what it is judged, and which fidelity counts."""

    path: Path | None
    models: tuple[PlanModel, ...] = ()
    device_types: tuple[str, ...] = ()  # that must be measured for a release
    required_suites: tuple[str, ...] = ()
    accepted_fidelity: tuple[Fidelity, ...] = (Fidelity.MEASURED, Fidelity.VIRTUAL)
    budgets: tuple[Budget, ...] = ()
    runtimes: tuple[CommandRuntime, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)


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
    emulated_scale: float = 0.02


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


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reasons: tuple[str, ...]
    budget: Budget | None = None


@dataclass(frozen=True)
class Result:
    """A measurement with its judgement: one row of summary.json and of the report's table."""

    run_id: str
    suite: str
    test: str
    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    device_name: str
    device_type: str
    scenario: str | None
    batch_size: int
    threads: int
    settings: Mapping[str, Any]
    metric: str
    unit: str
    direction: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    fidelity: Fidelity | None
    budget: float | None
    baseline: float | None  # of a row that compares: the baseline's value beside the candidate's
    ratio: float | None  # of a row that compares: the effect, a ratio or a difference
    margin: float | None
    verdict: Verdict
    reasons: tuple[str, ...]
    comparison: Comparison | None = None  # set in a row that compares


@dataclass(frozen=True)
class Release:
    """The release verdict and what is missing for a PASS."""

    verdict: Verdict
    missing: tuple[str, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detectable:
    """The smallest regression that a unit catches with 95% power in so much measuring time."""

    minutes: float
    ratio: float | None  # 0.013: a model 1.3% worse is called a FAIL; None: it can't be told
    extrapolated: bool  # from the spread seen, not from trials of that length


@dataclass(frozen=True)
class Calibration:
    """A against A on one unit: how often it would cry wolf, and what it would miss."""

    device: str
    taken_at: str  # ISO 8601, UTC
    model: str
    artifact_sha256: str
    runtime: str
    runtime_version: str | None
    fidelity: Fidelity
    margin: float
    trials: int
    false_fails: int
    inconclusives: int
    trial_s: float  # measuring time of one trial, median
    half_width_ratio: float  # median half-width of the 90% interval of the ratio (0.0015: ±0.15%)
    detectable: tuple[Detectable, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionRecord:
    """One pytest call: what was asked for, what it ran on, and its runs."""

    session_id: str
    started_at: str
    finished_at: str | None
    command: tuple[str, ...]
    plan_path: str | None
    plan: Mapping[str, Any]  # the plan as it was read, so that a report needs no other file
    devices: tuple[DeviceFacts, ...]
    harness_version: str
    interrupted: bool = False
    host: Mapping[str, Any] = field(default_factory=dict)
    calibrations: tuple[Calibration, ...] = ()  # of its devices, as they stood
