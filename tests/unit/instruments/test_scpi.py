"""SCPI over a real socket: numbers as meters write them, and meters that don't answer as they should."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.meters import SCPI, open_meter, read_spec, tell

from harness import instruments
from harness.errors import ConfigError, ConnectionLost, DataError, DeadlineExceeded, HostSetupError
from harness.instruments.base import Context
from harness.instruments.visa import parse_scpi_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+4.20000E+00", 4.2),
        ("5.00", 5.0),
        (" 8.400E-01A\r", 0.84),
        ("-3", -3.0),
        (".5", 0.5),
        ("1E3 W", 1000.0),
    ],
)
def test_numbers_as_meters_write_them(text: str, value: float) -> None:
    assert parse_scpi_number(text, "psu", "MEAS:POW?") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e999", "4,2", "4.2 5.0", "ON", "9.91E37", "-9.9E+37"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"MEAS:POW\?"):
        parse_scpi_number(text, "psu", "MEAS:POW?")


@pytest.fixture
def psu(tmp_path: Path) -> Iterator[tuple[instruments.Instrument, int]]:
    with open_meter("scpi", tmp_path) as meter:
        yield meter.instrument, meter.extra["port"]


def test_an_overload_is_no_number(psu: tuple[instruments.Instrument, int]) -> None:
    meter, port = psu
    tell(port, "TEST:MODE overload")
    with pytest.raises(DataError, match="overload"):
        meter.read("supply")


def test_a_late_answer_is_not_taken_for_the_next_one(psu: tuple[instruments.Instrument, int]) -> None:
    meter, port = psu
    tell(port, "TEST:MODE mute")
    with pytest.raises(DeadlineExceeded, match=r"MEAS:POW\?"):
        meter.read("supply")
    tell(port, "TEST:MODE ok")
    assert meter.read("volts").value == 5.0
    assert meter.read("supply").value == pytest.approx(4.2)


def test_a_meter_that_hangs_up_is_reached_anew(psu: tuple[instruments.Instrument, int]) -> None:
    meter, port = psu
    tell(port, "TEST:MODE hangup")
    with pytest.raises((ConnectionLost, DeadlineExceeded)):
        meter.read("supply")
    tell(port, "TEST:MODE ok")
    assert meter.read("supply").value == pytest.approx(4.2)


def test_another_meter_than_expected_is_refused(tmp_path: Path) -> None:
    with open_meter("scpi", tmp_path) as meter:
        port = meter.extra["port"]
        address = f"TCPIP::127.0.0.1::{port}::SOCKET"
        table = SCPI.format(address=address, library="@py").replace("*PSU-3*", "KEYSIGHT*")
        with pytest.raises(ConfigError, match=r"calls itself 'EXAMPLE.*expected 'KEYSIGHT\*'"):
            instruments.open_instrument(read_spec(tmp_path, table), Context())


def test_nobody_at_the_address_is_the_labs_failure(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        table = SCPI.format(address=f"TCPIP::127.0.0.1::{port}::SOCKET", library="@py")
        with pytest.raises(ConnectionLost, match=r"no connection to 127\.0\.0\.1"):
            instruments.open_instrument(read_spec(tmp_path, table), Context())


def test_what_is_no_visa_address_is_the_users_error(tmp_path: Path) -> None:
    table = SCPI.format(address="psu-3.lan:5025", library="@py")
    with pytest.raises(ConfigError, match="no VISA address"):
        instruments.open_instrument(read_spec(tmp_path, table), Context())


def test_without_pyvisa_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvisa", None)
    table = SCPI.format(address="TCPIP::127.0.0.1::1::SOCKET", library="@py")
    with pytest.raises(HostSetupError, match=r"hil-harness\[instruments\]"):
        instruments.open_instrument(read_spec(tmp_path, table), Context())
