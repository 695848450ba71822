"""Polling: rounds at a rate, late ones that leave slots out, failures that are kept."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from harness.errors import ConnectionLost, DeadlineExceeded
from harness.instruments.polling import Poller
from harness.model import Channel, ChannelKind

POWER = Channel("vin", "VIN", ChannelKind.POWER_W, boundary="rail")


class Meter:
    """Answers `n` rounds, then waits to be released."""

    def __init__(self, answers: Sequence[object]) -> None:
        self.answers = list(answers)
        self.all_given = threading.Event()
        self.released = threading.Event()

    def read_now(self, channels: Sequence[Channel]) -> Sequence[float]:
        if not self.answers:
            self.all_given.set()
            self.released.wait(240)
            return [math.nan for _ in channels]
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return [float(answer) for _ in channels]  # type: ignore[arg-type]


def poller(meter: Meter, timeout_s: float = 10) -> Poller:
    clock = iter(range(0, 10**15, 5 * 10**6))  # every look at it takes 5 ms
    return Poller("psu", meter.read_now, clock_ns=lambda: next(clock), timeout_s=timeout_s, stale_s=None)


def test_failures_are_nan_with_their_reason_and_count() -> None:
    lost = ConnectionLost("no answer")
    meter = Meter([4.0, lost, lost, 4.1])
    polled = poller(meter)
    polled.start([POWER], ["vin"], 1000)
    assert meter.all_given.wait(240)
    meter.released.set()
    (capture,) = polled.stop()
    assert capture.values[:4] == pytest.approx([4.0, math.nan, math.nan, 4.1], nan_ok=True)
    assert np.all(np.isnan(capture.values[4:]))
    assert capture.health.errors == ("no answer (2 times)",)
    assert capture.health.got == 2


def test_a_late_round_leaves_its_slots_out() -> None:
    meter = Meter([4.0] * 20)
    polled = poller(meter)
    polled.start([POWER], ["vin"], 1000)  # 1 ms a slot; a round takes 5 ms and more
    assert meter.all_given.wait(240)
    meter.released.set()
    (capture,) = polled.stop()
    assert capture.health.expected is not None
    assert capture.health.got < capture.health.expected / 4
    assert capture.health.gaps > 0
    assert np.all(np.diff(capture.t_ns) > 0)


def test_a_defect_of_an_instrument_comes_out_at_stop() -> None:
    meter = Meter([4.0, KeyError("Power")])
    polled = poller(meter)
    polled.start([POWER], ["vin"], 1000)
    assert polled._thread is not None
    polled._thread.join(240)
    with pytest.raises(KeyError, match="Power"):
        polled.stop()


def test_a_meter_that_never_returns_ends_at_its_deadline() -> None:
    meter = Meter([])
    polled = poller(meter, timeout_s=-0.499)  # with the grace of a second: a few ms
    polled.start([POWER], ["vin"], 10)
    assert meter.all_given.wait(240)
    with pytest.raises(DeadlineExceeded, match="last reading did not end"):
        polled.stop()
    meter.released.set()
