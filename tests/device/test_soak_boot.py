"""What an emulated board does for soaks: it starts a runner at boot, and lets idle time fly on request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.bench import eventually
from support.device import emulated_device
from support.soaking import command_spec

from harness.connect.qemu import QemuConnection
from harness.emulation import Machine
from harness.errors import DeviceError, TransientError
from harness.remote import AgentClient
from harness.remote.soak import SoakClient, SoakStatus

pytestmark = pytest.mark.device
TIMEOUT_S = 240.0  # only ends what hangs


@dataclass
class Board:
    """A board of its own: resets would disturb others."""

    machine: Machine
    name: str

    def connect(self) -> QemuConnection:
        return QemuConnection(emulated_device(self.name), self.machine, owns_machine=False)

    def status(self, soak_id: str) -> SoakStatus | None:
        """Return how the soak stands, None while the board can't be reached."""
        try:
            with (
                closing(self.connect()) as connection,
                AgentClient.start(connection, timeout_s=TIMEOUT_S) as agent,
            ):
                return SoakClient(agent).status(soak_id)
        except TransientError:
            return None

    def runs_in_life(self, soak_id: str, life: int) -> bool:
        status = self.status(soak_id)
        return status is not None and (status.state, status.life) == ("running", life)


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    from support.device import running_machine

    with running_machine("rpi4-soak-boot") as machine:
        yield Board(machine, "rpi4-soak-boot")


def test_a_runner_comes_back_after_a_reset(board: Board, tmp_path: Path) -> None:
    with closing(board.connect()) as connection:
        folder = connection.run(["mktemp", "-d", "-p", connection.home()], timeout_s=TIMEOUT_S).stdout
        spec = command_spec(connection, folder.decode().strip(), tmp_path, reboot=True)
        with AgentClient.start(connection, timeout_s=TIMEOUT_S) as agent:
            client = SoakClient(agent)
            assert client.start(spec)["boot_hook"] == "hil-boot"
            assert eventually(lambda: client.status(spec["id"]).seq > 3, TIMEOUT_S, 0.2)
            before = client.status(spec["id"])
    board.machine.reset()
    assert eventually(lambda: board.runs_in_life(spec["id"], 2), TIMEOUT_S)
    with closing(board.connect()) as connection, AgentClient.start(connection, timeout_s=TIMEOUT_S) as agent:
        client = SoakClient(agent)
        token = client.claim(spec["id"], "test")
        assert client.stop(spec["id"], token, "enough")
        status = client.status(spec["id"])
        records = _records(client, spec["id"], token)
        assert (
            connection.run(["test", "-e", "/home/pi/.hil-boot"], timeout_s=TIMEOUT_S, check=False).returncode
            == 1
        )
        client.remove(spec["id"], token)
    assert status.state == "ended"
    assert status.boot_id != before.boot_id
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert len(records) > before.seq  # what the first boot had synced, and more
    assert [record["life"] for record in records if record["k"] == "life"] == [1, 2]
    assert "reboot" in [record.get("event") for record in records]
    assert records[-1]["k"] == "end"


def test_the_busy_loop_of_the_other_profile_is_told(board: Board) -> None:
    with pytest.raises(DeviceError, match="`failed`"):
        board.machine.set_spin(False)


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


def _records(client: SoakClient, soak_id: str, token: int) -> list[dict[str, Any]]:
    """Return all records of all segments."""
    lines: list[bytes] = []
    for number in client.status(soak_id).segments:
        data = b""
        while piece := client.read(soak_id, token, number, len(data), 1 << 16).data:
            data += piece
        lines += data.splitlines()
    return [json.loads(line[9:]) for line in lines]
