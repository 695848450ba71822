"""`harness devices capture`: what it copies reads like the board it came from."""

from __future__ import annotations

import datetime
import os
import tomllib
from pathlib import Path

import pytest
from support.device import local_device

from harness.agent.sensors import find_sensors
from harness.cli import capture
from harness.cli.main import main
from harness.connect.local import LocalConnection
from harness.errors import DataError

CAPTURES = Path(__file__).parents[1] / "captures"
DAY = datetime.date(2026, 1, 31)


@pytest.fixture
def vcgencmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of that name that prints what the Pi 5's does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "vcgencmd"
    script.write_text(f'#!/bin/sh\nexec cat "{CAPTURES}/rpi5/commands/vcgencmd-$1.txt"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.usefixtures("vcgencmd")
@pytest.mark.parametrize("board", ["rpi5", "jetson-orin-nano", "rk3588"])
def test_a_capture_reads_like_the_board(tmp_path: Path, board: str) -> None:
    device = local_device(tmp_path / "home")
    connection = LocalConnection(device)
    found = capture.read_files(connection, device, root=str(CAPTURES / board))
    connection.close()
    capture.write_capture(tmp_path / "made", found, DAY)
    before = {s.id: s.read() for s in find_sensors(str(CAPTURES / board))}
    after = {s.id: s.read() for s in find_sensors(str(tmp_path / "made"))}
    if board != "rpi5":  # the command is on this host's path, for every board
        after = {id_: value for id_, value in after.items() if not id_.startswith("raspberry/")}
    assert after == before
    assert len(after) > 10
    about = tomllib.loads((tmp_path / "made" / "capture.toml").read_text("utf-8"))
    assert about["origin"] == "captured 2026-01-31"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_what_can_not_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "board/sys/class/thermal/thermal_zone0/temp").mkdir(
        parents=True
    )  # a folder reads as an error
    device = local_device(tmp_path / "home")
    connection = LocalConnection(device)
    found = capture.read_files(connection, device, root=str(tmp_path / "board"))
    connection.close()
    capture.write_capture(tmp_path / "made", found, DAY)
    about = tomllib.loads((tmp_path / "made" / "capture.toml").read_text("utf-8"))
    assert "directory" in about["unreadable"]["/sys/class/thermal/thermal_zone0/temp"]


def test_a_device_can_not_write_beside_the_capture(tmp_path: Path) -> None:
    found = {
        "files": {"/sys/../../escaped": "x"},
        "commands": {},
        "unreadable": {},
        "about": {"model": "", "kernel": ""},
    }
    with pytest.raises(DataError, match="outside"):
        capture.write_capture(tmp_path / "made", found, DAY)
    assert list(tmp_path.iterdir()) == []


def test_a_capture_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old").mkdir()
    assert main(["devices", "capture", "local", "--out", str(tmp_path / "old")]) == 2
    assert "not written over" in capsys.readouterr().err
