"""Differences of independent estimates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.stats import mover_difference_interval, wilson


def test_newcombes_example() -> None:
    """Newcombe 1998, table II (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339 at 95%."""
    one, other = wilson(56, 70, 0.95), wilson(48, 80, 0.95)
    difference, low, high = mover_difference_interval(56 / 70, *one, 48 / 80, *other)
    assert difference == pytest.approx(0.2)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_an_exact_one_adds_nothing() -> None:
    assert mover_difference_interval(3, 2, 5, 1, 1, 1) == (2, 1, 4)


@pytest.mark.parametrize("bad", [(1, 2, 3, 1, 1, 1), (1, 1, 1, 5, 4, 4.5)])
def test_no_interval(bad: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected low <= value <= high"):
        mover_difference_interval(*bad)


sides = st.tuples(st.floats(-10, 10), st.floats(0, 5), st.floats(0, 5))


@given(sides, sides)
def test_swapping_changes_the_sign(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    a, b = (x[0], x[0] - x[1], x[0] + x[2]), (y[0], y[0] - y[1], y[0] + y[2])
    one, other = mover_difference_interval(*a, *b), mover_difference_interval(*b, *a)
    assert one == pytest.approx((-other[0], -other[2], -other[1]))
    assert one[1] <= one[0] <= one[2]
