"""A thermal run's sensors: holes, spikes, readings that stand still, and clocks that go back."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from harness.errors import DataError
from harness.instruments.health import compute_health
from harness.measure.sampling import Gauges, Pick
from harness.measure.thermal_health import falls_again, longest_hole_s, problems_of, temp_condition
from harness.measure.thermal_numbers import Point
from harness.measure.thermal_watch import Looker, Watched
from harness.model import Capture, Channel, ChannelKind, Reading, ThermalSettings

S = 1_000_000_000
NAN = math.nan


def pick(id_: str, kind: ChannelKind) -> Pick:
    return Pick(SimpleNamespace(name="device"), Channel(id_, "soc", kind, clock="device"), f"device/{id_}")


TEMP, BITS = pick("temp", ChannelKind.TEMP_C), pick("bits", ChannelKind.THROTTLE_BITS)
WATCHED = Watched(TEMP, (), BITS, None)
LOAD = [Point(n * 5 * S, (n + 1) * 5 * S, 500, 50.0 + n) for n in range(20)]  # 100 s


def capture(of: Pick, t_s: list[float], values: list[float], errors: tuple[str, ...] = ()) -> Capture:
    t, v = (np.array(t_s) * S).astype(np.int64), np.array(values, dtype=float)
    health = compute_health(of.channel, t, v, rate_hz=1.0, errors=errors)
    return Capture(of.channel, t, v, health)


def problems(temps: list[float], bits: list[float] | None = None) -> tuple[str, ...]:
    t_s = [float(n) for n in range(len(temps))]
    held = bits or [0.0] * len(temps)
    traces = {TEMP.name: capture(TEMP, t_s, temps, ("I/O error",)), BITS.name: capture(BITS, t_s, held)}
    return problems_of(WATCHED, traces, LOAD)


def warming(n: int = 101) -> list[float]:
    return [50.0 + 0.2 * i for i in range(n)]


def test_whole_traces_have_no_problem():
    assert problems(warming()) == ()


def test_a_hole_of_a_tenth_of_the_load_is_one():
    temps = warming()
    temps[40:49] = [NAN] * 9
    assert problems(temps) == ()  # ten seconds without one
    temps[40:52] = [NAN] * 12
    assert problems(temps) == ("device/temp: no reading for 13 of 100 s of load (I/O error)",)


def test_throttle_bits_that_end_half_way_hide_throttling():
    assert problems(warming(), [0.0] * 50 + [NAN] * 51) == (
        "device/bits: no reading for 51 of 100 s of load",
    )
    assert "bits: no reading at all" in problems(warming(), [NAN] * 101)


@pytest.mark.parametrize("length", [1, 4])
def test_a_leap_that_comes_back_is_no_temperature(length):
    temps = warming()
    temps[50 : 50 + length] = [120.0] * length
    assert f"temp: {length} readings that can't be" in problems(temps)[0]


def test_a_step_that_stays_is_one():
    assert problems([45.0] * 50 + [75.0] * 51) == ()


def test_readings_before_and_after_the_load_hold_for_its_ends():
    trace = capture(TEMP, [-1, 30, 60, 90, 101], [50.0] * 5)
    assert longest_hole_s(trace, 0, 100 * S) is None
    assert longest_hole_s(capture(TEMP, [-200, -190], [50.0] * 2), 0, 100 * S) is not None


def test_a_sensor_that_stands_still_is_not_believed():
    flat = [Point(p.begin_ns, p.end_ns, 500, 45.0) for p in LOAD]
    found = temp_condition(WATCHED, capture(TEMP, [0, 50, 100], [45.0] * 3), 45.0, flat, None)
    assert found.ok is False
    assert "3 readings, all 45 °C" in found.observed
    moved = temp_condition(WATCHED, capture(TEMP, [0, 50, 100], [45.0, 60.0, 69.0]), 45.0, LOAD, True)
    assert (moved.ok, moved.observed) == (True, "45.0 to 69.0 °C, falls after the load")
    hung = temp_condition(WATCHED, capture(TEMP, [0, 50, 100], [45.0, 69.0, 69.0]), 45.0, LOAD, False)
    assert hung.ok is False
    assert "stands still after the load" in hung.observed


def fall(readings: list[float], start_c: float = 45.0) -> bool | None:
    """Return what is seen of `readings`, one every ten seconds after the load; the last one stays."""
    now, left = [0], list(readings)

    def wait() -> None:
        now[0] += 10 * S

    return falls_again(
        lambda: left.pop(0) if len(left) > 1 else left[0], wait, lambda: now[0], start_c, LOAD, 60.0
    )


def test_it_falls_when_the_load_ends_or_it_hangs():
    # the last blocks end at 65 to 69 °C: 22 °C above the start
    assert fall([69.0, 68.0, 64.0]) is True
    assert fall([NAN, 64.0]) is True
    assert fall([67.0]) is False
    assert fall([NAN]) is False
    assert fall([67.0], start_c=65.0) is None  # it hardly rose


def test_one_silent_channel_hides_no_other():
    def read(channel_id: str) -> Reading:
        if channel_id == "bits":
            raise DataError("`bits` can't be read: Input/output error.", where="pi")
        return Reading(0, 51.5)

    own = SimpleNamespace(name="meter", read=read)
    picks = [Pick(own, p.channel, p.name) for p in (TEMP, BITS)]
    looker = Looker(
        Gauges(client=None, where="pi", picks=tuple(picks), virtual=False, own=None),
        Watched(picks[0], (), picks[1], None),
    )
    seen = looker.look()
    assert seen.temp_c == 51.5
    assert math.isnan(seen.bits)
    assert "Input/output error" in looker.last_error
    assert looker.ambient_c(ThermalSettings()) is None
