"""Blocks whose cycles can be worked out by hand from the tables of the cores."""

from __future__ import annotations

import pytest

from harness.errors import ConfigError
from harness.estimate.cores import CORES, core_named
from harness.estimate.schedule import block_cycles

A72, A76 = "cortex-a72", "cortex-a76"


def fmla(to: int, wide: bool = True) -> int:
    """fmla vTO.4s, v30.4s, v31.4s"""
    return (0x4E20CC00 if wide else 0x0E20CC00) | 31 << 16 | 30 << 5 | to


LOAD = 0x3DC003E0  # ldr q0, [sp]
STORE = 0x3D8003E0  # str q0, [sp]
ADD = 0x91000400  # add x0, x0, #1


@pytest.mark.parametrize(
    ("core", "words", "cycles"),
    [
        # two 64-bit pipelines: a wide multiply-add takes both for a cycle; eight sums hide the latency of 3
        (A72, [fmla(i) for i in range(8)], 8),
        (A72, [fmla(i, wide=False) for i in range(8)], 4),
        # pipelines of 128 bits: two a cycle
        (A76, [fmla(i) for i in range(8)], 4),
        # one sum alone waits for itself: 3 cycles on the A72, 2 on the A76
        (A72, [fmla(0)], 3),
        (A76, [fmla(0)], 2),
        # one load a cycle, two on the A76; a store of 128 bits takes the A72's unit twice
        (A72, [LOAD] * 6, 6),
        (A76, [LOAD] * 6, 3),
        (A72, [STORE] * 4, 8),
        # each addition waits for the one before
        (A72, [ADD] * 5, 5),
    ],
)
def test_cycles_follow_from_pipelines_and_latencies(core, words, cycles):
    assert block_cycles(tuple(words), core) == pytest.approx(cycles, rel=0.02)


def test_no_block_is_faster_than_instructions_enter():
    words = tuple(0x91000400 | i << 5 | i for i in range(12))  # additions that don't depend on each other
    for name, core in CORES.items():
        assert block_cycles(words, name) >= len(words) / core.width


def test_more_code_never_takes_less():
    words = (LOAD, *(fmla(i) for i in range(4)), STORE)
    for name in CORES:
        assert block_cycles((*words, fmla(9)), name) >= block_cycles(words, name) - 0.1


def test_an_empty_block_takes_nothing():
    assert block_cycles((), A72) == 0.0


def test_a_core_without_a_table_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="cortex-a72"):
        core_named("cortex-a71")
