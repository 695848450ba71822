"""Open-loop windows: a schedule is played on the device, latency counts from when each query was due.

What `scenarios` measures rests on this: how many queries, when they are due, what their percentiles say. A
device that can't keep up has no steady state: what is waiting only grows, so its percentiles have no bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import stats
from harness.errors import Unsupported
from harness.measure.bench import Bench
from harness.measure.latency import measure_window, settings_for
from harness.measure.percentiles import lag1_of
from harness.metrics import PERCENTILES
from harness.model import Condition, Fidelity, Measurement, Series
from harness.remote import Child, PacedBlock

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.int64]

P99 = 99


@dataclass(frozen=True)
class PacedSettings:
    """How much is measured, in device time. `queries` are in all, over `processes` fresh ones."""

    processes: int
    queries: int  # at least
    min_s: float  # of all schedules together: fast models get more queries
    max_s: float
    max_queries: int
    warmup_max: int
    spin_ns: int | None  # of each wait, at its end: a busy loop; None: the agent's default


# LoadGen's minimum for a p99 is 662 queries (stats.loadgen_samples_needed); 900 bound one also where three
# that follow each other count as one. Four processes: chosen. On a
# virtual clock a service time repeats to 0.03%, and a second takes about nine of ours, idle or not. There a
# process that sleeps loses its core for 4 ms when it wakes up (SETTLE_NS in agent/model.py: seen in every
# fifth query), so it doesn't sleep; arrivals at random then waited to 0.5% as queueing theory says.
MEASURED = PacedSettings(4, 900, 2.0, 60.0, 20_000, 100, None)
VIRTUAL = PacedSettings(1, 128, 0.0, 5.0, 128, 4, 10**9)
FEWEST_A_PROCESS = 64  # chosen: a queue starts empty, and shorter schedules would mostly show that
WAIT_SHARE = 4  # of the time a schedule should take: how much longer it may, before it is given up
# a query so late is no burst's: at 98% load the p99 is some 100 calls (M/D/1)
BEHIND_S, BEHIND_CALLS = 1.0, 1000


def paced_settings_for(fidelity: Fidelity) -> PacedSettings:
    return VIRTUAL if fidelity is Fidelity.VIRTUAL else MEASURED


@dataclass(frozen=True)
class Service:
    """What one query takes by itself, in ns, and how many seconds of ours a device's second takes."""

    latency_ns: Samples
    wall_ratio: float

    @property
    def median_ns(self) -> float:
        return stats.median(self.latency_ns)

    @property
    def capacity_per_s(self) -> float:
        """Return the rate at which one process would never be idle."""
        return 1e9 / self.median_ns


def measure_service(bench: Bench, child: Child, fidelity: Fidelity) -> Service:
    """Return what a query takes when it never waits. Raises Unsupported where there are no samples of it."""
    settings = settings_for(fidelity)
    started = time.monotonic()
    first_ns = child.first()
    call_wall_s = time.monotonic() - started
    block = measure_window(bench, child, settings, settings.iterations, call_wall_s)
    if not len(block.latency_ns):
        raise Unsupported(
            "this command gives no samples, so nothing can be scheduled.", where=bench.case.name
        )
    return Service(block.latency_ns, max(1.0, call_wall_s * 1e9 / max(1, first_ns)))


def play(
    bench: Bench,
    child: Child,
    offset_ns: Samples,
    service: Service,
    settings: PacedSettings,
    max_behind_ns: float | None = None,
) -> PacedBlock:
    """Return one schedule played. Nothing is sent to the device while it lasts."""
    behind_ns = max(BEHIND_S * 1e9, BEHIND_CALLS * service.median_ns)
    should_take_s = (float(offset_ns[-1]) / 1e9 + BEHIND_S) * service.wall_ratio
    with bench.board.connection.quiet():
        return child.paced(
            offset_ns,
            warmup_max=settings.warmup_max,
            spin_ns=settings.spin_ns,
            max_behind_ns=int(behind_ns if max_behind_ns is None else max_behind_ns),
            timeout_s=bench.board.device.timeout_s + WAIT_SHARE * should_take_s,
        )


def count_queries(rate_per_s: float, settings: PacedSettings, duration_s: float | None = None) -> int:
    """Return how many queries are played at `rate_per_s` in all: as many as `duration_s` gives, where set."""
    if duration_s is not None:
        return max(1, int(rate_per_s * duration_s))
    wanted = max(settings.queries, min(int(rate_per_s * settings.min_s), settings.max_queries))
    return max(1, min(wanted, int(rate_per_s * settings.max_s)))


def split_queries(count: int, settings: PacedSettings) -> list[int]:
    """Return how many queries each fresh process gets; fewer processes where each would get too few."""
    processes = max(1, min(settings.processes, count // FEWEST_A_PROCESS))
    return [count // processes + (1 if i < count % processes else 0) for i in range(processes)]


def poisson_offsets(rate_per_s: float, count: int, seed: int, process: int = 0) -> Samples:
    """Return due times in ns of Poisson arrivals, (count,): the same gaps for any rate, stretched.

    So of two rates over one seed, the lower one never makes a query wait longer.
    """
    import numpy as np

    gaps = np.random.default_rng([seed, process]).exponential(size=count)
    return np.asarray(np.cumsum(gaps) * 1e9 / rate_per_s, dtype=np.int64)


def periodic_offsets(period_ns: float, count: int) -> Samples:
    """Return due times in ns, one each period from the start on, (count,)."""
    import numpy as np

    return np.asarray(np.arange(count) * period_ns, dtype=np.int64)


@dataclass(frozen=True)
class Played:
    """Schedules played by fresh processes, pooled."""

    blocks: tuple[PacedBlock, ...]

    @property
    def requested(self) -> int:
        return sum(b.iterations_requested for b in self.blocks)

    @property
    def missing(self) -> int:
        """Return how many queries were never begun, because the ones before them took too long."""
        return self.requested - len(self.latency_ns)

    @property
    def latency_ns(self) -> Samples:
        import numpy as np

        return np.concatenate([b.latency_ns for b in self.blocks])

    @property
    def start_lag_ns(self) -> Samples:
        """Return how much later than due each query began."""
        import numpy as np

        return np.concatenate([b.start_ns - b.due_ns for b in self.blocks])

    @property
    def process(self) -> npt.NDArray[np.int32]:
        import numpy as np

        counts = [len(b.due_ns) for b in self.blocks]
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    @property
    def busy_ratio(self) -> float:
        """Return which share of the time between the first and the last due time the queries took."""
        busy = sum(int((b.end_ns - b.start_ns)[:-1].sum()) for b in self.blocks)
        span = sum(int(b.due_ns[-1] - b.due_ns[0]) for b in self.blocks if len(b.due_ns))
        return busy / span if span else 0.0

    @property
    def kept_up(self) -> bool:
        return not self.missing and self.busy_ratio < 1

    def rates_per_s(self) -> list[float]:
        """Return each process's queries by the time from the first due to the last end."""
        return [
            len(b.due_ns) * 1e9 / float(b.end_ns[-1] - b.due_ns[0]) for b in self.blocks if len(b.due_ns) > 1
        ]


def percentile_of(
    metric: str, p: float, values: Samples, played: Played, fidelity: Fidelity, scenario: str
) -> Measurement:
    """Return the p-th percentile over all queries that were asked for.

    None under LoadGen's minimum count on a measured clock; infinite where queries were never begun.
    """
    n = played.requested
    needed = stats.loadgen_samples_needed(p) if p > 50 else stats.samples_needed(p)
    if fidelity is not Fidelity.VIRTUAL and n < needed:
        why = f"too few samples for the percentile asked: {n}, LoadGen's minimum for a p{p:g} is {needed}"
        return Measurement(metric, None, None, None, n, fidelity, scenario, reasons=(why,))
    if played.missing:
        why = f"it can't keep up: {played.missing} of {n} queries were given up"
        worst = float("inf")
        return Measurement(metric, worst, worst, worst, n, fidelity, scenario, reasons=(why,))
    value, low, high, reasons, _ = bounded_percentile(values, p, fidelity, played.process)
    if not played.kept_up:
        busy = f"{100 * played.busy_ratio:.3g}%"
        return Measurement(
            metric,
            value,
            low,
            None,
            n,
            fidelity,
            scenario,
            reasons=(f"its queue only grows, at {busy} of its time: no bound holds", *reasons),
        )
    return Measurement(metric, value, low, high, n, fidelity, scenario, reasons=reasons)


class Bounded(NamedTuple):
    """A percentile, its bounds, what was done for them, and how many such samples bound it on both sides."""

    value: float
    low: float | None
    high: float | None
    reasons: tuple[str, ...]
    needed: int


def bounded_percentile(
    values: Samples, p: float, fidelity: Fidelity, process: npt.NDArray[np.int32] | None = None
) -> Bounded:
    """Return a percentile with its 90% interval, in which samples that wait for each other count for fewer.

    On a virtual clock the extremes stand in for a bound that the count of samples doesn't give.
    """
    value = stats.percentile(values, p)
    found = stats.percentile_interval_autocorrelated(values, p, process=process)
    low, high = found.low, found.high
    reasons = (f"interval: {found.said}",) if found.said else ()
    if fidelity is Fidelity.VIRTUAL:
        if low is None or high is None:
            low = float(values.min()) if low is None else low
            high = float(values.max()) if high is None else high
            reasons = (*reasons, f"interval: extremes of {len(values)} samples on the virtual clock")
    elif low is None or high is None:
        reasons = (*reasons, f"{len(values)} samples can't bound the p{p:g} at 90%; {found.needed} can")
    return Bounded(value, low, high, reasons, found.needed)


def latency_percentiles(played: Played, fidelity: Fidelity, scenario: str) -> list[Measurement]:
    values = played.latency_ns
    return [percentile_of(f"latency_p{p}_ns", p, values, played, fidelity, scenario) for p in PERCENTILES]


def paced_conditions(what: str, block: PacedBlock) -> list[Condition]:
    """Return whether the schedule was played to its end, and whether its warm-up was flat."""
    got = len(block.due_ns)
    return [
        Condition(
            f"schedule ({what})",
            f"{got} of {block.iterations_requested} queries",
            "all of them",
            True if got == block.iterations_requested else None,
            "It fell behind and was ended: its percentiles have no bound.",
        ),
        Condition(
            f"warm-up flat ({what})",
            f"{'yes' if block.warmup_flat else 'no'} after {block.warmup_iterations} calls",
            "medians of blocks within 2%",
            True if block.warmup_flat else None,
            "The cap ended warm-up: early samples may be slow.",
        ),
    ]


def simulate_latency(offset_ns: Samples, service_ns: npt.NDArray[Any]) -> Samples:
    """Return what each query would take from when it is due, served in order by one process (Lindley
    1952, doi:10.1017/S0305004100027638).

    Chooses which rate is tried first, and bounds what few queries on a virtual clock show; never a result.
    """
    import numpy as np

    done = np.cumsum(service_ns)
    before = np.concatenate([[0], done[:-1]])
    return np.asarray(done + np.maximum.accumulate(offset_ns - before) - offset_ns, dtype=np.int64)


def draw_service(service: Service, count: int, seed: int) -> Samples:
    """Return `count` of the service times that were seen, drawn at random, the slowest hundredth left out.

    Those are as rare as whatever disturbed the device; drawn over and over, one of them would rule.
    """
    import numpy as np

    ordered = np.sort(service.latency_ns)
    usual = ordered[: max(1, int(0.99 * len(ordered)))]
    return np.asarray(np.random.default_rng([seed, 1]).choice(usual, size=count))


def listed(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the smallest and largest of several values; None of fewer than two."""
    return (min(values), max(values)) if len(values) > 1 else (None, None)


def play_all(
    bench: Bench,
    fidelity: Fidelity,
    settings: PacedSettings,
    schedules: list[Samples],
    check: Callable[[Service], None] | None = None,
) -> tuple[Played, Service, list[Condition]]:
    """Play each schedule in a fresh process; `check` sees the service time before the first."""
    blocks: list[PacedBlock] = []
    conditions: list[Condition] = []
    service: Service | None = None
    for index, offsets in enumerate(schedules):
        bench.progress.count("process", index, len(schedules))
        with bench.child(f"paced-{index}") as (child, _):
            if service is None:
                service = measure_service(bench, child, fidelity)
                if check is not None:
                    check(service)
            block = play(bench, child, offsets, service, settings)
        conditions += paced_conditions(f"process {index + 1}", block)
        blocks.append(block)
    assert service is not None  # there is always one schedule
    return Played(tuple(blocks)), service, conditions


def throughput_of(played: Played, fidelity: Fidelity, scenario: str) -> Measurement:
    rates = played.rates_per_s()
    if not rates:
        why = ("too few queries ended",)
        return Measurement("throughput_per_s", None, None, None, 0, fidelity, scenario, reasons=why)
    low, high = listed(rates)
    said = (
        f"interval: smallest and largest of {len(rates)} processes"
        if low is not None
        else "one process: nothing bounds it"
    )
    return Measurement(
        "throughput_per_s",
        stats.median(rates),
        low,
        high,
        len(played.latency_ns),
        fidelity,
        scenario,
        reasons=(said,),
    )


def latency_series(played: Played) -> tuple[Series, ...]:
    return (Series("latency_ns", "ns", played.latency_ns, played.process, clock_of(played)),)


def clock_of(played: Played) -> str:
    return played.blocks[0].clock


def settings_of(played: Played, service: Service, seed: int | None) -> dict[str, Any]:
    return {
        "queries": played.requested,
        "processes": len(played.blocks),
        "service_time_ns": service.median_ns,
        "capacity_per_s": service.capacity_per_s,
        "busy_ratio": played.busy_ratio,
        "kept_up": played.kept_up,
        "lag1_autocorrelation": lag1_of([b.latency_ns for b in played.blocks]),
        **({"seed": seed} if seed is not None else {}),
    }
