"""Memory suite: peak RSS and PSS of fresh processes, in runs of their own.

The child loads the model and runs it; its parent reads /proc. VmHWM is the kernel's own high-water mark;
PSS shares the pages of libraries and mapped model files among the processes that map them; the kernel
keeps no high-water mark of it, so the peak is the largest of three readings (loaded, first call, steady).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness import stats
from harness.errors import ModelRejected, RuntimeUnavailable, Unsupported
from harness.measure.against import baseline_settings
from harness.measure.bench import Bench, Observation
from harness.measure.latency import MEASURED
from harness.model import Comparison, Effect, Fidelity, Measurement, Method, Series
from harness.remote import Child
from harness.units import format_bytes

PROCESSES = 3  # the largest of three counts (chosen: spread between processes was under 1%)
# seen: 60 and 68 MB for one model, private dirty memory equal
PAGE_CACHE = "pages of mapped files count as far as the page cache held them: leave some 15% in a budget"
NOT_SHOWN = "the device's kernel doesn't show it"
ITERATIONS = 4  # arenas have grown to their size after the first call; some more to be sure
# where starting a process takes two seconds, an emulated board, some sizes less and one quadruple ABBA do
BATCH_SIZES, EMULATED_BATCH_SIZES = MEASURED.batch_sizes, (1, 2, 8)
QUADRUPLES, EMULATED_QUADRUPLES = 2, 1
COMPARED = ("peak_rss_bytes", "private_dirty_bytes", "model_pages_bytes")


@dataclass(frozen=True)
class Memory:
    """What one fresh process took, in bytes. None: the kernel doesn't show it."""

    peak_rss_bytes: int
    peak_pss_bytes: int
    private_dirty_bytes: int | None
    model_pages_bytes: int | None  # resident pages of the model's own file; 0: the runtime doesn't map it
    pss_file_bytes: int | None
    cgroup_peak_bytes: int | None

    def of(self, metric: str) -> int | None:
        value: int | None = getattr(self, metric)
        return value


def run_and_sample(child: Child) -> Memory:
    """Return what a process takes that has its model loaded, once it has run it."""
    samples = [child.sample()]
    child.first()
    samples.append(child.sample())
    child.measure(iterations=ITERATIONS, warmup_max=0)
    samples.append(child.sample())
    last = samples[-1]
    return Memory(
        max(s.vm_hwm_bytes for s in samples),
        max(s.pss_bytes for s in samples),
        last.private_dirty_bytes,
        last.model_pages_bytes,
        last.pss_file_bytes,
        last.cgroup_peak_bytes,
    )


def measure_memory(bench: Bench) -> Observation:
    """Measure several fresh processes; each value is the largest, its interval smallest to largest.

    Then one process for each batch size that the model takes, and one under the plan's memory limit.
    """
    import numpy as np

    taken: list[Memory] = []
    for index in range(PROCESSES):
        bench.progress.count("process", index, PROCESSES)
        with bench.child(f"memory-{index}") as (child, _):
            taken.append(run_and_sample(child))
    each = np.arange(PROCESSES, dtype=np.int32)
    measurements, series = [], []
    for metric in ("peak_rss_bytes", "peak_pss_bytes", "private_dirty_bytes", "model_pages_bytes"):
        values = [v for m in taken if (v := m.of(metric)) is not None]
        why = (PAGE_CACHE,) if metric.startswith("peak_") else ()
        measurements.append(_largest(metric, values, *why))
        series.append(Series(metric, "bytes", np.array(values, dtype=np.int64), each[: len(values)]))
    peak = max(m.peak_rss_bytes for m in taken)
    by_batch, refused = _sweep(bench, peak)
    measurements += [_of_batch(size, rss) for size, rss in by_batch.items() if size > 1]
    settings: dict[str, Any] = {
        "processes": PROCESSES,
        "iterations": ITERATIONS,
        "ram_bytes": bench.board.facts.details.get("ram_bytes"),
        "pss_file_bytes": [m.pss_file_bytes for m in taken],
        "peak_rss_bytes_by_batch": {str(size): rss for size, rss in by_batch.items()},
        "refused_batch_sizes": refused,
    }
    limit = bench.case.memory_limit_bytes
    if limit is not None:
        bench.progress.say(f"under a limit of {format_bytes(limit)}")
        limited, said = _limited(bench, limit, peak)
        measurements += limited
        settings |= said
    return Observation(measurements=tuple(measurements), series=tuple(series), settings=settings)


def _largest(metric: str, values: Sequence[int], *why: str) -> Measurement:
    if not values:
        return Measurement(metric, None, None, None, 0, Fidelity.MEASURED, reasons=(NOT_SHOWN,))
    reasons = (f"interval: smallest and largest of {len(values)} fresh processes", *why)
    return Measurement(
        metric,
        float(max(values)),
        float(min(values)),
        float(max(values)),
        len(values),
        Fidelity.MEASURED,
        reasons=reasons,
    )


def _sweep(bench: Bench, peak_rss_bytes: int) -> tuple[dict[int, int], dict[str, str]]:
    """Return peak RSS by batch size, of a fresh process each, and why the other sizes have none.

    The larger sizes are left out after the first that is refused.
    """
    by_batch, refused = {1: peak_rss_bytes}, {}
    sizes = EMULATED_BATCH_SIZES if _emulated(bench) else BATCH_SIZES
    for index, size in enumerate(sizes):
        if size == 1:
            continue
        bench.progress.count("batch size", index, len(sizes))
        try:
            with bench.child(f"memory-batch-{size}", batch_size=size) as (child, _):
                by_batch[size] = run_and_sample(child).peak_rss_bytes
        except Unsupported as why:
            refused[str(size)] = why.what
            break
        except (ModelRejected, RuntimeUnavailable) as death:
            if not death.details.get("oom"):
                raise
            refused[str(size)] = death.what
            break
    return by_batch, refused


def _of_batch(size: int, rss: int) -> Measurement:
    why = ("one fresh process: nothing bounds it", PAGE_CACHE)
    return Measurement(
        "peak_rss_bytes", float(rss), None, None, 1, Fidelity.MEASURED, batch_size=size, reasons=why
    )


def _emulated(bench: Bench) -> bool:
    return bench.board.device.kind == "qemu"


def _limited(bench: Bench, limit: int, peak_rss_bytes: int) -> tuple[list[Measurement], dict[str, Any]]:
    """Return what came of a fresh process in a cgroup of its own with this memory limit.

    A process that the kernel kills for want of memory is the model's failure, with what it needs; a device
    that has no cgroup for it leaves both metrics without a value, and says why.
    """
    settings: dict[str, Any] = {"memory_limit_bytes": limit}
    at = f"limit of {format_bytes(limit)}"
    try:
        peak, death = _in_cgroup(bench, "memory-limited", limit)
        if death is None:
            said = f"it ran within its {at}; peak RSS without one: {format_bytes(peak_rss_bytes)}"
            return [_kills(0, said), _cgroup_peak(peak, said)], settings
        # what a cgroup counts is not RSS: pages of files that others read first are not charged to it
        needs, also = _in_cgroup(
            bench, "memory-unlimited", bench.board.facts.details.get("ram_bytes") or 1 << 40
        )
    except Unsupported as why:
        reasons = (f"not measured under its {at}: {why.what}",)
        none = [
            Measurement(metric, None, None, None, 0, Fidelity.MEASURED, reasons=reasons)
            for metric in ("oom_kills", "cgroup_peak_bytes")
        ]
        return none, {**settings, "memory_limit_not_set": why.what}
    if needs is None or also is not None:
        need = f"its peak RSS is {format_bytes(peak_rss_bytes)}"
    else:
        need = f"it needs {format_bytes(needs)} (peak RSS {format_bytes(peak_rss_bytes)})"
    said = f"killed at its {at}; without one {need}"
    return [_kills(1, said), _cgroup_peak(peak, said)], {**settings, "killed": death, "needs_bytes": needs}


def _in_cgroup(bench: Bench, name: str, limit: int) -> tuple[int | None, str | None]:
    """Return a process's peak in a cgroup with this limit, and what its death for want of memory says."""
    try:
        with bench.child(name, cgroup={"memory_max_bytes": limit}) as (child, _):
            return run_and_sample(child).cgroup_peak_bytes, None
    except (ModelRejected, RuntimeUnavailable) as death:
        if not death.details.get("oom"):
            raise
        return death.details.get("cgroup_peak_bytes"), death.what


def _kills(count: int, said: str) -> Measurement:
    value = float(count)
    return Measurement("oom_kills", value, value, value, 1, Fidelity.MEASURED, reasons=(said,), limit=0.0)


def _cgroup_peak(peak: int | None, said: str) -> Measurement:
    if peak is None:
        why = ("the device's kernel keeps no memory.peak (Linux 5.19)", said)
        return Measurement("cgroup_peak_bytes", None, None, None, 0, Fidelity.MEASURED, reasons=why)
    why = (said, "of one process; with pages of files that it was the first to read")
    return Measurement("cgroup_peak_bytes", float(peak), None, None, 1, Fidelity.MEASURED, reasons=why)


def measure_memory_against(bench: Bench, baseline_bench: Bench, baseline_name: str, seed: int) -> Observation:
    """Compare fresh processes of both models, in randomised ABBA order: what drifts hits both alike."""
    import numpy as np

    order = stats.abba_order(EMULATED_QUADRUPLES if _emulated(bench) else QUADRUPLES, seed)
    taken: tuple[list[Memory], list[Memory]] = ([], [])
    for index, arm in enumerate(order):
        bench.progress.count("process", index, len(order))
        with (bench, baseline_bench)[arm].child(f"memory-{index}") as (child, _):
            taken[arm].append(run_and_sample(child))
    comparisons, series = [], []
    for metric in COMPARED:
        arms = [[m.of(metric) for m in arm] for arm in taken]
        comparisons.append(_compare(metric, arms[0], arms[1], order, baseline_name))
        for name, values in zip(("candidate", "baseline"), arms, strict=True):
            shown = np.array([v for v in values if v is not None], dtype=np.int64)
            each = np.arange(len(shown), dtype=np.int32)
            series.append(Series(metric, "bytes", shown, each, arm=name))
    return Observation(
        comparisons=tuple(comparisons),
        series=tuple(series),
        settings={
            **baseline_settings(baseline_bench, baseline_name),
            "processes": len(order) // 2,
            "order": "".join("AB"[arm] for arm in order),
            "seed": seed,
            "iterations": ITERATIONS,
        },
    )


def _compare(
    metric: str,
    ours: Sequence[int | None],
    theirs: Sequence[int | None],
    order: Sequence[int],
    baseline_name: str,
) -> Comparison:
    """Return the ratio of one metric over fresh processes; without a value where one arm has none."""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    df, candidate, baseline = None, None, None
    reasons: tuple[str, ...] = ()
    a, b = [v for v in ours if v is not None], [v for v in theirs if v is not None]
    if len(a) < len(ours) or len(b) < len(theirs):
        reasons = (NOT_SHOWN,)
    else:
        candidate, baseline = stats.median(a), stats.median(b)
        if min(*a, *b) <= 0:
            which = "neither" if not any((*a, *b)) else "not each"
            reasons = (f"{which} of the two has its model file mapped: there is no ratio",)
        else:
            found = stats.abba_interval(a, b, order)
            ratio, df = math.exp(found.estimate), found.df
            if found.low is not None and found.high is not None:
                low, high = math.exp(found.low), math.exp(found.high)
            else:
                # the mean of logarithms rounds: where all agree it may end a bit beside their ratio
                low, high = min(min(a) / max(b), ratio), max(max(a) / min(b), ratio)
                reasons = (f"interval: smallest to largest of {len(a)} fresh processes of each",)
    return Comparison(
        metric,
        Effect.RATIO,
        ratio,
        low,
        high,
        len(ours),
        Fidelity.MEASURED,
        Method.ABBA,
        candidate,
        baseline,
        baseline_name,
        df=df,
        reasons=reasons,
    )
