"""`harness devices check`: the unit's instruments are read, and one that fails is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.meters import CSV, SCPI, read_spec, tell
from support.scpi_peer import running_peer

from harness.cli.main import main


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_HARNESS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", os.fspath(tmp_path))


def test_readings_of_a_meter_are_shown_and_a_silent_one_is_not_ok(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_peer() as port:
        read_spec(tmp_path, SCPI.format(address=f"TCPIP::127.0.0.1::{port}::SOCKET", library="@py"))
        command = ["devices", "--devices", str(tmp_path / "devices.toml"), "check", "board"]
        assert main(command) == 0
        out = capsys.readouterr().out
        assert "board: ok" in out
        assert "  meter/supply: 4.20 W (power_w, rail)" in out
        assert "  meter/volts: 5.00 V (voltage_v)" in out
        tell(port, "TEST:MODE garbage")
        assert main(command) != 0
        assert "board: NOT OK  devices.board.instruments.meter" in capsys.readouterr().out


def test_a_file_that_nobody_has_written_yet_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_spec(tmp_path, CSV.format(path=tmp_path / "none.csv"))
    assert main(["devices", "--devices", str(tmp_path / "devices.toml"), "check", "board"]) == 0
    assert "meter/supply: its file is read after a run" in capsys.readouterr().out


def test_a_file_that_is_there_and_has_another_column_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.csv").write_text("t,Strom\n0,1\n")
    read_spec(tmp_path, CSV.format(path=tmp_path / "log.csv"))
    assert main(["devices", "--devices", str(tmp_path / "devices.toml"), "check", "board"]) != 0
    out = capsys.readouterr().out
    assert "board: NOT OK" in out
    assert "log.csv has no column" in out


def test_a_boards_own_sensors_are_shown_as_people_read_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    captures = Path(__file__).resolve().parents[1] / "captures"
    monkeypatch.setenv("HIL_AGENT_SENSORS_ROOT", str(captures / "rpi4"))
    read_spec(tmp_path, 'kind = "onboard"\n')
    assert main(["devices", "--devices", str(tmp_path / "devices.toml"), "check", "board"]) == 0
    out = capsys.readouterr().out
    assert "meter/cpufreq/policy0/policy0/freq_hz: 1500 MHz" in out
    assert "meter/raspberry/firmware/soc/throttle_bits: 0x50005" in out


def test_a_named_sensor_that_does_not_answer_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = tmp_path / "root/sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina226\n")
    (chip / "power1_input").write_text("garbage\n")
    monkeypatch.setenv("HIL_AGENT_SENSORS_ROOT", str(tmp_path / "root"))
    read_spec(tmp_path, 'kind = "onboard"\nsensors = ["hwmon/ina226/power1/power_w"]\n')
    assert main(["devices", "--devices", str(tmp_path / "devices.toml"), "check", "board"]) != 0
    out = capsys.readouterr().out
    assert "`hwmon/ina226/power1/power_w` is there and doesn't answer" in out
    assert "garbage" in out
