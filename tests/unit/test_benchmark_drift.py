"""The simulation behind the drift verdict's figures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks/ is run from here, not installed

from benchmarks import drift
from harness.model import Verdict


@pytest.mark.parametrize("world", [drift.World(), drift.World(period_h=3.0), drift.World(restarts=2)])
def test_a_large_leak_is_always_found_and_none_where_there_is_none(world):
    assert set(drift.simulate(world, 2e6, 5)) == {Verdict.FAIL}
    assert drift.simulate(world, 0.0, 12).count(Verdict.FAIL) <= 4
    assert set(drift.simulate(world, 0.0, 5, limit=2e6)) == {Verdict.PASS}


def test_the_same_world_gives_the_same_verdicts():
    world = drift.World(phi=0.97)
    assert drift.simulate(world, 0.03e6, 10) == drift.simulate(world, 0.03e6, 10)


def test_noise_has_the_deviation_and_correlation_asked_for():
    world = drift.World(window_s=10.0, phi=0.9)
    rss = drift.draw(np.random.default_rng(0), world, 0.0).channels["main/rss_bytes"]
    assert rss.std() == pytest.approx(drift.NOISE_SD, rel=0.05)
    assert np.corrcoef(rss[:-1], rss[1:])[0, 1] == pytest.approx(0.9, abs=0.02)
