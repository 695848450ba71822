"""What soaks leave on an emulated unit's machine: a note that keeps others off until it is collected."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.emulation import MachineInfo, Profile
from harness.errors import DeviceBusy
from harness.model import Device, DeviceType, QemuBoard
from harness.soak import machines

PI = Device("pi", DeviceType("rpi4"), "qemu", qemu=QemuBoard())
REAL = Device("pi-01", DeviceType("rpi4"), "ssh")
SOAK = "20250101-000000-abcd"


@pytest.fixture
def up(monkeypatch, tmp_path) -> Path:
    """Return the folder of PI's machine, which is up in the timing profile."""
    info = MachineInfo("pi", "running", Profile.TIMING, 2222, 3600.0)
    monkeypatch.setattr(machines, "list_machines", lambda: (info,))
    monkeypatch.setattr(machines, "find_machine", lambda name: SimpleNamespace(folder=tmp_path))
    return tmp_path


def test_a_machine_with_a_soak_on_it_is_busy_until_that_is_collected(up):
    machines.require_no_soak(PI)
    machines.note_soak(PI, SOAK)
    with pytest.raises(DeviceBusy, match=f"^pi: soak {SOAK} is on its emulated machine.*soak attach {SOAK}"):
        machines.require_no_soak(PI)
    machines.forget_soak(PI, "20250101-000000-ffff")  # another
    with pytest.raises(DeviceBusy):
        machines.require_no_soak(PI, "timing")
    machines.forget_soak(PI, SOAK)
    machines.require_no_soak(PI, "timing")


def test_a_session_that_boots_a_board_of_its_own_isnt_kept_off(up):
    machines.note_soak(PI, SOAK)
    machines.require_no_soak(PI, "functional")


def test_a_real_board_and_one_that_isnt_up_are_left_alone(monkeypatch):
    monkeypatch.setattr(machines, "list_machines", tuple)
    for device in (PI, REAL):
        machines.require_no_soak(device)
        machines.forget_soak(device, SOAK)
    machines.note_soak(REAL, SOAK)
