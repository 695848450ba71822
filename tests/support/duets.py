"""Duets that were never measured: block medians drawn from a seed, all else in order."""

from __future__ import annotations

import math

import numpy as np

from harness.measure.duet_effects import Duet
from harness.measure.trials import KeptDuet
from harness.remote import DuetBlocks
from harness.remote.duet import DuetArm

BASE_NS = 1_000_000
CALLS = 4


def draw_duet(
    rng: np.random.Generator,
    *,
    ratio: float = 1.0,
    between: float = 0.005,
    within: float = 0.002,
    pairs: int = 12,
    counted: bool = False,
) -> Duet:
    """Return a duet whose candidate is slower by `ratio`; `between` and `within`: log standard deviations."""
    level = math.log(ratio) + rng.normal(0, between)
    noise = rng.normal(0, within, (2, pairs))
    logs = (level + noise[0], noise[1])
    arms = (
        _arm("candidate", np.exp(logs[0]) * BASE_NS, ratio, counted),
        _arm("baseline", np.exp(logs[1]) * BASE_NS, 1.0, counted),
    )
    blocks = DuetBlocks(
        arms=arms,
        order=rng.integers(0, 2, pairs).astype(np.uint8),
        pairs_requested=pairs,
        pairs_got=pairs,
        ended_by="pairs",
        seed=1,
        clock="CLOCK_MONOTONIC",
        elapsed_ns=pairs * 2 * CALLS * BASE_NS,
    )
    return Duet(0, (5_000_000, 5_000_000), (2_000_000, 2_000_000), blocks)


def _arm(name: str, medians_ns: np.ndarray, work: float, counted: bool) -> DuetArm:
    latency_ns = np.repeat(np.round(medians_ns).astype(np.int64), CALLS)
    pairs = len(medians_ns)
    return DuetArm(
        child=name,
        latency_ns=latency_ns,
        start_ns=np.cumsum(latency_ns),
        block=np.repeat(np.arange(pairs, dtype=np.int32), CALLS),
        instructions=np.full(pairs, round(1_000_000 * work) * CALLS, dtype=np.int64) if counted else None,
        not_counted=None if counted else "no counter",
        calls=CALLS,
        warmup_iterations=8,
        warmup_flat=True,
        warmup_median_ns=BASE_NS,
        turns_ns=pairs * CALLS * BASE_NS,
        usage={"cpu_ns": 1},
        clock_check={"monotonic_ns": 1},
    )


def keep(
    count: int,
    *,
    seed: int = 1,
    wall_s: float = 0.5,
    ratio: float = 1.0,
    between: float = 0.005,
    counted: bool = False,
) -> list[KeptDuet]:
    """Return `count` kept duets."""
    rng = np.random.default_rng(seed)
    return [
        KeptDuet(draw_duet(rng, ratio=ratio, between=between, counted=counted), wall_s) for _ in range(count)
    ]
