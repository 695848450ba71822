"""What sampling beside a measured process does to its latency: with and without, by turns.

The same process in both arms, so that memory layout drops out: windows of half a second, in random order
within each pair. Either the parent reads the process's memory (op `sample`), or the sampler process reads a
power meter and a temperature (op `sampler_start`), out of a folder, on another core.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks import devices
from benchmarks.table import Goal, Row
from harness import board as boards
from harness.measure.bench import Bench
from harness.remote import Child
from harness.remote.child import measure_args, parse_block
from harness.remote.sampler import DeviceSampler

RATE_HZ = 10.0  # of the memory's readings
SENSOR_RATES_HZ = (10.0, 100.0)
WINDOW_S = 0.5
WITHIN = 0.005

Samples = npt.NDArray[np.int64]


def run(quick: bool) -> list[Row]:
    """Return rows for the median and the mean, of each way to sample, and for the sampler's CPU time."""
    processes, pairs = (2, 6) if quick else (6, 10)
    cpu = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HIL_AGENT_SENSORS_ROOT"] = str(_sensors(Path(folder)))
        try:
            device = devices.local_device(Path(folder), (cpu,))
            with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
                return _rows(devices.ready(board, devices.resolve(devices.MODEL)), processes, pairs, cpu)
        finally:
            del os.environ["HIL_AGENT_SENSORS_ROOT"]


def _rows(bench: Bench, processes: int, pairs: int, cpu: int) -> list[Row]:
    rows = []
    others = tuple(os.sched_getaffinity(0) - {cpu})
    ways: list[tuple[str, _Beside]] = [("its memory is read", _Memory(bench))]
    ways += [("sensors are read", _Sensors(bench, rate, others)) for rate in SENSOR_RATES_HZ]
    for what, beside in ways:
        windows = [pair for seed in range(processes) for pair in _process(bench, pairs, seed, beside)]
        name = f"while {what} at {beside.rate_hz:g} Hz"
        rows += [
            _row(f"p50 {name}", windows, lambda s: float(np.median(s)), Goal("ratio", high=1 + WITHIN)),
            _row(f"mean {name}", windows, lambda s: float(np.mean(s)), None),
        ]
        if isinstance(beside, _Sensors):
            share = statistics.median(beside.cpu_ratios)
            what = f"CPU time of the sampler at {beside.rate_hz:g} Hz, of one core"
            rows.append(Row(what, "share", share, n=len(beside.cpu_ratios)))
    return rows


def _sensors(folder: Path) -> Path:
    """Return a folder that shows a power meter and a temperature as a board does."""
    chip = folder / "board" / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    for name, text in (("name", "ltc4151"), ("power1_input", "3500000"), ("temp1_input", "45000")):
        (chip / name).write_text(text + "\n")
    return folder / "board"


class _Beside(Protocol):
    """What goes on beside a window."""

    rate_hz: float

    def begin(self) -> None:
        """Come up, before the window."""

    def during(self, child: Child, window_s: float) -> None:
        """Sample until so much time has passed."""

    def end(self) -> None:
        """Go down, after it."""


class _Memory:
    rate_hz = RATE_HZ

    def __init__(self, bench: Bench) -> None:
        self._client = bench.board.client

    def begin(self) -> None:
        return

    def end(self) -> None:
        return

    def during(self, child: Child, window_s: float) -> None:
        end_s = time.monotonic() + window_s
        while time.monotonic() < end_s:
            self._client.request("sample", {"child": child.name})
            time.sleep(1 / self.rate_hz)


class _Sensors:
    def __init__(self, bench: Bench, rate_hz: float, cpus: tuple[int, ...]) -> None:
        self.rate_hz = rate_hz
        self._device = DeviceSampler(bench.board.client, where="local", cpus=cpus)
        self._ids = [channel.id for channel in self._device.channels()]
        self.cpu_ratios: list[float] = []

    def begin(self) -> None:
        self._device.start(self._ids, self.rate_hz)

    def during(self, child: Child, window_s: float) -> None:
        time.sleep(window_s)

    def end(self) -> None:
        self._device.stop()
        if self._device.report is not None and self._device.report.cpu_ratio is not None:
            self.cpu_ratios.append(self._device.report.cpu_ratio)


def _row(
    name: str, windows: list[tuple[Samples, Samples]], of: Callable[[Samples], float], goal: Goal | None
) -> Row:
    sampled, alone = ([of(pair[arm]) / 1e9 for pair in windows] for arm in (0, 1))
    return Row(
        f"{name}, {devices.MODEL.stem} on `local`",
        "s",
        statistics.median(sampled),
        statistics.median(alone),
        "not sampled",
        goal,
        len(windows),
        statistics.median(a / b for a, b in zip(sampled, alone, strict=True)),
    )


def _process(bench: Bench, pairs: int, seed: int, beside: _Beside) -> list[tuple[Samples, Samples]]:
    """Return one fresh process's windows, (sampled, alone) pair by pair."""
    order = random.Random(seed)
    found = []
    with bench.child(f"sampler-{seed}") as (child, _):
        child.first()
        child.measure(iterations=100, warmup_max=2000)
        for _ in range(pairs):
            turns = [True, False]
            order.shuffle(turns)
            taken = {sampled: _window(child, beside if sampled else None) for sampled in turns}
            found.append((taken[True], taken[False]))
    return found


def _window(child: Child, beside: _Beside | None) -> Samples:
    """Return the latencies of one window in ns; nothing else differs between the two kinds."""
    if beside is not None:
        beside.begin()
    pending = child.submit("measure", measure_args(2, 0, int(WINDOW_S * 1e9), None))
    if beside is None:
        time.sleep(WINDOW_S)
    else:
        beside.during(child, WINDOW_S)
    block = parse_block(pending.wait())
    if beside is not None:
        beside.end()
    return block.latency_ns
