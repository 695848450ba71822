"""What may drift, and by how much an hour: limits given, or headroom over the service life."""

from __future__ import annotations

from dataclasses import dataclass

from harness.metrics import HIGHER, METRICS
from harness.model import SoakSettings
from harness.units import format_quantity

MEMORY_RATIO = 0.85  # of RAM, beyond which a device is out of headroom: the alert that is usual
# Linux' soft limit of open files of a process, unless it is raised (kernel: INR_OPEN_CUR in fs.h)
MAX_FDS = 1024
MAX_THREADS = 256  # chosen: of one process; a board's scheduler suffers long before its pids are used up
# chosen: over the service life a p99 may double and a throughput halve
LATENCY_GROWTH = 1.0
THROUGHPUT_LOSS = 0.5
_HOUR_S = 3600.0


@dataclass(frozen=True)
class DriftKind:
    """A quantity that may drift. `unit` is its own; `metric` that of its change an hour."""

    kind: str
    metric: str
    unit: str

    @property
    def direction(self) -> str:
        return METRICS[self.metric].direction


KINDS = {
    k.kind: k
    for k in (
        DriftKind("rss_bytes", "rss_drift_bytes_per_h", "bytes"),
        DriftKind("pss_bytes", "pss_drift_bytes_per_h", "bytes"),
        DriftKind("private_dirty_bytes", "private_dirty_drift_bytes_per_h", "bytes"),
        DriftKind("fds", "fds_drift_per_h", "1"),
        DriftKind("threads", "threads_drift_per_h", "1"),
        DriftKind("latency_p99_ns", "latency_p99_drift_ns_per_h", "ns"),
        DriftKind("throughput_per_s", "throughput_drift_per_s_per_h", "1/s"),
        DriftKind("temp_c", "temp_drift_c_per_h", "°C"),
    )
}
MEMORY = ("rss_bytes", "pss_bytes", "private_dirty_bytes")
TIMED = ("latency_p99_ns", "throughput_per_s")


@dataclass(frozen=True)
class DriftLimit:
    """The largest change an hour (signed: of a throughput the lowest), and where it comes from."""

    per_h: float | None
    why: str


def limit_of(
    kind: DriftKind, level: float, settings: SoakSettings, *, ram_bytes: float | None, beside: float = 0.0
) -> DriftLimit:
    """Return the limit for a quantity whose level after warm-up is `level`.

    Given per hour, else from headroom: the largest value bearable (given, or the kind's own), less the
    level and what other streams hold `beside` it, over the service life. None where nothing says what is
    bearable; `why` then says what to set.
    """
    limits = settings.limits
    given = limits.per_h.get(kind.kind)
    if given is not None:
        return DriftLimit(-abs(given) if kind.direction == HIGHER else given, "given")
    most = limits.most.get(kind.kind)
    said = f"{format_quantity(most, kind.unit)} given" if most is not None else ""
    if most is None:
        most, said = _bearable(kind, level, ram_bytes)
    if most is None:
        return DriftLimit(None, said)
    life_h = limits.service_life_s / _HOUR_S
    held = format_quantity(level + beside, kind.unit)
    return DriftLimit((most - level - beside) / life_h, f"({said} − {held}) ÷ {life_h / 24:g} d")


def _bearable(kind: DriftKind, level: float, ram_bytes: float | None) -> tuple[float | None, str]:
    """Return the largest value of a kind that is bearable (of a throughput the lowest), and its name."""
    if kind.kind in MEMORY:
        if not ram_bytes:
            return None, f"no limit: the device's RAM isn't known; set soak.limits.most.{kind.kind}"
        return MEMORY_RATIO * ram_bytes, f"{MEMORY_RATIO:.0%} of {format_quantity(ram_bytes, 'bytes')} RAM"
    if kind.kind == "fds":
        return MAX_FDS, f"{MAX_FDS} open files"
    if kind.kind == "threads":
        return MAX_THREADS, f"{MAX_THREADS} threads"
    if kind.kind == "latency_p99_ns":
        return (1 + LATENCY_GROWTH) * level, "twice its level"
    if kind.kind == "throughput_per_s":
        return (1 - THROUGHPUT_LOSS) * level, "half its level"
    return None, f"no limit: set soak.limits.most.{kind.kind}, as the trip point"
