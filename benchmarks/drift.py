"""How often a soak's drift verdict cries wolf, and what it finds: simulated noise, leaks and sawteeth.

No device and no clock. A table of 72 h is drawn (RSS of 60 MB, AR(1) noise from window to window) and judged
by `harness.soak.drift` as any soak is, with a limit of 0 an hour: a FAIL says that there is a leak. Seeded: a
row is the same at every call.

    python -m benchmarks drift            # the corners
    python -m benchmarks drift --full     # every φ and window
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.table import Goal, Row
from harness.judging import judge
from harness.metrics import LOWER
from harness.model import Fidelity, SoakLife, SoakLimits, SoakSettings, SoakTable, SparseHistograms, Verdict
from harness.soak.drift import judge_drift

HOURS = 72
NOISE_SD = 0.5e6  # bytes; of RSS from window to window (chosen: 120 pages come and go)
LEAKS = (0.05e6, 0.1e6)  # bytes an hour
PHIS = (0.0, 0.5, 0.8, 0.9, 0.97)
WINDOWS_S = (300.0, 60.0, 10.0)  # 300 s: what a compressed soak has; there φ 0.97 is 3 h of memory
SAWTOOTH_BYTES = 10e6
PERIODS_H = (0.5, 1.0, 3.0, 6.0, 12.0, 24.0)
RESTARTS = 3
MOST_FALSE, LEAST_FOUND = 0.06, 0.8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What one soak is drawn from."""

    window_s: float = 300.0
    phi: float = 0.9
    leak_bytes_per_h: float = 0.0
    period_h: float = 0.0  # of a sawtooth; 0: none
    restarts: int = 0
    noise_sd: float = NOISE_SD


def run(quick: bool) -> list[Row]:
    """Return the rows: plain noise, a sawtooth, restarts."""
    trials = 200 if quick else 1000
    phis, windows = ((0.0, 0.9, 0.97), WINDOWS_S[:1]) if quick else (PHIS, WINDOWS_S)
    rows = [row for w in windows for phi in phis for row in _noise_rows(World(w, phi), trials)]
    periods = (1.0, 6.0, 12.0) if quick else PERIODS_H
    rows += [row for period in periods for row in _sawtooth_rows(World(period_h=period), trials)]
    rows += _pair_of_rows(f"restarted {RESTARTS} times", World(restarts=RESTARTS), LEAKS[1], trials)
    rows += _limit_rows(trials)
    return rows


def _noise_rows(world: World, trials: int) -> Iterable[Row]:
    name = f"noise φ = {world.phi:g}, windows of {world.window_s:g} s"
    yield _false_row(name, world, trials)
    for leak in LEAKS:
        yield _found_row(name, world, leak, trials)


def _sawtooth_rows(world: World, trials: int) -> Iterable[Row]:
    name = f"sawtooth of {SAWTOOTH_BYTES / 1e6:g} MB, {world.period_h:g} h"
    # fewer than six troughs leave block medians, whose interval is wide: nothing false, and little found
    judged = HOURS / world.period_h > 7
    yield _false_row(name, world, trials)
    yield _found_row(name, world, LEAKS[1], trials, goal=judged)


def _pair_of_rows(name: str, world: World, leak: float, trials: int) -> list[Row]:
    return [_false_row(name, world, trials), _found_row(name, world, leak, trials)]


def _limit_rows(trials: int) -> list[Row]:
    """Return all three verdicts against a limit between no leak and a leak."""
    limit, world = 0.025e6, World()
    rows = []
    for leak, expected in ((0.0, Verdict.PASS), (limit, None), (0.05e6, Verdict.FAIL)):
        verdicts = simulate(world, leak, trials, limit)
        told = f"drift: limit {limit / 1e6:g} MB/h, leak of {leak / 1e6:g} MB/h"
        if expected is None:
            share = verdicts.count(Verdict.FAIL) / trials
            rows.append(Row(f"{told}, FAIL", "share", share, goal=Goal("ours", high=MOST_FALSE), n=trials))
            continue
        share = verdicts.count(expected) / trials
        rows.append(Row(f"{told}, {expected}", "share", share, goal=Goal("ours", low=LEAST_FOUND), n=trials))
    return rows


def _false_row(name: str, world: World, trials: int) -> Row:
    share = simulate(world, 0.0, trials).count(Verdict.FAIL) / trials
    return Row(f"drift: false alarms, {name}", "share", share, goal=Goal("ours", high=MOST_FALSE), n=trials)


def _found_row(name: str, world: World, leak: float, trials: int, *, goal: bool = True) -> Row:
    share = simulate(world, leak, trials).count(Verdict.FAIL) / trials
    wanted = Goal("ours", low=LEAST_FOUND) if goal else None
    return Row(f"drift: {leak / 1e6:g} MB/h found, {name}", "share", share, goal=wanted, n=trials)


def simulate(world: World, leak: float, trials: int, limit: float = 0.0) -> list[Verdict]:
    """Return the verdicts of `trials` soaks that leak `leak` bytes an hour, held to `limit` bytes an hour."""
    rng = np.random.default_rng(zlib.crc32(repr(world).encode()))
    settings = SoakSettings(
        duration_s=HOURS * 3600.0, window_s=world.window_s, limits=SoakLimits(per_h={"rss_bytes": limit})
    )
    found = []
    for _ in range(trials):
        (drift,) = judge_drift(draw(rng, world, leak), settings, ram_bytes=None, fidelity=Fidelity.MEASURED)
        found.append(judge(drift.measurements[0], None, LOWER).verdict)
    return found


def draw(rng: np.random.Generator, world: World, leak: float) -> SoakTable:
    """Return a table with the RSS of one stream alone."""
    n = round(HOURS * 3600 / world.window_s)
    start = np.arange(n) * world.window_s
    hours = (start + world.window_s / 2) / 3600
    starts = [0.0, *np.sort(rng.uniform(0, HOURS, world.restarts))]
    life = np.searchsorted(starts, start / 3600, side="right") - 1
    age = hours - np.asarray(starts)[life]
    rss = 60e6 + _ar1(rng, n, world.phi, world.noise_sd) + leak * age
    rss += rng.normal(0, 2e6, len(starts))[life] if world.restarts else 0.0  # no two starts are alike
    if world.period_h:
        rss += SAWTOOTH_BYTES * ((hours / world.period_h + rng.uniform()) % 1)
    empty = SparseHistograms(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))
    lives = tuple(
        SoakLife(number + 1, at * 3600, 0.0, "boottime" if number else "start", "boot")
        for number, at in enumerate(starts)
    )
    return SoakTable(
        start, start + world.window_s, life.astype(np.int32), np.ones(n, np.int32), {"main/rss_bytes": rss},
        {"main/rss_bytes": "bytes"}, {"main": empty}, {}, (), lives, "duration", 1, n + 2,
    )  # fmt: skip


def _ar1(rng: np.random.Generator, n: int, phi: float, sd: float) -> Floats:
    from scipy.signal import lfilter

    steps = rng.normal(0, sd * np.sqrt(1 - phi * phi), n)
    steps[0] = rng.normal(0, sd)
    return np.asarray(lfilter([1.0], [1.0, -phi], steps), dtype=np.float64)
