"""p90 of single_stream against MLPerf LoadGen's SingleStream p90, over the same runtime, taking turns.

As steady.py does it, with LoadGen as the peer. LoadGen's clock starts before its callback enters Python and
stops when the answer has been handed back, so it sees some microseconds that ours leaves outside: the
shorter the inference, the further below 1 the ratio.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import devices
from benchmarks.processes import resident
from benchmarks.table import Goal, Row, compute_paired_ratio, failed
from harness import board as boards
from harness import stats
from harness.measure.bench import Bench

QUERIES = 700  # LoadGen's minimum for an early-stopping p99 is 662
BATCHES = (1, 16)  # images in a query: the more, the less LoadGen's own microseconds weigh
GOALS = {1: Goal("ratio", high=1.01), 16: Goal("ratio", 0.97, 1.03)}  # chosen: tails are wider than medians


def run(quick: bool) -> list[Row]:
    """Return a row for each batch size: our p90 and LoadGen's."""
    if importlib.util.find_spec("mlperf_loadgen") is None:
        return [failed(_what(b), "no mlcommons-loadgen: pip install -e '.[bench]'") for b in BATCHES]
    cpu = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        device = devices.local_device(Path(folder), (cpu,))
        with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
            bench = devices.ready(board, devices.resolve(devices.MODEL))
            return [_compare(bench, cpu, batch, Path(folder), quick) for batch in BATCHES]


def _what(batch: int) -> str:
    images = f"{batch} images" if batch > 1 else "1 image"
    return f"single_stream p90, {devices.MODEL.stem} on `local`, {images} a query"


def _compare(bench: Bench, cpu: int, batch: int, logs: Path, quick: bool) -> Row:
    processes, pairs = (1, 5) if quick else (3, 10)
    duets = [_duet(bench, cpu, batch, pairs, seed, logs) for seed in range(processes)]
    return Row(
        _what(batch),
        "s",
        statistics.median(v for ours, _ in duets for v in ours) / 1e9,
        statistics.median(v for _, theirs in duets for v in theirs) / 1e9,
        "LoadGen SingleStream",
        GOALS[batch],
        processes * pairs,
        statistics.median(compute_paired_ratio(ours, theirs) for ours, theirs in duets),
    )


def _duet(
    bench: Bench, cpu: int, batch: int, pairs: int, seed: int, logs: Path
) -> tuple[list[float], list[float]]:
    """Return our p90s and LoadGen's in ns, pair by pair."""
    order = random.Random(seed)
    argv = [sys.executable, str(Path(__file__).with_name("loadgen_peer.py")), devices.site_of(bench)]
    argv += [bench.deployed.path, bench.inputs_path, str(bench.threads), str(cpu), str(batch), str(logs)]
    ours: list[float] = []
    theirs: list[float] = []
    with resident(argv) as peer, bench.child(f"loadgen-{batch}-{seed}", batch_size=batch) as (child, _):
        child.first()

        def mine() -> float:
            return stats.percentile(child.measure(iterations=QUERIES, warmup_max=0).latency_ns, 90)

        def loadgen() -> float:
            return float(peer.ask(str(QUERIES)))

        mine(), loadgen()
        for _ in range(pairs):
            turns = [(mine, ours), (loadgen, theirs)]
            order.shuffle(turns)
            for take, kept in turns:
                kept.append(take())
    return ours, theirs
