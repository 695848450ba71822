"""Energy of hand-made windows: what an inference takes, how far off that is, and what makes it count."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.alignment import ClockMap, Offset
from harness.instruments.health import compute_health
from harness.measure.energy_numbers import summarise
from harness.measure.joules import Seen, Taken, Window, joules_of
from harness.measure.sampling import Gauges, Pick
from harness.model import Capture, Channel, ChannelKind, EnergySettings, Fidelity
from harness.remote.sampler import SamplerReport

S = 1_000_000_000
METER = SimpleNamespace(name="meter", channels=lambda: ())
REPORT = SamplerReport(100.0, 100.0, 10_000, 3000, 0, 1_000_000, 30 * S)


def channel(**changes: Any) -> Channel:
    return replace(Channel("power", "VIN", ChannelKind.POWER_W, boundary="wall"), **changes)


def seen(
    watts: Any = None,
    *,
    t_ns: Any = None,
    ch: Channel | None = None,
    off_ns: float = 0.0,
    beside: dict[str, Capture] | None = None,
    settings: EnergySettings | None = None,
) -> Seen:
    """Return a run of 2 W idle, 5 W in two windows of 10 s, 2 W idle again, at 100 Hz."""
    t = np.arange(0, 4200) * S // 100 if t_ns is None else t_ns
    loaded = ((t >= 11 * S) & (t <= 21 * S)) | ((t >= 21 * S) & (t <= 31 * S))
    values = np.where(loaded, 5.0, 2.0) if watts is None else watts
    ch = ch or channel()
    pick = Pick(METER, ch, "meter/power")
    gauges = Gauges(
        client=None, where="here", picks=(pick,), virtual=False, own=SimpleNamespace(report=REPORT)
    )
    gauges.maps["meter"] = ClockMap(Offset(0, 0.0, off_ns), Offset(42 * S, 0.0, off_ns))
    capture = Capture(ch, t, values, compute_health(ch, t, values, rate_hz=100.0, stale_s=0))
    taken = Taken(
        [Window(11 * S, 21 * S, calls=1000), Window(21 * S, 31 * S, calls=1000)],
        [],
        [Window(S // 2, 10 * S + S // 2), Window(31 * S + S // 2, 41 * S)],
    )
    kept = settings or EnergySettings(batch_sizes=(1,))
    captures = {"meter/power": capture, **(beside or {})}
    return Seen(gauges, (pick,), captures, taken, kept, Fidelity.MEASURED, 1.0)


def numbers(run: Seen) -> dict[str, Any]:
    found = summarise(run, {})
    assert found.invalid == ""
    return {m.metric: m for m in found.measurements}


def test_joules_per_inference_by_hand():
    found = numbers(seen())
    # 5 W × 10 s / 1000, of which 2 W were idle
    assert found["energy_per_inference_j"].value == pytest.approx(0.05, rel=1e-3)
    assert found["net_energy_per_inference_j"].value == pytest.approx(0.03, rel=1e-3)
    assert found["idle_power_w"].value == pytest.approx(2.0)
    assert found["load_power_w"].value == pytest.approx(5.0, rel=1e-3)
    assert any("boundary: wall; meter/power, 100 Hz" in r for r in found["idle_power_w"].reasons)
    assert any("states no uncertainty" in r for r in found["energy_per_inference_j"].reasons)


def test_a_batch_of_eight_is_eight_inferences():
    run = seen(settings=EnergySettings(batch_sizes=(8,)))
    run.taken.windows[:] = [replace(w, batch_size=8) for w in run.taken.windows]
    assert numbers(run)["energy_per_inference_j"].value == pytest.approx(0.05 / 8, rel=1e-3)


def test_a_counter_of_energy_serves_too():
    t = np.arange(0, 4200) * S // 100
    watts = np.where((t >= 11 * S) & (t <= 31 * S), 5.0, 2.0)
    joules = np.concatenate(([0.0], np.cumsum((watts[1:] + watts[:-1]) / 2 / 100)))
    run = seen(joules, t_ns=t, ch=channel(kind=ChannelKind.ENERGY_J))
    assert numbers(run)["energy_per_inference_j"].value == pytest.approx(0.05, rel=1e-3)


def test_the_meters_uncertainty_widens_the_interval():
    plain = numbers(seen())["energy_per_inference_j"]
    wide = numbers(seen(ch=channel(uncertainty_ratio=0.01, uncertainty_abs=0.05)))["energy_per_inference_j"]
    # 1% of 0.05 J, and 0.05 W × 10 s / 1000
    extra = 0.0005 + 0.0005
    assert wide.high - plain.high == pytest.approx(extra, rel=1e-3)
    assert plain.low - wide.low == pytest.approx(extra, rel=1e-3)
    assert any("meter ±2.00%" in r for r in wide.reasons)


def test_the_clocks_uncertainty_widens_the_interval():
    plain = numbers(seen())["energy_per_inference_j"]
    wide = numbers(seen(off_ns=0.02 * S))["energy_per_inference_j"]
    # both ends may be 20 ms off, at 5 W: 0.2 J of 50
    assert wide.high - plain.high == pytest.approx(0.2 / 1000, rel=0.02)


def test_clocks_too_far_apart_make_the_run_invalid():
    found = summarise(seen(off_ns=0.06 * S), {})
    assert found.invalid.startswith("meter and device are aligned within ±0.06 s, at most ±0.05 s allowed")
    assert not found.measurements
    assert next(c for c in found.conditions if c.name == "one clock").ok is False


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda t, v: (t[:1500], v[:1500]), "its samples cover 39.9% of a window of 10 s"),  # stops half-way
        (lambda t, v: (t, np.where((t > 12 * S) & (t < 14 * S), np.nan, v)), "cover 80.0%"),  # a hole
        (lambda t, v: (t, np.full(v.size, np.nan)), "no reading at all"),
        (lambda t, v: (t, np.where(t == 12 * S, 9999.0, v)), "1 readings that can't be"),  # a spike
        (lambda t, v: (t, np.zeros(v.size)), "power adds up to 0 J"),
        (lambda t, v: (np.where(np.arange(t.size) == 1200, 0, t), v), "steps backwards"),
    ],
)
def test_samples_that_dont_hold_make_the_run_invalid(broken, message):
    whole = seen().captures["meter/power"]
    t, v = broken(whole.t_ns, whole.values)
    for off_ns in (0.0, 0.01 * S):
        found = summarise(seen(v, t_ns=t, off_ns=off_ns), {})
        assert message in found.invalid
        assert not found.measurements


def test_throttling_in_a_window_makes_the_run_invalid():
    bits = Channel("bits", "soc", ChannelKind.THROTTLE_BITS)
    t = np.arange(0, 42) * S

    def run(values: np.ndarray) -> str:
        capture = Capture(bits, t, values, compute_health(bits, t, values, rate_hz=1.0, stale_s=0))
        return summarise(seen(beside={"device/bits": capture}), {}).invalid

    assert run(np.where(t > 25 * S, 4.0, 0.0)).startswith("throttled during its windows: 6 readings")
    assert run(np.where(t < 10 * S, 4.0, 0.0)) == ""  # before any load
    assert run(np.full(t.size, float(0x50000))) == ""  # long ago, since boot


def test_an_edge_in_the_wrong_place_shows_a_wrong_clock():
    def edge(run: Seen) -> bool | None:
        return next(c.ok for c in run.conditions() if c.name == "load edge")

    assert edge(seen()) is True
    late = seen()
    capture = late.captures["meter/power"]
    late.captures["meter/power"] = replace(capture, t_ns=capture.t_ns + S)
    assert edge(late) is False
    noise = np.random.default_rng(1).normal(3.0, 0.05, 4200)
    assert edge(seen(noise)) is None  # no step stands out


def test_a_meter_that_never_moves_is_no_meter():
    stuck = seen(np.full(4200, 4.2))
    (line,) = (c for c in stuck.conditions() if c.name == "load edge")
    assert line.ok is False
    assert line.observed.endswith("readings, all exactly 4.2 W")


def test_estimates_stay_estimates():
    run = seen(ch=channel(fidelity=Fidelity.ESTIMATED, boundary="board model", clock="device"))
    found = numbers(run)["energy_per_inference_j"]
    assert found.fidelity is Fidelity.ESTIMATED
    assert any("how far the model is off" in r for r in found.reasons)


def test_every_window_has_its_joules():
    found = joules_of(seen())
    assert [round(j.energy_j) for j in found.loads] == [50, 50]
    assert [j.window.duration_s for j in found.idles] == [10.0, 9.5]


@pytest.mark.parametrize("factor", [60.0, 0.0])
def test_a_reading_that_decides_of_a_windows_energy_is_not_believed(factor):
    """Readings at 100 Hz: one of a thousand weighs 0.1%, and 60 times its like makes 6%."""
    whole = seen().captures["meter/power"]
    spiked = np.where(whole.t_ns == 15 * S, 5.0 * factor, whole.values)
    found = summarise(seen(spiked), {})
    if factor:
        assert "meter/power: one reading of 300 W among 5 W makes +5.6% of a window's energy" in found.invalid
        assert not found.measurements
    else:
        assert found.invalid == ""


def test_a_slow_meters_spike_weighs_more():
    t = np.arange(0, 42) * S
    loaded = (t >= 11 * S) & (t <= 31 * S)
    watts = np.where(loaded, 5.0, 2.0)
    slow = EnergySettings(batch_sizes=(1,), rate_hz=1.0)
    assert summarise(seen(watts, t_ns=t, settings=slow), {}).invalid == ""
    # 1.8 times one of ten
    found = summarise(seen(np.where(t == 15 * S, 9.0, watts), t_ns=t, settings=slow), {})
    assert "one reading of 9 W among 5 W makes +7.4%" in found.invalid


def test_power_that_stays_up_after_the_load_shows_a_meter_that_hangs():
    whole = seen().captures["meter/power"]

    def idle(watts: np.ndarray) -> tuple[bool | None, str]:
        found = next(c for c in summarise(seen(watts), {}).conditions if c.name == "idle power")
        return found.ok, found.observed

    assert idle(whole.values) == (True, "2 W before, 2 W after")
    assert idle(np.where(whole.t_ns > 15 * S, 5.0, whole.values)) == (False, "2 W before, 5 W after")
    # where no load shows, nothing says how much idle may move
    noise = np.random.default_rng(1).normal(3.0, 0.05, 4200)
    assert idle(noise)[0] is None


def test_short_windows_say_so():
    assert seen().kept()["labels"] == []
    short = seen(settings=EnergySettings(window_s=0.4, batch_sizes=(1,)))
    assert short.kept()["labels"] == ["windows of 0.4 s, shorter than 10 s"]


def test_the_rate_that_is_told_is_the_rate_that_was():
    slow = np.arange(0, 420) * S // 10  # a channel beside it gives no more
    values = np.where((slow >= 11 * S) & (slow <= 31 * S), 5.0, 2.0)
    found = numbers(seen(values, t_ns=slow))
    assert any("meter/power, 10 Hz" in r for r in found["idle_power_w"].reasons)


def test_many_windows_that_fail_for_one_reason_are_one_sentence():
    whole = seen().captures["meter/power"]
    run = seen(whole.values[:1500], t_ns=whole.t_ns[:1500])
    capture = run.captures["meter/power"]
    told = replace(capture, health=replace(capture.health, errors=("no answer (5 times)",)))
    run.captures["meter/power"] = told
    assert summarise(run, {}).invalid == (
        "meter/power: its samples cover 39.9% of a window of 10 s, 400 inside, and 2 more windows don't "
        "count (no answer (5 times))"
    )
