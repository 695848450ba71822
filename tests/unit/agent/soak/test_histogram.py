"""Histograms on the device: every value has one bucket, whose middle is off by 1/128 at most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.soak.histogram import EXACT_BELOW, Histogram, bucket_bounds, bucket_of

VALUES = st.integers(0, 1 << 62)


@given(VALUES)
def test_a_value_is_inside_its_bucket(value: int) -> None:
    low, high = bucket_bounds(bucket_of(value))
    assert low <= value < high
    assert (high - low) * 64 <= max(64, low)


@given(VALUES)
def test_the_middle_is_off_by_a_128th_at_most(value: int) -> None:
    low, high = bucket_bounds(bucket_of(value))
    middle = (low + high - 1) / 2 if value < 1 << 50 else (low + high - 1) // 2
    assert abs(middle - value) * 128 <= value


@given(VALUES, VALUES)
def test_buckets_are_in_the_order_of_values(a: int, b: int) -> None:
    assert (bucket_of(a) <= bucket_of(b)) or a > b


@given(st.integers(0, 5000))
def test_buckets_leave_no_gap(index: int) -> None:
    assert bucket_bounds(index)[1] == bucket_bounds(index + 1)[0]
    assert bucket_of(bucket_bounds(index)[0]) == index


# by hand: 1000 = 0b1111101000 has 10 bits, s = 3, 64·3 + (1000 >> 3) = 192 + 125
@pytest.mark.parametrize(
    ("value", "index", "bounds"),
    [
        (0, 0, (0, 1)),
        (127, 127, (127, 128)),
        (128, 128, (128, 130)),
        (255, 191, (254, 256)),
        (1000, 317, (1000, 1008)),
    ],
)
def test_worked_by_hand(value: int, index: int, bounds: tuple[int, int]) -> None:
    assert bucket_of(value) == index
    assert bucket_bounds(index) == bounds


def test_what_is_below_is_exact() -> None:
    assert [bucket_of(v) for v in range(EXACT_BELOW)] == list(range(EXACT_BELOW))


@given(st.lists(VALUES, max_size=30), st.lists(VALUES, max_size=30))
def test_merging_is_counting_together(a: list[int], b: list[int]) -> None:
    both, one, other = Histogram(), Histogram(), Histogram()
    for value in a:
        one.add(value)
    for value in b:
        other.add(value)
    for value in a + b:
        both.add(value)
    one.merge(other.pairs())
    assert one.pairs() == both.pairs() == Histogram(both.pairs()).pairs()
    assert one.total() == len(a) + len(b)
    assert [index for index, _ in one.pairs()] == sorted({index for index, _ in one.pairs()})


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=50), st.floats(0.0, 1.0))
def test_a_quantile_is_that_of_the_values_within_the_bound(values: list[int], ratio: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = next(v for i, v in enumerate(sorted(values), 1) if i >= max(1, -int(-ratio * len(values) // 1)))
    assert abs(histogram.quantile(ratio) - exact) * 128 <= exact


@pytest.mark.parametrize("wrong", [lambda: bucket_of(-1), lambda: bucket_bounds(-1), Histogram().quantile])
def test_misuse_is_told(wrong) -> None:
    with pytest.raises(ValueError, match=r"-1|of 0 values"):
        wrong(0.5) if getattr(wrong, "__name__", "") == "quantile" else wrong()
