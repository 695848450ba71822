"""Models onto a device: over SSH to a real sshd; on an emulated board whose power fails, whose disk fills."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.bench import eventually
from support.device import running_machine
from support.sshd import Sshd

from harness import deploy
from harness.connect.base import Connection, Progress
from harness.connect.qemu import compute_address
from harness.connect.ssh import SshConnection
from harness.emulation import Machine, power_on
from harness.errors import AgentError, ConnectionLost, DeviceFull, HarnessError, WireError
from harness.model import Artifact, Device
from harness.remote import AgentClient

MIB = 1 << 20
TIMEOUT_S = 240.0  # only ends what hangs


class Interfering:
    """A connection in which something happens to a push. Everything else is the real one's."""

    def __init__(
        self,
        connection: Connection,
        *,
        before: Callable[[], None] = lambda: None,
        midway: Callable[[], None] | None = None,
        after: Callable[[str], None] = lambda target: None,
    ) -> None:
        self._connection = connection
        self._before, self._midway, self._after = before, midway, after
        self.pushes = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def push(self, source: Path, target: str, *, timeout_s: float, progress: Progress | None = None) -> None:
        self.pushes += 1
        self._before()

        def count(done: int, total: int) -> None:
            if self._midway is not None and 0 < done < total:
                act, self._midway = self._midway, None
                act()

        self._connection.push(source, target, timeout_s=timeout_s, progress=count)
        self._after(target)


@dataclass
class Station:
    """A device with an agent, and a folder of models for it."""

    connection: Connection
    client: AgentClient
    folder: Path
    reopen: Callable[[], Connection]

    def model(self, content: bytes, name: str = "door") -> Artifact:
        path = self.folder / f"{hashlib.sha256(content).hexdigest()[:12]}.onnx"
        path.write_bytes(content)
        return Artifact(name, path, hashlib.sha256(content).hexdigest(), len(content), "onnx")

    def deploy(self, artifact: Artifact, connection: object = None) -> deploy.Deployed:
        return deploy.deploy(connection or self.connection, self.client, artifact)  # type: ignore[arg-type]

    def active(self, name: str = "door") -> str | None:
        return self.client.request("store_status").args["active"].get(name)

    def incoming(self) -> list[str]:
        """Return what lies in the device's `incoming/`, hidden files too."""
        folder = f"{self.connection.home()}/incoming"
        return self.connection.run(["ls", "-A", folder], timeout_s=TIMEOUT_S).stdout.decode().split()

    def restart(self) -> None:
        """Connect anew, with a new agent, as the next session would."""
        self.client.close()
        self.connection.close()
        self.connection = self.reopen()
        self.client = AgentClient.start(self.connection, timeout_s=TIMEOUT_S)

    def close(self) -> None:
        self.client.close()
        self.connection.close()


def open_station(reopen: Callable[[], Connection], folder: Path) -> Station:
    connection = reopen()
    return Station(connection, AgentClient.start(connection, timeout_s=TIMEOUT_S), folder, reopen)


@pytest.fixture
def station(ssh_device: Device, tmp_path: Path) -> Iterator[Station]:
    """A device over SSH whose store is new."""
    assert ssh_device.ssh is not None
    address, home = ssh_device.ssh, str(tmp_path / "home")
    opened = open_station(lambda: SshConnection("ssh-test", address, home=home, hermetic=True), tmp_path)
    yield opened
    opened.close()


def test_bytes_that_are_there_are_not_sent_again(station):
    watched = Interfering(station.connection)
    first = station.deploy(station.model(b"one"), watched)
    again = station.deploy(station.model(b"one"), watched)
    other_name = station.deploy(station.model(b"one", name="gate"), watched)
    assert (first.pushed, again.pushed, other_name.pushed) == (True, False, False)
    assert watched.pushes == 1
    assert station.connection.run(["cat", first.path], timeout_s=TIMEOUT_S).stdout == b"one"


def test_versions_rollback_and_garbage(station):
    models = [station.model(content) for content in (b"one", b"two", b"three", b"four")]
    previous = [station.deploy(model).previous_sha256 for model in models]
    assert previous == [None, *(m.sha256 for m in models[:3])]
    found = deploy.versions(station.client, "door")
    assert [v.sha256 for v in found] == [m.sha256 for m in reversed(models)]
    assert [v.active for v in found] == [True, False, False, False]
    assert deploy.roll_back(station.client, "door") == models[2].sha256
    assert station.active() == models[2].sha256
    removed, freed = deploy.collect_garbage(station.client, keep_versions=2)
    assert set(removed) == {models[0].sha256, models[1].sha256}
    assert freed == len(b"one") + len(b"two")
    assert station.active() == models[2].sha256
    with pytest.raises(AgentError, match="no version before"):
        deploy.roll_back(station.client, "door")


def test_bytes_that_arrive_changed_are_refused(station):
    old = station.deploy(station.model(b"old"))

    def flip(target: str) -> None:
        path = Path(target)  # the device over SSH is this host
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    new = station.model(b"new" * 1000)
    with pytest.raises(WireError, match="sha256 [0-9a-f]{64}, expected " + new.sha256):
        station.deploy(new, Interfering(station.connection, after=flip))
    assert station.active() == old.sha256
    assert station.incoming() == []
    assert station.deploy(new).pushed  # and the next try is a whole one


def test_a_connection_that_ends_in_the_middle(station, sshd: Sshd):
    old = station.deploy(station.model(b"old"))
    new = station.model(os.urandom(32 * MIB))
    with pytest.raises(ConnectionLost):
        station.deploy(new, Interfering(station.connection, midway=sshd.end_sessions))
    station.restart()
    assert station.active() == old.sha256
    status = station.client.request("store_status").args
    assert [o["sha256"] for o in status["objects"]] == [old.sha256]
    assert station.deploy(new).pushed


def test_an_agent_killed_between_commit_and_activation(station):
    old = station.deploy(station.model(b"old"))
    new = station.model(b"new")
    deploy.push_object(station.connection, station.client, new.path, new.sha256, new.size_bytes)
    os.kill(int(station.client.hello["pid"]), signal.SIGKILL)
    assert eventually(lambda: not station.client.is_running)
    with pytest.raises(AgentError, match="ended by SIGKILL"):
        station.deploy(new)
    station.restart()
    assert station.active() == old.sha256
    assert not station.deploy(new).pushed  # its bytes were committed: only the switch was missing
    assert station.active() == new.sha256


def test_two_agents_at_once_leave_one_whole_version(station):
    models = [station.model(bytes([n]) * 100_000) for n in range(8)]
    with AgentClient.start(station.connection, timeout_s=TIMEOUT_S) as other:

        def put(client: AgentClient, mine: list[Artifact]) -> None:
            for model in mine:
                deploy.deploy(station.connection, client, model)

        threads = [
            threading.Thread(target=put, args=(client, mine))
            for client, mine in ((station.client, models[::2]), (other, models[1::2]))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
    active = station.active()
    assert active in {models[-1].sha256, models[-2].sha256}
    station.client.request("store_verify", {"sha256": active})


# --- an emulated board ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board() -> Iterator[Machine]:
    with running_machine("rpi4-deploy") as machine:
        yield machine


def connect(board: Machine, home: str | None = None, user: str | None = None) -> SshConnection:
    return SshConnection("rpi4-deploy", compute_address(board, user=user), home=home, hermetic=True)


@pytest.mark.device
def test_a_power_cut_in_the_middle_leaves_the_old_version(board, tmp_path):
    station = open_station(lambda: connect(board), tmp_path)
    try:
        old = station.deploy(station.model(b"old" * 1000))
        new = station.model(os.urandom(8 * MIB))
        with pytest.raises(HarnessError) as lost:
            station.deploy(new, Interfering(station.connection, midway=board.power_cut))
        assert isinstance(lost.value, ConnectionLost)
        power_on(board)
        station.restart()
        assert station.active() == old.sha256
        assert station.client.request("store_verify", {"sha256": old.sha256}).args["size_bytes"] == 3000
        assert [v.sha256 for v in deploy.versions(station.client, "door")] == [old.sha256]
        station.deploy(new)
        board.power_cut()  # right after the switch: it was made durable first
        power_on(board)
        station.restart()
        assert station.active() == new.sha256
        assert station.client.request("store_verify", {"sha256": new.sha256}).args["size_bytes"] == 8 * MIB
    finally:
        station.close()


@pytest.fixture
def small_disk(board: Machine, tmp_path: Path) -> Iterator[Station]:
    """A store on a disk of 96 MiB."""
    home = "/run/small"
    root = connect(board, user="root")
    user = board.image.user
    script = f"mkdir -p {home} && mount -t tmpfs -o size=96m,mode=777 none {home} && chown {user} {home}"
    root.run(["sh", "-c", script], timeout_s=TIMEOUT_S)
    station = open_station(lambda: connect(board, home), tmp_path)
    yield station
    station.close()
    root.run(["umount", home], timeout_s=TIMEOUT_S)
    root.close()


@pytest.mark.device
def test_a_disk_too_small_is_told_before_anything_is_sent(small_disk):
    old = small_disk.deploy(small_disk.model(b"old"))
    watched = Interfering(small_disk.connection)
    with pytest.raises(DeviceFull, match=r"needs 42\.0 MB and 67\.1 MB must stay free") as full:
        small_disk.deploy(small_disk.model(bytes(42_000_000)), watched)
    assert "harness deploy gc rpi4-deploy" in str(full.value)
    assert watched.pushes == 0
    assert small_disk.active() == old.sha256


@pytest.mark.device
def test_a_disk_that_fills_up_meanwhile_leaves_nothing_half_written(small_disk):
    old = small_disk.deploy(small_disk.model(b"old"))

    def fill() -> None:
        filler = f"{small_disk.connection.home()}/filler"
        small_disk.connection.run(["sh", "-c", f"head -c 90M /dev/zero >{filler}"], timeout_s=TIMEOUT_S)

    new = small_disk.model(os.urandom(20 * MIB))
    with pytest.raises(DeviceFull):
        small_disk.deploy(new, Interfering(small_disk.connection, before=fill))
    assert small_disk.incoming() == []
    assert small_disk.active() == old.sha256
    small_disk.connection.run(["rm", f"{small_disk.connection.home()}/filler"], timeout_s=TIMEOUT_S)
    assert small_disk.deploy(new).pushed
