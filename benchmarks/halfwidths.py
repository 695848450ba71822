"""How well one comparison knows the ratio: half-width of its 90% interval, the same model in both arms.

Ours are duets as the latency suite takes them, for BUDGET_S. The peer is what is usually done: fresh
processes of either arm by turns, each measured for a second, the ratio of medians pair by pair, Student's t
over pairs, for as long.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy.typing as npt

from benchmarks import devices, heavy
from benchmarks.detection_bank import QUIET_PRESSURE, look_around, read_stall_us
from benchmarks.processes import busy_neighbours
from benchmarks.table import Row
from harness import board as boards
from harness import model_files, stats
from harness.board import Board
from harness.measure.bench import Bench
from harness.measure.duet import MEASURED, block_log_ratios, fresh_duets
from harness.model import PlanModel

BUDGET_S = 25.0
PROCESS_S = 1.0  # measured of a fresh process
QUIET, BUSY = 0, 2  # neighbours
MODELS = ("digits_fp32.onnx", "digits_int8.onnx", "digits_fp32.tflite", "digits_int8.tflite")


def run(quick: bool) -> list[Row]:
    """Return a row for each model, quiet and busy: ours and the fresh processes'."""
    repeats, names = (1, MODELS[:1]) if quick else (2, (*MODELS, "heavy"))
    cpu = max(os.sched_getaffinity(0))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        device = devices.local_device(Path(folder), (cpu,))
        with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
            for name in names:
                with _bench(board, name, Path(folder)) as bench:
                    rows += [_row(bench, name, neighbours, repeats) for neighbours in (QUIET, BUSY)]
    return rows


@contextlib.contextmanager
def _bench(board: Board, name: str, folder: Path) -> Iterator[Bench]:
    if name == "heavy":
        path = heavy.write_heavy(folder / "heavy.onnx")
        yield devices.ready(board, model_files.resolve_case(PlanModel(path.stem, path)))
    else:
        yield devices.ready(board, devices.resolve(devices.MODEL.parent / name))


def _row(bench: Bench, name: str, neighbours: int, repeats: int) -> Row:
    ours, theirs = [], []
    begin, before_us = time.monotonic(), read_stall_us()
    with busy_neighbours(neighbours):
        for seed in range(repeats):
            ours.append(_duets(bench, seed))
            theirs.append(_fresh(bench, seed))
    where = "two busy neighbours" if neighbours else "quiet"
    pressure = look_around(before_us, time.monotonic() - begin).pressure
    if not neighbours and pressure is not None and pressure > QUIET_PRESSURE:
        where = f"not quiet (tasks waited for a CPU {pressure:.0%} of the time)"
    return Row(
        f"half-width of the ratio after {BUDGET_S:g} s, {name} against itself, {where}",
        "share",
        statistics.median(ours),
        statistics.median(theirs),
        "fresh processes, paired medians",
        n=repeats,
    )


def _duets(bench: Bench, seed: int) -> float:
    """Return the half-width that duets give."""
    logs: list[npt.ArrayLike] = []
    end = time.monotonic() + BUDGET_S
    with contextlib.closing(fresh_duets(bench, bench, MEASURED, seed)) as duets:
        while len(logs) < 2 or time.monotonic() < end:
            logs.append(block_log_ratios(next(duets).blocks))
    found = stats.duet_interval(logs, seed=seed)
    if found.low is None or found.high is None:
        raise RuntimeError(f"{bench.case.name}: the duets gave no interval")
    return math.expm1((found.high - found.low) / 2)


def _fresh(bench: Bench, seed: int) -> float:
    """Return the half-width that fresh processes by turns give."""
    order = random.Random(seed)
    ratios: list[float] = []
    end = time.monotonic() + BUDGET_S
    while len(ratios) < 2 or time.monotonic() < end:
        turns = ["candidate", "baseline"]
        order.shuffle(turns)
        took = {arm: _median_ns(bench, f"{arm}-{len(ratios)}") for arm in turns}
        ratios.append(took["candidate"] / took["baseline"])
    return stats.t_half_width_ratio(ratios) - 1


def _median_ns(bench: Bench, name: str) -> float:
    with bench.child(name) as (child, _):
        child.first()
        block = child.measure(
            iterations=4, warmup_max=MEASURED.warmup_calls, min_duration_ns=int(PROCESS_S * 1e9)
        )
    return stats.median(block.latency_ns)
