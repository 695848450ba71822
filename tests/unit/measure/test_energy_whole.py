"""Whole energy runs on a scripted board: its meter draws what the calls say, on a clock of its own or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.instruments.health import compute_health
from harness.measure import energy
from harness.measure.energy import measure_energy, measure_energy_against
from harness.measure.sampling import Gauges, Pick
from harness.model import Capture, Channel, ChannelKind, DeviceType, EnergySettings, Fidelity
from harness.progress import Progress
from harness.remote import MeasuredBlock

S = 1_000_000_000
IDLE_W, RATE_HZ = 2.0, 1000.0


class World:
    """A device clock that calls and waits move on, and a meter that saw all of it."""

    def __init__(
        self, *, clock: str = "device", offset_ns: int = 0, seen: bool = True, rate_hz: float = RATE_HZ
    ) -> None:
        self.now_ns = 100 * S
        self.loads: list[tuple[int, int, float]] = []
        self.offset_ns, self.seen, self.rate_hz = offset_ns, seen, rate_hz
        self.channel = Channel(
            "power", "VIN", ChannelKind.POWER_W, boundary="wall", clock=clock, rate_hz=rate_hz
        )
        self.name = "meter"

    def wait(self, duration_s: float) -> tuple[int, int]:
        begin = self.now_ns
        self.now_ns += round(duration_s * S)
        return begin, self.now_ns

    def calls(self, watts: float, call_ns: int, min_duration_ns: int) -> MeasuredBlock:
        begin = self.now_ns + 3_000_000  # arrays are made before the first call
        count = max(2, -(-min_duration_ns // call_ns))
        start = begin + np.arange(count, dtype=np.int64) * call_ns
        self.now_ns = begin + count * call_ns + 1_000_000
        self.loads.append((begin, begin + count * call_ns, watts))
        latency = np.full(count, call_ns, dtype=np.int64)
        return MeasuredBlock(latency, start, 4, True, 2, "iterations", "CLOCK_MONOTONIC")

    # an instrument

    def channels(self) -> tuple[Channel, ...]:
        return (self.channel,)

    def start(self, channel_ids: list[str], rate_hz: float) -> None:
        self.began_ns = self.now_ns

    def stop(self) -> tuple[Capture, ...]:
        t = np.arange(self.began_ns, self.now_ns, round(S / self.rate_hz), dtype=np.int64)
        v = np.full(t.size, IDLE_W)
        for begin, end, watts in self.loads if self.seen else ():
            v[(t >= begin) & (t < end)] = watts
        health = compute_health(self.channel, t, v, rate_hz=self.rate_hz, stale_s=0)
        return (Capture(self.channel, t + self.offset_ns, v, health),)


class Bench:
    """What energy.py asks of a bench."""

    time_fidelity = Fidelity.MEASURED

    def __init__(self, world: World, watts: float, call_ns: int = 10_000_000) -> None:
        settings = EnergySettings(window_s=10.0, trials=3, batch_sizes=(1, 8))
        device = SimpleNamespace(
            name="here", kind="local", type=DeviceType("t", energy=settings), timeout_s=1.0
        )
        quiet = SimpleNamespace(quiet=contextlib.nullcontext)
        self.board = SimpleNamespace(device=device, connection=quiet)
        self.case = SimpleNamespace(
            name="m", artifact=SimpleNamespace(sha256="0" * 64), runtime="onnxruntime"
        )
        self.env = SimpleNamespace(packages=())
        self.progress = Progress(None)
        self.world, self.watts, self.call_ns = world, watts, call_ns

    @contextlib.contextmanager
    def child(self, name: str, *, batch_size: int = 1) -> Iterator[tuple[Any, int]]:
        def measure(*, iterations: int, warmup_max: int, min_duration_ns: int = 0, **_: Any) -> MeasuredBlock:
            return self.world.calls(self.watts, self.call_ns * batch_size, min_duration_ns)

        yield SimpleNamespace(first=lambda: 0, measure=measure), 0


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch):
    """Put a world behind `open_gauges`."""

    def put(world: World) -> World:
        @contextlib.contextmanager
        def gauges(bench: Any) -> Iterator[Gauges]:
            picks = (Pick(world, world.channel, "meter/power"),)
            found = Gauges(client=None, where="here", picks=picks, virtual=False, own=None)
            found.wait = world.wait
            yield found

        monkeypatch.setattr(energy, "open_gauges", gauges)
        return world

    return put


def test_a_scripted_square_wave_within_a_hundredth(on):
    found = measure_energy(Bench(on(World()), 5.0))
    assert found.invalid == ""
    by = {(m.metric, m.batch_size): m for m in found.measurements}
    # 5 W for 10 ms a sample at any batch, of which 3 W above idle
    for batch in (1, 8):
        assert by["energy_per_inference_j", batch].value == pytest.approx(0.05, rel=0.01)
        assert by["net_energy_per_inference_j", batch].value == pytest.approx(0.03, rel=0.01)
    assert by["idle_power_w", 1].value == IDLE_W
    assert by["latency_p50_ns", 1].value == 10_000_000
    assert {c.name: c.ok for c in found.conditions}["load edge"] is True


@pytest.mark.parametrize("late_s", [0.0, 0.3, 0.6, 0.9])
def test_a_plug_of_one_reading_a_second_covers_idle_at_the_end(on, late_s):
    world = on(World(rate_hz=1.0))
    begin = world.start

    def start(channel_ids: list[str], rate_hz: float) -> None:
        begin(channel_ids, rate_hz)
        world.began_ns -= round(late_s * S)  # its readings come when they come

    world.start = start
    assert measure_energy(Bench(world, 5.0)).invalid == ""


@pytest.mark.parametrize("offset_ns", [2 * S, -2 * S, 1_700_000_000 * S])
def test_a_meter_on_its_own_clock_is_aligned_by_load(on, offset_ns):
    found = measure_energy(Bench(on(World(clock="meter", offset_ns=offset_ns)), 5.0))
    assert found.invalid == ""
    by = {(m.metric, m.batch_size): m for m in found.measurements}
    assert by["energy_per_inference_j", 1].value == pytest.approx(0.05, rel=0.01)
    assert 0 < found.settings["clock_uncertainty_ns"] < 0.005 * S


def test_a_meter_that_saw_no_load_has_no_clock(on):
    found = measure_energy(Bench(on(World(clock="meter", seen=False)), 5.0))
    assert found.invalid.startswith("meter/power: its clock can't be tied to the device's")
    assert "cover 0.0%" not in found.invalid  # which follows from that
    assert not found.measurements


def test_two_models_by_turns(on):
    world = on(World())
    ours, theirs = Bench(world, 6.0), Bench(world, 5.0)
    found = measure_energy_against(ours, theirs, "release", seed=1)
    (only,) = found.comparisons
    assert only.metric == "energy_per_inference_j"
    assert only.value == pytest.approx(1.2, rel=0.01)
    assert only.low <= only.value <= only.high
    assert (only.candidate, only.baseline) == pytest.approx((0.06, 0.05), rel=0.01)
    assert sorted(found.settings["order"]) == ["A"] * 4 + ["B"] * 4


def test_a_meters_clock_that_went_back_is_told_and_breaks_nothing(on):
    class Jumping(World):
        def stop(self) -> tuple[Capture, ...]:
            (whole,) = super().stop()
            t = whole.t_ns.copy()
            t[t.size // 2 :] -= 3 * S
            health = compute_health(self.channel, t, whole.values, rate_hz=RATE_HZ, stale_s=0)
            return (Capture(self.channel, t, whole.values, health),)

    for clock in ("meter", "device"):
        found = measure_energy(Bench(on(Jumping(clock=clock)), 5.0))
        assert "power: 1 steps backwards" in found.invalid
        assert not found.measurements
