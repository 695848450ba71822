"""Thermal runs by hand: the start band, what steady means, throttled time, and what stays of the burst."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from harness.errors import ConfigError, DeviceError, Unsupported
from harness.instruments.health import compute_health
from harness.measure.sampling import Gauges, Pick
from harness.measure.thermal import reach_band, require_band, with_heat
from harness.measure.thermal_numbers import Point, Throttling, is_steady, summarise, throttled_times
from harness.measure.thermal_watch import Watched, cpu_clocks, watch
from harness.model import Capture, Channel, ChannelKind, Condition, Fidelity, ThermalSettings

S = 1_000_000_000
SETTINGS = ThermalSettings(
    start_temp_c=(40.0, 50.0), cool_cap_s=100.0, steady_s=60.0, block_s=5.0, burst_s=10.0, load_cap_s=600.0
)
DEVICE = SimpleNamespace(name="device")


def pick(id_: str, kind: ChannelKind, site: str = "soc", clock: str = "device") -> Pick:
    return Pick(DEVICE, Channel(id_, site, kind, clock=clock), f"device/{id_}")


TEMP, FREQ = pick("temp", ChannelKind.TEMP_C), pick("freq", ChannelKind.FREQ_HZ)
BITS = pick("bits", ChannelKind.THROTTLE_BITS)


def points(temps: list[float], calls: list[int] | None = None, **more: float | bool) -> list[Point]:
    """Return blocks of 5 s, one after the other."""
    each = calls or [500] * len(temps)
    return [
        Point(n * 5 * S, (n + 1) * 5 * S, c, t, **more)
        for n, (t, c) in enumerate(zip(temps, each, strict=True))
    ]


class Board:
    """A board that cools or warms by a degree a step of 10 s."""

    def __init__(self, temp_c: float, floor_c: float = 0.0) -> None:
        self.temp_c, self.floor_c, self.now_ns = temp_c, floor_c, 0
        self.done: list[str] = []

    def wait(self) -> None:
        self.now_ns += 10 * S
        self.temp_c = max(self.floor_c, self.temp_c - 1)
        self.done.append("wait")

    def heat(self) -> None:
        self.now_ns += 10 * S
        self.temp_c += 1
        self.done.append("heat")

    def reach(self) -> str:
        return reach_band(lambda: self.temp_c, self.wait, self.heat, lambda: self.now_ns, SETTINGS)


def test_the_band_is_reached_by_temperature():
    warm, cold, right = Board(53), Board(38), Board(45)
    assert (warm.reach(), cold.reach(), right.reach()) == ("", "", "")
    assert (warm.done, cold.done, right.done) == (["wait"] * 3, ["heat"] * 2, [])


def test_a_board_that_doesnt_cool_ends_invalid():
    said = Board(70, floor_c=60).reach()
    assert "was at 70.0 °C and still is at 60.0 °C after 100 s" in said
    assert "starts between 40 and 50 °C" in said


def test_a_sensor_that_dies_while_cooling_ends_the_run():
    class Dead(Board):
        def wait(self) -> None:
            super().wait()
            self.temp_c = float("nan")

    dead = Dead(70)
    assert dead.reach() == "its temperature gave no reading 5 times in a row before the load"
    assert dead.done == ["wait"] * 5


def test_a_reading_that_is_missed_once_ends_nothing():
    board = Board(53)
    answers = iter([float("nan"), 53.0, float("nan"), 49.0])
    assert reach_band(lambda: next(answers), board.wait, board.heat, lambda: board.now_ns, SETTINGS) == ""


def test_steady_is_a_slope_whose_interval_is_small():
    assert is_steady(points([60.0] * 20), SETTINGS, 1.0)
    assert not is_steady(points([60.0] * 11), SETTINGS, 1.0)  # not for long enough
    assert not is_steady(points([60 + 0.02 * n for n in range(20)]), SETTINGS, 1.0)  # 0.24 °C/min
    noisy = [60 + (-1) ** n * 0.5 for n in range(20)]
    assert not is_steady(points(noisy), SETTINGS, 1.0)  # nobody can tell
    # an emulated board's heat moves faster: the same slope in guest time is slower in the board's
    assert is_steady(points([60 + 0.02 * n for n in range(20)]), SETTINGS, 0.1)
    assert is_steady(points([60 + 0.002 * n for n in range(20)]), SETTINGS, 1.0)


def test_steady_needs_frequency_and_throttling_to_stand_still():
    for change in ({"freq_hz": 1.4e9}, {"throttled": True}):
        mixed = points([60.0] * 15, freq_hz=1.5e9, throttled=False)
        last = points([60.0] * 16, freq_hz=1.5e9, throttled=False)[-1]
        mixed.append(Point(**{**last.__dict__, **change}))
        assert not is_steady(mixed, SETTINGS, 1.0)


def capture(of: Pick, t_s: list[float], values: list[float]) -> dict[str, Capture]:
    t, v = (np.array(t_s) * S).astype(np.int64), np.array(values, dtype=float)
    return {of.name: Capture(of.channel, t, v, compute_health(of.channel, t, v, rate_hz=1.0, stale_s=0))}


def test_throttled_time_goes_from_reading_to_reading():
    watched = Watched(TEMP, (), BITS, None)
    trace = capture(BITS, [-5, 2, 10, 14, 20, 23], [4, 0, 0x50004, 0, 2, 1])
    found = throttled_times(watched, trace, points([60.0] * 5))
    # on from 10 to 14 and from 20 to 23; the last is the supply's
    assert found == Throttling(True, 10.0, 7.0, "device/bits")


def test_without_bits_a_falling_frequency_shows_it():
    watched = Watched(TEMP, (FREQ,), None, None)
    trace = capture(FREQ, [0, 5, 10, 15, 20, 25], [1.5e9, 1.5e9, 1e9, 1e9, 1.5e9, 1.5e9])
    found = throttled_times(watched, trace, points([60.0] * 5, freq_hz=1.5e9))
    assert found == Throttling(True, 10.0, 10.0, "device/freq")
    assert not throttled_times(Watched(TEMP, (), None, None), {}, points([60.0])).observable


def test_the_fastest_of_the_cpus_clocks_counts_and_no_other_engines():
    little, big = (
        pick("cpufreq/policy0/policy0/freq_hz", ChannelKind.FREQ_HZ),
        pick("cpufreq/policy4/policy4/freq_hz", ChannelKind.FREQ_HZ),
    )
    memory = pick("devfreq/dmc/dmc/freq_hz", ChannelKind.FREQ_HZ)
    assert cpu_clocks([little, big, memory]) == (little, big)
    assert cpu_clocks([little, big, memory], [5, 6]) == (big,)
    assert cpu_clocks([memory]) == (memory,)
    t = [0, 5, 10, 15, 20, 25]
    # the little cluster idles and works as it likes; the big one is held back for ten seconds
    traces = {
        **capture(little, t, [1.8e9, 0.4e9, 1.8e9, 0.4e9, 1.8e9, 1.8e9]),
        **capture(big, t, [2.4e9, 2.4e9, 1.6e9, 1.6e9, 2.4e9, 2.4e9]),
    }
    found = throttled_times(
        Watched(TEMP, (little, big), None, None), traces, points([60.0] * 5, freq_hz=2.4e9)
    )
    assert (found.first_s, found.total_s) == (10.0, 10.0)


def test_a_block_without_a_reading_says_nothing_of_steadiness():
    some = points([60.0] * 20)
    some[15] = Point(some[15].begin_ns, some[15].end_ns, 500, float("nan"))
    assert is_steady(some, SETTINGS, 1.0)
    assert not is_steady([*some[:12], *points([float("nan")] * 20)[12:]], SETTINGS, 1.0)


def numbers(throttling: Throttling, scale: float = 1.0):
    mine = points([45.0, 50.0, *[70.0] * 18], [1000, 1000, *[600] * 18])
    temps = capture(TEMP, [0, 50, 99], [44, 71.5, 70])[TEMP.name]
    found = summarise(mine, throttling, [21.0, 22.0], SETTINGS, scale, Fidelity.MEASURED, temps)
    return {m.metric: m for m in found}


def test_what_stays_of_the_burst_by_hand():
    found = numbers(Throttling(True, 10.0, 90.0, "device/bits"))
    assert found["burst_throughput_per_s"].value == 200
    assert found["sustained_throughput_per_s"].value == 120
    assert found["sustained_ratio"].value == pytest.approx(0.6)
    assert (found["time_to_throttle_s"].value, found["throttled_s"].value) == (10, 90)
    assert found["peak_temp_c"].value == 71.5
    assert (found["ambient_temp_c"].low, found["ambient_temp_c"].high) == (21, 22)


def test_no_throttling_is_a_lower_bound_and_no_sensor_is_no_number():
    never = numbers(Throttling(True, None, 0.0, "device/bits"))["time_to_throttle_s"]
    assert (never.value, never.low, never.high) == (100, 100, None)
    assert "at least that long" in never.reasons[0]
    unseen = numbers(Throttling(False, None, 0.0, ""))
    assert unseen["throttled_s"].value is None
    assert "not observable" in unseen["throttled_s"].reasons[0]


def test_an_emulated_boards_times_are_the_boards():
    found = numbers(Throttling(True, 10.0, 90.0, "device/bits"), scale=0.1)
    assert found["time_to_throttle_s"].value == 100
    assert "10 times as fast" in found["time_to_throttle_s"].reasons[-1]


def gauges(*picks: Pick) -> Gauges:
    return Gauges(client=None, where="pi", picks=picks, virtual=False, own=None)


def test_which_temperature_is_watched():
    disk, room = pick("nvme", ChannelKind.TEMP_C, "nvme"), pick("room", ChannelKind.TEMP_C, "Ambient air")
    found = watch(gauges(disk, room, TEMP, FREQ, BITS), SETTINGS)
    assert (found.temp, found.ambient, found.bits, found.freqs) == (TEMP, room, BITS, (FREQ,))
    assert watch(gauges(disk, room), SETTINGS).temp == disk  # the only one
    with pytest.raises(Unsupported, match=r"no channel shows the CPU's temperature; there are: device/freq"):
        watch(gauges(FREQ), SETTINGS)
    named = ThermalSettings(channel="device/freq")
    with pytest.raises(ConfigError, match="`device/freq` shows freq_hz, expected temp_c"):
        watch(gauges(TEMP, FREQ), named)
    rail = pick("VDD_IN", ChannelKind.VOLTAGE_V)
    with pytest.raises(ConfigError, match=r"there are: device/temp \(temp_c\), device/VDD_IN \(voltage_v\)"):
        watch(gauges(TEMP, rail), ThermalSettings(channel="device/tmp"))
    with pytest.raises(ConfigError, match="no channel `device/tmp`; did you mean `device/temp`"):
        watch(gauges(TEMP, FREQ), ThermalSettings(channel="device/tmp"))


def test_a_named_sensor_that_is_silent_says_why():
    quiet = replace(gauges(TEMP), silent={"hwmon/x/p/power_w": "hwmon3/power1_input: Permission denied"})
    with pytest.raises(
        DeviceError, match=r"`device/hwmon/x/p/power_w` is there and doesn't answer: hwmon3.*denied"
    ):
        quiet.power(["device/hwmon/x/p/power_w"])
    with pytest.raises(Unsupported, match=r"no channel shows power; .*; silent: hwmon/x/p/power_w \(hwmon3"):
        quiet.power(())


def test_power_is_picked_or_asked_for():
    rail, other = pick("p1", ChannelKind.POWER_W), pick("p2", ChannelKind.POWER_W)
    wall = Pick(SimpleNamespace(name="plug"), Channel("p", "wall", ChannelKind.POWER_W), "plug/p")
    assert gauges(rail, TEMP).power(()) == (rail,)
    with pytest.raises(Unsupported, match=r"several channels show power: device/p1, device/p2"):
        gauges(rail, other).power(())
    assert gauges(rail, other, wall).power(["device/p1", "device/p2"]) == (rail, other)
    total = Pick(DEVICE, Channel("t", "VDD_IN", ChannelKind.POWER_W, boundary="module"), "device/t")
    assert gauges(rail, total, other).power(()) == (total,)  # it holds the others
    with pytest.raises(Unsupported, match=r"several channels show power"):
        gauges(rail, total, replace(total, name="device/t2")).power(())
    with pytest.raises(ConfigError, match="`device/temp` shows temp_c, expected power_w or energy_j"):
        gauges(rail, TEMP).power(["device/temp"])
    with pytest.raises(Unsupported, match=r"no channel shows power; there are: device/temp \(temp_c\)"):
        gauges(TEMP).power(())


def test_heat_is_no_breach_of_a_run_that_heats():
    hot = Condition("throttling", "0x0 before, 0x4 after", "none", False)
    stepped = Condition("wall clock", "+3 s", "within 0.5 s", False)
    assert [c.ok for c in with_heat([hot, stepped])] == [True, False]


def test_a_trip_point_below_the_start_band_is_refused():
    require_band(SETTINGS, None, "devices.pi")
    require_band(SETTINGS, 80.0, "devices.pi")
    with pytest.raises(ConfigError, match=r"its trip point, 50 °C, is not above the start band's 50 °C"):
        require_band(SETTINGS, 50.0, "devices.pi")
