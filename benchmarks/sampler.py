"""What sampling a measured process ten times a second does to its latency: with and without, by turns.

The same process in both arms, so that memory layout drops out: windows of half a second, in random order
within each pair. The parent reads the process's memory (op `sample`) as the suites do between blocks.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import devices
from benchmarks.table import Goal, Row
from harness import board as boards
from harness.measure.bench import Bench
from harness.remote import Child
from harness.remote.child import measure_args, parse_block

RATE_HZ = 10.0
WINDOW_S = 0.5
WITHIN = 0.005

Samples = npt.NDArray[np.int64]


def run(quick: bool) -> list[Row]:
    """Return a row each for the median and the mean."""
    processes, pairs = (2, 6) if quick else (6, 10)
    cpu = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        device = devices.local_device(Path(folder), (cpu,))
        with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
            bench = devices.ready(board, devices.resolve(devices.MODEL))
            windows = [pair for seed in range(processes) for pair in _process(bench, pairs, seed)]
    return [
        _row("p50", windows, lambda s: float(np.median(s)), Goal("ratio", high=1 + WITHIN)),
        _row("mean", windows, lambda s: float(np.mean(s)), None),
    ]


def _row(
    name: str, windows: list[tuple[Samples, Samples]], of: Callable[[Samples], float], goal: Goal | None
) -> Row:
    sampled, alone = ([of(pair[arm]) / 1e9 for pair in windows] for arm in (0, 1))
    return Row(
        f"{name} while its memory is read at {RATE_HZ:g} Hz, {devices.MODEL.stem} on `local`",
        "s",
        statistics.median(sampled),
        statistics.median(alone),
        "not sampled",
        goal,
        len(windows),
        statistics.median(a / b for a, b in zip(sampled, alone, strict=True)),
    )


def _process(bench: Bench, pairs: int, seed: int) -> list[tuple[Samples, Samples]]:
    """Return one fresh process's windows, (sampled, alone) pair by pair."""
    order = random.Random(seed)
    found = []
    with bench.child(f"sampler-{seed}") as (child, _):
        child.first()
        child.measure(iterations=100, warmup_max=2000)
        for _ in range(pairs):
            turns = [True, False]
            order.shuffle(turns)
            taken = {sampled: _window(bench, child, sampled) for sampled in turns}
            found.append((taken[True], taken[False]))
    return found


def _window(bench: Bench, child: Child, sampled: bool) -> Samples:
    """Return the latencies of one window in ns; nothing else differs between the two kinds."""
    args = measure_args(2, 0, int(WINDOW_S * 1e9), None)
    pending = child.submit("measure", args)
    end_s = time.monotonic() + WINDOW_S
    while time.monotonic() < end_s:
        if sampled:
            bench.board.client.request("sample", {"child": child.name})
        time.sleep(1 / RATE_HZ)
    return parse_block(pending.wait()).latency_ns
