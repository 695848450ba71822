"""Sparse histograms with numpy: the device's own buckets, merged, and percentiles of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agent.soak import histogram as device
from harness.stats import histograms
from harness.stats.histograms import (
    MAX_NS,
    bucket_bounds,
    bucket_middle,
    bucket_of,
    fine_percentile_by_group,
    histogram_percentile,
    merge,
    percentile_by_group,
)

TIMES = st.integers(0, MAX_NS)


@given(st.lists(TIMES, min_size=1, max_size=50))
def test_buckets_are_the_devices_own(values):
    assert bucket_of(values).tolist() == [device.bucket_of(v) for v in values]


@given(TIMES)
def test_a_value_is_in_its_bucket_and_its_middle_is_near(value):
    index = bucket_of([value])
    low, high = (int(edge[0]) for edge in bucket_bounds(index))
    assert low <= value < high
    assert abs(float(bucket_middle(index)[0]) - value) <= max(value / 128, 0.5)


@pytest.mark.parametrize(
    ("value", "index"),
    [(0, 0), (127, 127), (128, 128), (129, 128), (255, 191), (256, 192), (1 << 53, 64 * 47 + 64)],
)
def test_buckets_by_hand(value, index):
    # index = v below 128, else 64 s + (v >> s), s = bit length − 7
    assert bucket_of([value])[0] == index


def test_a_negative_time_is_refused():
    with pytest.raises(ValueError, match="0 to"):
        bucket_of([-1])


def test_counts_of_a_bucket_add_up():
    index, count = merge([5, 3, 5], [1, 2, 10])
    assert (index.tolist(), count.tolist()) == ([3, 5], [2, 11])


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=200), st.sampled_from([1, 50, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_values_within_half_a_bucket(values, p):
    found = histogram_percentile(bucket_of(values), [1] * len(values), p)
    # nearest rank
    true = sorted(values)[max(1, math.ceil(round(p * len(values) / 100, 9))) - 1]
    assert found == pytest.approx(true, rel=1 / 128, abs=0.5)


def test_an_empty_histogram_has_no_percentile():
    assert histogram_percentile([], [], 99) is None


@pytest.mark.parametrize("group", [[0, 0, 1, 1, 2, 3], [0, -1, 1, -1, 2, 3], [3, 2, 1, 0, 0, -1]])
def test_many_entries_are_taken_some_at_a_time(monkeypatch, group):
    rng = np.random.default_rng(0)
    offset, index = np.arange(7) * 50, rng.integers(0, 900, 300)
    args = (offset, index, rng.integers(0, 4, 300), group, 99)
    whole = percentile_by_group(*args)
    monkeypatch.setattr(histograms, "_AT_ONCE", 60)
    assert percentile_by_group(*args).tolist() == whole.tolist()


@given(st.lists(st.lists(st.integers(1, 10**9), max_size=8), min_size=1, max_size=12), st.data())
def test_merging_by_group_is_merging_all_of_it(windows, data):
    group = data.draw(st.lists(st.integers(-1, 3), min_size=len(windows), max_size=len(windows)))
    offset = np.concatenate([[0], np.cumsum([len(w) for w in windows])])
    flat = [v for w in windows for v in w]
    index, count = bucket_of(np.array(flat, dtype=np.int64)), np.ones(len(flat), dtype=np.int64)
    found = percentile_by_group(offset, index, count, group, 99)
    assert found.size == max(0, max(group) + 1)
    for number, value in enumerate(found):
        mine = [v for w, g in zip(windows, group, strict=True) if g == number for v in w]
        expected = histogram_percentile(bucket_of(np.array(mine, dtype=np.int64)), [1] * len(mine), 99)
        assert (expected is None and math.isnan(value)) or value == expected


def test_exact_extremes_make_a_percentile_finer_than_its_bucket():
    # all calls of both groups are in one bucket, [4980736, 5046272)
    times = np.array([[5_000_000, 5_000_100], [5_000_200, 5_000_300]])
    index = bucket_of(times.ravel())
    assert len(set(index.tolist())) == 1
    value, fine = fine_percentile_by_group(
        [0, 2, 4], index, np.ones(4, dtype=np.int64), [0, 1], 100,
        lowest_ns=times.min(axis=1), highest_ns=times.max(axis=1),
    )  # fmt: skip
    assert value.tolist() == [5_000_075.0, 5_000_275.0]
    assert fine.tolist() == [100.0, 100.0]


def test_without_extremes_a_percentile_is_as_fine_as_its_bucket_is_full():
    index = bucket_of(np.array([5_000_000, 5_000_000, 9_000_000, 9_000_000]))
    none = [math.nan]
    value, fine = fine_percentile_by_group(
        [0, 4], index, np.ones(4, dtype=np.int64), [0], 50, lowest_ns=none, highest_ns=none
    )
    low, high = (int(edge[0]) for edge in bucket_bounds(index[:1]))
    assert low <= value[0] < high
    assert fine[0] == (high - low) / 2  # half of the calls
