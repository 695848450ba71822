"""MLPerf's scenarios beyond single_stream and offline, and one of our own.

multi_stream: several samples come at once, a query ends with the last. server: queries arrive at random
(Poisson), open loop (see `server`). periodic: a frame each period, with a deadline. In the last two a query
waits for those before it; its latency counts from when it was due (docs/agent-protocol.md, op `paced`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness import stats
from harness.errors import ConfigError, Unsupported
from harness.measure.bench import Bench, Observation
from harness.measure.latency import (
    iterations_for,
    measure_window,
    require_clock,
    settings_for,
    throughput,
    window_conditions,
)
from harness.measure.paced import (
    P99,
    clock_of,
    count_queries,
    latency_percentiles,
    latency_series,
    paced_settings_for,
    percentile_of,
    periodic_offsets,
    play_all,
    settings_of,
    split_queries,
)
from harness.measure.percentiles import between_processes, lag1_of, quantile
from harness.measure.server import measure_server
from harness.metrics import PERCENTILES
from harness.model import Condition, Measurement, Series
from harness.remote import Child
from harness.units import format_ns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.int64]

__all__ = ["measure_multi_stream", "measure_periodic", "measure_server"]

MULTI_STREAM, PERIODIC = "multi_stream", "periodic"


def measure_multi_stream(bench: Bench, samples_per_query: int) -> Observation:
    """Measure queries of several samples that come at once, one query after another, in fresh processes.

    A query is one call with a batch where the model takes it, else as many calls one after the other.
    """
    import numpy as np

    if samples_per_query < 1:
        raise ConfigError(
            f"samples_per_query is {samples_per_query}, expected 1 or more.", where=bench.case.name
        )
    fidelity = require_clock(bench)
    settings = settings_for(fidelity)
    blocks: list[Samples] = []
    conditions: list[Condition] = []
    clock, calls = None, 0  # calls: of a query; 0: not known yet
    for index in range(settings.processes):
        bench.progress.count("process", index, settings.processes)
        with bench.child(f"multi-stream-{index}") as (child, _):
            started = time.monotonic()
            calls = _feed_query(bench, child, samples_per_query, calls)
            query_wall_s = (time.monotonic() - started) * calls
            wanted = iterations_for(settings, query_wall_s)
            block = measure_window(bench, child, settings, wanted, query_wall_s, calls_per_query=calls)
            clock = block.clock
            blocks.append(block.latency_ns)
            conditions += window_conditions(f"process {index + 1}", block, wanted)
    if not all(len(b) for b in blocks):
        raise Unsupported("this command gives no samples of its queries.", where=bench.case.name)
    values = np.concatenate(blocks)
    process = np.repeat(np.arange(len(blocks), dtype=np.int32), [len(b) for b in blocks])
    found = [
        between_processes(quantile(f"latency_p{p}_ns", values, p, fidelity, MULTI_STREAM), p, blocks)
        for p in PERCENTILES
    ]
    return Observation(
        measurements=(*found, throughput(found[PERCENTILES.index(50)], samples_per_query)),
        series=(Series("latency_ns", "ns", values, process, clock),),
        conditions=tuple(conditions),
        settings={
            "samples_per_query": samples_per_query,
            "query_is": "one batch" if calls == 1 else f"{calls} calls one after the other",
            "processes": settings.processes,
            "lag1_autocorrelation": lag1_of(blocks),
        },
        scenario=MULTI_STREAM,
    )


def _feed_query(bench: Bench, child: Child, samples: int, calls: int) -> int:
    """Set the inputs of a query, run one call, and return how many calls a query takes: 1 with a batch."""
    if calls <= 1 and samples > 1:
        try:
            child.set_inputs(npz_path=bench.inputs_path, batch_size=samples)
            child.first()
        except Unsupported:
            child.set_inputs(npz_path=bench.inputs_path)
        else:
            return 1
    if bench.signature.outputs:
        child.infer(0, 1)
    return samples


def measure_periodic(bench: Bench, period_ns: float, deadline_ns: float | None = None) -> Observation:
    """Measure a frame each `period_ns`: how many end later than `deadline_ns` after they were due.

    The deadline is the period where none is given. A late frame is not dropped: those behind it wait.
    """
    deadline_ns = period_ns if deadline_ns is None else deadline_ns
    for name, value in (("period", period_ns), ("deadline", deadline_ns)):
        if not value >= 1:
            raise ConfigError(f"periodic: {name} is {value:g} ns, expected more.", where=bench.case.name)
    fidelity = require_clock(bench)
    settings = paced_settings_for(fidelity)
    counts = split_queries(count_queries(1e9 / period_ns, settings), settings)
    played, service, conditions = play_all(
        bench, fidelity, settings, [periodic_offsets(period_ns, n) for n in counts]
    )
    missed = int((played.latency_ns > deadline_ns).sum()) + played.missing
    low, high = stats.clopper_pearson(missed, played.requested)
    said = (
        f"{missed} of {played.requested} frames ended later than {format_ns(deadline_ns)} after they were due"
    )
    reasons = (said, f"{played.missing} of them were never begun") if played.missing else (said,)
    return Observation(
        measurements=(
            Measurement(
                "deadline_miss_ratio",
                missed / played.requested,
                low,
                high,
                played.requested,
                fidelity,
                PERIODIC,
                reasons=reasons,
            ),
            percentile_of("start_jitter_p99_ns", P99, played.start_lag_ns, played, fidelity, PERIODIC),
            *latency_percentiles(played, fidelity, PERIODIC),
        ),
        series=(
            *latency_series(played),
            Series("start_jitter_ns", "ns", played.start_lag_ns, played.process, clock_of(played)),
        ),
        conditions=tuple(conditions),
        settings={
            **settings_of(played, service, None),
            "period_ns": period_ns,
            "deadline_ns": deadline_ns,
            "late_frames": "not dropped: those behind them wait",
        },
        scenario=PERIODIC,
    )
