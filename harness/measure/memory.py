"""Memory suite: peak RSS and PSS of fresh processes, in runs of their own.

The child loads the model and runs it; its parent reads /proc. VmHWM is the kernel's own high-water mark;
PSS shares the pages of libraries and mapped model files among the processes that map them; the kernel
keeps no high-water mark of it, so the peak is the largest of three readings (loaded, first call, steady).
"""

from __future__ import annotations

from harness.measure.bench import Bench, Observation
from harness.model import Fidelity, Measurement, Series

PROCESSES = 3  # the largest of three counts (chosen: spread between processes was under 1%)
# seen: 60 and 68 MB for one model, private dirty memory equal
PAGE_CACHE = "pages of mapped files count as far as the page cache held them: leave some 15% in a budget"
ITERATIONS = 4  # arenas have grown to their size after the first call; some more to be sure


def measure_memory(bench: Bench) -> Observation:
    """Measure several fresh processes; each value is the largest, its interval smallest to largest."""
    import numpy as np

    rss: list[int] = []
    pss: list[int] = []
    dirty: list[int] = []  # stays empty where the kernel doesn't show it
    file_pss: list[int | None] = []
    for index in range(PROCESSES):
        bench.progress.count("process", index, PROCESSES)
        with bench.child(f"memory-{index}") as (child, _):
            samples = [child.sample()]
            child.first()
            samples.append(child.sample())
            child.measure(iterations=ITERATIONS, warmup_max=0)
            samples.append(child.sample())
        sample = samples[-1]
        rss.append(max(s.vm_hwm_bytes for s in samples))
        pss.append(max(s.pss_bytes for s in samples))
        if sample.private_dirty_bytes is not None:
            dirty.append(sample.private_dirty_bytes)
        file_pss.append(sample.pss_file_bytes)
    each = np.arange(PROCESSES, dtype=np.int32)
    return Observation(
        measurements=(
            _largest("peak_rss_bytes", rss, PAGE_CACHE),
            _largest("peak_pss_bytes", pss, PAGE_CACHE),
            _largest("private_dirty_bytes", dirty),
        ),
        series=(
            Series("peak_rss_bytes", "bytes", np.array(rss, dtype=np.int64), each),
            Series("peak_pss_bytes", "bytes", np.array(pss, dtype=np.int64), each),
            Series("private_dirty_bytes", "bytes", np.array(dirty, dtype=np.int64), each[: len(dirty)]),
        ),
        settings={
            "processes": PROCESSES,
            "iterations": ITERATIONS,
            "ram_bytes": bench.board.facts.details.get("ram_bytes"),
            "pss_file_bytes": file_pss,
        },
    )


def _largest(metric: str, values: list[int], *why: str) -> Measurement:
    if not values:
        why = ("the device's kernel doesn't show it",)
        return Measurement(metric, None, None, None, 0, Fidelity.MEASURED, reasons=why)
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
