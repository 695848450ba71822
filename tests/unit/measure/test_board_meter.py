"""The emulated board's meter: its steps once each, with what its chips make of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest

from harness.emulation.sensors.client import ModelReading
from harness.errors import ConfigError, ConnectionLost, DataError, DeadlineExceeded, DeviceError
from harness.measure.board_meter import BoardMeter
from harness.model import ChannelKind, Fidelity

WAIT_S = 20.0


def step(at: int, power_w: float | None = 2.7, temp_c: float | None = 50.0) -> ModelReading:
    return ModelReading(at * 10**8, 51.0, 2.75, 0.1, 4, 20.0, power_w, temp_c)


class Board:
    """Hands out what it is given, one a question, then the last for ever; an error is raised once."""

    def __init__(self, *answers: ModelReading | Exception | None) -> None:
        self.answers, self.over = list(answers), threading.Event()

    def read_model(self) -> ModelReading | None:
        if len(self.answers) == 1:
            self.over.set()
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


def captured(*answers: ModelReading | Exception | None) -> Iterator[tuple[list[float], tuple[str, ...]]]:
    board = Board(*answers)
    meter = BoardMeter(board.read_model, where="rpi4")
    meter.start(["power_w", "temp_c", "throttle_bits", "ambient_temp_c"], 10.0)
    assert board.over.wait(WAIT_S)
    for capture in meter.stop():
        yield capture.values.tolist(), capture.health.errors


def test_each_step_is_there_once_as_the_chips_show_it() -> None:
    power, temp, bits, air = captured(step(1), step(1), step(2, 3.0, 51.0), step(3), step(3), None)
    assert power == ([2.7, 3.0, 2.7], ())
    assert temp == ([50.0, 51.0, 50.0], ())
    assert bits[0] == [4.0] * 3
    assert air[0] == [20.0] * 3


def test_a_silent_chip_is_missing_and_told_and_the_other_goes_on() -> None:
    power, temp, *_ = captured(step(1), step(2, None), step(3, None), step(4), None)
    assert [math.isnan(value) for value in power[0]] == [False, True, True, False]
    assert power[1] == ("INA219 gives no reading (2 times)",)
    assert temp == ([50.0] * 4, ())


def test_a_fault_within_a_step_counts() -> None:
    power, *_ = captured(step(1), step(1, 27.0), step(2), None)
    assert power[0] == [27.0, 2.7]


def test_a_lost_board_leaves_what_there_was_and_why() -> None:
    power, *_ = captured(step(1), ConnectionLost("its sensors are not there.", where="rpi4"))
    assert power[0] == [2.7]
    assert "its sensors are not there" in power[1][0]


def test_one_reading_or_why_there_is_none() -> None:
    meter = BoardMeter(Board(step(1, 2.5)).read_model, where="rpi4")
    assert meter.read("power_w").value == 2.5
    with pytest.raises(DataError, match="rpi4: its INA219 gives no reading"):
        BoardMeter(Board(step(1, None)).read_model, where="rpi4").read("power_w")
    with pytest.raises(DeadlineExceeded, match="isn't running"):
        BoardMeter(Board(None).read_model, where="rpi4").read("temp_c")
    with pytest.raises(ConfigError, match="no channel `power`"):
        meter.read("power")


def test_everything_from_it_is_an_estimate() -> None:
    meter = BoardMeter(Board(None).read_model, where="rpi4")
    assert {c.fidelity for c in meter.channels()} == {Fidelity.ESTIMATED}
    assert {c.boundary for c in meter.channels()} == {"board model"}
    assert [c.kind for c in meter.channels()][:1] == [ChannelKind.POWER_W]
    with pytest.raises(DeviceError, match="had not begun"):
        meter.stop()
