"""Noise for simulations, on the log scale: what a shared host, heat and memory layouts do to timings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Floats]  # of n successive blocks, (n,)

BLOCK_SD = 0.01  # chosen: of a block's median, all worlds
DRIFT = 0.04  # over one duet
SLOW_SHARE, SLOW_BY = 0.05, math.log(1.2)
PROCESS_SD = 0.01


def independent(rng: np.random.Generator, n: int) -> Floats:
    """Return noise of independent blocks."""
    return rng.normal(0, BLOCK_SD, n)


def drifting(rng: np.random.Generator, n: int) -> Floats:
    """Return independent noise on a level that rises by DRIFT from the first block to the last."""
    return independent(rng, n) + np.linspace(0, DRIFT, n)


def correlated(phi: float) -> Noise:
    """Return AR(1) noise of coefficient `phi`, stationary."""

    def noise(rng: np.random.Generator, n: int) -> Floats:
        from scipy.signal import lfilter

        steps = rng.normal(0, BLOCK_SD * math.sqrt(1 - phi * phi), n)
        steps[0] = rng.normal(0, BLOCK_SD)
        return np.asarray(lfilter([1.0], [1.0, -phi], steps), dtype=np.float64)

    return noise


def bimodal(rng: np.random.Generator, n: int) -> Floats:
    """Return independent noise with SLOW_SHARE of blocks slower by SLOW_BY."""
    return independent(rng, n) + SLOW_BY * (rng.random(n) < SLOW_SHARE)


@dataclass(frozen=True)
class World:
    """Noise over time that both arms share, noise of each process alone, and a level of each process."""

    shared: Noise
    own: Noise | None = None
    process_sd: float = 0.0


WORLDS: dict[str, World] = {
    "independent noise": World(independent),
    "drift of 4%": World(drifting),
    "AR(1) noise, 0.5": World(correlated(0.5)),
    "AR(1) noise, 0.9": World(correlated(0.9)),
    "AR(1) noise, 0.9, of each process": World(independent, correlated(0.9)),
    "5% of blocks +20%": World(bimodal),
    "processes that differ by 1%": World(independent, process_sd=PROCESS_SD),
}


def draw_levels(rng: np.random.Generator, world: World, n: int) -> Floats:
    """Return the levels of n successive turns, each of a process of its own, (n,)."""
    own = rng.normal(0, world.process_sd, n) if world.process_sd else 0.0
    return np.asarray(world.shared(rng, n) + own, dtype=np.float64)


def draw_duet(rng: np.random.Generator, world: World, pairs: int) -> tuple[Floats, Floats]:
    """Return both arms' block levels, (pairs,) each: turns in random order within each pair."""
    slots = world.shared(rng, 2 * pairs).reshape(pairs, 2)
    first = rng.integers(0, 2, pairs)
    rows = np.arange(pairs)
    arms = [slots[rows, first], slots[rows, 1 - first]]
    for arm in arms:
        arm += rng.normal(0, world.process_sd) if world.process_sd else 0.0
        arm += world.own(rng, pairs) if world.own else 0.0
    return arms[0], arms[1]


def draw_samples(rng: np.random.Generator, levels: Floats, per_block: int) -> Floats:
    """Return samples above 0, (levels × per_block,): a skewed 2% about each block's level."""
    logs = np.repeat(levels, per_block) + 0.02 * rng.exponential(size=levels.size * per_block)
    return np.asarray(np.exp(logs), dtype=np.float64)
