"""The board model by hand: watts, degrees, throttle bits."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.emulation.sensors import board_model
from harness.emulation.sensors.board_model import Parameters, State, step

# 2 W at idle and 6 W busy, 10 K/W, 5 J/K: a time constant of 50 s, settling at 40 and 80 °C in air of 20 °C
BOARD = Parameters(2.0, 6.0, 4, 5.0, 10.0, 5.0, 20.0, 70.0, 5.0, 0.5)


@pytest.mark.parametrize(("busy", "watts"), [(0, 2.0), (1, 3.0), (4, 6.0), (9, 6.0), (-1, 2.0)])
def test_power_is_linear_in_busy_cores(busy, watts):
    assert board_model.compute_power_w(BOARD, busy) == watts


def test_a_board_begins_idle_and_stays_there():
    idle = board_model.start(BOARD)
    assert (idle.temp_c, idle.power_w, idle.throttled_bits) == (40.0, 2.0, 0)
    assert step(BOARD, idle, 1000.0, 0.0).temp_c == 40.0


def test_it_heats_with_its_time_constant():
    later = step(BOARD, board_model.start(BOARD), 50.0, 4.0)
    assert later.temp_c == pytest.approx(80.0 - 40.0 * math.exp(-1))  # 65.3 °C
    assert later.power_w == 6.0
    faster = step(dataclasses.replace(BOARD, time_scale=50.0), board_model.start(BOARD), 1.0, 4.0)
    assert faster.temp_c == pytest.approx(later.temp_c)


@given(st.lists(st.floats(0.001, 20.0), min_size=1, max_size=20))
def test_many_small_steps_are_one_large_one(lengths):
    state = board_model.start(BOARD)
    for length in lengths:
        state = step(BOARD, state, length, 1.0)
    once = step(BOARD, board_model.start(BOARD), sum(lengths), 1.0)
    assert state.temp_c == pytest.approx(once.temp_c, abs=1e-9)


@given(st.floats(-20, 60), st.floats(0, 8), st.floats(0.001, 1000))
def test_it_never_leaves_the_range_between_where_it_is_and_where_it_settles(temp_c, busy, elapsed_s):
    settled = board_model.compute_settled_c(BOARD, board_model.compute_power_w(BOARD, busy))
    after = step(BOARD, State(temp_c, 2.0, 0.0), elapsed_s, busy).temp_c
    low, high = sorted((temp_c, settled))
    assert low - 1e-9 <= after <= high + 1e-9


def test_it_throttles_at_the_trip_point_and_lets_go_below_it():
    hot = step(BOARD, State(69.9, 6.0, 4.0), 1.0, 4.0)
    assert hot.throttled
    assert hot.throttled_bits == 0xC000C  # throttled, soft temperature limit; both also since boot
    warm = step(BOARD, dataclasses.replace(hot, temp_c=66.0), 0.001, 0.0)
    assert warm.throttled  # not yet 5 K below
    cool = step(BOARD, dataclasses.replace(hot, temp_c=64.0), 0.001, 0.0)
    assert not cool.throttled
    assert cool.throttled_bits == 0xC0000  # it has been
