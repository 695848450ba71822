"""How far off aligned times are, with planted offsets and drifts, and the energy of a scripted square wave.

Real round trips to the agent on this host, whose clock is shifted by what was planted: the truth is known.
The limit of an aligned time is what its estimate states. A wave is sampled where its edges don't fall on
samples: each edge may be off by half a period of the sampler, so slow waves serve.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import devices
from benchmarks.table import Goal, Row
from harness import board as boards
from harness.alignment import ClockMap, estimate_offset, integrate
from harness.measure.sampling import round_trips
from harness.remote import AgentClient

OFFSETS_S = 2.0  # planted: uniform in ± this
DRIFT_PPM = 100.0  # a bad quartz; uniform in ± this
WINDOW_S = 0.4  # between the estimates before and after, in real time
STRETCH = 150  # drift is planted as if the window were a minute
RATE_HZ = 100.0
PERIODS_S = (1.5, 3.0)  # of the waves


def run(quick: bool) -> list[Row]:
    """Return a row for the alignment's error, and one for the energy of a square wave."""
    with tempfile.TemporaryDirectory() as folder:
        device = devices.local_device(Path(folder))
        with devices.closing(boards.open_board(device, boards.NATIVE, [], devices.quiet())) as board:
            found = [_aligned(board.client, seed) for seed in range(10 if quick else 50)]
    off, stated = ([pair[i] for pair in found] for i in (0, 1))
    worst = max(a / b for a, b in found)
    waves = [_square_wave(seed) for seed in range(200)]
    return [
        Row(
            f"error of aligned times, planted: ±{OFFSETS_S:g} s and ±{DRIFT_PPM:g} ppm over a minute",
            "s",
            statistics.median(off),
            statistics.median(stated),
            "uncertainty that it states",
            Goal("ratio", high=1.0),
            len(found),
            paired_ratio=worst,
        ),
        Row(
            f"energy of square waves of {PERIODS_S[0]:g} to {PERIODS_S[1]:g} s, worst off its integral over "
            f"10 s at {RATE_HZ:g} Hz",
            "share",
            max(waves),
            goal=Goal("ours", high=0.01),
            n=len(waves),
        ),
    ]


def _aligned(client: AgentClient, seed: int) -> tuple[float, float]:
    """Return the largest error of aligned times in s, and the uncertainty that was stated."""
    rng = random.Random(seed)
    offset_ns = rng.uniform(-OFFSETS_S, OFFSETS_S) * 1e9
    drift = rng.uniform(-DRIFT_PPM, DRIFT_PPM) * 1e-6 * STRETCH
    origin = time.monotonic_ns()

    def shifted(at_ns: int) -> int:
        return round(at_ns + offset_ns + (at_ns - origin) * drift)

    def ask() -> int:
        return shifted(int(client.request("clock").args["monotonic_ns"]))

    before = estimate_offset(round_trips(ask))
    time.sleep(WINDOW_S)
    after = estimate_offset(round_trips(ask))
    clock = ClockMap(before, after)
    # on this host both clocks are one, so what the remote showed at a local time is known
    local = np.linspace(before.at_ns, after.at_ns, 50).astype(np.int64)
    remote = np.array([shifted(int(t)) for t in local], dtype=np.int64)
    return float(np.abs(clock.to_local(remote) - local).max()) / 1e9, clock.uncertainty_ns / 1e9


def _square_wave(seed: int) -> float:
    """Return by how much the energy of one window is off, as a share; the wave's phase is random."""
    rng = np.random.default_rng(seed)
    low, high = 2.0, 6.0
    period_ns = float(rng.uniform(*PERIODS_S)) * 1e9
    duty, phase = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0, 1)) * period_ns
    t = (np.arange(0, 12 * RATE_HZ) / RATE_HZ * 1e9 + rng.normal(0, 2e5, int(12 * RATE_HZ))).astype(np.int64)
    t.sort()

    def watts(at: np.ndarray) -> np.ndarray:
        return np.where((at + phase) % period_ns < duty * period_ns, high, low)

    begin, end = 10**9, 11 * 10**9
    fine = np.linspace(begin, end, 2_000_001)
    exact = float(watts(fine).mean()) * 10
    found = integrate(t, watts(t), begin, end).value
    assert found is not None, "samples cover the window"
    return abs(found / exact - 1)
