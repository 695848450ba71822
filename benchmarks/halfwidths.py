"""How well one comparison knows the ratio: half-width of its 90% interval, the same model in both arms.

Ours is a duet comparison as the latency suite takes it, to its cap. The peer is what is usually done: fresh
processes of either arm by turns, each measured for a second, the ratio of medians pair by pair, Student's t
over pairs, for as long.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import devices, heavy
from benchmarks.processes import busy_neighbours
from benchmarks.table import Row
from harness import board as boards
from harness import model_files, stats
from harness.board import Board
from harness.measure.bench import Bench
from harness.measure.duet import MEASURED, measure_duet
from harness.measure.trials import METRIC
from harness.model import PlanModel

PROCESS_S = 1.0  # measured of a fresh process
QUIET, BUSY = 0, 2  # neighbours
MODELS = ("digits_fp32.onnx", "digits_int8.onnx", "digits_fp32.tflite", "digits_int8.tflite")


def run(quick: bool) -> list[Row]:
    """Return a row for each model, quiet and busy: ours and the fresh processes'."""
    repeats, names = (1, MODELS[:1]) if quick else (3, (*MODELS, "heavy"))
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
    ours, theirs, took_s = [], [], []
    with busy_neighbours(neighbours):
        for seed in range(repeats):
            begin = time.monotonic()
            ours.append(_duet(bench, seed))
            took_s.append(time.monotonic() - begin)
            theirs.append(_fresh(bench, seed, took_s[-1]))
    where = "two busy neighbours" if neighbours else "quiet"
    return Row(
        f"half-width of the ratio, {name} against itself, {where}, {statistics.median(took_s):.0f} s",
        "share",
        statistics.median(ours),
        statistics.median(theirs),
        "fresh processes, paired medians",
        n=repeats,
    )


def _duet(bench: Bench, seed: int) -> float:
    """Return the half-width of a comparison that takes all its duets in one look, at 90%."""
    settings = replace(MEASURED, duets=MEASURED.duets * MEASURED.looks, looks=1)
    seen = measure_duet(bench, bench, "itself", seed=seed, settings=settings)
    found = next(c for c in seen.comparisons if c.metric == METRIC)
    if found.low is None or found.high is None:
        raise RuntimeError(f"{bench.case.name}: the duets gave no interval")
    return (found.high / found.low) ** 0.5 - 1


def _fresh(bench: Bench, seed: int, budget_s: float) -> float:
    """Return the half-width that fresh processes by turns give in as much time, from two pairs on."""
    order = random.Random(seed)
    ratios: list[float] = []
    end = time.monotonic() + budget_s
    while len(ratios) < 3 or time.monotonic() < end:
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
