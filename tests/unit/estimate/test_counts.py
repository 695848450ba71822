"""What the plugin writes, whole and broken, and the features made of it."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError, DataError
from harness.estimate.counts import parse_counts
from harness.estimate.features import FIELDS, Features, compute_features

HEADER = "H 1 2\n"
# ldr q0, [x1]; fmla v2.4s, v3.4s, v4.4s; str q0, [x1]: 10 passes; then a block of the kernel
BLOCK = "B 7 aaaa00 3dc000204e24cc623d800020\n"
KERNEL = "B 8 ffff800008000000 d503201f\n"
COUNT = "C 7 10 160 160 20 20 5 4 3 2 0 0 6 1 0 9 8\n"
KERNEL_COUNT = "C 8 100 800 0 100 0 50 0 50 0 0 0 0 0 0 3 3\n"
WINDOW = ["W 0\n", BLOCK, COUNT, KERNEL, KERNEL_COUNT, "E\n"]


def test_a_window_is_read_and_summed_without_the_kernel():
    (window,) = parse_counts([HEADER, *WINDOW])
    done = compute_features(window, "cortex-a72")
    assert (done.instructions, done.load, done.store, done.vector_float) == (30, 10, 10, 10)
    assert (done.loaded_bytes, done.stored_bytes, done.kernel_instructions) == (160, 160, 100)
    assert (done.missed_by_loads, done.missed_by_stores, done.streamed) == ((5, 3), (4, 2), (6, 1))
    assert (done.pages_missed, done.pages_walked) == (9, 8)
    assert 20 <= done.cycles <= 60  # ten passes: two cycles of storing each, at least


def test_a_block_is_told_once_and_counts_in_later_windows():
    lines = [HEADER, *WINDOW, "W 1\n", COUNT, "E\n"]
    first, second = parse_counts(lines)
    assert second[0].block is first[0].block
    assert [c.passes for c in second] == [10]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([COUNT], "no header"),
        (["H 2 2\n"], "format 2, expected 1"),
        (["H 1 4\n"], "4 levels"),
        ([HEADER, COUNT], "out of place"),
        ([HEADER, "W 0\n", "W 1\n"], "out of place"),
        ([HEADER, "W 0\n", COUNT], "7"),  # a block that was never told
        ([HEADER, "W 0\n", BLOCK, "C 7 10 160\n"], "3 numbers"),
        ([HEADER, "W 0\n", "B 7 aaaa00 3dc0\n"], "4 hexadecimal digits"),
        ([HEADER, "W 0\n", BLOCK, COUNT], "no end"),
        ([HEADER, "? x\n"], "out of place"),
    ],
)
def test_anything_else_is_an_error_that_names_its_line(lines, says):
    with pytest.raises(DataError, match=says):
        list(parse_counts(lines))


def test_a_window_in_which_nothing_ran_is_refused():
    with pytest.raises(DataError, match="no instruction"):
        compute_features((), "cortex-a72")


def test_features_of_an_unknown_core_are_refused():
    (window,) = parse_counts([HEADER, *WINDOW])
    with pytest.raises(ConfigError, match="no pipeline table"):
        compute_features(window, "cortex-m4")


def test_every_field_of_the_features_is_counted():
    assert set(FIELDS) == set(Features.__dataclass_fields__)
