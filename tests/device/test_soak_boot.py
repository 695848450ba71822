"""What an emulated board does for soaks: it lets idle time fly on request. Its start of a runner at boot:
test_soak_compressed."""

from __future__ import annotations

import pytest
from support.device import emulated_device, running_machine

from harness.connect.qemu import QemuConnection
from harness.errors import DeviceError
from harness.remote import AgentClient

pytestmark = pytest.mark.device
TIMEOUT_S = 240.0  # only ends what hangs


def test_the_busy_loop_of_the_other_profile_is_told() -> None:
    with running_machine("rpi4-soak-boot") as machine, pytest.raises(DeviceError, match="`failed`"):
        machine.set_spin(False)


def test_the_busy_loop_stops_and_runs_on_request() -> None:
    device = emulated_device("rpi4-spin")
    connection = QemuConnection.open(device, profile="timing")
    try:

        def state() -> str:
            argv = ["sh", "-c", "cat /proc/$(cat /run/hil/spin.pid)/stat"]
            stat = connection.run(argv, timeout_s=TIMEOUT_S).stdout
            return stat.decode().rpartition(")")[2].split()[0]

        assert state() == "R"
        connection.machine.set_spin(False)
        assert state() == "T"
        connection.machine.set_spin(True)
        assert state() == "R"
        connection.machine.set_spin(False)
        with AgentClient.start(connection, timeout_s=TIMEOUT_S):
            assert state() == "R"  # an agent has it run again, whoever stopped it
    finally:
        connection.close()
