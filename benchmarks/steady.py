"""Steady-state latency on `local` against a bare loop over the same runtime, the two taking turns.

Both processes are resident, pinned to the same core, with the same model, inputs, runtime environment,
interpreter and thread count. They take turns in blocks of some 20 ms, in random order within each pair; the
first calls of a block find cold caches and are dropped. One ratio per pair of blocks, the median over
pairs, then the median over fresh pairs of processes: their memory layouts differ and move a median by a
percent or more.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import devices
from benchmarks.processes import resident
from benchmarks.table import Goal, Row, compute_paired_ratio
from harness import board as boards
from harness.measure.bench import Bench

BLOCK_NS = 20_000_000
BLOCK_CALLS = 8
DROPPED = 3  # first calls of a block
WITHIN = 0.01


@dataclass(frozen=True)
class Duet:
    """Block medians of one pair of processes, in ns, pair by pair."""

    ours_ns: list[float]
    bare_ns: list[float]


def run(quick: bool) -> list[Row]:
    """Return one row: p50 of the harness' child and of the bare loop."""
    processes, pairs = (2, 20) if quick else (9, 60)
    cpu = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        device = devices.local_device(Path(folder), (cpu,))
        with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
            bench = devices.ready(board, devices.resolve(devices.MODEL))
            duets = [_duet(bench, cpu, pairs, index) for index in range(processes)]
    ratios = [compute_paired_ratio(d.ours_ns, d.bare_ns) for d in duets]
    return [
        Row(
            f"steady-state p50, {devices.MODEL.stem} on `local`",
            "s",
            statistics.median(v for d in duets for v in d.ours_ns) / 1e9,
            statistics.median(v for d in duets for v in d.bare_ns) / 1e9,
            "bare loop, onnxruntime",
            Goal("ratio", 1 - WITHIN, 1 + WITHIN),
            processes * pairs,
            statistics.median(ratios),
        )
    ]


def _duet(bench: Bench, cpu: int, pairs: int, seed: int) -> Duet:
    order = random.Random(seed)
    argv = [bench.board.device.type.python, str(Path(__file__).with_name("bare.py"))]
    argv += [devices.site_of(bench), bench.deployed.path, bench.inputs_path, str(bench.threads), str(cpu)]
    duet = Duet([], [])
    with resident(argv) as bare, bench.child(f"steady-{seed}") as (child, _):
        child.first()
        calls = DROPPED + max(BLOCK_CALLS, BLOCK_NS // int(_median(json.loads(bare.ask("50")))))

        def ours() -> float:
            return _median(child.measure(iterations=calls, warmup_max=0).latency_ns.tolist())

        def theirs() -> float:
            return _median(json.loads(bare.ask(str(calls))))

        ours()
        for _ in range(pairs):
            turns = [(ours, duet.ours_ns), (theirs, duet.bare_ns)]
            order.shuffle(turns)
            for take, kept in turns:
                kept.append(take())
    return duet


def _median(block_ns: list[int]) -> float:
    return statistics.median(block_ns[DROPPED:])
