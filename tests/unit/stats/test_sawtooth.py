"""Where a cache's memory drops, and the troughs in between."""

from __future__ import annotations

import numpy as np
import pytest
from support.soak_tables import ar1

from harness.stats.sawtooth import find_drops, find_troughs


def saw(n=240, period=24, height=10.0, phase=0.0):
    return height * ((np.arange(n) / period + phase) % 1)


def test_drops_by_hand():
    y = [0, 1, 2, 3, 4, 5, 6, 7] * 4
    assert find_drops(y).tolist() == [8, 16, 24]
    assert find_troughs(y, [8, 16, 24]).tolist() == [8, 16, 24]


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("leak", [0.0, 0.05])
def test_every_period_has_its_drop(noise, leak):
    y = saw(phase=0.3) + leak * np.arange(240) + np.random.default_rng(1).normal(0, noise, 240)
    assert find_drops(y).size == 10


def test_a_drop_over_two_steps_is_one():
    y = [0, 1, 2, 3, 4, 5, 6, 7, 8, 4] * 4 + [0, 1]
    assert find_drops(y).tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_noise_is_no_sawtooth(phi):
    rng = np.random.default_rng(0)
    assert sum(find_drops(ar1(rng, 570, phi, 1.0)).size > 0 for _ in range(50)) == 0


@pytest.mark.parametrize("y", [np.zeros(100), np.arange(100.0), [1.0, 0.0], 5 * np.sin(np.arange(300) / 15)])
def test_what_else_is_no_sawtooth(y):
    assert find_drops(y).size == 0


def test_a_restart_is_no_drop():
    y = np.concatenate([np.linspace(0, 10, 20)] * 5)
    level = np.repeat(np.arange(5), 20)
    assert find_drops(y).size == 4
    assert find_drops(y, level).size == 0


def test_square_waves_rise_as_often_as_they_fall():
    assert find_drops(np.tile(np.repeat([0.0, 10.0], 12), 10)).size == 0


def test_troughs_of_a_leak_rise():
    y = saw() + 0.1 * np.arange(240)
    at = find_troughs(y, find_drops(y))
    assert np.diff(y[at]) == pytest.approx(2.4)
