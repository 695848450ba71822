"""What an emulated board adds to a connection: its machine, saved states, profiles."""

from __future__ import annotations

import dataclasses

import pytest

from harness.connect import open_connection
from harness.connect.qemu import QemuConnection
from harness.errors import ConfigError
from harness.model import Device

LONG_S = 60.0
pytestmark = pytest.mark.device


def test_a_saved_state_comes_back(emulated_device: Device) -> None:
    device = dataclasses.replace(emulated_device, name="rpi4-saved")
    key = "test-connection-saved"
    first = QemuConnection.open(device)
    try:
        assert first.restored is None
        process = first.start(["cat"])
        first.run(["tee", "/tmp/mark"], stdin=b"was here", timeout_s=LONG_S)
        first.save(key)
        assert process.poll() is not None  # a saved state holds no open connection
        assert first.run(["cat", "/tmp/mark"], timeout_s=LONG_S).stdout == b"was here"
    finally:
        first.close()
    assert not first.machine.is_running()
    second = QemuConnection.open(device, snapshot=key)
    try:
        assert second.restored == key
        assert second.run(["cat", "/tmp/mark"], timeout_s=LONG_S).stdout == b"was here"
    finally:
        second.close()


def test_a_snapshot_that_is_not_there_yet(emulated_device: Device) -> None:
    device = dataclasses.replace(emulated_device, name="rpi4-timing")
    connection = QemuConnection.open(device, profile="timing", snapshot="never saved")
    try:
        assert connection.restored is None
        assert connection.run(["nproc"], timeout_s=LONG_S).stdout == b"1\n"
    finally:
        connection.close()


def test_an_unknown_profile(emulated_device: Device) -> None:
    with pytest.raises(ConfigError, match="unknown profile `timming`; did you mean `timing`"):
        open_connection(emulated_device, profile="timming")
