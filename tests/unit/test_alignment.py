"""One clock: planted offsets and drifts come back, integrals hold, edges are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.alignment import (
    SAME_CLOCK,
    ClockMap,
    Offset,
    RoundTrip,
    counted,
    estimate_offset,
    find_pulses,
    find_rise,
    integrate,
    shift_error,
)

S = 1_000_000_000


def trips(offset_ns: int, at_ns: int, *, out_ns: int = 400_000, back_ns: int = 100_000) -> list[RoundTrip]:
    """Return round trips of growing length whose ways out and back are as unlike as given."""
    return [
        RoundTrip(at, at + n * out_ns + offset_ns, at + n * (out_ns + back_ns))
        for n in range(1, 9)
        for at in [at_ns + n * S // 100]
    ]


def test_the_shortest_trip_gives_the_offset_and_its_bound():
    # by hand: sent at 1000, answered at 5300, received at 1400: the middle is 1200, so 4100 ± 200
    found = estimate_offset([RoundTrip(1000, 5300, 1400), RoundTrip(0, 9000, 9000)])
    assert found == Offset(1200, 4100.0, 200.0)


@pytest.mark.parametrize("bad", [[], [RoundTrip(10, 0, 5)]])
def test_no_trips_and_trips_into_the_past_are_refused(bad):
    with pytest.raises(ValueError, match="trip"):
        estimate_offset(bad)


@given(
    offset_ns=st.integers(-2 * S, 2 * S),
    drift=st.floats(-2e-4, 2e-4),
    start_ns=st.integers(0, 10**17),
)
def test_planted_offset_and_drift_are_within_the_stated_uncertainty(offset_ns, drift, start_ns):
    def remote_offset(at_ns: int) -> int:
        return offset_ns + round((at_ns - start_ns) * drift)

    end_ns = start_ns + 60 * S
    ends = [estimate_offset(trips(remote_offset(at), at)) for at in (start_ns, end_ns)]
    clock = ClockMap(*ends)
    local = np.array([start_ns + k * S for k in (0, 7, 30, 60)], dtype=np.int64)
    true_remote = np.array([t + remote_offset(int(t)) for t in local], dtype=np.int64)
    # a drift moves the clock within one burst of trips too: 80 ms of it
    slack = clock.uncertainty_ns + abs(drift) * 0.1 * S + 2
    assert np.abs(clock.to_remote(local) - true_remote).max() <= slack
    assert np.abs(clock.to_local(true_remote) - local).max() <= slack


def test_one_clock_for_both_changes_nothing():
    t = np.array([5, 10**18], dtype=np.int64)
    assert (SAME_CLOCK.to_local(t) == t).all()
    assert SAME_CLOCK.uncertainty_ns == 0


def square(rate_hz: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of a wave of 2 W and 6 W with a period of 1 s."""
    t = (np.arange(round(seconds * rate_hz)) * S / rate_hz).astype(np.int64)
    return t, np.where((t % S) < S // 2, 2.0, 6.0)


def test_energy_of_a_square_wave_is_its_integral_within_a_hundredth():
    t, v = square(100, 20)
    found = integrate(t, v, S, 11 * S)
    assert found.value == pytest.approx(40.0, rel=0.01)
    assert (found.covered_ratio, found.n) == (1.0, 1001)


def test_ends_between_samples_are_interpolated():
    t, v = np.array([0, 10 * S], dtype=np.int64), np.array([0.0, 10.0])
    # the line y = t from 2 to 4: 6
    assert integrate(t, v, 2 * S, 4 * S).value == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("t", "v", "covered"),
    [
        ([0, 1, 2, 3], [1, 1, 1, 1], 0.3),  # stops half-way
        ([2, 4, 6, 8, 10], [1, 1, 1, 1, 1], 0.8),  # begins late
        ([0, 1, 2, 3, 9, 10], [1] * 6, 0.4),  # a hole
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1, 1, np.nan, np.nan, np.nan, np.nan, np.nan, 1, 1, 1, 1], 0.4),
        ([5], [1], 0.0),
    ],
)
def test_what_samples_dont_cover_has_no_value(t, v, covered):
    found = integrate(np.array(t) * S, np.array(v, dtype=float), 0, 10 * S, max_gap_ns=3 * S)
    assert found.value is None
    assert found.covered_ratio == pytest.approx(covered)


def test_times_that_go_back_are_refused():
    with pytest.raises(ValueError, match="backwards"):
        integrate(np.array([0, 2, 1]), np.ones(3), 0, 2)


def test_counters_are_taken_at_the_windows_ends():
    t, joules = np.arange(11) * S, np.arange(11) * 3.0
    assert counted(t, joules, 2 * S, 4 * S + S // 2).value == pytest.approx(7.5)
    assert counted(t, joules[::-1], 2 * S, 4 * S).value is None
    assert counted(t, joules, 2 * S, 14 * S).value is None


def test_what_a_shifted_window_may_cost():
    t, v = np.arange(101) * S // 10, np.full(101, 4.0)
    # 4 W at both ends, each of which may be off by 0.1 s
    assert shift_error(t, v, 2 * S, 8 * S, 0.1 * S) == pytest.approx(0.8)
    assert shift_error(t, v, 2 * S, 8 * S, 0) == 0
    assert shift_error(t, v, 200 * S, 208 * S, 0.1 * S) is None


def test_a_rise_is_found_where_it_is():
    rng = np.random.default_rng(1)
    t = np.arange(200) * S // 10
    v = np.where(t < 7 * S, 2.0, 3.5) + rng.normal(0, 0.1, t.size)
    edge = find_rise(t, v, 8 * S, 5 * S)
    assert edge is not None
    assert abs(edge.at_ns - 7 * S) <= S // 10
    assert edge.height == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_rise(seed):
    v = np.random.default_rng(seed).normal(2, 0.1, 200)
    assert find_rise(np.arange(200) * S // 10, v, 10 * S, 10 * S) is None


def pulsed(rate_hz: float, offset_ns: int, drift: float, noise: float = 0.05, seed: int = 1):
    """Return a meter's trace on its own clock, and the pulses before and after ten seconds of load."""
    device = (np.arange(round(40 * rate_hz)) * S / rate_hz).astype(np.int64) + 5 * S
    first = [(8 * S + k * S * 4 // 5, 8 * S + k * S * 4 // 5 + S * 2 // 5) for k in range(4)]
    later = [(a + 28 * S, b + 28 * S) for a, b in first]
    watts = np.full(device.size, 2.0)
    for a, b in [*first, *later, (15 * S, 30 * S)]:
        watts[(device >= a) & (device < b)] = 5.0
    watts += np.random.default_rng(seed).normal(0, noise, device.size)
    meter = device + offset_ns + np.rint((device - 5 * S) * drift).astype(np.int64)
    return meter, watts, first, later


@pytest.mark.parametrize(
    ("rate_hz", "offset_ns", "drift"),
    [(1000, 2 * S, 1e-4), (100, -2 * S, -1e-4), (20, 1_700_000_000 * S, 5e-5), (5000, 123, 0.0)],
)
def test_a_clock_that_cant_be_asked_is_found_by_pulses_of_load(rate_hz, offset_ns, drift):
    t, v, first, later = pulsed(rate_hz, offset_ns, drift)
    before, after = find_pulses(t, v, first), find_pulses(t, v, later, last=True)
    assert before is not None
    assert after is not None
    clock = ClockMap(before, after)
    device = np.array([15 * S, 30 * S], dtype=np.int64)
    meter = device + offset_ns + np.rint((device - 5 * S) * drift).astype(np.int64)
    off = np.abs(clock.to_local(meter) - device).max()
    assert off <= clock.uncertainty_ns + 1
    assert clock.uncertainty_ns <= 1.6 * S / rate_hz


def test_pulses_that_dont_show_give_no_clock():
    t, v, first, _ = pulsed(100, 0, 0.0)
    noise = np.random.default_rng(3).normal(2, 0.3, v.size)
    assert find_pulses(t, noise, first) is None
    assert find_pulses(t, np.full(v.size, 2.0), first) is None
    assert find_pulses(t[:5], v[:5], first) is None
    assert find_pulses(t, v, []) is None


@pytest.mark.parametrize("noise_w", [3.0, 6.0])
def test_pulses_below_the_noise_of_a_fast_meter_are_found_by_averaging(noise_w):
    """Pulses of 3 W; a single sample says little, five thousand a second do."""
    offset_ns = 1_700_000_000 * S + 3 * S // 10
    t, v, first, later = pulsed(5000, offset_ns, 0.0)
    v = v + np.random.default_rng(5).normal(0, noise_w, v.size)
    for pulses, last in ((first, False), (later, True)):
        found = find_pulses(t, v, pulses, last=last)
        assert found is not None
        assert abs(found.offset_ns - offset_ns) <= found.uncertainty_ns
        assert found.uncertainty_ns < 0.05 * S
    assert find_pulses(t, np.random.default_rng(6).normal(2, noise_w, v.size), first) is None
