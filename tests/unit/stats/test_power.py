"""The smallest regression that is caught: a published power, and what must hold for any spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import stats


def test_power_of_a_published_example():
    # G*Power 3's guide, "Means: difference from constant": one-sided 5% and 95% power take an effect of 0.625
    # standard deviations 30 subjects, and 29 do not suffice
    assert (
        math.log(stats.detectable_ratio(1.0, 0.0, 30))
        < 0.625
        < math.log(stats.detectable_ratio(1.0, 0.0, 29))
    )


def test_power_is_what_trials_find():
    spread, duets = 0.004, 5
    effect = math.log(stats.detectable_ratio(spread, 0.003, duets, margin=0.005))
    rng = np.random.default_rng(1)
    medians = rng.normal(effect, math.hypot(spread, 0.003), (4000, duets))
    # t(4, 95%) = 2.132
    low = medians.mean(axis=1) - 2.132 * medians.std(axis=1, ddof=1) / math.sqrt(duets)
    assert (low > math.log(1.005)).mean() == pytest.approx(0.95, abs=0.014)


def test_nothing_that_varies_leaves_nothing_to_miss():
    assert stats.detectable_ratio(0.0, 0.0, 3, margin=0.01) == pytest.approx(1.01)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [((0.1, 0.1, 1), "at least 2"), ((-0.1, 0, 3), "0 or more"), ((0.1, 0.1, 3, 0.9, 0.01), "power")],
)
def test_refuses_what_makes_no_sense(arguments, why):
    with pytest.raises(ValueError, match=why):
        stats.detectable_ratio(*arguments)


@given(st.floats(0, 0.1), st.floats(0, 0.1), st.integers(2, 20), st.floats(0.5, 0.98))
def test_more_noise_power_or_confidence_takes_a_larger_regression(between, within, duets, power):
    found = stats.detectable_ratio(between, within, duets, power=power)
    assert found >= 1
    assert stats.detectable_ratio(between + 0.01, within, duets, power=power) >= found
    assert stats.detectable_ratio(between, within + 0.01, duets, power=power) >= found
    assert stats.detectable_ratio(between, within, duets, power=power + 0.01) >= found
    assert stats.detectable_ratio(between, within, duets + 1, power=power) <= found * (1 + 1e-9)
