"""The simulation of intervals: what it draws, and that it would notice an interval that is too narrow."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # benchmarks/ is run from here, not installed

from benchmarks import coverage
from benchmarks.worlds import DRIFT, SLOW_BY, WORLDS, draw_duet, draw_levels, draw_samples
from harness import stats


@pytest.mark.parametrize("name", list(WORLDS))
def test_both_arms_have_the_same_true_level(name):
    rng = np.random.default_rng(1)
    medians = []
    for _ in range(400):
        ours, theirs = draw_duet(rng, WORLDS[name], 20)
        assert ours.shape == theirs.shape == (20,)
        medians.append(float(np.median(ours - theirs)))
    error = np.std(medians, ddof=1) / math.sqrt(len(medians))
    assert abs(np.mean(medians)) < 4 * error


def test_worlds_are_what_they_are_called():
    rng = np.random.default_rng(2)
    drift = np.mean([draw_levels(rng, WORLDS["drift of 4%"], 50) for _ in range(300)], axis=0)
    assert drift[-1] - drift[0] == pytest.approx(DRIFT, abs=0.004)
    assert stats.lag1_autocorrelation(draw_levels(rng, WORLDS["AR(1) noise, 0.9"], 20_000)) == pytest.approx(
        0.9, abs=0.02
    )
    slow = draw_levels(rng, WORLDS["5% of blocks +20%"], 20_000) > SLOW_BY / 2
    assert slow.mean() == pytest.approx(0.05, abs=0.01)
    assert draw_samples(rng, np.zeros(3), 5).shape == (15,)


def test_an_interval_that_is_too_narrow_misses_the_goal():
    # half of the half-width of a normal interval at 90%: holds with 59%
    narrow = coverage._row("narrow", [lambda rng: abs(rng.normal()) < 0.8224], 400)
    assert narrow.passed is False
    assert narrow.ours == pytest.approx(0.59, abs=0.1)
    honest = coverage._row("honest", [lambda rng: abs(rng.normal()) < 1.645], 400)
    assert honest.passed is True


def test_a_row_is_the_lowest_of_its_settings_and_the_same_at_every_call():
    settings = [lambda rng: True, lambda rng: bool(rng.random() < 0.95)]
    row = coverage._row("two", settings, 300)
    assert row.ours is not None
    assert 0.9 < row.ours < 1
    assert coverage._row("two", settings, 300) == row


def test_an_interval_without_bounds_holds_nothing():
    with pytest.raises(ValueError, match="without bounds"):
        coverage._holds(stats.LogInterval(0.0, None, None, None, stats.BETWEEN, 299))
