"""A soak as records: what it was asked for, and what its windows held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class SparseHistograms:
    """A histogram of call times for each window: entries [offset[w], offset[w + 1]) belong to window w.

    `offset` has shape (n_windows + 1,), `index` (buckets of docs/soak-format.md) and `count` (n_entries,).
    """

    offset: npt.NDArray[np.int64]
    index: npt.NDArray[np.int32]
    count: npt.NDArray[np.int64]


@dataclass(frozen=True)
class SoakEvent:
    """Something that happened. `t_s` is soak time, of the host's own events estimated."""

    t_s: float
    kind: str
    text: str
    source: str = "device"  # or "host"
    stream: str = ""
    life: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SoakLife:
    """One stay of the runner. `gap_s` is what passed unobserved before it."""

    life: int
    start_s: float
    gap_s: float
    gap_from: str  # "start", "boottime", "realtime", "uptime"
    boot_id: str
    not_observable: Mapping[str, str] = field(default_factory=dict)  # what it didn't show, and why
    cpufreq: Mapping[str, Any] = field(default_factory=dict)  # by policy: governor, min_hz, max_hz, cpus


@dataclass(frozen=True)
class SoakTable:
    """All windows of a soak in order of soak time; n of them, shapes (n,) unless said.

    `channels` maps "<stream>/<kind>" ("main/rss_bytes", "main/calls", "main/errors") and "device/<kind>"
    ("device/temp_c.cpu-thermal", "device/disk_free_bytes") to values, NaN where nothing was read. `merged`
    counts how many windows a thinned record stands for.
    """

    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    life: npt.NDArray[np.int32]
    merged: npt.NDArray[np.int32]
    channels: Mapping[str, npt.NDArray[np.float64]]
    units: Mapping[str, str]  # by channel
    latency: Mapping[str, SparseHistograms]  # by stream
    variants: Mapping[str, tuple[str, ...]]  # by stream: which variant each window used
    events: tuple[SoakEvent, ...]
    lives: tuple[SoakLife, ...]
    ended: str | None  # the reason of the `end` record; None: it hasn't ended
    first_seq: int
    last_seq: int
    missing_seq: tuple[int, ...] = ()  # lost: never collected, or damaged
    doubled_seq: tuple[int, ...] = ()


@dataclass(frozen=True)
class SoakStream:
    """One stream in words: the model that it begins with, its cycle, its variants from heavy to light."""

    name: str
    model: str
    cycle: str
    variants: tuple[str, ...]


@dataclass(frozen=True)
class SoakLimits:
    """What may drift by how much. `service_life_s` turns headroom into a slope where no slope is given."""

    service_life_s: float = 30 * 86400.0
    # by kind ("rss_bytes", "fds", "threads", "latency_p99_ns", "throughput_per_s", "temp_c"): change per hour
    # in the kind's own unit
    per_h: Mapping[str, float] = field(default_factory=dict)
    # by kind: the largest value bearable; headroom = it − the level after warm-up
    most: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SoakSettings:
    """Settings of `[soak]` of the plan, a device type's table `soak` over it, and `--soak` over both."""

    duration_s: float | None = None  # None: not asked for
    window_s: float = 1.0
    warmup_s: float = 3600.0
    block_s: float = 3600.0
    slice_s: float = 5.0
    cycle: str = "closed"  # where the model sets none; grammar: harness/soak/cycles.py
    coverage_ratio: float = 0.99
    max_spool_bytes: int = 512 << 20
    compressed: bool = False  # an emulated board skips idle time
    limits: SoakLimits = field(default_factory=SoakLimits)
    alerts: tuple[str, ...] = ()  # grammar: harness/soak/alerts.py
    webhook_env: str | None = None  # name of the environment variable that holds the URL
    abort_on_alert: bool = False
    availability_ratio: float = 0.999  # the objective that burn rates are counted against
    policy: Mapping[str, str] = field(default_factory=dict)  # by event kind: "fail", "invalid", "note"
    restart_after_crash: bool = True
    restart_after_reboot: bool = True
    power_cycle_every_s: float | None = None


@dataclass(frozen=True)
class SoakLoad:
    """How one model of the plan is used in a soak: the table `soak` of a model."""

    cycle: str | None = None  # None: the settings'
    beside: tuple[str, ...] = ()  # other models of the plan that run at once, each by its own cycle
    light: tuple[str, ...] = ()  # variants that take over under load, from heavier to lighter
    switch_above: float = 0.8  # share of a window that calls took
    switch_below: float = 0.5
    hold_windows: int = 3
