"""Latency suite: how much is measured, one timed window, and offline: throughput over batch sizes.

Raw samples are kept in the order they were taken. On a virtual clock the spread is some 0.03%, so fewer
samples serve.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.errors import Unsupported
from harness.measure.bench import Bench, Observation
from harness.measure.percentiles import quantile
from harness.model import WITHIN_ONE_PROCESS, Condition, Fidelity, Measurement, Series
from harness.remote import Child, MeasuredBlock

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LatencySettings:
    """How much is measured. `min_process_s` and `max_process_s` bound one process's measured window, in
    device time: a window of few milliseconds sees one moment of the device, not its spread."""

    processes: int
    iterations: int  # per process, at least
    warmup_s: float  # at most
    min_process_s: float
    max_process_s: float
    wall_cap_s: float  # of one process's window, on the host's clock
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8)


# Chosen: ten fresh processes and LoadGen's 662 samples for a p99 on a physical clock; on a
# virtual one 64 samples of two processes (the spread between processes was measured at 0.024%).
MEASURED = LatencySettings(10, 70, 1.0, 0.2, 10.0, 60.0)
VIRTUAL = LatencySettings(2, 32, 0.0, 0.0, 600.0, 60.0)
WARMUP_CALLS = (4, 2000)  # at least, and at most: a warm-up ends as soon as its medians are flat


def settings_for(fidelity: Fidelity) -> LatencySettings:
    return VIRTUAL if fidelity is Fidelity.VIRTUAL else MEASURED


def require_clock(bench: Bench) -> Fidelity:
    """Return the fidelity of times here. Raises Unsupported on a board whose clock says nothing."""
    if bench.time_fidelity is None:
        raise Unsupported(
            "times on an emulated board in its functional profile mean nothing.",
            where=bench.board.device.name,
            next_step="Measure them in the timing profile.",
        )
    return bench.time_fidelity


def measure_offline(bench: Bench) -> Observation:
    """Sweep the batch size, smallest first, in one fresh process: throughput and the time of a whole batch.

    A batch that the model doesn't take (its batch axis is fixed) is left out, and the settings say why.
    """
    import numpy as np

    fidelity = require_clock(bench)
    settings = settings_for(fidelity)
    measurements: list[Measurement] = []
    series: list[Series] = []
    conditions: list[Condition] = []
    refused: dict[str, str] = {}
    with bench.child("offline", batch_size=settings.batch_sizes[0]) as (child, _):
        started = time.monotonic()
        child.first()
        first_wall_s = time.monotonic() - started
        for index, batch_size in enumerate(settings.batch_sizes):
            bench.progress.count("batch size", index, len(settings.batch_sizes))
            wanted = iterations_for(settings, batch_size * first_wall_s, scale=batch_size)
            try:
                child.set_inputs(npz_path=bench.inputs_path, batch_size=batch_size)
                block = measure_window(bench, child, settings, wanted, batch_size * first_wall_s)
            except Unsupported as why:
                refused[str(batch_size)] = why.what
                continue
            values = block.latency_ns
            zeros = np.zeros(len(values), dtype=np.int32)
            series.append(Series("latency_ns", "ns", values, zeros, block.clock, batch_size))
            conditions += window_conditions(f"batch {batch_size}", block, wanted)
            p50 = quantile("latency_p50_ns", values, 50, fidelity, "offline", batch_size, process=zeros)
            p50 = replace(p50, reasons=(*p50.reasons, WITHIN_ONE_PROCESS))
            measurements += [p50, throughput(p50, batch_size)]
    return Observation(
        measurements=tuple(measurements),
        series=tuple(series),
        conditions=tuple(conditions),
        settings={**plain_settings(settings), "refused_batch_sizes": refused},
        scenario="offline",
    )


def iterations_for(settings: LatencySettings, first_wall_s: float, scale: int = 1) -> int:
    """Return how many calls to ask for, so that a slow model on a slow board keeps to the wall cap.

    At a batch of `scale`, fewer calls see as many samples; never fewer than 8, which bound a median.
    """
    wanted = max(8, settings.iterations // scale)
    affordable = int(settings.wall_cap_s / max(first_wall_s, 1e-6))
    return max(8, min(wanted, affordable))


def measure_window(
    bench: Bench,
    child: Child,
    settings: LatencySettings,
    wanted: int,
    call_wall_s: float,
    calls_per_query: int = 1,
) -> MeasuredBlock:
    """Return one timed window of `wanted` queries. Nothing is sent to the device while it lasts.

    `call_wall_s` is what one query takes on the host's clock.
    """
    few, many = WARMUP_CALLS
    with bench.board.connection.quiet():
        return child.measure(
            iterations=wanted,
            warmup_max=max(few, min(many, int(settings.warmup_s / max(call_wall_s, 1e-6)))),
            min_duration_ns=int(settings.min_process_s * 1e9),
            max_duration_ns=int(settings.max_process_s * 1e9),
            calls_per_query=calls_per_query,
            # the longest wait: the window's cap on the wall and warm-up, on a busy host
            timeout_s=bench.board.device.timeout_s + 4 * settings.wall_cap_s,
        )


def throughput(p50: Measurement, samples: int) -> Measurement:
    """Return samples per second at the median latency of `samples`, the interval inverted too."""

    def per_s(latency_ns: float | None) -> float | None:
        return samples * 1e9 / latency_ns if latency_ns else None

    return Measurement(
        "throughput_per_s",
        per_s(p50.value),
        per_s(p50.high),
        per_s(p50.low),
        p50.n,
        p50.fidelity,
        p50.scenario,
        p50.batch_size,
        p50.reasons,
    )


def window_conditions(what: str, block: MeasuredBlock, wanted: int) -> list[Condition]:
    """Return whether a window has its samples, and whether its warm-up was flat."""
    got = len(block.latency_ns)
    return [
        Condition(
            f"samples ({what})",
            str(got),
            f"{wanted}, or at least 8 when the window's cap ends it",
            got >= min(wanted, 8),
            "Raise the window's cap, or measure a smaller model.",
        ),
        Condition(
            f"warm-up flat ({what})",
            f"{'yes' if block.warmup_flat else 'no'} after {block.warmup_iterations} calls",
            "medians of blocks within 2%",
            True if block.warmup_flat else None,
            "The cap ended warm-up: early samples may be slow.",
        ),
    ]


def plain_settings(settings: LatencySettings) -> dict[str, Any]:
    return {**asdict(settings), "batch_sizes": list(settings.batch_sizes)}
