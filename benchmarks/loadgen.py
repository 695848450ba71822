"""Our scenarios against MLPerf LoadGen's, over the same runtime, taking turns.

As steady.py does it, with LoadGen as the peer. LoadGen's clock starts before its callback enters Python and
stops when the answer has been handed back, so it sees some microseconds that ours leaves outside: the
shorter the inference, the further below 1 the ratio. Arrivals of the server scenario are Poisson in both,
each from its own generator, so that one pair's tails differ by chance; the ratio is the median over pairs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import devices
from benchmarks.processes import Peer, resident
from benchmarks.table import Goal, Row, compute_paired_ratio, failed
from harness import board as boards
from harness import stats
from harness.measure.bench import Bench
from harness.measure.paced import poisson_offsets
from harness.remote import Child

QUERIES = 700  # LoadGen's minimum for an early-stopping p99 is 662
OFFLINE_SAMPLES = 300
SERVER_LOAD = 0.2  # of what one process can serve: light, so that tails are the model's and not a queue's


@dataclass(frozen=True)
class Case:
    """One scenario at one batch, and which figures are compared. `images` are in a query (or sample)."""

    scenario: str  # LoadGen's name of it
    images: int
    goals: Mapping[str, Goal]  # by figure: p90, p99, sample_ns
    pairs: int = 10  # of each pair of processes

    def what(self, figure: str) -> str:
        """Return the row's text."""
        images = f"{self.images} images" if self.images > 1 else "1 image"
        ours = {"SingleStream": "single_stream", "MultiStream": "multi_stream"}.get(
            self.scenario, self.scenario.lower()
        )
        if figure == "sample_ns":
            return f"{ours}, time of {images}, {devices.MODEL.stem} on `local`"
        load = f" at {100 * SERVER_LOAD:.0f}% load" if self.scenario == "Server" else ""
        return f"{ours} {figure}, {devices.MODEL.stem} on `local`, {images} a query{load}"


# Chosen. Tails are wider than medians; a p99 of 700 arrivals at random is that of seven of them.
CASES = (
    Case("SingleStream", 1, {"p90": Goal("ratio", high=1.01)}),
    Case("SingleStream", 16, {"p90": Goal("ratio", 0.97, 1.03)}),
    Case("MultiStream", 8, {"p90": Goal("ratio", 0.95, 1.03), "p99": Goal("ratio", 0.9, 1.1)}),
    Case("Server", 16, {"p90": Goal("ratio", 0.9, 1.1), "p99": Goal("ratio", 0.8, 1.25)}, pairs=6),
    Case("Offline", 16, {"sample_ns": Goal("ratio", 0.95, 1.05)}),  # of means: neighbours show
)


def run(quick: bool) -> list[Row]:
    """Return a row for each figure of each case: ours and LoadGen's."""
    if importlib.util.find_spec("mlperf_loadgen") is None:
        why = "no mlcommons-loadgen: pip install -e '.[bench]'"
        return [failed(case.what(figure), why) for case in CASES for figure in case.goals]
    cpu = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        device = devices.local_device(Path(folder), (cpu,))
        with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
            bench = devices.ready(board, devices.resolve(devices.MODEL))
            return [row for case in CASES for row in _compare(bench, cpu, case, Path(folder), quick)]


def _compare(bench: Bench, cpu: int, case: Case, logs: Path, quick: bool) -> list[Row]:
    processes, pairs = (1, case.pairs // 2) if quick else (3, case.pairs)
    duets = [_duet(bench, cpu, case, pairs, seed, logs) for seed in range(processes)]
    rows = []
    for figure, goal in case.goals.items():
        ours = [[answer[figure] for answer in mine] for mine, _ in duets]
        theirs = [[answer[figure] for answer in peer] for _, peer in duets]
        rows.append(
            Row(
                case.what(figure),
                "s",
                statistics.median(v for values in ours for v in values) / 1e9,
                statistics.median(v for values in theirs for v in values) / 1e9,
                f"LoadGen {case.scenario}",
                goal,
                processes * pairs,
                statistics.median(compute_paired_ratio(a, b) for a, b in zip(ours, theirs, strict=True)),
            )
        )
    return rows


Answer = dict[str, float]


def _duet(
    bench: Bench, cpu: int, case: Case, pairs: int, seed: int, logs: Path
) -> tuple[list[Answer], list[Answer]]:
    """Return our figures and LoadGen's in ns, pair by pair."""
    order = random.Random(seed)
    argv = [sys.executable, str(Path(__file__).with_name("loadgen_peer.py")), devices.site_of(bench)]
    argv += [
        bench.deployed.path,
        bench.inputs_path,
        str(bench.threads),
        str(cpu),
        str(case.images),
        str(logs),
    ]
    ours: list[Answer] = []
    theirs: list[Answer] = []
    name = f"loadgen-{case.scenario}-{case.images}-{seed}"
    with resident(argv) as peer, bench.child(name, batch_size=case.images) as (child, _):
        child.first()
        alone_ns = stats.median(child.measure(iterations=200, warmup_max=100).latency_ns)
        asked: dict[str, Any] = {"scenario": case.scenario, "queries": QUERIES}
        if case.scenario == "Offline":
            asked["queries"] = OFFLINE_SAMPLES
        if case.scenario == "Server":
            asked["rate_per_s"] = SERVER_LOAD * 1e9 / alone_ns
        _ours(child, {**asked, "seed": 0}), _theirs(peer, {**asked, "seed": 0})
        for pair in range(pairs):
            given = {**asked, "seed": 1 + pair + pairs * seed}
            for mine in order.sample((True, False), 2):
                if mine:
                    ours.append(_ours(child, given))
                else:
                    theirs.append(_theirs(peer, given))
    return ours, theirs


def _ours(child: Child, asked: Mapping[str, Any]) -> Answer:
    """Return our figures of one window."""
    if asked["scenario"] == "Server":
        offsets = poisson_offsets(asked["rate_per_s"], asked["queries"], asked["seed"])
        latency_ns = child.paced(offsets, warmup_max=0).latency_ns
    else:
        latency_ns = child.measure(iterations=asked["queries"], warmup_max=0).latency_ns
    if asked["scenario"] == "Offline":
        return {"sample_ns": float(latency_ns.mean())}
    return {f"p{p}": stats.percentile(latency_ns, p) for p in (90, 99)}


def _theirs(peer: Peer, asked: Mapping[str, Any]) -> Answer:
    return dict(json.loads(peer.ask(json.dumps(asked))))
