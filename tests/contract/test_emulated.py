"""What an emulated board adds to a connection: its machine, saved states, profiles."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

import pytest

from harness import emulation
from harness.cache import root as cache_root
from harness.connect import open_connection
from harness.connect.qemu import QemuConnection
from harness.errors import ConfigError
from harness.model import Device

LONG_S = 240.0  # only ends what hangs
pytestmark = pytest.mark.device


def test_a_saved_state_comes_back(emulated_device: Device) -> None:
    device = dataclasses.replace(emulated_device, name="rpi4-saved")
    key = f"test-{uuid.uuid4().hex}"  # nobody else's
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
        parent = second.machine.parent_snapshot
        assert parent is not None
        emulation.remove_cache_entry(str(Path(parent).relative_to(cache_root())))


def test_a_supervised_machine_is_used_and_stays(emulated_device: Device) -> None:
    device = dataclasses.replace(emulated_device, name=f"rpi4-{uuid.uuid4().hex[:8]}")
    assert device.qemu is not None
    image = emulation.build_image(device.qemu)
    machine = emulation.start(
        image, device.qemu, name=device.name, profile=emulation.Profile.FUNCTIONAL, supervised=True
    )
    try:
        for content in (b"one", b"two"):
            connection = open_connection(device)
            connection.run(["sh", "-c", "cat >>/tmp/mark"], stdin=content, timeout_s=LONG_S)
            connection.close()
        assert machine.is_running()
        connection = open_connection(device)
        assert connection.run(["cat", "/tmp/mark"], timeout_s=LONG_S).stdout == b"onetwo"
        connection.close()
    finally:
        emulation.stop_machine(device.name)


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
