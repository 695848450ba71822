"""Health of captures: each flaw is counted, and a sound capture has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.instruments.health import RANGES, compute_health, describe_problems, stale_after_s
from harness.model import Capture, Channel, ChannelKind, Fidelity, Health

POWER = Channel("vin", "VIN", ChannelKind.POWER_W, boundary="rail")
SECOND_NS = 10**9


def samples(n: int = 100, rate_hz: float = 10.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a sound capture: n samples of some 4 W."""
    t_ns = np.arange(n, dtype=np.int64) * int(SECOND_NS / rate_hz)
    return t_ns, 4 + 0.01 * np.sin(np.arange(n))


def test_a_sound_capture_is_ok() -> None:
    t_ns, values = samples()
    health = compute_health(POWER, t_ns, values, rate_hz=10)
    assert health == Health(expected=100, got=100)
    assert health.ok
    assert describe_problems(Capture(POWER, t_ns, values, health)) == ()


def test_missing_samples_are_a_gap_and_a_count() -> None:
    t_ns, values = samples()
    keep = np.r_[0:40, 45:100]
    health = compute_health(POWER, t_ns[keep], values[keep], rate_hz=10)
    assert (health.expected, health.got, health.gaps) == (100, 95, 1)
    assert not health.ok


def test_a_meter_that_stopped_half_way_has_a_gap_at_the_end() -> None:
    t_ns, values = samples()
    health = compute_health(POWER, t_ns[:50], values[:50], rate_hz=10, window_ns=(0, 10 * SECOND_NS))
    assert (health.expected, health.got, health.gaps) == (100, 50, 1)
    capture = Capture(POWER, t_ns[:50], values[:50], health)
    assert describe_problems(capture) == ("vin: 50 of 100 readings", "vin: 1 gaps")


def test_failed_readings_are_gaps_never_numbers() -> None:
    t_ns, values = samples()
    values[10:13] = math.nan
    health = compute_health(POWER, t_ns, values, rate_hz=10, errors=["no answer (3 times)"])
    assert (health.expected, health.got, health.gaps) == (100, 97, 1)
    assert health.errors == ("no answer (3 times)",)


def test_nothing_at_all_is_not_ok() -> None:
    nothing = np.array([], np.int64), np.array([], np.float64)
    health = compute_health(POWER, *nothing, rate_hz=10, window_ns=(0, SECOND_NS))
    assert (health.expected, health.got, health.ok) == (10, 0, False)
    assert not compute_health(POWER, *nothing, rate_hz=None).ok
    assert describe_problems(Capture(POWER, *nothing, health))[0] == "vin: no reading at all"


def test_a_value_that_stands_still_is_stale_after_its_limit() -> None:
    t_ns, values = samples(600)
    values[100:500] = 4.2  # 40 s at 10 Hz; of them 10 s beyond the limit of 30 s
    assert compute_health(POWER, t_ns, values, rate_hz=10).stale == 99
    assert compute_health(POWER, t_ns, values, rate_hz=10, stale_s=0).stale == 0
    assert compute_health(POWER, t_ns, values, rate_hz=10, stale_s=39.0).stale == 9


def test_a_board_model_may_stand_still() -> None:
    model = Channel("vin", "VIN", ChannelKind.POWER_W, fidelity=Fidelity.ESTIMATED)
    assert stale_after_s(model) is None
    assert stale_after_s(Channel("t", "soc", ChannelKind.TEMP_C)) is None
    assert stale_after_s(POWER) == 30.0


@pytest.mark.parametrize("kind", list(ChannelKind))
def test_impossible_values_are_counted(kind: ChannelKind) -> None:
    low, high = RANGES[kind]
    outside = [low - 1.0] if math.isinf(high) else [low - 1.0, high * 1.01 + 1]
    values = np.array([*outside, (low if math.isinf(high) else high) / 1.0])
    t_ns = np.arange(values.size, dtype=np.int64)
    health = compute_health(Channel("c", "s", kind), t_ns, values, rate_hz=None)
    assert health.out_of_range == len(outside)


def test_a_clock_or_a_counter_that_goes_back_is_a_rollback() -> None:
    t_ns, values = samples()
    t_ns[50:] -= SECOND_NS
    assert compute_health(POWER, t_ns, values, rate_hz=10).rollbacks == 1
    counter = Channel("e", "package-0", ChannelKind.ENERGY_J)
    t_ns, _ = samples(4)
    health = compute_health(counter, t_ns, np.array([1.0, 2.0, 0.5, math.nan]), rate_hz=10)
    assert health.rollbacks == 1


@given(st.sets(st.integers(1, 98), max_size=60))
def test_every_lost_sample_is_missed(lost: set[int]) -> None:
    t_ns, values = samples()
    keep = np.array([i not in lost for i in range(100)])
    health = compute_health(POWER, t_ns[keep], values[keep], rate_hz=10)
    assert health.expected is not None
    assert health.expected - health.got == len(lost)
    assert health.ok == (not lost)
    runs = sum(1 for i in lost if i - 1 not in lost)
    assert health.gaps == runs
