"""Calibration with scripted duets: when it ends, what it refuses, and what it says."""

from __future__ import annotations

import datetime
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import duets

from harness.errors import Unsupported
from harness.measure import calibrate
from harness.measure.calibrate import MIN_DUETS, Taken, compute_calibration, duets_needed, take_duets
from harness.measure.duet import MEASURED, VIRTUAL
from harness.model import Device, DeviceType, Fidelity
from harness.progress import Progress

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
QUIET = {"boot_id": "b", "monotonic_ns": 0, "realtime_ns": 0, "throttled_bits": 0}
DUET_S = 0.5


class Scene:
    """A bench whose clock goes on by DUET_S a duet; `end_with` is raised after so many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, after: dict[str, Any] | None = None) -> None:
        self.now_s = 0.0
        self.stop_after: int | None = None
        self.closed = 0
        self.drawn = 0
        readings = iter([QUIET, {**QUIET, **(after or {})}])
        board = SimpleNamespace(
            device=Device("desk", DeviceType("host"), "local"), conditions=lambda: next(readings)
        )
        self.bench: Any = SimpleNamespace(
            board=board,
            case=SimpleNamespace(
                name="door",
                artifact=SimpleNamespace(sha256="ab" * 32),
                runtime=SimpleNamespace(name="onnxruntime"),
            ),
            look=SimpleNamespace(runtime_version="1.2.3"),
            time_fidelity=Fidelity.MEASURED,
            progress=Progress(None),
        )
        monkeypatch.setattr(calibrate, "fresh_duets", self._duets)

    def _duets(self, candidate: Any, baseline: Any, *_: Any) -> Generator[Any, None, None]:
        assert candidate is baseline is self.bench
        rng = np.random.default_rng(1)
        try:
            while True:
                if self.drawn == self.stop_after:
                    raise KeyboardInterrupt
                self.now_s += DUET_S
                self.drawn += 1
                yield duets.draw_duet(rng)
        finally:
            self.closed += 1

    def take(self, minutes: float = 0.5) -> Taken:
        return take_duets(self.bench, minutes=minutes, seed=4, clock=lambda: self.now_s)


def test_it_measures_for_as_long_as_asked(monkeypatch: pytest.MonkeyPatch):
    scene = Scene(monkeypatch)
    taken = scene.take(minutes=1.0)
    assert len(taken.kept) == 60 / DUET_S
    assert taken.measured_s == pytest.approx(60.0)
    assert (taken.interrupted, taken.problems, scene.closed) == (False, (), 1)


def test_it_measures_at_least_one_comparison(monkeypatch: pytest.MonkeyPatch):
    assert len(Scene(monkeypatch).take(minutes=0.001).kept) == MEASURED.duets * MEASURED.looks
    assert duets_needed(VIRTUAL) == max(MIN_DUETS, VIRTUAL.duets * VIRTUAL.looks)


def test_ctrl_c_keeps_what_is_there(monkeypatch: pytest.MonkeyPatch):
    scene = Scene(monkeypatch)
    scene.stop_after = MIN_DUETS + 3
    taken = scene.take()
    assert (len(taken.kept), taken.interrupted, scene.closed) == (MIN_DUETS + 3, True, 1)


def test_ctrl_c_before_there_is_enough_ends_it(monkeypatch: pytest.MonkeyPatch):
    scene = Scene(monkeypatch)
    scene.stop_after = MIN_DUETS - 1
    with pytest.raises(KeyboardInterrupt):
        scene.take()
    assert scene.closed == 1


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"throttled_bits": 0x50005}, "throttling"),
        ({"realtime_ns": 5 * 10**9}, "wall clock"),
        ({"boot_id": "c"}, "same boot"),
    ],
)
def test_a_unit_that_changed_meanwhile_says_nothing(monkeypatch: pytest.MonkeyPatch, after, said: str):
    (problem,) = Scene(monkeypatch, after=after).take().problems
    assert problem.startswith(said)


def test_load_on_the_device_does_no_harm(monkeypatch: pytest.MonkeyPatch):
    after = {"load1": 9.0, "psi_cpu_some_avg10": 99.0, "temp_c": {"cpu": 80.0}}
    assert Scene(monkeypatch, after=after).take().problems == ()


def test_a_clock_that_says_nothing_is_refused(monkeypatch: pytest.MonkeyPatch):
    scene = Scene(monkeypatch)
    scene.bench.time_fidelity = None
    with pytest.raises(Unsupported):
        scene.take()


def calibrated(monkeypatch: pytest.MonkeyPatch, minutes: float = 0.5, **changes: Any):
    scene = Scene(monkeypatch)
    taken = scene.take(minutes)
    return compute_calibration(scene.bench, taken, **{"trials": 20, "margin": None, "now": NOW, **changes})


def test_it_says_what_trials_gave(monkeypatch: pytest.MonkeyPatch):
    found = calibrated(monkeypatch)
    assert (found.device, found.model, found.runtime_version) == ("desk", "door", "1.2.3")
    assert found.taken_at == "2026-01-02T03:04:05+00:00"
    assert found.margin == 0.01  # latency's own
    assert (found.trials, found.false_fails, found.inconclusives) == (20, 0, 0)
    assert found.trial_s == MEASURED.duets * DUET_S  # 1% is decided at the first look
    assert 0.001 < found.half_width_ratio < 0.006
    assert found.settings["duets"] == 60


def test_a_margin_that_is_too_narrow_for_the_unit_leaves_trials_open(monkeypatch: pytest.MonkeyPatch):
    found = calibrated(monkeypatch, margin=0.0001)
    assert found.inconclusives + found.false_fails > 10
    assert found.trial_s == MEASURED.duets * MEASURED.looks * DUET_S


def test_regressions_are_extrapolated_beyond_what_was_measured(monkeypatch: pytest.MonkeyPatch):
    half_a_minute = calibrated(monkeypatch, 0.5).detectable
    assert [(d.minutes, d.extrapolated) for d in half_a_minute] == [(1, True), (5, True), (20, True)]
    two = calibrated(monkeypatch, 2.0).detectable
    assert [d.extrapolated for d in two] == [False, True, True]
    ratios = [d.ratio for d in two]
    assert ratios == sorted(ratios, reverse=True)
    assert all(ratio > 0.01 for ratio in ratios)  # the margin and more
