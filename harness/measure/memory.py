"""Memory suite: peak RSS and PSS of fresh processes, in runs of their own.

The child loads the model and runs it; its parent reads /proc. VmHWM is the kernel's own high-water mark;
PSS shares the pages of libraries and mapped model files among the processes that map them; the kernel
keeps no high-water mark of it, so the peak is the largest of three readings (loaded, first call, steady).
"""

from __future__ import annotations

from harness.measure.bench import Bench, Observation
from harness.model import Fidelity, Measurement, Series

PROCESSES = 3  # the largest of three counts (chosen: spread between processes was under 1%)
ITERATIONS = 4  # arenas have grown to their size after the first call; some more to be sure


def measure_memory(bench: Bench) -> Observation:
    """Measure several fresh processes; each value is the largest, its interval smallest to largest."""
    import numpy as np

    rss: list[int] = []
    pss: list[int] = []
    parts: dict[str, list[int | None]] = {"pss_file_bytes": [], "private_dirty_bytes": []}
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
        parts["pss_file_bytes"].append(sample.pss_file_bytes)
        parts["private_dirty_bytes"].append(sample.private_dirty_bytes)
    each = np.arange(PROCESSES, dtype=np.int32)
    return Observation(
        measurements=(_largest("peak_rss_bytes", rss), _largest("peak_pss_bytes", pss)),
        series=(
            Series("peak_rss_bytes", "bytes", np.array(rss, dtype=np.int64), each),
            Series("peak_pss_bytes", "bytes", np.array(pss, dtype=np.int64), each),
        ),
        settings={
            "processes": PROCESSES,
            "iterations": ITERATIONS,
            "ram_bytes": bench.board.facts.details.get("ram_bytes"),
            **parts,
        },
    )


def _largest(metric: str, values: list[int]) -> Measurement:
    return Measurement(
        metric, float(max(values)), float(min(values)), float(max(values)), len(values), Fidelity.MEASURED
    )
